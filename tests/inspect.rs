//! What `inspect` says of sound models; the verdicts are in `gates`.

use serde_json::{Value, json};

use crate::command::{copy, fails, json, model, mtplx, run};

fn inspect(model: &str) -> Value {
    json(&["inspect", model, "--json"])
}

#[test]
fn for_people() {
    let name = model("trained_qwen3_5/mlx_q4g32");
    let ran = run(&["inspect", &name]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    // Memory is this machine's.
    let lines: Vec<&str> = ran.stdout.lines().map(|line| line.split(" of ").next().unwrap_or(line)).collect();
    insta::assert_snapshot!("inspect", lines.join("\n").replace(&name, "MODEL"));
}

/// What is estimated from headers is what loading takes.
#[test]
fn weights_are_estimated() {
    for name in ["trained_qwen3_5/mlx_q4g32", "mimo_bf16", "glm4_moe/mlx_q4g32", "deepseek_v3/mlx_q4g32"] {
        let name = model(name);
        let estimated = inspect(&name)["memory"]["weights_f32"].as_f64().unwrap();
        let document = json(&["run", "x", "--raw", "-n1", "--json", "--allow-unverified", "--model", &name]);
        let loaded = document["model"]["weight_bytes"].as_f64().unwrap();
        assert!((estimated / loaded - 1.0).abs() < 0.01, "{name}: {estimated} estimated, {loaded} loaded");
    }
}

/// The estimate of a context is what MLX then counts, prompts of one pass and of several.
#[test]
fn memory_is_estimated() {
    for tokens in ["64", "512", "1536"] {
        let fit = json(&["inspect", "builtin", "--context", tokens, "--json"])["fit"].clone();
        let args = ["bench", "decode", "builtin", "--contexts", tokens, "--depths", "0,3", "-n", "8", "--json"];
        let document = json(&[&args[..], &["--repeats", "1", "--warmup", "0"]].concat());
        let (estimated, peak) = (fit["total"].as_f64().unwrap(), document["memory"]["peak"].as_f64().unwrap());
        assert!((estimated / peak - 1.0).abs() < 0.1, "{tokens}: {estimated} estimated, {peak} at the peak");
        let parts = ["weights", "context", "working"].map(|part| fit[part].as_f64().unwrap());
        assert_eq!(parts.iter().sum::<f64>(), estimated);
        assert_eq!((&fit["fits"], &fit["device"], &fit["hint"]), (&json!(true), &json!("cpu"), &Value::Null));
    }
}

#[test]
fn a_context_beyond_memory() {
    let document = json(&["inspect", "builtin", "--context", "1000000000000", "--json"]);
    let fit = &document["fit"];
    assert_eq!(fit["fits"], json!(false), "{fit}");
    assert!(fit["says"].as_str().unwrap().starts_with("does not fit: needs "), "{fit}");
    assert!(fit["longest"].as_u64().unwrap() >= 2048, "{fit}");
    assert!(fit["hint"].as_str().unwrap().contains("tokens of context fit; "), "{fit}");
    let ran = run(&["inspect", "builtin", "--context", "0"]);
    assert!(ran.code == 2 && ran.stderr.contains("--context"), "{ran:?}");
}

#[test]
fn every_family_says_what_a_context_takes() {
    // Elements a row, by hand: layers and MTP layers, keys and values, heads, width; the latent and its key for MLA.
    for (name, id, elements) in [
        ("mimo_bf16", "mimo-mtp", (5 + 1) * 2 * 2 * 16),
        ("glm4_moe_air_bf16", "glm4-moe-mtp", (3 + 1) * 2 * 2 * 16),
        ("deepseek_v3_bf16", "deepseek-v3-mtp", (3 + 1) * (32 + 16)),
        ("minimax_m2_bf16", "minimax-m2-mtp", (3 + 1) * 2 * 2 * 32),
    ] {
        let document = inspect(&model(name));
        assert_eq!(document["architecture"]["id"], id);
        let contexts = document["memory"]["contexts"].as_array().unwrap();
        let of = |index: usize, field: &str| contexts[index][field].as_u64().unwrap();
        assert_eq!([0, 1, 2].map(|index| of(index, "rows")), [4096, 32768, 262_144]);
        assert_eq!(of(0, "cache_f32"), 4096 * elements * 4, "{name}");
        assert_eq!(of(2, "cache_native"), 262_144 * elements * 2, "{name}");
    }
}

#[test]
fn the_builtin_model() {
    let document = inspect("builtin");
    assert_eq!(document["verdict"], json!({"name": "verified"}));
    assert_eq!((&document["head"]["tensors"], &document["head"]["prequantized"]), (&json!(29), &json!(true)));
    assert_eq!(document["head"]["norms"]["rule"], json!({"stated": "absolute"}));
    assert_eq!(document["head"]["source"], json!({"file": "mtp.safetensors"}));
    assert_eq!((&document["findings"], document.get("tensor_list")), (&json!([]), None));
    let groups = document["groups"].as_array().unwrap();
    let bytes: u64 = groups.iter().map(|group| group["bytes"].as_u64().unwrap()).sum();
    assert_eq!(document["memory"]["weights_native"], bytes);
}

#[test]
fn tensors_on_demand() {
    let document = json(&["inspect", &model("mimo_bf16"), "--json", "--tensors"]);
    let list = document["tensor_list"].as_array().unwrap();
    assert_eq!(list.len(), document["tensors"].as_u64().unwrap() as usize);
    let first = list.iter().find(|tensor| tensor["name"] == "model.mtp_layers.0.input_proj.weight").unwrap();
    assert_eq!((&first["dtype"], &first["shape"], &first["bytes"]), (&json!("BF16"), &json!([64, 128]), &json!(16384)));
    assert!(run(&["inspect", &model("mimo_bf16"), "--tensors"]).stdout.contains("input_proj.weight  BF16 [64, 128]"));
}

/// A shard that cannot be read hides nothing of the rest.
#[test]
fn a_damaged_file_among_others() {
    let dir = copy("trained_qwen3_5/mlx_q4g32");
    std::fs::write(dir.path().join("model.safetensors"), "no header").unwrap();
    let document = inspect(dir.path().to_str().unwrap());
    assert_eq!((&document["verdict"]["name"], &document["exit_code"]), (&json!("damaged"), &json!(5)));
    assert_eq!((&document["architecture"]["id"], &document["context"]), (&json!("qwen3-next-mtp"), &json!(4096)));
    assert_eq!(document["head"]["source"], json!({"file": "mtp.safetensors"}));
    assert_eq!((document["files"].as_array().unwrap().len(), &document["memory"]), (1, &Value::Null));
    let ran = run(&["inspect", dir.path().to_str().unwrap()]);
    assert!(ran.code == 0 && ran.stdout.contains("verdict       damaged\n"), "{ran:?}");
}

/// A reader that has seen enough is no error; a full disk is.
#[test]
fn what_reads_it_may_stop() {
    use std::process::Stdio;

    let model = model("mimo_bf16");
    let with = |stdout: Stdio| {
        let output = mtplx(&["inspect", &model, "--json", "--tensors"]).stdout(stdout).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(with(writer.into()), (0, String::new()));
    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        let (code, said) = with(full.into());
        assert!(code == 1 && said.starts_with("error: standard output: ") && said.contains("hint: "), "{code} {said}");
    }
}

#[test]
fn what_is_not_there() {
    let (error, _) = fails(&["inspect", "no/such/model"], 5);
    assert!(error.contains("no/such/model: not found"), "{error}");
}
