//! Evidence: measured, written, believed, and no longer believed once the files are others.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{Ran, copy, fails, json, mtplx, run};

const TRAINED: &str = "trained_qwen3_5/mlx_q4g32";
const CONTRACT: &str = "mtplx_runtime.json";

/// [`run`] by a user with a home, which holds this machine's name.
fn run_at(home: &Path, args: &[&str]) -> Ran {
    let mut command = mtplx(args);
    let output = command.env("MTPLX_HOME", home).output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn contract(dir: &TempDir) -> Value {
    serde_json::from_slice(&fs::read(dir.path().join(CONTRACT)).unwrap()).unwrap()
}

/// Puts other bytes at the end of a weight file, so that they are weights still.
fn spoil(dir: &TempDir, file: &str, bytes: &[u8]) {
    let path = dir.path().join(file);
    let mut all = fs::read(&path).unwrap();
    let end = all.len() - bytes.len();
    all[end..].copy_from_slice(bytes);
    fs::write(path, all).unwrap();
}

/// A file of prompts that take little time.
fn prompts(dir: &TempDir) -> String {
    let path = dir.path().join("prompts.jsonl");
    fs::write(&path, "the licence of the work\n{\"prompt\": \"a copy of\"}\n").unwrap();
    path.display().to_string()
}

#[test]
fn the_builtin_model_is_verified() {
    let document = json(&["run", "fn main() {", "--json", "-n2", "--raw"]);
    assert_eq!(document["model"]["verdict"], json!({"name": "verified"}));
    assert_eq!(document["model"]["exactness_baseline"]["gate"], "mtplx verify");
    assert_eq!(document["model"]["exactness_baseline"]["effort"], "full");
    let ran = run(&["run", "fn main() {", "-n2", "--raw"]);
    assert!(!ran.stderr.contains("unverified"), "{}", ran.stderr);
}

#[test]
fn verified_and_no_longer() {
    let (dir, home) = (copy(TRAINED), tempfile::tempdir().unwrap());
    let path = dir.path().to_str().unwrap();
    let run_it = || run_at(home.path(), &["run", "the ", "--raw", "-n2", "--json", "--model", path]);
    let refused = run_it();
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.contains(&format!("unverified: no {CONTRACT}")), "{}", refused.stderr);
    assert!(refused.stderr.contains("`mtplx verify`") && refused.stderr.contains("--allow-unverified"));

    // A file of one's own keeps what it says, and is not in the way.
    let mine = json!({"mtp_depth_max": 2, "note": "mine", "exactness_baseline": {"effort": "full"}});
    fs::write(dir.path().join(CONTRACT), mine.to_string()).unwrap();
    let prompts = prompts(&home);
    let ran = run_at(home.path(), &["verify", path, "--quick", "--prompts", &prompts]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: --quick: the contract has the evidence of a full"), "{}", ran.stderr);
    for said in ["state ", "marginal ", "joint ", "teacher-forced ", "greedy ", "acceptance by depth  1: ", "verified"]
    {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
    // Where nobody watches a bar, a log tells where it is.
    for said in ["loading ", "measuring: state\n", "measuring: joint\n", "measuring: greedy: done in "] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    let written = contract(&dir);
    assert_eq!((&written["note"], &written["mtp_depth_max"]), (&json!("mine"), &json!(2)));
    let baseline = &written["exactness_baseline"];
    assert_eq!((&baseline["status"], &baseline["effort"]), (&json!("passed"), &json!("quick")));
    assert_eq!((&baseline["depth"], &baseline["dtype"]), (&json!(2), &json!("float32")));
    assert!(baseline["max_abs_diff"].as_f64().unwrap() < 1e-3, "{baseline}");
    assert_eq!(baseline["measured_with"], json!({}));
    assert_eq!(written["sha256"].as_object().unwrap().len(), 3);
    for field in
        ["timestamp", "hardware", "os", "device", "mlx_version", "engine_version", "model", "sampler", "machine"]
    {
        assert!(!written["verified_on"][field].is_null(), "{field}: {written}");
    }
    assert_eq!(written["speed_evidence"]["acceptance_by_depth"].as_array().unwrap().len(), 2);
    let leftovers = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(leftovers.count(), 0);

    let ran = run_it();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["model"]["verdict"], json!({"name": "verified"}));
    assert_eq!(document["warnings"], json!([]));

    // What steers the head is another than what was measured; and back.
    let mut steered = written.clone();
    steered["mtp_contract"] = json!({"concat_order": "hidden_embedding"});
    fs::write(dir.path().join(CONTRACT), steered.to_string()).unwrap();
    let ran = run_it();
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("unverified: mtp_contract: {\"concat_order\""), "{}", ran.stderr);
    fs::write(dir.path().join(CONTRACT), written.to_string()).unwrap();
    assert_eq!(run_it().code, 0);

    // One weight is another one, in a file of the same size.
    spoil(&dir, "mtp.safetensors", &[0; 2]);
    let ran = run_it();
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("unverified: sha256.mtp.safetensors: the file is not the one"), "{}", ran.stderr);
    let ran = run_at(home.path(), &["run", "the ", "--raw", "-n2", "--json", "--model", path, "--allow-unverified"]);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["model"]["verdict"]["name"], "unverified");
    assert!(ran.stderr.contains("warning: ") && ran.stderr.contains("unverified: sha256.mtp.safetensors"));
}

