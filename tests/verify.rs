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
    // The architecture is verified, so evidence that is missing is worth a warning.
    let ran = run_it();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["model"]["verdict"]["name"], "unverified");
    let warnings: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    let [warning] = warnings[..] else { panic!("{}", ran.stderr) };
    assert!(warning.contains(&format!("unverified: no {CONTRACT}: `mtplx verify` ")), "{warning}");

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
    assert!(ran.stderr.contains("contradicted: mtp_contract: {\"concat_order\""), "{}", ran.stderr);
    assert!(ran.stderr.contains("`mtplx verify` replaces the evidence"), "{}", ran.stderr);
    fs::write(dir.path().join(CONTRACT), written.to_string()).unwrap();
    assert_eq!(run_it().code, 0);

    // One weight is another one, in a file of the same size.
    spoil(&dir, "mtp.safetensors", &[0; 2]);
    let ran = run_it();
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("contradicted: sha256.mtp.safetensors: the file is not the one"), "{}", ran.stderr);
    let ran = run_at(home.path(), &["run", "the ", "--raw", "-n2", "--json", "--model", path, "--allow-unverified"]);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["model"]["verdict"]["name"], "contradicted");
    assert!(ran.stderr.contains("warning: ") && ran.stderr.contains("contradicted: sha256.mtp.safetensors"));
}

/// Each tier's rights, with and without flags.
#[test]
fn who_may_run() {
    const FLAGS: [&[&str]; 5] =
        [&[], &["--no-mtp"], &["--allow-unverified"], &["--require-verified"], &["--require-verified", "--no-mtp"]];
    let failed = json!({"exactness_baseline": {"status": "failed"}});
    let pending = json!({"exactness_baseline": {"status": "pending"}});
    for (fixture, contract, codes) in [
        (TRAINED, None, [0, 0, 0, 3, 3]),
        (TRAINED, Some(&pending), [0, 0, 0, 3, 3]),
        (TRAINED, Some(&failed), [3, 0, 0, 3, 3]),
        (TRAINED, Some(&json!({"arch_id": "mimo-mtp"})), [3, 0, 0, 3, 3]),
        (TRAINED, Some(&json!({"arch_id": 3})), [5, 0, 5, 5, 5]),
        (TRAINED, Some(&json!([1])), [5, 0, 5, 5, 5]),
        ("mimo_bf16", None, [3, 0, 0, 3, 3]),
        ("mimo_bf16", Some(&pending), [3, 0, 0, 3, 3]),
        ("mimo_bf16", Some(&failed), [3, 0, 0, 3, 3]),
    ] {
        let dir = copy(fixture);
        if let Some(contract) = contract {
            fs::write(dir.path().join(CONTRACT), contract.to_string()).unwrap();
        }
        let model = dir.path().to_str().unwrap();
        for (flags, code) in FLAGS.into_iter().zip(codes) {
            let ran = run(&[&["run", "x", "--raw", "-n1", "--model", model], flags].concat());
            let what = format!("{fixture}: {contract:?}: {flags:?}: {}", ran.stderr);
            assert_eq!(ran.code, code, "{what}");
            if code == 3 {
                // One line of error, and one of what to do.
                assert_eq!(ran.stderr.lines().count(), 2, "{what}");
                let ways: &[&str] = match flags {
                    [] => &["`mtplx verify`", "--no-mtp", "--allow-unverified"],
                    _ => &["`mtplx verify`", "--require-verified"],
                };
                assert!(ways.iter().all(|way| ran.stderr.contains(way)), "{what}");
            }
            // Plain decoding needs no evidence, and is not told how to get any.
            if flags == ["--no-mtp"] && code == 0 {
                assert!(!ran.stderr.contains("`mtplx verify`"), "{what}");
            }
        }
    }
    for command in [&["bench", "decode", "builtin"][..], &["tune", "builtin"]] {
        let both = [command, &["--require-verified", "--allow-unverified"]].concat();
        assert!(fails_of_usage(&both).contains("cannot be used with"));
    }
    let (dir, home) = (copy(TRAINED), tempfile::tempdir().unwrap());
    let model = dir.path().to_str().unwrap();
    for command in [&["bench", "decode", model][..], &["tune", model]] {
        let ran = run_at(home.path(), &[command, &["--require-verified"]].concat());
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("unverified: no {CONTRACT}")), "{}", ran.stderr);
    }
}

fn fails_of_usage(args: &[&str]) -> String {
    let ran = run(args);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    ran.stderr
}

