//! Generation, end to end: what is written, and what is reported of it.

use std::collections::BTreeMap;
use std::fs;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::command::{copy, fails, fixture, json, model, mtplx, run};

const TRAINED: &str = "trained_qwen3_5/mlx_q4g32";

/// A tensor of ids as `--prompt-ids` takes it.
fn ids(file: &str, tensor: &str) -> Vec<i32> {
    let bytes = fs::read(fixture(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor(tensor).unwrap().data().as_chunks().0.iter().map(|&id| i32::from_le_bytes(id)).collect()
}

fn joined(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn greedy_text_of_the_reference_at_every_depth() {
    let model = model("trained_qwen3_5");
    let prompt = joined(&ids("trained_qwen3_5/golden.safetensors", "input_ids"));
    let expected = ids("trained_qwen3_5/golden.safetensors", "greedy_ids");
    for depth in ["0", "1", "2", "3", "8", "auto"] {
        let args = [
            "run",
            "--prompt-ids",
            &prompt,
            "--allow-unverified",
            "--model",
            &model,
            "--json",
            "-t0",
            "-n96",
            "--mtp-depth",
            depth,
        ];
        assert_eq!(json(&args)["token_ids"], json!(expected), "depth {depth}");
    }
}

#[test]
fn drafts_from_a_part_of_the_vocabulary() {
    let of =
        |more: &[&str]| json(&[&["run", "fn main() {", "--json", "-t0", "-n48", "--mtp-depth", "2"], more].concat());
    let rounds = |document: &Value| document["stats"]["rounds"].as_u64().unwrap();
    let whole = of(&[]);
    assert_eq!(whole["settings"]["draft_vocab"], json!({"value": null, "source": "default"}));
    let some = of(&["--draft-vocab", "300"]);
    assert_eq!(some["settings"]["draft_vocab"], json!({"value": 300, "source": "flag"}));
    assert_eq!(of(&["--draft-vocab", "4096"])["settings"]["draft_vocab"]["value"], Value::Null, "all of it");
    // The text's own tokens make better drafts than those with the lowest ids.
    let dir = tempfile::tempdir().unwrap();
    let sample = dir.path().join("sample.txt").display().to_string();
    fs::write(&sample, whole["text"].as_str().unwrap()).unwrap();
    let own = of(&["--draft-vocab", "300", "--draft-corpus", &sample]);
    for document in [&some, &own] {
        assert_eq!(document["token_ids"], whole["token_ids"]);
    }
    let [some, own, whole] = [&some, &own, &whole].map(rounds);
    assert!(whole < some && own < some, "{some} {own} {whole}");

    let (error, _) = fails(&["run", "x", "--draft-vocab", "9", "--draft-corpus", "/nowhere"], 5);
    assert!(error.contains("/nowhere"), "{error}");
    for args in [&["--draft-vocab", "0"][..], &["--draft-corpus", "x"], &["--draft-vocab", "9", "--no-mtp"]] {
        assert_eq!(run(&[&["run", "x"], args].concat()).code, 2, "{args:?}");
    }
}

#[test]
fn rounds_of_the_reference_at_depth_one() {
    let trace: Value = serde_json::from_slice(&fs::read(fixture("trained_qwen3_5/golden.json")).unwrap()).unwrap();
    let accepted: Vec<u64> =
        trace["spec_trace_K1"].as_array().unwrap().iter().map(|round| round[1].as_u64().unwrap()).collect();
    // Up to a round whose draft is accepted: a shorter limit would keep the last one from drafting.
    let rounds = 30 + accepted[30..].iter().position(|&accepted| accepted == 1).unwrap() + 1;
    let hits: u64 = accepted[..rounds].iter().sum();
    let tokens = (1 + rounds as u64 + hits).to_string();

    let model = model("trained_qwen3_5");
    let prompt = joined(&ids("trained_qwen3_5/golden.safetensors", "input_ids"));
    let args = [
        "run",
        "--prompt-ids",
        &prompt,
        "--allow-unverified",
        "--model",
        &model,
        "--json",
        "-t0",
        "--mtp-depth",
        "1",
        "-n",
        &tokens,
    ];
    let stats = &json(&args)["stats"];
    assert_eq!(stats["rounds"], rounds);
    assert_eq!(stats["drafted_by_depth"], json!([rounds]));
    assert_eq!(stats["examined_by_depth"], json!([rounds]));
    assert_eq!(stats["accepted_by_depth"], json!([hits]));
    assert_eq!(stats["rounds_by_depth"], json!([0, rounds]));
}

#[test]
fn a_seed_gives_the_same_text_at_every_depth_when_coupled() {
    let model = model(TRAINED);
    let text = |depth: &str| {
        let args = [
            "run",
            "the ",
            "--raw",
            "--allow-unverified",
            "--model",
            &model,
            "--json",
            "-t",
            "1",
            "-n40",
            "--acceptance",
            "coupled",
        ];
        json(&[&args[..], &["--seed", "11", "--mtp-depth", depth]].concat())["text"].clone()
    };
    let plain = text("0");
    for depth in ["1", "3", "auto"] {
        assert_eq!(text(depth), plain, "depth {depth}");
    }
}

#[test]
fn streamed_text_is_the_document_s_text() {
    let model = model(TRAINED);
    let args = [
        "run",
        "the ",
        "--raw",
        "--allow-unverified",
        "--model",
        &model,
        "--seed",
        "5",
        "-t",
        "1",
        "-n30",
        "--mtp-depth",
        "2",
    ];
    let ran = run(&args);
    assert_eq!(ran.code, 0);
    let document = json(&[&args[..], &["--json"]].concat());
    assert_eq!(ran.stdout.trim_end_matches('\n'), document["text"].as_str().unwrap().trim_end_matches('\n'));
    assert_eq!(document["seed"], 5);
    assert_eq!(document["settings"]["temperature"], json!({"value": 1.0, "source": "flag"}));
    for said in ["30 tokens", "tok/s", "TTFT", "mean accepted length", "acceptance by depth"] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    assert!(ran.stderr.contains("warning: ") && ran.stderr.contains("unverified"), "{}", ran.stderr);
}

#[test]
fn stop_strings_end_the_text_whatever_the_depth() {
    let model = model("trained_qwen3_5");
    let prompt = joined(&ids("trained_qwen3_5/golden.safetensors", "input_ids"));
    let run = |more: &[&str]| {
        json(
            &[
                &["run", "--prompt-ids", &prompt, "--allow-unverified", "--model", &model, "--json", "-t0", "-n60"],
                more,
            ]
            .concat(),
        )
    };
    let whole = run(&[])["text"].as_str().unwrap().to_owned();
    let stop = &whole[20..23];
    let expected = &whole[..whole.find(stop).unwrap()];
    for depth in ["0", "1", "3"] {
        let document = run(&["--stop", stop, "--stop", "never", "--mtp-depth", depth]);
        assert_eq!(document["text"], *expected);
        assert_eq!(document["finish_reason"], "stop_string");
        assert_eq!(document["stop_string"], *stop);
        // A byte-level vocabulary without merges: a token a byte.
        assert_eq!(document["token_ids"].as_array().unwrap().len(), expected.len() + stop.len());
    }
}

#[test]
fn a_stop_token_ends_the_text_unless_ignored() {
    let model = model(TRAINED);
    let run = |more: &[&str]| {
        json(
            &[&["run", "x", "--allow-unverified", "--model", &model, "--json", "-n6", "--logit-bias", "258=100"], more]
                .concat(),
        )
    };
    let document = run(&[]);
    assert_eq!((&document["finish_reason"], &document["text"]), (&json!("stop_token"), &json!("")));
    assert_eq!(document["token_ids"], json!([258]));
    let document = run(&["--ignore-eos"]);
    assert_eq!((&document["finish_reason"], &document["text"]), (&json!("length"), &json!("")));
    assert_eq!(document["token_ids"], json!(vec![258; 6]));
}

#[test]
fn stats_compare_with_plain_decoding() {
    let model = model(TRAINED);
    let args = ["run", "the ", "--raw", "--allow-unverified", "--model", &model, "-n20", "--mtp-depth", "1", "--stats"];
    assert!(run(&args).stderr.contains("plain decoding"));
    let stats = &json(&[&args[..], &["--json"]].concat())["stats"];
    assert_eq!(stats["tokens"], 20);
    assert_eq!((&stats["plain"]["rounds"], &stats["plain"]["emitted"]), (&json!(19), &json!(19)));
    assert!(stats["speedup"].as_f64().unwrap() > 0.0);
}

#[test]
fn without_the_head() {
    let model = model(TRAINED);
    let document = json(&["run", "x", "--allow-unverified", "--model", &model, "--json", "-n4", "--no-mtp"]);
    assert_eq!(document["model"]["has_draft_head"], false);
    assert_eq!(document["stats"]["drafted_by_depth"], json!([]));

    // Plain decoding needs no evidence, and what the model is worth is still said.
    let plain = json(&["run", "x", "--model", &model, "--json", "-n4", "--no-mtp"]);
    assert_eq!(plain["model"]["verdict"]["name"], "unverified");
    assert_eq!(plain["model"]["has_draft_head"], false);
    assert!(plain["warnings"].to_string().contains("unverified: no mtplx_runtime.json"), "{}", plain["warnings"]);
    // A depth of none is asked of the head, which is there.
    let recognized = crate::command::model("mimo_bf16");
    let (error, hint) = fails(&["run", "x", "--model", &recognized, "--mtp-depth", "0"], 3);
    assert!(error.contains("unverified") && hint.contains("--no-mtp"), "{error} {hint}");

    // A head that is announced and is not there.
    let dir = copy(TRAINED);
    fs::remove_file(dir.path().join("mtp.safetensors")).unwrap();
    let path = dir.path().to_str().unwrap();
    let (error, hint) = fails(&["run", "x", "--allow-unverified", "--model", path], 3);
    assert!(error.contains("incomplete: ") && error.contains("mtp.safetensors"), "{error}");
    assert!(hint.contains("--no-mtp"));
    assert_eq!(run(&["run", "x", "--allow-unverified", "--model", path, "-n4", "--no-mtp"]).code, 0);
}

#[test]
fn the_contract_is_heard() {
    let dir = copy(TRAINED);
    let contract = json!({"mtplx_version": "0.1.0", "arch_id": "qwen3-next-mtp", "mtp_depth_max": 2,
        "recommended_profile": "stable", "exactness_baseline": {"status": "pending"}, "verified_on": {},
        "mtp_depth_default": 2, "recommended_prompt_mode": "raw", "recommended_sampler": {"temperature": 0.9}});
    fs::write(dir.path().join("mtplx_runtime.json"), contract.to_string()).unwrap();
    let path = dir.path().to_str().unwrap();
    let document = json(&["run", "the ", "--allow-unverified", "--model", path, "--json", "-n12", "--mtp-depth", "5"]);
    let settings: BTreeMap<String, Value> = serde_json::from_value(document["settings"].clone()).unwrap();
    assert_eq!(settings["mtp_depth"], json!({"value": 2, "source": "flag"}));
    assert_eq!(settings["mtp_depth_max"], json!({"value": 2, "source": "contract"}));
    assert_eq!(settings["prompt_mode"], json!({"value": "raw", "source": "contract"}));
    assert_eq!(settings["temperature"]["source"], "contract");
    assert_eq!(document["model"]["exactness_baseline"]["status"], "pending");
    let warnings = document["warnings"].to_string();
    assert!(
        warnings.contains("--mtp-depth 5: this model drafts at most 2") && warnings.contains("pending"),
        "{warnings}"
    );
}

/// A reader that has seen enough is no error.
#[test]
fn a_closed_pipe_ends_quietly() {
    use std::io::Read as _;
    use std::process::Stdio;

    let model = model(TRAINED);
    let args = ["run", "the ", "--raw", "--allow-unverified", "--model", &model, "-n400", "--ignore-eos"];
    let mut child = mtplx(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut one = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut one).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("error"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn interrupted() {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    let model = model(TRAINED);
    let args = ["run", "the ", "--raw", "--allow-unverified", "--model", &model, "-n4000", "--ignore-eos"];
    let mut child = mtplx(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // More than the token that prefill draws: there is a rate to report.
    let mut first = [0; 8];
    stdout.read_exact(&mut first).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("tok/s") && !stderr.contains("error"), "{stderr}");
    assert!(rest.len() < 3900, "it went on to the end");
}

/// What the libraries say is shown where it is asked for, and never among the data.
#[test]
fn the_log_goes_to_standard_error() {
    let logged = |level: &str| {
        let out = mtplx(&["run", "--raw", "-n", "1", "x"]).env("MTPLX_LOG", level).output().unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(logged("debug").contains("debug: mtplx_runtime::nn::plan::drafter: norms of the draft head encoding="));
    assert!(!logged("warn").contains("norms of the draft head"));
    assert!(logged("loud").starts_with("warning: MTPLX_LOG: expected off, error"));
}
