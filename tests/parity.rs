//! `mtplx parity` on the vendored checkpoints, and on the full set where `MTPLX_GOLDEN` names it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{fails, fixture, json, model, run};

const LINKED: [&str; 7] = ["deepseek_v3", "glm4_moe", "mimo", "minimax_m2", "qwen3_5", "qwen3_5_moe", "qwen3_next"];

/// Every folder below `root` that has weights and expected tensors of a type that is linked here.
fn checkpoints(root: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.is_dir() {
            continue;
        }
        let config = fs::read(dir.join("config.json")).ok();
        let config: Option<Value> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let linked = |config: &Value| {
            let model_type = config["model_type"].as_str();
            model_type.is_some_and(|model_type| LINKED.contains(&model_type))
        };
        if config.as_ref().is_some_and(linked) && dir.join("golden.safetensors").exists() {
            found.push(dir.clone());
        }
        checkpoints(&dir, found);
    }
}

#[test]
fn every_checkpoint_of_a_linked_type() {
    let mut found = Vec::new();
    checkpoints(&fixture(""), &mut found);
    assert_eq!(found.len(), 12, "{found:?}");
    if let Some(full) = std::env::var_os("MTPLX_GOLDEN") {
        checkpoints(Path::new(&full), &mut found);
    }
    for dir in found {
        let reference = dir.join("golden.safetensors");
        let report = json(&["parity", dir.to_str().unwrap(), reference.to_str().unwrap(), "--json"]);
        assert_eq!(report["passed"], true, "{report:#}");
        assert_eq!(report["skipped"].as_array().unwrap().len(), 0, "{report:#}");
        let names: Vec<&str> =
            report["compared"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        // Several MTP layers are compared one by one, and draft a chain of their own.
        let several = names.contains(&"mtp_multi.1.logits");
        let chain = if several { "mtp_multi.chain_logits" } else { "mtp.chain_logits" };
        for expected in ["trunk.post_norm", "trunk.logits", "mtp.post_norm", "mtp.logits", chain] {
            assert!(names.contains(&expected), "{expected} of {names:?}");
        }
        for logits in report["compared"].as_array().unwrap().iter().filter(|c| !c["argmax"].is_null()) {
            let (argmax, tie) = (&logits["argmax"], 2.0 * 2e-4);
            assert!(argmax["agree"] == argmax["rows"] || argmax["largest_margin"].as_f64().unwrap() < tie, "{logits}");
        }
    }
}

#[test]
fn a_table_for_people() {
    let model = model("trained_qwen3_5/mlx_q4g32");
    let reference = format!("{model}/golden.safetensors");
    let ran = run(&["parity", &model, &reference]);
    assert_eq!(ran.code, 0);
    let rows: Vec<&str> = ran.stdout.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(rows, ["tensor", "trunk.post_norm", "trunk.logits", "mtp.post_norm", "mtp.logits", "mtp.chain_logits"]);

    let ran = run(&["parity", &model, &reference, "--tolerance", "1e-9"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("beyond 1e-9 (worst at row "), "{}", ran.stdout);
}

#[test]
fn another_model_s_reference_fails() {
    let model = model("trained_qwen3_5/mlx_q4g32");
    let other = format!("{}/golden.safetensors", crate::command::model("trained_qwen3_5"));
    let ran = run(&["parity", &model, &other, "--json"]);
    assert_eq!(ran.code, 1);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["passed"], false);
}

#[test]
fn references_that_are_none() {
    let model = model("trained_qwen3_5/mlx_q4g32");
    let (error, _) = fails(&["parity", &model, "no/such/file"], 5);
    assert!(error.starts_with("no/such/file: "), "{error}");
    for endless in ["/dev/zero", "/"] {
        assert_eq!(fails(&["parity", &model, endless], 5).0, format!("{endless}: not a regular file"));
    }
    let (error, hint) = fails(&["parity", &model, &format!("{model}/model.safetensors")], 5);
    assert!(error.ends_with("input_ids: tensor not found"), "{error}");
    assert!(hint.contains("mtplx parity --help"));
}

/// Arithmetic in bf16 is held to the means; MLX's CPU backend, which has no bf16 product of unquantized experts, included.
#[test]
fn bf16_arithmetic_stays_near() {
    let mut found = Vec::new();
    checkpoints(&fixture(""), &mut found);
    if let Some(full) = std::env::var_os("MTPLX_GOLDEN") {
        checkpoints(Path::new(&full), &mut found);
    }
    found.retain(|dir| dir.file_name().is_some_and(|name| name.to_string_lossy().ends_with("_bf16")));
    assert!(found.len() >= 2, "{found:?}");
    for dir in found {
        let reference = dir.join("golden.safetensors");
        let args = ["parity", dir.to_str().unwrap(), reference.to_str().unwrap(), "--dtype", "native", "--json"];
        let report = json(&args);
        assert_eq!(report["passed"], true, "{report:#}");
        let logits = report["compared"].as_array().unwrap().iter().find(|c| c["name"] == "trunk.logits").unwrap();
        assert!(logits["max_abs_diff"].as_f64().unwrap() > 2e-4, "computed in f32 after all: {logits:#}");
    }
}
