//! Tuning: what is found is kept, used by `run`, shown and forgotten.

use std::fs;

use serde_json::{Value, json};

use crate::command::{model, mtplx};

const TRAINED: &str = "trained_qwen3_5/mlx_q4g32";

/// A run with a folder of its own to keep things in: exit code, standard output and error.
fn run(config: &std::path::Path, args: &[&str]) -> (i32, String, String) {
    let output = mtplx(args).env("MTPLX_HOME", config).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(config: &std::path::Path, args: &[&str]) -> Value {
    let (code, stdout, stderr) = run(config, args);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn a_depth_is_found_kept_used_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (config, model) = (dir.path(), model(TRAINED));
    let depth = |more: &[&str]| {
        let args = ["run", "the ", "--raw", "--model", &model, "--json", "-n4", "--allow-unverified"];
        json(config, &[&args[..], more].concat())["settings"]["mtp_depth"].clone()
    };
    assert_eq!(depth(&[]), json!({"value": "auto", "source": "default"}));

    let quick = [
        "--depths",
        "0..2",
        "--contexts",
        "32",
        "-n",
        "12",
        "--repeats",
        "2",
        "--warmup",
        "1",
        "--json",
        "--allow-unverified",
    ];
    let document = json(config, &[&["tune", &model], &quick[..]].concat());
    let best = &document["best"];
    let rate = |depth: &Value| {
        let rows = document["report"]["decode"].as_array().unwrap();
        rows.iter().find(|row| row["depth"] == *depth).unwrap()["tok_s"]["median"].as_f64().unwrap()
    };
    let rates = [0, 1, 2].map(|depth| rate(&json!(depth)));
    assert!(rates.iter().all(|other| rate(&best["depth"]) * 1.01 >= *other), "{document}");
    // A rate of times, so rounded twice.
    assert!((best["plain_tok_s"].as_f64().unwrap() / rates[0] - 1.0).abs() < 1e-9, "{document}");
    let file = config.join("tuned.json");
    assert_eq!(document["stored"], file.display().to_string());

    assert_eq!(depth(&[]), json!({"value": best["depth"], "source": "tuned"}));
    assert_eq!(depth(&["--mtp-depth", "1"]), json!({"value": 1, "source": "flag"}));
    let shown = json(config, &["tune", "--show", "--json"]);
    assert_eq!(shown, json!([best]));
    assert!(run(config, &["tune", &model, "--show"]).1.contains("x plain decoding"));

    // Of another model nothing is known, and forgetting it changes nothing.
    let other = crate::command::model("qwen3_5_dense/mlx_q4g32");
    assert_eq!(json(config, &["tune", &other, "--show", "--json"]), json!([]));
    assert_eq!(run(config, &["tune", &other, "--clear"]).0, 0);
    assert_eq!(depth(&[])["source"], "tuned");
    assert_eq!(run(config, &["tune", &model, "--clear"]).0, 0);
    assert_eq!(depth(&[])["source"], "default");

    // A damaged file is no obstacle to a run.
    fs::write(&file, "{").unwrap();
    assert_eq!(depth(&[])["source"], "default");
    let (code, _, stderr) = run(config, &["tune", "--show"]);
    assert!(code == 5 && stderr.contains("tuned.json: ") && stderr.contains("--clear"), "{stderr}");
    assert_eq!(run(config, &["tune", "--clear"]).0, 0);
    assert!(!file.exists());
}

#[test]
fn tuning_takes_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, stderr) = run(dir.path(), &["tune"]);
    assert!(code == 2 && stderr.contains("<MODEL>"), "{stderr}");
    assert_eq!(run(dir.path(), &["tune", "--show", "--clear"]).0, 2);
}
