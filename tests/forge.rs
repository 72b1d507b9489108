//! `mtplx forge`: what it writes is what mlx-lm and this program's own loaders read, and nothing else is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use mtplx_arch_qwen3_next::Qwen3Next;
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::forge::{ForgeError, ForgeJob, Policy, RunControl};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{copy, fails, fixture, json as run_json, model, run};

/// mlx-lm's own choices for the vendored 4-bit artifacts.
const Q4G32: &str = "name = \"q4g32\"\nbits = 4\ngroup_size = 32\n";

/// A folder to forge into, with a policy file in it.
pub struct Bench(TempDir);

impl Bench {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn policy(&self, text: &str) -> String {
        let path = self.0.path().join("policy.toml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub fn out(&self) -> String {
        self.0.path().join("out").display().to_string()
    }

    pub fn forge(&self, source: &str, args: &[&str]) -> Value {
        run_json(&[&["forge", source, &self.out(), "--json"], args].concat())
    }

    /// What is beside the policy file.
    fn entries(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != "policy.toml").collect();
        names.sort();
        names
    }
}

pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

pub fn tensors(dir: impl AsRef<Path>, file: &str) -> Tensors {
    let bytes = fs::read(dir.as_ref().join(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.iter().map(|(n, v)| (n.to_owned(), (v.dtype(), v.shape().to_vec(), v.data().to_vec()))).collect()
}

pub fn write(dir: &Path, file: &str, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &dir.join(file)).unwrap();
}

fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

/// Routers as mlx-lm packs them, and as whoever made the heads left them.
const ROUTERS: &str =
    "[[rule]]\ngroups = [\"router\"]\nbits = 8\ngroup_size = 64\n[[rule]]\ngroups = [\"mtp_router\"]\nkeep = true\n";

/// The vendored artifact was converted by mlx-lm, its head by hand; so were all of those that `MTPLX_GOLDEN` names.
#[test]
fn writes_what_mlx_lm_writes_bit_for_bit() {
    let mut sources = vec![fixture("trained_qwen3_5")];
    if let Some(golden) = std::env::var_os("MTPLX_GOLDEN") {
        let more = fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
        sources.extend(more.filter(|dir| dir.join("mlx_q4g32").is_dir()));
    }
    for source in sources {
        let bench = Bench::new();
        bench.forge(source.to_str().unwrap(), &["--policy", &bench.policy(&format!("{Q4G32}{ROUTERS}"))]);
        for file in ["model.safetensors", "mtp.safetensors"] {
            let (ours, mut theirs) = (tensors(bench.out(), file), tensors(source.join("mlx_q4g32"), file));
            // Copies of the trunk's head are not read, and MiniMax's routers are not packed here.
            let ours_alone = |name: &str| name.contains("shared_head_head") || name.contains("block_sparse_moe.gate.");
            theirs.retain(|name, _| !ours_alone(name));
            let ours: Tensors = ours.into_iter().filter(|(name, _)| !ours_alone(name)).collect();
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
            let differ: Vec<&String> = ours.keys().filter(|&name| ours[name] != theirs[name]).collect();
            assert!(differ.is_empty(), "{}: {differ:?}", source.display());
        }
        assert_eq!(bench.entries(), ["out"]);
    }
}

/// With 1 + w kept in f32, nothing is lost at all: the checkpoint's own expected tensors fit the artifact.
#[test]
fn unpacked_artifacts_compute_what_the_checkpoint_does() {
    let raw = ["deepseek_v3_bf16", "glm4_moe_air_bf16", "mimo_bf16", "minimax_m2_bf16", "qwen3_5_dense_bf16"];
    for name in raw {
        let bench = Bench::new();
        let policy = bench.policy("name = \"exact\"\nkeep = true\nnorms = \"f32\"\n");
        bench.forge(&model(name), &["--policy", &policy]);
        let reference = fixture(name).join("golden.safetensors").display().to_string();
        let report = run_json(&["parity", &bench.out(), &reference, "--json"]);
        assert_eq!(report["passed"], true, "{name}: {report:#}");
        assert_eq!(report["skipped"].as_array().unwrap().len(), 0, "{name}: {report:#}");
    }
}

/// Every family in 4 bits: the head drafts, and greedy text is the same with and without it.
#[test]
fn packed_artifacts_of_every_family_draft_and_agree_with_plain_decoding() {
    for name in ["deepseek_v3_bf16", "glm4_moe_air_bf16", "mimo_bf16", "minimax_m2_bf16", "trained_qwen3_5"] {
        let bench = Bench::new();
        let document = bench.forge(&model(name), &["--policy", "gdn8-speed4"]);
        assert!(document["bytes_after"].as_u64() < document["bytes_before"].as_u64(), "{document:#}");
        let args = [
            "run",
            "x",
            "--raw",
            "--allow-unverified",
            "--model",
            &bench.out(),
            "--temperature",
            "0",
            "-n",
            "12",
            "--ignore-eos",
            "--json",
        ];
        let tokens = |extra: &[&str]| run_json(&[&args, extra].concat())["token_ids"].clone();
        let drafted = tokens(&["--mtp-depth", "2"]);
        assert!(drafted.is_array() && drafted == tokens(&["--no-mtp"]), "{name}: {drafted}");
    }
}

#[test]
fn the_small_files_say_what_was_done_and_not_where() {
    let bench = Bench::new();
    bench.forge(&model("trained_qwen3_5"), &["--policy", "gdn8-speed4"]);
    let read = |name: &str| fs::read_to_string(Path::new(&bench.out()).join(name)).unwrap();
    for name in ["config.json", "mtplx_runtime.json", "model.safetensors.index.json"] {
        let place = env!("CARGO_MANIFEST_DIR");
        assert!(!read(name).contains(place) && !read(name).contains(&bench.out()), "{name}");
    }
    let config: Value = serde_json::from_str(&read("config.json")).unwrap();
    let gdn = &config["quantization"]["language_model.model.layers.0.linear_attn.out_proj"];
    assert_eq!(*gdn, json!({"group_size": 64, "bits": 8, "mode": "affine"}));
    assert_eq!(config["mtplx_mtp_quantization"]["norm_encoding"], "absolute");
    let contract: Value = serde_json::from_str(&read("mtplx_runtime.json")).unwrap();
    assert_eq!(contract["exactness_baseline"]["status"], "pending");
    let provenance = &contract["forge_provenance"];
    assert_eq!(
        (&provenance["source"]["name"], &provenance["policy"]),
        (&json!("trained_qwen3_5"), &json!("gdn8-speed4"))
    );
    assert_eq!(provenance["source"]["files"]["model.safetensors"]["header_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(read("tokenizer.json"), fs::read_to_string(fixture("trained_qwen3_5/tokenizer.json")).unwrap());
    // 15 tensors, and scales and biases of the seven linears.
    assert_eq!(tensors(bench.out(), "mtp.safetensors").len(), 29);
}

/// Copies of the embeddings and of the output head, as DeepSeek publishes them with its MTP layer.
#[test]
fn what_is_left_out_is_named() {
    let ran = run(&["forge", &model("deepseek_v3_bf16"), &Bench::new().out(), "--dry-run"]);
    let last = ran.stdout.lines().last().unwrap();
    let names = "model.layers.3.embed_tokens.weight, model.layers.3.shared_head.head.weight";
    assert_eq!(last, format!("left out, because no part of the model reads it: {names}"));
}

#[test]
fn the_head_can_be_left_unpacked() {
    let bench = Bench::new();
    bench.forge(&model("trained_qwen3_5"), &["--policy", "flat4", "--head", "bf16"]);
    assert_eq!(tensors(bench.out(), "mtp.safetensors").len(), 15);
    let again = Bench::new();
    again.forge(&model("trained_qwen3_5"), &["--policy", "bf16", "--head", "int4"]);
    assert_eq!(tensors(again.out(), "mtp.safetensors").len(), 29);
}

/// A head's file that is named and not there is said, even where there is another.
#[test]
fn a_head_that_is_not_where_it_is_said_to_be() {
    let (build, bench) = (copy("trained_qwen3_5/mlx_q4g32"), Bench::new());
    edit(&build.path().join("config.json"), |config| {
        config["mlx_lm_extra_tensors"]["mtp_file"] = json!("gone.safetensors")
    });
    let source = build.path().to_str().unwrap();
    let finding = "config.json: mlx_lm_extra_tensors.mtp_file: \"gone.safetensors\": not there: the head is the one in mtp.safetensors";
    let document = run_json(&["inspect", source, "--json"]);
    let findings: Vec<String> = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| format!("{}: {}: {}", f["file"], f["field"], f["what"]).replace("\\\"", "'").replace('"', ""))
        .collect();
    assert_eq!(findings, [finding.replace('"', "'")], "{document:#}");
    let ran = run(&["forge", source, &bench.out(), "--policy", "as-is"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.starts_with(&format!("warning: {source}: {finding}\n")), "{}", ran.stderr);
    let run_it = ["run", "x", "--model", source, "--allow-unverified", "-n", "1"];
    assert!(run(&run_it).stderr.contains(finding));
    // Without another, it is what is missing.
    fs::remove_file(build.path().join("mtp.safetensors")).unwrap();
    let verdict = run_json(&["inspect", source, "--json"])["verdict"].clone();
    assert_eq!(verdict["name"], "incomplete");
    assert!(verdict["missing"][0].as_str().unwrap().ends_with("/gone.safetensors"), "{verdict}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let bench = Bench::new();
    let ran = run(&["forge", &model("trained_qwen3_5"), &bench.out(), "--policy", "flat4", "--dry-run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    insta::assert_snapshot!(ran.stdout);
    assert!(bench.entries().is_empty());
}

/// What the table says adds up, and no module is left unpacked in silence.
#[test]
fn widths_that_do_not_divide_are_named() {
    let bench = Bench::new();
    let policy = bench.policy("name = \"wide\"\nbits = 4\ngroup_size = 128\n");
    let args = ["--policy", &policy, "--dry-run"];
    let document = bench.forge(&model("trained_qwen3_5"), &args);
    let groups = document["groups"].as_array().unwrap();
    for (total, part) in [("bytes_before", "before"), ("bytes_after", "after")] {
        let sum: u64 = groups.iter().map(|row| row[part].as_u64().unwrap()).sum();
        assert_eq!(document[total], sum, "{total}");
    }
    assert!(document["file_bytes"].as_u64() > document["bytes_after"].as_u64());
    let names: Vec<&str> = document["indivisible"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    let dense = groups.iter().filter(|row| row["group_size"].is_null());
    let dense = dense.filter(|row| ["mlp", "mtp_layer"].iter().any(|group| row["group"] == *group));
    let dense: u64 = dense.map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!((names.len() as u64, dense > 0), (dense, true), "{document:#}");
    assert!(names.iter().all(|name| name.ends_with("mlp.down_proj")), "{names:?}");
    let ran = run(&[&["forge", &model("trained_qwen3_5"), &bench.out()], &args[..]].concat());
    let said = "not packed, because the width is no multiple of the group size: ";
    assert!(ran.stdout.lines().last().unwrap().starts_with(said), "{}", ran.stdout);
}

/// The same numbers in fp8 with scales and in bf16 give the same artifact.
#[test]
fn fp8_sources_are_unscaled() {
    let value = |code: u8| {
        let magnitude = half::f16::from_bits(u16::from(code & 0x7f) << 7).to_f32() * 256.0;
        if code & 0x80 == 0 { magnitude } else { -magnitude }
    };
    let source = fixture("deepseek_v3_bf16");
    let (mut packed, mut plain) = (tensors(&source, "model.safetensors"), Tensors::new());
    let linears: Vec<String> = packed
        .iter()
        .filter(|(name, (_, shape, _))| shape.len() == 2 && name.ends_with("_proj.weight") && !name.contains("eh_proj"))
        .map(|(name, _)| name.clone())
        .collect();
    for name in &linears {
        let (_, shape, bytes) = packed[name].clone();
        let grid = [shape[0].div_ceil(128), shape[1].div_ceil(128)];
        let scales: Vec<f32> = (0..grid[0] * grid[1]).map(|block| 0.001 * (block + 1) as f32).collect();
        // Any codes serve; NaN does not.
        let codes: Vec<u8> = bytes.chunks(2).map(|two| if two[0] & 0x7f == 0x7f { 0 } else { two[0] }).collect();
        let unscaled = codes.iter().enumerate().flat_map(|(at, &code)| {
            let (row, column) = (at / shape[1], at % shape[1]);
            half::bf16::from_f32(value(code) * scales[row / 128 * grid[1] + column / 128]).to_le_bytes()
        });
        plain.insert(name.clone(), (Dtype::BF16, shape.clone(), unscaled.collect()));
        packed.insert(name.clone(), (Dtype::F8_E4M3, shape, codes));
        let scales = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        packed.insert(format!("{name}_scale_inv"), (Dtype::F32, grid.to_vec(), scales));
    }
    for (name, tensor) in &packed {
        if tensor.0 == Dtype::BF16 {
            plain.insert(name.clone(), tensor.clone());
        }
    }
    plain.retain(|name, _| !name.ends_with("_scale_inv"));
    packed.iter().filter(|(n, t)| t.0 == Dtype::F32 && !n.ends_with("_scale_inv")).for_each(|(name, tensor)| {
        plain.insert(name.clone(), tensor.clone());
    });

    let made: Vec<Tensors> = [(&packed, true), (&plain, false)]
        .into_iter()
        .map(|(tensors_of, fp8)| {
            let (checkpoint, bench) = (copy("deepseek_v3_bf16"), Bench::new());
            write(checkpoint.path(), "model.safetensors", tensors_of);
            if fp8 {
                edit(&checkpoint.path().join("config.json"), |config| {
                    config["quantization_config"] =
                        json!({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]});
                });
            }
            bench.forge(checkpoint.path().to_str().unwrap(), &["--policy", "flat4"]);
            let config = fs::read_to_string(Path::new(&bench.out()).join("config.json")).unwrap();
            assert!(!config.contains("fp8"), "{config}");
            let mut all = tensors(bench.out(), "model.safetensors");
            all.extend(tensors(bench.out(), "mtp.safetensors"));
            all
        })
        .collect();
    assert!(linears.len() > 20 && made[0] == made[1]);
}

#[test]
fn a_missing_head_is_named_and_can_be_grafted() {
    let headless = copy("trained_qwen3_5");
    let mut all = tensors(headless.path(), "model.safetensors");
    all.retain(|name, _| !name.starts_with("mtp."));
    write(headless.path(), "model.safetensors", &all);
    let (source, bench) = (headless.path().to_str().unwrap(), Bench::new());

    let (error, hint) = fails(&["forge", source, &bench.out()], 3);
    for name in ["mtp.fc.weight", "mtp.layers.0.self_attn.q_norm.weight", "mtp.norm.weight"] {
        assert!(error.contains(name), "{error}");
    }
    assert!(hint.contains("--mtp-from"), "{hint}");
    assert!(bench.entries().is_empty());

    let policy = bench.policy(Q4G32);
    bench.forge(source, &["--policy", &policy, "--mtp-from", &model("trained_qwen3_5")]);
    let theirs = tensors(fixture("trained_qwen3_5/mlx_q4g32"), "mtp.safetensors");
    assert!(tensors(bench.out(), "mtp.safetensors") == theirs);
    let contract = fs::read_to_string(Path::new(&bench.out()).join("mtplx_runtime.json")).unwrap();
    let contract: Value = serde_json::from_str(&contract).unwrap();
    assert_eq!(contract["forge_provenance"]["mtp_from"]["name"], "trained_qwen3_5");

    let out = Bench::new();
    let (error, _) = fails(&["forge", source, &out.out(), "--mtp-from", &model("qwen3_5_dense_bf16")], 4);
    assert!(error.contains("hidden_size: 64: the trunk has 128"), "{error}");
    let (error, _) = fails(&["forge", source, &out.out(), "--mtp-from", &model("mimo_bf16")], 4);
    assert!(error.contains("model_type: mimo: the trunk has qwen3_5"), "{error}");
    assert!(out.entries().is_empty());
}

const PACKED: &str = "trained_qwen3_5/mlx_q4g32";

/// A head that is published by itself: its tensors without their prefix, packed, with a `model_type` of its own.
fn head_repository(config: impl FnOnce(&mut Value)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let head = tensors(fixture(PACKED), "mtp.safetensors");
    let bare = head.into_iter().map(|(name, tensor)| (name.strip_prefix("mtp.").unwrap().to_owned(), tensor));
    write(dir.path(), "model.safetensors", &bare.collect());
    fs::copy(fixture(PACKED).join("config.json"), dir.path().join("config.json")).unwrap();
    edit(&dir.path().join("config.json"), |value| {
        value["model_type"] = json!("qwen3_5_mtp");
        config(value);
    });
    dir
}

fn read(dir: impl AsRef<Path>, file: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.as_ref().join(file)).unwrap()).unwrap()
}

/// One forge packs a raw trunk and grafts a packed head, whose bits, and all that either says of itself, are kept.
#[test]
fn a_packed_head_is_grafted_onto_a_raw_trunk() {
    let trunk = copy("trained_qwen3_5");
    let contract = |provenance: &str, extra: Value| {
        let mut contract = json!({"mtplx_version": "0.1.0", "arch_id": "qwen3-next-mtp", "mtp_depth_max": 4,
            "recommended_profile": "sustained", "exactness_baseline": {"gate": "g", "max_abs_diff": 0.0},
            "verified_on": {"hardware": "h"}, "forge_provenance": {"recipe": provenance, provenance: 1}});
        contract.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        contract
    };
    let of_trunk = contract("trunk's", json!({"calibration": {"texts": 3}, "shared": "trunk", "mtp_depth_default": 2}));
    let conventions = json!({"hidden_variant": "post_norm", "mtp_quant_policy": "prequantized-int4",
        "mtp_quant_bits": 4, "mtp_quant_group_size": 32, "calibration": "awq"});
    let of_head = contract(
        "head's",
        json!({"mtp_contract": conventions, "base_trunk": "o/n", "shared": "head", "mtp_depth_max": 3,
            "recommended_draft_sampler": {"temperature": 0.7, "top_k": 20}}),
    );
    fs::write(trunk.path().join("mtplx_runtime.json"), of_trunk.to_string()).unwrap();
    edit(&trunk.path().join("config.json"), |config| config["mtplx_note"] = json!("trunk"));
    let head = head_repository(|config| {
        config["mtplx_mtp_calibration"] = json!({"loss": "kl"});
        config["mtplx_mtp_quantization"]["policy"] = json!("cyankiwi");
        config["mtplx_mtp_quantization"]["calibrated_on"] = json!(7);
    });
    fs::write(head.path().join("mtplx_runtime.json"), of_head.to_string()).unwrap();
    let (trunk, head) = (trunk.path().to_str().unwrap(), head.path().to_str().unwrap());

    for policy in ["mtplx-gdn8-speed4", "flat8", "as-is"] {
        let bench = Bench::new();
        let document = bench.forge(trunk, &["--policy", policy, "--mtp-from", head]);
        assert!(document["policy"] == policy.trim_start_matches("mtplx-"));
        // What is not packed takes the policy's type.
        let (ours, theirs) = (tensors(bench.out(), "mtp.safetensors"), tensors(fixture(PACKED), "mtp.safetensors"));
        assert!(ours.keys().eq(theirs.keys()));
        let is_packed = |name: &str| theirs.contains_key(&format!("{}.scales", name.rsplit_once('.').unwrap().0));
        assert!(theirs.iter().all(|(name, tensor)| !is_packed(name) || ours[name] == *tensor));
        assert_eq!(ours == theirs, policy != "mtplx-gdn8-speed4");
        let packed = tensors(bench.out(), "model.safetensors").keys().any(|name| name.ends_with(".scales"));
        assert_eq!(packed, policy != "as-is");

        let config = read(bench.out(), "config.json");
        assert_eq!((&config["model_type"], &config["mtplx_note"]), (&json!("qwen3_5"), &json!("trunk")));
        assert_eq!(config["mtplx_mtp_calibration"]["loss"], "kl");
        assert_eq!(
            config["mtplx_mtp_quantization"],
            json!({"group_size": 32, "bits": 4, "mode": "affine", "policy": "cyankiwi", "prequantized": true,
                "norm_encoding": "absolute", "calibrated_on": 7})
        );
        let made = read(bench.out(), "mtplx_runtime.json");
        assert_eq!(
            made["mtp_contract"],
            json!({"hidden_variant": "post_norm", "mtp_quant_policy": "prequantized-int4", "mtp_quant_bits": 4,
                "mtp_quant_group_size": 32, "calibration": "awq", "mtp_quant_mode": "affine", "mtp_prequantized": true})
        );
        for (field, value) in [
            ("mtp_depth_max", json!(3)),
            ("mtp_depth_default", json!(2)),
            ("recommended_profile", json!("sustained")),
            ("recommended_draft_sampler", json!({"temperature": 0.7, "top_k": 20})),
            ("calibration", json!({"texts": 3})),
            ("base_trunk", json!("o/n")),
            ("shared", json!("trunk")),
            ("exactness_baseline", json!({"status": "pending"})),
            ("verified_on", json!({})),
        ] {
            assert_eq!(made[field], value, "{field}");
        }
        let provenance = &made["forge_provenance"];
        assert_eq!((&provenance["source"]["contract"], &provenance["mtp_from"]["contract"]), (&of_trunk, &of_head));
        assert_eq!(
            [&provenance["recipe"], &provenance["trunk's"], &provenance["head's"]],
            [&json!("trunk's"), &json!(1), &json!(1)]
        );
        let args =
            ["run", "x", "--raw", "--allow-unverified", "--model", &bench.out(), "--temperature", "0", "-n", "12"];
        let tokens =
            |extra: &[&str]| run_json(&[&args[..], extra, &["--ignore-eos", "--json"]].concat())["token_ids"].clone();
        assert_eq!(tokens(&["--mtp-depth", "2"]), tokens(&["--no-mtp"]), "{policy}");
    }
    let bench = Bench::new();
    let (error, _) = fails(&["forge", trunk, &bench.out(), "--mtp-from", head, "--head", "bf16"], 4);
    assert!(error.contains("packed already"), "{error}");
    let other = head_repository(|config| config["text_config"]["rms_norm_eps"] = json!(1e-5));
    let (error, _) = fails(&["forge", trunk, &bench.out(), "--mtp-from", other.path().to_str().unwrap()], 4);
    assert!(error.contains("rms_norm_eps: 1e-5: the trunk has 1e-6") || error.contains("rms_norm_eps"), "{error}");
    for (model_type, fits) in [("qwen3_5_moe_mtp", true), ("qwen3_5_text", true), ("qwen3_next_mtp", false)] {
        let other = head_repository(|config| config["model_type"] = json!(model_type));
        let args = ["forge", trunk, &bench.out(), "--mtp-from", other.path().to_str().unwrap(), "--dry-run"];
        assert_eq!(run(&args).code == 0, fits, "{model_type}");
    }
    let (error, hint) = fails(&["run", "x", "--model", head], 4);
    assert!(error.contains("a draft head by itself") && hint.contains("--mtp-from"), "{error}: {hint}");
}

/// Experts of a head stacked, apart or numbered, under either name, packed, with scales of another type: the same head.
#[test]
fn experts_of_a_head_however_they_are_stored() {
    const MLP: &str = "mtp.layers.0.mlp.";
    let stored = tensors(fixture("qwen3_5_moe/mlx_q4g32"), "mtp.safetensors");
    let split = |name: &str| {
        let rest = name.strip_prefix(MLP)?.strip_prefix("switch_mlp.")?;
        rest.split_once('.').map(|(projection, part)| (projection.to_owned(), part.to_owned()))
    };
    let experts: Vec<_> = stored.iter().filter_map(|(name, tensor)| Some((split(name)?, tensor))).collect();
    assert_eq!(experts.len(), 7, "gates and ups packed, downs not");
    let rest = || stored.iter().filter(|(name, _)| split(name).is_none()).map(|(n, t)| (n.clone(), t.clone()));
    let all = |names: &dyn Fn(&str, &str) -> String| -> Tensors {
        let renamed = experts.iter().map(|((projection, part), tensor)| (names(projection, part), (*tensor).clone()));
        rest().chain(renamed).collect()
    };
    let numbered = || -> Tensors {
        let each = experts.iter().flat_map(|((projection, part), (dtype, shape, bytes))| {
            bytes.chunks(bytes.len() / shape[0]).enumerate().map(move |(expert, bytes)| {
                let name = format!("{MLP}experts.{expert}.{projection}.{part}");
                (name, (*dtype, shape[1..].to_vec(), bytes.to_vec()))
            })
        });
        rest().chain(each).collect()
    };
    let joined = |module: &str| -> Tensors {
        let of = |projection: &str, part: &str| stored[&format!("{MLP}switch_mlp.{projection}.{part}")].clone();
        let mut all: Tensors = rest().collect();
        for part in ["weight", "scales", "biases"] {
            let ((dtype, shape, gate), (_, _, up)) = (of("gate_proj", part), of("up_proj", part));
            let size = gate.len() / shape[0];
            let bytes = gate.chunks(size).zip(up.chunks(size)).flat_map(|(gate, up)| [gate, up].concat()).collect();
            let shape = vec![shape[0], 2 * shape[1], shape[2]];
            all.insert(format!("{MLP}{module}.gate_up_proj.{part}"), (dtype, shape, bytes));
        }
        all.insert(format!("{MLP}{module}.down_proj.weight"), of("down_proj", "weight"));
        all
    };
    let mut wide = all(&|projection, part| format!("{MLP}switch_mlp.{projection}.{part}"));
    for (dtype, _, bytes) in wide.iter_mut().filter(|(name, _)| name.ends_with(".scales")).map(|(_, tensor)| tensor) {
        let values = bytes.chunks(2).map(|two| match dtype {
            Dtype::F16 => half::f16::from_le_bytes([two[0], two[1]]).to_f32(),
            _ => half::bf16::from_le_bytes([two[0], two[1]]).to_f32(),
        });
        *bytes = match dtype {
            Dtype::F32 => continue,
            _ => values.flat_map(f32::to_le_bytes).collect(),
        };
        *dtype = Dtype::F32;
    }
    let forms = [
        ("as vendored", stored.clone()),
        ("apart", all(&|projection, part| format!("{MLP}experts.{projection}.{part}"))),
        ("numbered", numbered()),
        ("joined", joined("experts")),
        ("joined in switch_mlp", joined("switch_mlp")),
        ("f32 scales", wide),
    ];
    let mut first = None;
    for (name, form) in forms {
        let (dir, bench) = (copy("qwen3_5_moe/mlx_q4g32"), Bench::new());
        write(dir.path(), "mtp.safetensors", &form);
        let path = dir.path().to_str().unwrap();
        let args = ["run", "x", "--raw", "--allow-unverified", "--temperature", "0", "-n", "12", "--mtp-depth", "3"];
        let of = |model: &str| {
            let document = run_json(&[&args[..], &["--ignore-eos", "--json", "--model", model]].concat());
            (document["token_ids"].clone(), document["stats"]["accepted_by_depth"].clone())
        };
        let found = of(path);
        assert_eq!(&found, first.get_or_insert_with(|| found.clone()), "{name}");
        bench.forge(path, &["--policy", "as-is"]);
        assert_eq!(of(&bench.out()), found, "{name}, forged");
        assert!(name == "f32 scales" || tensors(bench.out(), "mtp.safetensors") == stored, "{name}");
    }
}

/// What `run` would stop at is not worth forging: each is refused as `inspect` judges it.
#[test]
fn what_would_not_run_is_not_forged() {
    let bench = Bench::new();
    let out = bench.out();
    let refused = |code: i32, change: &dyn Fn(&Path)| {
        let dir = copy("mimo_bf16");
        change(dir.path());
        let (error, hint) = fails(&["forge", dir.path().to_str().unwrap(), &out], code);
        assert!(!hint.is_empty() && bench.entries().is_empty(), "{error}");
        error.replace(dir.path().to_str().unwrap(), "DIR")
    };
    let tensors_of = |dir: &Path| tensors(dir, "model.safetensors");
    let error = refused(4, &|dir| {
        let mut all = tensors_of(dir);
        let bias = all["model.layers.0.self_attn.q_proj.bias"].clone();
        all.insert("model.layers.0.mlp.up_proj.bias".to_owned(), bias);
        write(dir, "model.safetensors", &all);
    });
    assert_eq!(error, "DIR: mimo-mtp has no place for model.safetensors: model.layers.0.mlp.up_proj.bias");
    let error = refused(3, &|dir| {
        let mut all = tensors_of(dir);
        all.retain(|name, _| !name.contains("mtp_layers"));
        write(dir, "model.safetensors", &all);
    });
    assert!(
        error.starts_with("DIR: config.json announces an MTP head, and nothing of it is there: missing "),
        "{error}"
    );
    let error = refused(5, &|dir| {
        edit(&dir.join("config.json"), |config| config["mlx_lm_extra_tensors"] = json!({"mtp_file": "../x"}));
        fs::write(dir.join("tokenizer.json"), "{}").unwrap();
    });
    assert!(error.starts_with("DIR: damaged: DIR/config.json: mlx_lm_extra_tensors.mtp_file: "), "{error}");
    assert!(error.contains("; tokenizer.json: "), "everything at once: {error}");
    let error = refused(5, &|dir| fs::write(dir.join("tokenizer.json"), "{}").unwrap());
    assert!(error.starts_with("DIR: tokenizer.json: "), "{error}");
    let error = refused(5, &|dir| fs::write(dir.join("chat_template.jinja"), "{% if %}").unwrap());
    assert!(error.starts_with("DIR: chat_template.jinja: line 1: "), "{error}");
    // One class for one fault, whoever meets it.
    let said = |code: i32, field: &str, value: Value| {
        refused(code, &|dir| edit(&dir.join("config.json"), |config| config[field] = value.clone()))
    };
    for (field, value, code, expected) in [
        ("quantization", json!("x"), 5, "quantization: \"x\": expected an object"),
        ("quantization", json!({"bits": 7}), 4, "quantization.bits: 7: affine 7-bit group 64: MLX has "),
        ("quantization", json!({"bits": "4"}), 5, "quantization.bits: \"4\": expected an integer from 1 to 64"),
        ("mtplx_mtp_quantization", json!({"norm_encoding": "x"}), 4, "mtplx_mtp_quantization.norm_encoding: \"x\": "),
    ] {
        let error = said(code, field, value);
        assert!(error.contains(&format!("DIR/config.json: {expected}")), "{error}");
    }
}

/// Stated to be packed, and not: the tensors tell.
#[test]
fn what_is_not_packed_is_forged() {
    let (bench, dir) = (Bench::new(), copy("mimo_bf16"));
    edit(&dir.path().join("config.json"), |config| config["quantization"] = json!({"bits": 4}));
    let ran = run(&["forge", dir.path().to_str().unwrap(), &bench.out(), "--dry-run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("config.json: quantization: affine 4-bit group 64: no weight is packed"), "{ran:?}");
}

#[test]
fn what_it_refuses() {
    let bench = Bench::new();
    let out = bench.out();
    let (error, _) = fails(&["forge", &model("trained_qwen3_5/mlx_q4g32"), &out], 4);
    assert!(error.contains("config.json: packed already"), "{error}");

    // What another method packed cannot be kept either.
    let packed = copy("mimo_bf16");
    for (method, code) in [("awq", 4), ("gptq", 4)] {
        let stated = json!({"quant_method": method, "bits": 4});
        edit(&packed.path().join("config.json"), |config| config["quantization_config"] = stated);
        let (error, hint) = fails(&["forge", packed.path().to_str().unwrap(), &out], code);
        assert!(error.contains(&format!("packed already ({method})")) && !hint.contains("--policy"), "{error} {hint}");
    }

    let partial = copy("mimo_bf16");
    let mut all = tensors(partial.path(), "model.safetensors");
    all.remove("model.layers.1.mlp.up_proj.weight");
    write(partial.path(), "model.safetensors", &all);
    let (error, _) = fails(&["forge", partial.path().to_str().unwrap(), &out], 5);
    assert!(error.contains("missing model.layers.1.mlp.up_proj.weight"), "{error}");

    let taken = tempfile::tempdir().unwrap();
    let (error, _) = fails(&["forge", &model("mimo_bf16"), taken.path().to_str().unwrap()], 2);
    assert!(error.ends_with("exists already"), "{error}");
    let (error, hint) = fails(&["forge", &model("mimo_bf16"), &out, "--policy", "none"], 5);
    assert!(error.starts_with("none: ") && hint.contains("flat4"), "{error} {hint}");
    let policy = bench.policy("name = \"x\"\nbits = 9\n");
    let (error, _) = fails(&["forge", &model("mimo_bf16"), &out, "--policy", &policy], 2);
    assert!(error.contains("policy.toml: bits: affine 9-bit group 64: MLX has"), "{error}");
    let (error, _) = fails(&["forge", "synth", "--like", "no-such-model", &out], 5);
    assert!(error.starts_with("no-such-model: "), "{error}");
    let (error, _) = fails(&["forge", "synth", "--like", "qwen3.5-4b", "--layers", "33", &out], 2);
    assert!(error.contains("33: expected 1 to 32"), "{error}");
    let endless = bench.0.path().join("endless.json");
    let fields = json!({"model_type": "glm4_moe", "num_hidden_layers": 1000, "n_routed_experts": 65536});
    fs::write(&endless, fields.to_string()).unwrap();
    let headless = bench.0.path().join("headless.json");
    let config = fs::read(fixture("qwen3_next_moe/mlx_q4g32/config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    for field in ["num_nextn_predict_layers", "mtp_num_hidden_layers"] {
        config.as_object_mut().unwrap().remove(field);
    }
    fs::write(&headless, config.to_string()).unwrap();
    let (error, hint) = fails(&["forge", "synth", "--like", headless.to_str().unwrap(), &out], 4);
    assert!(error.contains("it announces no MTP layers") && hint.contains("mtp_num_hidden_layers"), "{error} {hint}");
    assert!(!Path::new(&out).exists());
    let (error, _) = fails(&["forge", "synth", "--like", endless.to_str().unwrap(), &out], 5);
    assert!(error.starts_with("endless.json: n_routed_experts: 65536: in 1000 layers: expected at most"), "{error}");
    // Somebody else's folder where the work would go.
    let hidden = bench.0.path().join(".out.forging");
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("diary.txt"), "x").unwrap();
    let (error, _) = fails(&["forge", &model("mimo_bf16"), &out], 2);
    assert!(error.contains(".out.forging: "), "{error}");
    assert_eq!(fs::read_to_string(hidden.join("diary.txt")).unwrap(), "x");
    // A link there, which would lead the work elsewhere.
    fs::remove_dir_all(&hidden).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &hidden).unwrap();
    let (error, _) = fails(&["forge", &model("mimo_bf16"), &out], 2);
    assert!(error.contains(".out.forging: ") && contents(elsewhere.path()).is_empty(), "{error}");
}

#[test]
fn vision_parts_are_copied_as_they_are() {
    let (checkpoint, bench) = (copy("qwen3_5_dense_bf16"), Bench::new());
    let mut all = tensors(checkpoint.path(), "model.safetensors");
    let patch = (Dtype::BF16, vec![3, 5], (0..30).collect::<Vec<u8>>());
    all.insert("model.visual.patch_embed.proj.weight".to_owned(), patch.clone());
    write(checkpoint.path(), "model.safetensors", &all);
    let document = bench.forge(checkpoint.path().to_str().unwrap(), &["--policy", "flat4"]);
    let vision = document["groups"].as_array().unwrap().iter().find(|row| row["group"] == "vision").unwrap();
    assert_eq!((&vision["count"], &vision["after"]), (&json!(1), &json!(30)));
    let copied = tensors(bench.out(), "model-vision-00001-of-00001.safetensors");
    assert_eq!(copied["model.visual.patch_embed.proj.weight"], patch);
    assert_eq!(run(&["run", "x", "--allow-unverified", "--model", &bench.out(), "-n", "1"]).code, 0);
}

/// The work of `forge`, stopped or starved at will.
fn job(checkpoint: &Checkpoint) -> ForgeJob<'_> {
    ForgeJob::forge(&Qwen3Next, checkpoint, None, Policy::builtin("flat4").unwrap()).unwrap()
}

/// All files of a folder.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[test]
fn an_interrupted_forge_leaves_nothing_that_loads_and_goes_on() {
    let checkpoint = Checkpoint::open(&fixture("trained_qwen3_5")).unwrap();
    let job = job(&checkpoint);
    let dir = tempfile::tempdir().unwrap();
    let (whole, out) = (dir.path().join("whole"), dir.path().join("out"));
    let (never, quiet) = (AtomicBool::new(false), |_, _| {});
    job.run(&whole, &RunControl::new(&never, &quiet)).unwrap();

    // Stopped in the first file, then in the second.
    let trunk = fs::metadata(whole.join("model.safetensors")).unwrap().len();
    for limit in [1, trunk] {
        let cancel = AtomicBool::new(false);
        let progress = |done: u64, _| cancel.store(done > limit, Ordering::Relaxed);
        let error = job.run(&out, &RunControl::new(&cancel, &progress)).unwrap_err();
        assert!(matches!(error, ForgeError::Interrupted), "{error}");
        assert!(!out.exists());
        let work = dir.path().join(".out.forging");
        assert_eq!(work.exists(), limit == trunk, "a first file that is not finished leaves nothing at all");
        assert!(Checkpoint::open(&work).is_err(), "what is left does not load");
    }
    // A crash may leave anything in the file that it was at.
    fs::write(dir.path().join(".out.forging/mtp.safetensors"), "half a file").unwrap();
    let outcome = job.run(&out, &RunControl::new(&never, &quiet)).unwrap();
    assert_eq!(outcome.resumed, trunk, "the first file was finished and kept");
    assert!(contents(&out) == contents(&whole), "the same bytes as without interruptions");
    assert!(!dir.path().join(".out.forging").exists());
}

#[test]
fn a_finished_file_that_was_damaged_is_made_again() {
    let checkpoint = Checkpoint::open(&fixture("trained_qwen3_5")).unwrap();
    let job = job(&checkpoint);
    let dir = tempfile::tempdir().unwrap();
    let (whole, out) = (dir.path().join("whole"), dir.path().join("out"));
    job.run(&whole, &RunControl::new(&AtomicBool::new(false), &|_, _| {})).unwrap();
    let trunk = fs::metadata(whole.join("model.safetensors")).unwrap().len();
    let cancel = AtomicBool::new(false);
    let in_the_second = |done: u64, _| cancel.store(done > trunk, Ordering::Relaxed);
    job.run(&out, &RunControl::new(&cancel, &in_the_second)).unwrap_err();
    let shard = dir.path().join(".out.forging/model.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let never = AtomicBool::new(false);
    assert_eq!(job.run(&out, &RunControl::new(&never, &|_, _| {})).unwrap().resumed, 0);
}

#[test]
fn a_full_disk_is_refused_before_anything_is_written() {
    let checkpoint = Checkpoint::open(&fixture("trained_qwen3_5")).unwrap();
    let job = job(&checkpoint);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (never, quiet) = (AtomicBool::new(false), |_, _| {});
    let control = RunControl { free_space: &|_| Ok(job.plan().bytes()), ..RunControl::new(&never, &quiet) };
    let error = job.run(&out, &control).unwrap_err();
    assert!(matches!(error, ForgeError::DiskFull { .. }), "{error}");
    assert!(error.to_string().ends_with(": 784.9 kB free, 67.9 MB needed"), "{error}");
    let deep = dir.path().join("folders/that/were/not/there/out");
    job.run(&deep, &control).unwrap_err();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "not even a folder is left");
}

/// What is finished is kept for the next run, whatever ended this one; what is not is in the way of a disk that is full.
#[test]
fn a_disk_that_fills_up_keeps_what_is_finished() {
    let checkpoint = Checkpoint::open(&fixture("trained_qwen3_5")).unwrap();
    let job = job(&checkpoint);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let trunk = job.plan().bytes() - head_bytes(&job);
    let cancel = AtomicBool::new(false);
    let in_the_second = |done: u64, _| cancel.store(done > trunk, Ordering::Relaxed);
    job.run(&out, &RunControl::new(&cancel, &in_the_second)).unwrap_err();
    let left = || contents(&dir.path().join(".out.forging")).into_keys().collect::<Vec<_>>();
    let finished = [".mtplx-forge.json", ".mtplx-forge.lock", "model.safetensors"];
    assert_eq!(left(), finished);
    let (never, quiet) = (AtomicBool::new(false), |_, _| {});
    let full = RunControl { free_space: &|_| Ok(0), ..RunControl::new(&never, &quiet) };
    assert!(matches!(job.run(&out, &full).unwrap_err(), ForgeError::DiskFull { .. }));
    assert_eq!(left(), finished);
    assert_eq!(job.run(&out, &RunControl::new(&never, &quiet)).unwrap().resumed, trunk);
}

/// Bytes of the head's file.
fn head_bytes(job: &ForgeJob<'_>) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    job.run(&dir.path().join("out"), &RunControl::new(&AtomicBool::new(false), &|_, _| {})).unwrap();
    fs::metadata(dir.path().join("out/mtp.safetensors")).unwrap().len()
}

#[test]
fn synthetic_artifacts_run_and_repeat() {
    let bench = Bench::new();
    let config = fixture("qwen3_5_moe/mlx_q4g32/config.json");
    let shape = bench.0.path().join("shape.json");
    fs::copy(&config, &shape).unwrap();
    edit(&shape, |config| {
        for field in ["quantization", "quantization_config", "mtplx_mtp_quantization", "mlx_lm_extra_tensors"] {
            config.as_object_mut().unwrap().remove(field);
        }
    });
    let synth = |name: &str, extra: &[&str]| {
        let out = bench.0.path().join(name).display().to_string();
        let args = ["forge", "synth", "--like", shape.to_str().unwrap(), &out, "--policy", "flat4", "--json"];
        run_json(&[&args, extra].concat());
        out
    };
    let (one, same, other) = (synth("one", &[]), synth("same", &[]), synth("other", &["--seed", "1"]));
    let weights = |out: &str| fs::read(Path::new(out).join("model.safetensors")).unwrap();
    assert!(weights(&one) == weights(&same) && weights(&one) != weights(&other));
    let document = run_json(&[
        "run",
        "hello",
        "--allow-unverified",
        "--model",
        &one,
        "--temperature",
        "0",
        "-n",
        "8",
        "--ignore-eos",
        "--json",
    ]);
    assert_eq!(document["token_ids"].as_array().unwrap().len(), 8, "{document:#}");
    assert!(!document["text"].as_str().unwrap().is_empty(), "{document:#}");
}

/// Every shape can be planned, in any number of layers.
#[test]
fn shapes() {
    let sizes: Vec<String> = mtplx_runtime::forge::shapes::names()
        .map(|name| {
            let args = ["forge", "synth", "--like", name, "nowhere", "--policy", "flat4", "--dry-run", "--json"];
            let document = run_json(&args);
            let short = run_json(&[&args[..], &["--layers", "4"]].concat());
            assert!(short["bytes_after"].as_u64() < document["bytes_after"].as_u64());
            format!("{name} {:.1} GB", document["bytes_after"].as_f64().unwrap() / 1e9)
        })
        .collect();
    insta::assert_snapshot!(sizes.join("\n"), @"
    qwen3.6-35b-a3b 20.0 GB
    qwen3.6-27b 15.4 GB
    qwen3.5-9b 5.2 GB
    qwen3.5-4b 2.5 GB
    qwen3.5-0.8b 0.4 GB
    qwen3-next-80b 45.8 GB
    deepseek-v3 384.3 GB
    glm-4.5-air 61.5 GB
    glm-4.7-flash 17.2 GB
    mimo-7b 4.5 GB
    minimax-m2 135.0 GB
    ");
}

/// A build of somebody else's, packed and without its head: it gets a head, and keeps every bit of its trunk.
#[test]
fn a_packed_build_gets_its_head_back() {
    let (build, bench) = (copy("trained_qwen3_5/mlx_q4g32"), Bench::new());
    fs::remove_file(build.path().join("mtp.safetensors")).unwrap();
    edit(&build.path().join("config.json"), |config| {
        for field in ["mtplx_mtp_quantization", "mlx_lm_extra_tensors"] {
            config.as_object_mut().unwrap().remove(field);
        }
    });
    let source = build.path().to_str().unwrap();
    let from = ["--mtp-from", &model("trained_qwen3_5")];
    let (_, hint) = fails(&["forge", source, &bench.out(), from[0], from[1]], 4);
    assert!(hint.contains("--policy as-is"), "{hint}");

    bench.forge(source, &["--policy", "as-is", "--head", "int4", from[0], from[1]]);
    let trunk = |dir: &Path| tensors(dir, "model.safetensors");
    assert!(trunk(Path::new(&bench.out())) == trunk(build.path()));
    assert_eq!(tensors(bench.out(), "mtp.safetensors").len(), 29);
    let args = [
        "run",
        "fn main() {",
        "--raw",
        "--allow-unverified",
        "--model",
        &bench.out(),
        "--temperature",
        "0",
        "-n",
        "24",
        "--ignore-eos",
    ];
    let document = run_json(&[&args[..], &["--mtp-depth", "1", "--json"]].concat());
    let accepted = document["stats"]["accepted_by_depth"][0].as_u64();
    assert!(accepted > Some(0), "a trained head drafts for the trunk that it was trained with: {document:#}");
    // The whole of it again, head and all, and what its contract says of the head.
    let again = Bench::new();
    edit(&Path::new(&bench.out()).join("mtplx_runtime.json"), |contract| {
        contract["mtp_contract"]["concat_order"] = json!("embedding_hidden");
        contract["recommended_prompt_mode"] = json!("raw");
    });
    again.forge(&bench.out(), &["--policy", "as-is"]);
    for file in ["model.safetensors", "mtp.safetensors"] {
        assert!(tensors(bench.out(), file) == tensors(again.out(), file), "{file}");
    }
    let contract = fs::read_to_string(Path::new(&again.out()).join("mtplx_runtime.json")).unwrap();
    let contract: Value = serde_json::from_str(&contract).unwrap();
    assert_eq!(contract["mtp_contract"]["concat_order"], "embedding_hidden");
    assert_eq!(contract["recommended_prompt_mode"], "raw");
}

/// Names, shapes and types of vendored artifacts that mlx-lm converted: from their configurations alone come the same.
#[test]
fn names_and_shapes_are_those_of_mlx_lm() {
    for name in ["deepseek_v3", "glm4_moe", "qwen3_5_dense", "qwen3_5_moe", "qwen3_next_moe", "trained_qwen3_5"] {
        let (theirs, bench) = (fixture(name).join("mlx_q4g32"), Bench::new());
        let mut config: Value = serde_json::from_slice(&fs::read(theirs.join("config.json")).unwrap()).unwrap();
        for field in ["quantization", "quantization_config", "mtplx_mtp_quantization", "mlx_lm_extra_tensors"] {
            config.as_object_mut().unwrap().remove(field);
        }
        if name == "qwen3_next_moe" {
            // Qwen3-Next announces its head by tensors alone.
            config["num_nextn_predict_layers"] = json!(1);
        }
        let shape = bench.0.path().join("shape.json");
        fs::write(&shape, config.to_string()).unwrap();
        let policy = bench.policy(&format!("{Q4G32}dense = \"f32\"\n{ROUTERS}"));
        run_json(&["forge", "synth", "--like", shape.to_str().unwrap(), &bench.out(), "--policy", &policy, "--json"]);
        let list = |dir: &Path, file: &str| -> Vec<(String, Dtype, Vec<usize>)> {
            let read = tensors(dir, file).into_iter().map(|(name, (dtype, shape, _))| (name, dtype, shape));
            // A copy of the trunk's head, which nothing reads.
            read.filter(|(name, ..)| !name.contains("shared_head_head")).collect()
        };
        for file in ["model.safetensors", "mtp.safetensors"] {
            assert_eq!(list(Path::new(&bench.out()), file), list(&theirs, file), "{name}");
        }
    }
}