/// As MTPLX in Python publishes it: inspected, run and verified as it is, and kept as it is but for the evidence.
#[test]
fn a_published_contract() {
    let (dir, home) = (copy(TRAINED), tempfile::tempdir().unwrap());
    let path = dir.path().to_str().unwrap();
    let place = "/Users/someone/.mtplx/models/Example--Model-27B";
    let published = json!({"arch_id": "qwen3-next-mtp", "artifact_role": "forge-local", "base_trunk": place,
        "exactness_baseline": {}, "mtplx_version": "2.6.0", "min_engine_version": "2.6.0", "mtp_sidecar": "bf16",
        "forge_provenance": {"forge_inputs": {"mtp_source_path": place, "trunk_path": place}, "source_repo": place},
        "mtp_contract": {"base_hidden_variant": "post_norm", "concat_order": "embedding_hidden",
            "hidden_variant": "post_norm", "mtp_position_mode": "local"},
        "mtp_depth_default": 3, "mtp_depth_max": 3, "recommended_profile": "turbo",
        "recommended_draft_lm_head": {"bits": 3, "group_size": 64}});
    fs::write(dir.path().join(CONTRACT), published.to_string()).unwrap();

    let said = run(&["inspect", path]).stdout;
    assert!(said.contains("verdict       unverified\n"), "{said}");
    assert_eq!(said.matches(place).count(), 0, "{said}");
    for remark in [
        "base_trunk: a place on its maker's machine, one of 4",
        "recommended_profile: \"turbo\": ignored",
        "recommended_draft_lm_head: affine 3-bit group 64: ignored",
    ] {
        assert_eq!(said.matches(&format!("remark: {CONTRACT}: {remark}")).count(), 1, "{remark}: {said}");
    }
    let warnings = |ran: &Ran| ran.stderr.lines().filter(|line| line.starts_with("warning: ")).count();
    let run_it = |flags: &[&str]| {
        let ran = run_at(home.path(), &[&["run", "the ", "--raw", "-n2", "--json", "--model", path], flags].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    };
    assert_eq!(warnings(&run_it(&["--no-mtp"])), 1);
    let ran = run_it(&[]);
    assert_eq!(warnings(&ran), 1, "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["settings"]["mtp_depth"], json!({"value": "auto", "source": "default"}));
    assert_eq!(document["settings"]["mtp_depth_start"], json!({"value": 3, "source": "contract"}));
    let document: Value = serde_json::from_str(&run_it(&["--seed", "1"]).stdout).unwrap();
    assert_eq!(document["settings"]["mtp_depth"], json!({"value": 3, "source": "contract"}));

    let ran = run_at(home.path(), &["verify", path, "--quick", "--prompts", &prompts(&home)]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let written = contract(&dir);
    for (field, value) in published.as_object().unwrap().iter().filter(|(field, _)| *field != "exactness_baseline") {
        assert_eq!(&written[field], value, "{field}");
    }
    assert_eq!(warnings(&run_it(&["--require-verified"])), 0);
}

#[test]
fn a_gate_that_is_not_passed_leaves_the_contract_alone() {
    let (dir, home) = (copy(TRAINED), tempfile::tempdir().unwrap());
    let path = dir.path().to_str().unwrap();
    let before = "{\"mtp_depth_max\": 1,   \"note\": \"as it was\"}";
    fs::write(dir.path().join(CONTRACT), before).unwrap();
    // The largest numbers that f32 and bf16 hold: what they are multiplied with is infinite, or no number.
    let bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let spoilt = tensors.iter().map(|(name, view)| {
        let data =
            if name.ends_with("model.norm.weight") { vec![0x7f; view.data().len()] } else { view.data().to_vec() };
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
    assert!(hint.contains("correct mtplx_runtime.json, or move it"), "{hint}");
    write(r#"{"mtp_depth_max": "3"}"#);
    let (error, _) = fails(&["verify", path], 5);
    assert!(
        error.ends_with("damaged: mtplx_runtime.json: mtp_depth_max: \"3\": expected an integer from 1 to 64"),
        "{error}"
    );
    // Nor is a link followed out of the folder; and the path is said once.
    fs::remove_file(dir.path().join(CONTRACT)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join(CONTRACT)).unwrap();
    let (error, _) = fails(&["verify", path], 5);
    assert_eq!(error, format!("{path}: damaged: {CONTRACT}: a link out of the folder, to /etc/passwd"));
    fs::remove_file(dir.path().join(CONTRACT)).unwrap();
    write(r#"{"contract_version": 2}"#);
    let (error, hint) = fails(&["verify", path], 3);
    assert!(error.contains("contract_version: 2: a newer mtplx") && hint.contains("install a newer"), "{error} {hint}");
    // Evidence would not mend these.
    write(r#"{"arch_id": "mimo-mtp", "mtp_contract": {"hidden_variant": "x"}, "contract_version": 2}"#);
    let (error, _) = fails(&["verify", path], 3);
    for fault in ["arch_id: \"mimo-mtp\"", "mtp_contract.hidden_variant: \"x\": expected", "contract_version: 2"] {
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
