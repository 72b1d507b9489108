//! Numbers that are not numbers, settings that make some, and figures that count what is in the text.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::{copy, json as document, run};

/// A trunk whose output matrix is not its embedding, so that a fault in that reaches the texts that hold its token alone.
const UNTIED: &str = "qwen3_5_dense_bf16";
const PROMPT: &str = "89,111,117";

/// Writes `value` over the first number of `row` of the f32 or bf16 matrix whose name ends with `name`.
fn poison(file: &Path, name: &str, row: usize, value: f32) {
    let mut bytes = fs::read(file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let (_, tensor) = tensors.as_object().unwrap().iter().find(|(found, _)| found.ends_with(name)).unwrap();
    let start = header + tensor["data_offsets"][0].as_u64().unwrap() as usize;
    let number: Vec<u8> = match tensor["dtype"].as_str().unwrap() {
        "F32" => value.to_le_bytes().to_vec(),
        "BF16" => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        other => panic!("{other}"),
    };
    let at = start + row * tensor["shape"][1].as_u64().unwrap() as usize * number.len();
    bytes[at..at + number.len()].copy_from_slice(&number);
    fs::write(file, bytes).unwrap();
}

#[test]
fn the_text_ends_where_logits_are_not_finite() {
    let model = copy(UNTIED);
    let path = model.path().to_str().unwrap();
    let args = |depth: &'static str, [temperature, rule]: [&'static str; 2]| {
        ["run", "-m", path, "--allow-unverified", "--prompt-ids", PROMPT, "-n24", "-s", "3", "--ignore-eos"]
            .into_iter()
            .chain(["--mtp-depth", depth, "-t", temperature, "--acceptance", rule])
            .collect::<Vec<_>>()
    };
    // Texts that are the same at every depth, so that each holds the token.
    for settings in [["0", "rejection"], ["1", "coupled"]] {
        let plain = document(&[&args("0", settings)[..], &["--json"]].concat());
        let ids: Vec<u64> = plain["token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        // A token in the middle of the text, and not before.
        let place = (2..ids.len() - 1).find(|&at| !ids[..at].contains(&ids[at])).unwrap();
        for value in [f32::NAN, f32::INFINITY] {
            let spoilt = copy(UNTIED);
            poison(&spoilt.path().join("model.safetensors"), "embed_tokens.weight", ids[place] as usize, value);
            let until = format!("-n{}", place + 1);
            let mut shorter = args("0", settings);
            shorter.push("--json");
            shorter[6] = &until;
            let expected = document(&shorter);
            for depth in ["0", "1", "3", "8"] {
                let what = format!("{value}, {settings:?}, depth {depth}");
                let mut with = args(depth, settings);
                with[2] = spoilt.path().to_str().unwrap();
                let ran = run(&with);
                assert_eq!(ran.code, 1, "{what}: {}", ran.stderr);
                assert!(ran.stderr.contains("not finite numbers"), "{what}: {}", ran.stderr);
                // As far as logits were finite.
                let (text, found) = (expected["text"].as_str().unwrap(), ran.stdout.trim_end_matches('\n'));
                assert!(text.starts_with(found), "{what}: {found} of {text}");
            }
        }
    }
}

#[test]
fn verification_refuses_tensors_that_are_not_finite() {
    let file = "model.safetensors";
    for (name, value) in [
        ("embed_tokens.weight", f32::NAN),
        ("mtp.fc.weight", f32::NEG_INFINITY),
        ("layers.0.mlp.down_proj.weight", f32::INFINITY),
    ] {
        let model = copy(UNTIED);
        poison(&model.path().join(file), name, 2, value);
        for effort in [&[][..], &["--quick"]] {
            let ran = run(&[&["verify", model.path().to_str().unwrap()], effort].concat());
            assert_eq!(ran.code, 5, "{name}: {}", ran.stderr);
            for part in [file, name, &value.to_string(), "not finite", " hint: "] {
                assert!(ran.stderr.contains(part), "{name}: {part}: {}", ran.stderr);
            }
            assert!(!model.path().join("mtplx_runtime.json").exists());
        }
    }
}

#[test]
fn settings_beyond_f32_are_usage_errors() {
    for (flag, values) in [
        ("--repetition-penalty", &["1e-40", "0.009", "101", "3e38", "0"][..]),
        ("--temperature", &["1e-40", "1e-7", "101"]),
        ("--presence-penalty", &["2.1", "1e38"]),
        ("--frequency-penalty", &["-1e38"]),
        ("--logit-bias", &["3=1e38", "3=-101"]),
    ] {
        for depth in ["0", "3"] {
            for value in values {
                let ran = run(&["run", "x", "--raw", "-n2", "--mtp-depth", depth, flag, value]);
                assert_eq!(ran.code, 2, "{flag} {value}: {}", ran.stderr);
                assert!(ran.stderr.contains(flag), "{flag} {value}: {}", ran.stderr);
            }
        }
    }
    // A file's settings likewise, by their names.
    for (field, value) in [("repetition_penalty", json!(1e-40)), ("temperature", json!(1e-30))] {
        let model = copy(UNTIED);
        fs::write(model.path().join("generation_config.json"), json!({ field: value }).to_string()).unwrap();
        let ran = run(&["run", "-m", model.path().to_str().unwrap(), "--no-mtp", "--prompt-ids", PROMPT, "-n2"]);
        assert_eq!(ran.code, 5, "{field}: {}", ran.stderr);
        assert!(ran.stderr.contains("generation_config.json") && ran.stderr.contains(field), "{}", ran.stderr);
    }
}

#[test]
fn figures_count_the_tokens_of_the_text() {
    let args = |depth: &'static str| {
        ["run", "fn main() {", "--raw", "--json", "-n60", "-t0", "--ignore-eos", "--mtp-depth", depth]
    };
    let text = document(&args("0"))["text"].as_str().unwrap().to_owned();
    let middle: Vec<char> = text.chars().collect();
    let stop: String = middle[middle.len() / 2..][..4].iter().collect();
    let mut counted = Vec::new();
    for depth in ["0", "1", "3", "8"] {
        let found = document(&[&args(depth)[..], &["--stop", &stop]].concat());
        assert_eq!(found["finish_reason"], "stop_string", "depth {depth}");
        let stats = &found["stats"];
        let tokens = stats["tokens"].as_u64().unwrap();
        assert_eq!(tokens as usize, found["token_ids"].as_array().unwrap().len(), "depth {depth}");
        assert_eq!(stats["emitted"].as_u64(), Some(tokens - 1), "depth {depth}");
        let mean = stats["mean_accepted_length"].as_f64().unwrap() * stats["rounds"].as_f64().unwrap();
        assert!((mean - (tokens - 1) as f64).abs() < 1e-9, "depth {depth}: {mean}");
        counted.push(tokens);
    }
    assert!(counted.iter().all(|tokens| *tokens == counted[0]), "{counted:?}");
}
