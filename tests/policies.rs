//! What policies decide, seen in the artifacts that `mtplx forge` writes by them.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::command::{copy, model, run};
use crate::forge::{Bench, tensors, write};

/// What the format has in bf16 is in bf16, whatever the source's type; decays, and what decides between experts, stay.
#[test]
fn what_is_not_packed_is_bf16_for_an_f32_source() {
    let deepseek = copy("deepseek_v3_bf16");
    let mut widened = tensors(deepseek.path(), "model.safetensors");
    for (dtype, _, bytes) in widened.values_mut().filter(|(dtype, ..)| *dtype == Dtype::BF16) {
        *dtype = Dtype::F32;
        *bytes = bytes.chunks(2).flat_map(|two| [0, 0, two[0], two[1]]).collect();
    }
    write(deepseek.path(), "model.safetensors", &widened);
    let deepseek = deepseek.path().display().to_string();
    for (source, kept) in
        [(model("trained_qwen3_5"), &[".A_log"][..]), (deepseek, &[".mlp.gate.weight", ".e_score_correction_bias"])]
    {
        for policy in ["gdn8-speed4", "bf16"] {
            let bench = Bench::new();
            bench.forge(&source, &["--policy", policy]);
            let mut all = tensors(bench.out(), "model.safetensors");
            all.extend(tensors(bench.out(), "mtp.safetensors"));
            let wide = all.iter().filter(|(_, (dtype, ..))| !matches!(dtype, Dtype::BF16 | Dtype::U32));
            for (name, (dtype, ..)) in wide.clone() {
                let stays = *dtype == Dtype::F32 && kept.iter().any(|kept| name.ends_with(kept));
                assert!(stays, "{source}, {policy}: {name}: {dtype}");
            }
            assert!(wide.count() > 0, "{source}");
            let config: Value =
                serde_json::from_slice(&fs::read(Path::new(&bench.out()).join("config.json")).unwrap()).unwrap();
            assert!(["dtype", "torch_dtype"].iter().any(|field| config[*field] == "bfloat16"), "{source}");
        }
    }
}

/// `*` stands for anything, but layer 0 of the trunk is not layer 0 of the draft head.
#[test]
fn patterns_speak_of_the_trunk_or_of_the_head() {
    let bench = Bench::new();
    let policy = |patterns: &str| {
        bench.policy(&format!("name = \"mine\"\nkeep = true\n[[rule]]\nmodules = [{patterns}]\nbits = 8\n"))
    };
    let packed = |patterns: &str| {
        let args = ["forge", &model("trained_qwen3_5"), &bench.out(), "--policy", &policy(patterns), "--dry-run"];
        let ran = run(&[&args[..], &["--json"]].concat());
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        let rows = document["groups"].as_array().unwrap().iter().filter(|row| row["bits"] == 8);
        let groups: Vec<String> = rows.map(|row| row["group"].as_str().unwrap().to_owned()).collect();
        (groups.join(" "), document["unmatched"].clone(), ran.stderr)
    };
    assert_eq!(packed("\"*.layers.0.*\"").0, "linear_attn mlp");
    assert_eq!(packed("\"mtp.layers.0.*\"").0, "mtp_layer");
    let (groups, unmatched, stderr) = packed("\"*.layer.0.*\", \"*lm_head\", \"*.embed_tokens\"");
    assert_eq!((groups.as_str(), unmatched), ("embedding", json!(["*.layer.0.*", "*lm_head"])));
    assert!(
        stderr.contains("warning: policy mine: modules: \"*.layer.0.*\" fits no module of this model\n"),
        "{stderr}"
    );
}