#[test]
fn a_gate_that_is_not_passed_leaves_the_contract_alone() {
    let (dir, home) = (copy(TRAINED), tempfile::tempdir().unwrap());
    let path = dir.path().to_str().unwrap();
    let before = "{\"mtp_depth_max\": 1,   \"note\": \"as it was\"}";
    fs::write(dir.path().join(CONTRACT), before).unwrap();
    // Weights that are no numbers: whatever they are multiplied with fails every comparison.
    let bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let spoilt = tensors.iter().map(|(name, view)| {
        let data =
            if name.ends_with("model.norm.weight") { vec![0xff; view.data().len()] } else { view.data().to_vec() };
        (name.to_owned(), view.dtype(), view.shape().to_vec(), data)
    });
    let spoilt: Vec<_> = spoilt.collect();
    let views = spoilt.iter().map(|(name, dtype, shape, data)| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    fs::write(dir.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();

    let prompts = prompts(&home);
    let ran = run_at(home.path(), &["verify", path, "--quick", "--prompts", &prompts, "--json"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("not passed: state") && ran.stderr.contains("is as it was"), "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&document["passed"], &document["written"]), (&json!(false), &json!(false)));
    let state = &document["gates"][0];
    assert_eq!((&state["name"], &state["passed"]), (&json!("state"), &json!(false)));
    assert_eq!(fs::read_to_string(dir.path().join(CONTRACT)).unwrap(), before);
}

#[test]
fn a_contract_that_changes_meanwhile_is_left_alone() {
    let (dir, home) = (copy(TRAINED), tempfile::tempdir().unwrap());
    let path = dir.path().to_str().unwrap();
    let edit = |edition: usize| {
        let text = json!({"mtp_depth_max": 1, "note": edition}).to_string();
        fs::write(home.path().join(CONTRACT), text).unwrap();
        fs::rename(home.path().join(CONTRACT), dir.path().join(CONTRACT)).unwrap();
    };
    edit(0);
    let prompts = prompts(&home);
    let ran = std::thread::scope(|scope| {
        let verify = scope.spawn(|| run_at(home.path(), &["verify", path, "--quick", "--prompts", &prompts]));
        let mut edition = 0;
        while !verify.is_finished() {
            edition += 1;
            edit(edition);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        verify.join().unwrap()
    });
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("mtplx_runtime.json: changed while it was measured"), "{}", ran.stderr);
    assert!(ran.stdout.contains("greedy"), "what was measured is shown: {}", ran.stdout);
    assert!(contract(&dir)["exactness_baseline"].is_null());
}

#[test]
fn what_cannot_be_verified() {
    let dir = copy(TRAINED);
    let path = dir.path().to_str().unwrap();
    let (error, _) = fails(&["verify", "no/such/model"], 5);
    assert!(error.contains("no/such/model: not found"), "{error}");

    let write = |text: &str| fs::write(dir.path().join(CONTRACT), text).unwrap();
    write("[");
    let (error, _) = fails(&["verify", path], 5);
    assert!(error.contains("mtplx_runtime.json: not a JSON object"), "{error}");
    write(r#"{"mtp_contract": {"concat_order": "a", "concat_order": "b"}}"#);
    let (error, hint) = fails(&["verify", path], 5);
    assert!(error.contains("mtplx_runtime.json: mtp_contract.concat_order: stated twice"), "{error}");
    assert!(hint.contains("correct it"), "{hint}");
    // Nor is a link followed out of the folder; and the path is said once.
    fs::remove_file(dir.path().join(CONTRACT)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join(CONTRACT)).unwrap();
    let (error, _) = fails(&["verify", path], 5);
    assert_eq!(error, format!("{path}/{CONTRACT}: a link out of the folder, to /etc/passwd"));
    fs::remove_file(dir.path().join(CONTRACT)).unwrap();
    write(r#"{"contract_version": 2}"#);
    let (error, hint) = fails(&["verify", path], 3);
    assert!(error.contains("contract_version: 2: a newer mtplx") && hint.contains("install a newer"), "{error} {hint}");
    // Evidence would not mend these.
    write(r#"{"arch_id": "mimo-mtp", "forge_provenance": {"source": "/home/me/model"}, "contract_version": 2}"#);
    let (error, _) = fails(&["verify", path], 3);
    for fault in [
        "arch_id: \"mimo-mtp\"",
        "forge_provenance.source: \"/home/me/model\": an absolute path",
        "contract_version: 2",
    ] {
        assert!(error.contains(fault), "{fault}: {error}");
    }
    write(r#"{"min_engine_version": "99.0.0"}"#);
    let (error, _) = fails(&["verify", path], 4);
    assert!(error.contains("min_engine_version"), "{error}");
    fs::remove_file(dir.path().join(CONTRACT)).unwrap();
    let (error, _) = fails(&["verify", path, "--prompts", "no/such/file"], 5);
    assert!(error.contains("no/such/file"), "{error}");
    let long = dir.path().join("long.txt");
    fs::write(&long, "a\n").unwrap();
    let (error, hint) = fails(&["verify", path, "--prompts", long.to_str().unwrap()], 5);
    assert!(
        error.ends_with("long.txt: no prompt of two tokens or more") && hint.contains("--prompts"),
        "{error} {hint}"
    );
    // A flag of another command is named with it.
    fs::write(dir.path().join("chat_template.jinja"), "{% if %}").unwrap();
    let (_, hint) = fails(&["verify", path], 5);
    assert!(hint.contains("`mtplx run --raw`"), "{hint}");
    fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    fs::write(&long, "x ".repeat(500_000)).unwrap();
    let (error, hint) = fails(&["verify", path, "--quick", "--prompts", long.to_str().unwrap()], 5);
    assert!(error.contains("long.txt: line 1: 1000000 bytes: expected at most 65536"), "{error}");
    assert!(hint.contains("cut the prompt"), "{hint}");
    fs::write(&long, "x ".repeat(30_000)).unwrap();
    let (error, _) = fails(&["verify", path, "--quick", "--prompts", long.to_str().unwrap()], 5);
    assert!(error.contains("long.txt: line 1: ") && error.contains("tokens: expected at most 4096"), "{error}");
    fs::remove_file(dir.path().join("mtp.safetensors")).unwrap();
    let (error, hint) = fails(&["verify", path], 3);
    let home = tempfile::tempdir().unwrap();
    for (command, hint) in [("verify", hint), ("tune", run_at(home.path(), &["tune", path]).stderr)] {
        assert!(hint.contains("`mtplx run --no-mtp`") && !hint.contains(" --no-mtp runs"), "{command}: {hint}");
    }
    assert!(error.contains("incomplete: ") && error.contains("mtp.safetensors"), "{error}");
}

#[test]
fn evidence_for_a_recognized_architecture_is_this_machine_s() {
    let (dir, home, other) = (copy("mimo_bf16"), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().to_str().unwrap();
    let prompts = prompts(&home);
    let ran = run_at(home.path(), &["verify", path, "--quick", "--prompts", &prompts]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let run_it = |home: &Path| run_at(home, &["run", "x", "--raw", "-n1", "--model", path]);
    assert_eq!(run_it(home.path()).code, 0);
    for elsewhere in [other.path(), Path::new("/dev/null/mtplx")] {
        let ran = run_it(elsewhere);
        assert_eq!(ran.code, 3);
        assert!(ran.stderr.contains("another machine: mimo-mtp is a recognized architecture"), "{}", ran.stderr);
    }
}
