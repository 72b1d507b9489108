//! The verdict table, artifact by artifact: what `inspect` and `run` say of each, with exit code and hint.
//!
//! Every artifact is a vendored checkpoint with something done to it. One snapshot holds them all, so that a change of any
//! message shows what else it changes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use mtplx_engine::assess::{Verdict, assess};
use mtplx_runtime::architecture::{Descriptor, ModelPlan, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint, Hint, sha256};
use mtplx_runtime::registry::Registry;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{copy, mtplx};

/// A complete artifact of a family whose evidence may be shipped, head in a file of its own.
const QWEN: &str = "trained_qwen3_5/mlx_q4g32";
/// One complete checkpoint of each other family, head in the shards, and a tensor of its head.
const RECOGNIZED: [(&str, &str, &str); 4] = [
    ("deepseek_v3_bf16", "deepseek-v3-mtp", "model.layers.3.eh_proj.weight"),
    ("glm4_moe_air_bf16", "glm4-moe-mtp", "model.layers.3.eh_proj.weight"),
    ("mimo_bf16", "mimo-mtp", "model.mtp_layers.0.input_proj.weight"),
    ("minimax_m2_bf16", "minimax-m2-mtp", "model.layers.3.eh_proj.weight"),
];
const CONTRACT: &str = "mtplx_runtime.json";
/// What this machine calls itself here.
const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// An artifact, and what was done to it.
struct Artifact {
    name: String,
    dir: TempDir,
}

impl Artifact {
    fn of(fixture: &str, name: impl Into<String>) -> Self {
        let dir = copy(fixture);
        for file in ["golden.json", "golden.safetensors"] {
            let _ = fs::remove_file(dir.path().join(file));
        }
        Self { name: name.into(), dir }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap()
    }

    fn config(self, change: impl FnOnce(&mut Value)) -> Self {
        let mut config = serde_json::from_slice(&self.read("config.json")).unwrap();
        change(&mut config);
        self.file("config.json", config.to_string());
        self
    }

    /// The hashes of the files as they are now.
    fn hashes(&self) -> Value {
        let files = ["config.json", "model.safetensors", "mtp.safetensors"];
        let there = files.into_iter().filter(|file| self.dir.path().join(file).is_file());
        there.map(|file| (file.to_owned(), json!(sha256(&self.read(file))))).collect::<serde_json::Map<_, _>>().into()
    }

    /// With a valid contract of passed evidence for these files, and then changed.
    fn contract(self, id: &str, change: impl FnOnce(&mut Value)) -> Self {
        let mut contract = json!({"mtplx_version": "0.1.0", "contract_version": 1, "arch_id": id, "mtp_depth_max": 2,
            "recommended_profile": "stable", "exactness_baseline": baseline(), "verified_on": verified_on(),
            "sha256": self.hashes()});
        change(&mut contract);
        self.file(CONTRACT, contract.to_string());
        self
    }

    /// Rewrites a weight file; `change` is told each name and shape and says which shape to write, or to leave it out.
    fn tensors(self, file: &str, change: impl Fn(&str, &[usize]) -> Option<Vec<usize>>) -> Self {
        let bytes = self.read(file);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let kept = tensors.iter().filter_map(|(name, view)| {
            let shape = change(name, view.shape())?;
            Some((name.to_owned(), TensorView::new(view.dtype(), shape, view.data()).unwrap()))
        });
        let out = safetensors::serialize(kept, None).unwrap();
        self.file(file, out);
        self
    }

    /// With one more tensor, of zeros.
    fn with_tensor(self, name: &str, shape: &[usize]) -> Self {
        let bytes = self.read("model.safetensors");
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let zeros = vec![0; 4 * shape.iter().product::<usize>()];
        let more = (name, TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &zeros).unwrap());
        let out = safetensors::serialize(tensors.iter().chain([more]), None).unwrap();
        self.file("model.safetensors", out);
        self
    }

    fn with_file(self, name: &str, text: &str) -> Self {
        self.file(name, text);
        self
    }

    fn without(self, file: &str, tensor: &str) -> Self {
        self.tensors(file, |name, shape| (name != tensor).then(|| shape.to_vec()))
    }

    fn misshapen(self, file: &str, tensor: &str) -> Self {
        let flat = |shape: &[usize]| vec![1, shape.iter().product()];
        self.tensors(file, |name, shape| Some(if name == tensor { flat(shape) } else { shape.to_vec() }))
    }

    /// What the program says of it.
    fn said(&self, home: &Path) -> String {
        let path = self.dir.path().to_str().unwrap();
        let said = |args: &[&str]| {
            let output = mtplx(args).env("MTPLX_HOME", home).output().unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(path, "DIR");
            (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
        };
        let mut text = format!("## {}\n", self.name);
        let (code, stdout, stderr) = said(&["inspect", path, "--json"]);
        if code == 0 {
            let document: Value = serde_json::from_str(&stdout).unwrap();
            let _ = writeln!(text, "inspect 0: {}", document["says"].as_str().unwrap());
            for finding in document["findings"].as_array().unwrap() {
                let [severity, field, what] = ["severity", "field", "what"].map(|name| finding[name].as_str().unwrap());
                let _ = writeln!(text, "  {severity}: {field}: {what}");
            }
        } else {
            let _ = write!(text, "inspect {code}: {stderr}");
        }
        let (code, _, stderr) = said(&["run", "x", "--raw", "-n1", "--model", path]);
        // What a run that succeeds says are figures.
        let stderr = if code == 0 { "\n" } else { &stderr };
        let _ = write!(text, "run {code}: {stderr}");
        text
    }
}

/// A field of the built-in model's contract, which `mtplx verify` wrote.
fn of_builtin(field: &str) -> Value {
    let contract: Value = serde_json::from_str(include_str!("../models/builtin/mtplx_runtime.json")).unwrap();
    contract[field].clone()
}

/// Its figures, as if measured of an artifact whose contract states no conventions.
fn baseline() -> Value {
    let mut baseline = of_builtin("exactness_baseline");
    baseline["measured_with"] = json!({});
    baseline
}

fn verified_on() -> Value {
    let mut on = of_builtin("verified_on");
    on["machine"] = json!(MACHINE);
    on
}

fn qwen(name: impl Into<String>) -> Artifact {
    Artifact::of(QWEN, name)
}

/// A Qwen artifact whose contract was changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Artifact {
    qwen(name).contract("qwen3-next-mtp", change)
}

/// One whose contract has these fields as well, or instead.
fn with(name: &str, fields: Value) -> Artifact {
    changed(name, |contract| {
        for (field, value) in fields.as_object().unwrap() {
            contract[field] = value.clone();
        }
    })
}

fn evidence() -> Vec<Artifact> {
    let status =
        |name: &str, status: Value| changed(name, |contract| contract["exactness_baseline"]["status"] = status);
    let figure = |name: &str, pointer: &str, value: Value| {
        changed(name, |contract| *contract["exactness_baseline"].pointer_mut(pointer).unwrap() = value)
    };
    // As `verify` would have stamped it, and then changed.
    let conventions = |name: &str, now: Value| {
        changed(name, |contract| {
            let measured = json!({"concat_order": "embedding_hidden", "mtp_quant_bits": 4});
            contract["exactness_baseline"]["measured_with"] = json!({"mtp_contract": measured});
            contract["mtp_contract"] = now;
        })
    };
    let uncovered = |file: &str| {
        changed(&format!("hash of {file} missing"), |contract| {
            contract["sha256"].as_object_mut().unwrap().remove(file);
        })
    };
    let other_byte = |artifact: Artifact, file: &str| {
        let mut bytes = artifact.read(file);
        let end = bytes.len() - 1;
        bytes[end] ^= 1;
        artifact.file(file, bytes);
        artifact
    };
    let vision = with("a weight file that the evidence never saw", json!({}));
    let tensor = TensorView::new(safetensors::Dtype::U8, vec![1], &[7]).unwrap();
    vision.file("model-vision.safetensors", safetensors::serialize([("visual.x", tensor)], None).unwrap());
    vec![
        with("verified", json!({})),
        with("verified, with keys of somebody else's", json!({"somebody_elses": {"a": [1]}})),
        qwen("no contract"),
        status("baseline pending", json!("pending")),
        status("baseline candidate", json!("candidate")),
        status("baseline failed", json!("failed")),
        status("baseline empty", json!("")),
        status("baseline status of another type", json!(true)),
        status("baseline status of another word", json!("ok")),
        with("baseline status missing", json!({"exactness_baseline": {"max_abs_diff": 0.0}})),
        with("baseline status alone", json!({"exactness_baseline": {"status": "passed"}})),
        with("nowhere measured", json!({"verified_on": {}})),
        figure("a gate not passed", "/gates/state/passed", json!(false)),
        figure("a figure beyond its tolerance", "/gates/marginal/total_variation", json!(0.1)),
        figure("a figure that is no number", "/max_abs_diff", json!("NaN")),
        figure("a figure that is not its gate's", "/max_abs_diff", json!(5.0)),
        figure("a tolerance that tolerates all", "/gates/state/tolerance", json!(1.0)),
        figure("measured less deep than it claims", "/depth", json!(8)),
        figure("a type that the device does not compute in", "/dtype", json!("bfloat16")),
        changed("near-ties, one and all", |contract| {
            let baseline = &mut contract["exactness_baseline"];
            let total = baseline["total"].clone();
            (baseline["matches"], baseline["sample_agreement"]) = (json!(0), json!(0.0));
            baseline["gates"]["greedy"]["matches"] = json!(0);
            baseline["gates"]["greedy"]["near_ties"] = total;
        }),
        with("depth beyond the evidence", json!({"mtp_depth_max": 8})),
        conventions("conventions as measured", json!({"concat_order": "embedding_hidden", "mtp_quant_bits": 4})),
        conventions("order changed", json!({"concat_order": "hidden_embedding", "mtp_quant_bits": 4})),
        conventions("bits changed", json!({"concat_order": "embedding_hidden", "mtp_quant_bits": 8})),
        with("conventions that were not there", json!({"mtp_contract": {"hidden_variant": "pre_norm"}})),
        changed("evidence of an older engine", |contract| {
            drop(contract["exactness_baseline"].as_object_mut().unwrap().remove("measured_with"));
        }),
        with(
            "contract of Python MTPLX",
            json!({"mtplx_version": "0.1.0-preview", "mtp_depth_max": 3, "contract_version": null, "sha256": null,
                "exactness_baseline": {"gate": "Phase 0H paged-verifier smoke", "context": 2048,
                    "attention_impl": "mlx_vector_paged", "max_abs_diff": 0.0},
                "verified_on": {"timestamp": "2026-05-02T02:23:23+0100", "model": "Qwen3.6-27B",
                    "hardware": "Apple M5 Max, 128 GB unified memory",
                    "sampler": {"temperature": 0.6, "top_p": 0.95, "top_k": 20}}}),
        ),
        changed("no hashes", |contract| drop(contract.as_object_mut().unwrap().remove("sha256"))),
        uncovered("config.json"),
        uncovered("mtp.safetensors"),
        other_byte(with("trunk changed", json!({})), "model.safetensors"),
        other_byte(with("head changed", json!({})), "mtp.safetensors"),
        with("configuration changed", json!({})).config(|config| config["comment"] = json!("new")),
        changed("hash of a file that is not there", |contract| {
            contract["sha256"]["gone.safetensors"] = json!("0".repeat(64));
        }),
        vision,
    ]
}

fn findings() -> Vec<Artifact> {
    let without = |field: &str| {
        changed(&format!("{field} missing"), |contract| drop(contract.as_object_mut().unwrap().remove(field)))
    };
    let unreadable = |name: &str, text: &str| {
        let artifact = qwen(name);
        artifact.file(CONTRACT, text);
        artifact
    };
    let folder_for_contract = qwen("contract that is no regular file");
    fs::create_dir(folder_for_contract.dir.path().join(CONTRACT)).unwrap();
    let source = |path: &str| json!({"forge_provenance": {"sources": [{"path": path}]}});
    vec![
        unreadable("contract that is not JSON", "[{"),
        unreadable("contract that is no object", "3"),
        folder_for_contract,
        without("mtplx_version"),
        without("arch_id"),
        without("mtp_depth_max"),
        without("recommended_profile"),
        without("exactness_baseline"),
        without("verified_on"),
        with("architecture of another family", json!({"arch_id": "mimo-mtp"})),
        with("depth beyond the architecture's", json!({"mtp_depth_max": 32})),
        with("depth of none", json!({"mtp_depth_max": 0})),
        with("default depth beyond the ceiling", json!({"mtp_depth_default": 3})),
        with("generation mode unknown", json!({"recommended_generation_mode": "fast"})),
        with(
            "draft sampler out of range",
            json!({"recommended_draft_sampler": {"temperature": -1, "top_p": 7, "top_k": "x"}}),
        ),
        with("head scheme that MLX lacks", json!({"recommended_draft_lm_head": {"bits": 7}})),
        with("hidden variant and order unknown", json!({"mtp_contract": {"hidden_variant": "x", "concat_order": "y"}})),
        with("acceptance beyond 1", json!({"speed_evidence": {"acceptance_by_depth": [1.5], "speedup": "2x"}})),
        with("newer engine", json!({"min_engine_version": "99.0"})),
        with("engine version that is none", json!({"min_engine_version": "soon"})),
        with("newer contract", json!({"contract_version": 2})),
        with("contract version that is none", json!({"contract_version": "x"})),
        with("hash that is none", json!({"sha256": {"config.json": "abc"}})),
        changed("hashes in capitals", |contract| {
            for hash in contract["sha256"].as_object_mut().unwrap().values_mut() {
                *hash = json!(hash.as_str().unwrap().to_uppercase());
            }
        }),
        with("hash of a file outside", json!({"sha256": {"../config.json": "0".repeat(64)}})),
        unreadable("field stated twice", r#"{"arch_id": "qwen3-next-mtp", "arch_id": "mimo-mtp"}"#),
        with("leaked path", source("/home/me/models/x")),
        with("leaked path as a key", json!({"notes": {"/home/me/models/x": 1}})),
        with("leaked path of Windows", source("C:\\Users\\me\\x")),
        with("leaked path of a network", source("\\\\server\\models\\x")),
        with("leaked home", source("~/models/x")),
        with("leaked URL of a file", json!({"notes": ["see file:///srv/x", "made with --in=/data/models"]})),
        with("fields of other types", json!({"mtp_depth_max": "3", "arch_id": 1, "verified_on": [], "vision": "/a/b"})),
        with(
            "everything else at once",
            json!({"mtp_depth_max": 0, "arch_id": "x", "mtp_depth_default": 65, "vision": "/a/b"}),
        ),
    ]
}

fn heads() -> Vec<Artifact> {
    let mut all = vec![
        qwen("qwen3-next-mtp: head's file missing"),
        qwen("qwen3-next-mtp: norm missing").without("mtp.safetensors", "language_model.mtp.norm.weight"),
        qwen("qwen3-next-mtp: projection misshapen"),
        qwen("no MTP"),
    ];
    fs::remove_file(all[0].dir.path().join("mtp.safetensors")).unwrap();
    // The fixture's own prefix.
    let bytes = all[1].read("mtp.safetensors");
    let names: Vec<String> =
        SafeTensors::deserialize(&bytes).unwrap().names().iter().map(|s| (*s).to_owned()).collect();
    let named = |end: &str| names.iter().find(|name| name.ends_with(end)).unwrap_or_else(|| panic!("{end}: {names:?}"));
    let last = all.pop().unwrap();
    let misshapen = all.pop().unwrap().misshapen("mtp.safetensors", named("pre_fc_norm_hidden.weight"));
    let missing = all.pop().unwrap().without("mtp.safetensors", named("layers.0.input_layernorm.weight"));
    fs::remove_file(last.dir.path().join("mtp.safetensors")).unwrap();
    let none = last.config(|config| {
        let config = config.as_object_mut().unwrap();
        config.remove("mlx_lm_extra_tensors");
        config["text_config"]["mtp_num_hidden_layers"] = json!(0);
    });
    all.extend([missing, misshapen, none]);
    for (fixture, id, tensor) in RECOGNIZED {
        let of = |what: &str| Artifact::of(fixture, format!("{id}: {tensor} {what}"));
        all.push(of("missing").without("model.safetensors", tensor));
        all.push(of("misshapen").misshapen("model.safetensors", tensor));
    }
    // As published: announced, and not there.
    let stripped = Artifact::of("minimax_m2_bf16", "minimax-m2-mtp: as published")
        .tensors("model.safetensors", |name, shape| (!name.starts_with("model.layers.3.")).then(|| shape.to_vec()));
    all.push(stripped.config(|config| config["num_mtp_modules"] = json!(1)));
    all
}

fn tiers() -> Vec<Artifact> {
    let mut all = Vec::new();
    for (fixture, id, _) in RECOGNIZED {
        all.push(Artifact::of(fixture, format!("{id}: verified on this machine")).contract(id, |_| {}));
    }
    let (fixture, id, _) = RECOGNIZED[2];
    let of = |what: &str| Artifact::of(fixture, format!("{id}: {what}"));
    let elsewhere = |contract: &mut Value| contract["verified_on"]["machine"] = json!("f".repeat(32));
    all.push(of("verified on another machine").contract(id, elsewhere));
    let unnamed = |contract: &mut Value| drop(contract["verified_on"].as_object_mut().unwrap().remove("machine"));
    all.push(of("verified on a machine without a name").contract(id, unnamed));
    all
}

fn incompatible() -> Vec<Artifact> {
    let model_type = |name: &str| {
        qwen(format!("model_type {name}")).config(|config| {
            config["model_type"] = json!(name);
            config["text_config"]["model_type"] = json!(name);
        })
    };
    let quantized = |method: &str| {
        qwen(format!("quantized by {method}")).config(|config| {
            config.as_object_mut().unwrap().remove("quantization");
            config["quantization_config"] = json!({"quant_method": method});
        })
    };
    let pickled = qwen("pickled weights");
    fs::rename(pickled.dir.path().join("model.safetensors"), pickled.dir.path().join("pytorch_model.bin")).unwrap();
    vec![
        model_type("llama"),
        model_type("deepseek_v4"),
        model_type("glm_moe_dsa"),
        model_type("step3p5"),
        model_type("QWEN3_5"),
        quantized("gptq"),
        quantized("fp8"),
        qwen("model_type llama, with code").config(|config| {
            config["model_type"] = json!("llama");
            config["auto_map"] = json!({"AutoModel": "modeling.X"});
        }),
        qwen("norm encoding unknown")
            .config(|config| config["mtplx_mtp_quantization"] = json!({"norm_encoding": "whatever"})),
        pickled,
    ]
}

/// What `run` would stop at, said beforehand: trunk, configuration, text files, what has no place, all at once.
fn faults() -> Vec<Artifact> {
    const LAYERS: &str = "language_model.model.layers";
    let norm = "language_model.model.norm.weight";
    let decay = format!("{LAYERS}.0.linear_attn.A_log");
    let text = |name: &str, field: &str, value: Value| qwen(name).config(|config| config["text_config"][field] = value);
    let quantized = |name: &str, value: Value| {
        qwen(name).config(|config| {
            config.as_object_mut().unwrap().remove("quantization_config");
            config["quantization"] = value;
        })
    };
    let tokenizer_config = |artifact: &Artifact, field: &str, value: Value| {
        let mut config: Value = serde_json::from_slice(&artifact.read("tokenizer_config.json")).unwrap();
        config[field] = value;
        artifact.file("tokenizer_config.json", config.to_string());
    };
    let code = qwen("code for the tokenizer");
    tokenizer_config(&code, "auto_map", json!({"AutoTokenizer": ["tokenization_x.X", null]}));
    let template = with("chat template that does not compile", json!({}));
    tokenizer_config(&template, "chat_template", json!("{% if %}"));
    let no_tokenizer = qwen("no tokenizer");
    fs::remove_file(no_tokenizer.dir.path().join("tokenizer.json")).unwrap();
    let by_magic = qwen("pickle under another name").with_file("mtp.safetensors", "");
    by_magic.file("model.safetensors", b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00");
    fs::remove_file(by_magic.dir.path().join("mtp.safetensors")).unwrap();
    let foreign = qwen("head's file with other tensors");
    let tensor = TensorView::new(safetensors::Dtype::U8, vec![1], &[7]).unwrap();
    foreign.file("mtp.safetensors", safetensors::serialize([("other", tensor)], None).unwrap());
    let all = qwen("everything at once")
        .without("model.safetensors", &decay)
        .misshapen("model.safetensors", norm)
        .with_tensor(&format!("{LAYERS}.3.self_attn.q_proj.bias"), &[256])
        .config(|config| {
            config["auto_map"] = json!({"AutoModel": "modeling.X"});
            config["mtplx_mtp_quantization"] = json!({"norm_encoding": "whatever"});
        })
        .with_file("tokenizer.json", "{}")
        .with_file("generation_config.json", r#"{"top_p": 7, "top_k": -1}"#)
        .with_file("chat_template.jinja", "{% if %}");
    fs::remove_file(all.dir.path().join("mtp.safetensors")).unwrap();
    let mut list = vec![
        qwen("trunk: a tensor missing").without("model.safetensors", &decay),
        qwen("trunk: a tensor misshapen").misshapen("model.safetensors", norm),
        quantized(
            "trunk: packed otherwise than stated",
            json!({"group_size": 32, "bits": 4,
            format!("{LAYERS}.0.mlp.up_proj"): {"group_size": 32, "bits": 8}}),
        ),
        quantized("quantization that MLX lacks", json!({"group_size": 32, "bits": 7})),
        quantized("quantization that is no object", json!(["x"])),
        text("width out of bounds", "hidden_size", json!(-3)),
        text("layers out of bounds", "num_hidden_layers", json!(100_000)),
        qwen("fields out of bounds, of other types, and not supported").config(|config| {
            for (field, value) in [
                ("hidden_size", json!(-3)),
                ("vocab_size", json!("x")),
                ("hidden_act", json!("tanh")),
                ("output_gate_type", json!("tanh")),
                ("rms_norm_eps", json!("small")),
                ("num_key_value_heads", json!(1_u64 << 40)),
                ("attention_bias", json!(1)),
                ("rope_parameters", json!({"rope_type": "linear"})),
            ] {
                config["text_config"][field] = value;
            }
        }),
        text("layer types of another number", "layer_types", json!(["full_attention"])),
        no_tokenizer,
        qwen("tokenizer that is none").with_file("tokenizer.json", "{}"),
        template,
        qwen("settings out of range").with_file("generation_config.json", r#"{"top_p": 7, "top_k": -1}"#),
        code,
        with("code of the repository", json!({}))
            .config(|config| config["auto_map"] = json!({"AutoModel": "modeling.X"}))
            .contract("qwen3-next-mtp", |_| {}),
        qwen("pipelines of the repository").config(|config| config["custom_pipelines"] = json!({"x": {"impl": "x.X"}})),
        by_magic,
        foreign,
        qwen("a bias that nothing adds").with_tensor(&format!("{LAYERS}.3.self_attn.q_proj.bias"), &[256]),
        qwen("more layers than are stated").with_tensor(&format!("{LAYERS}.99.input_layernorm.weight"), &[128]),
        Artifact::of(RECOGNIZED[2].0, "quantization stated in part, and of nothing")
            .config(|config| config["quantization"] = json!({"bits": 4})),
        with("tensors of unknown use", json!({})).with_tensor("language_model.model.ngrams.weight", &[2, 2]),
        all,
    ];
    for (fixture, id, tensor) in RECOGNIZED {
        let bias = tensor.replace(".weight", ".bias");
        let trunk = "model.layers.0.self_attn.o_proj.weight";
        let of = |what: &str| Artifact::of(fixture, format!("{id}: {what}"));
        list.push(of("a bias that nothing adds").with_tensor(&bias, &[64]));
        list.push(of("trunk: a tensor missing").without("model.safetensors", trunk));
    }
    list
}

/// Files that cannot be read, beside everything else that can be said.
fn unreadable() -> Vec<Artifact> {
    const INDEX: &str = "model.safetensors.index.json";
    let truncated = |artifact: Artifact, file: &str| {
        let bytes = artifact.read(file);
        artifact.file(file, &bytes[..bytes.len() / 2]);
        artifact
    };
    let gone = |artifact: Artifact, file: &str| {
        fs::remove_file(artifact.dir.path().join(file)).unwrap();
        artifact
    };
    let index = |name: &str, index: Value| qwen(name).with_file(INDEX, &index.to_string());
    let text_config = |name: &str, value: Value| qwen(name).config(|config| config["text_config"] = value);
    let all = with("a shard truncated, and everything else", json!({"mtp_depth_max": "3", "vision": "/a/b"}))
        .config(|config| {
            config["auto_map"] = json!({"AutoModel": "modeling.X"});
            config["text_config"]["hidden_size"] = json!(-3);
            config["mlx_lm_extra_tensors"] = json!({"mtp_file": "../x"});
            config["mtplx_mtp_quantization"] = json!({"norm_encoding": "whatever"});
        })
        .with_file("tokenizer.json", "{}")
        .with_file("chat_template.jinja", "{% if %}");
    vec![
        truncated(qwen("a shard truncated"), "model.safetensors"),
        truncated(qwen("the head's file truncated"), "mtp.safetensors"),
        truncated(all, "model.safetensors"),
        qwen("a shard empty").with_file("model.safetensors", ""),
        gone(qwen("no weights but the head's"), "model.safetensors"),
        gone(gone(qwen("no weights"), "model.safetensors"), "mtp.safetensors"),
        index("index of a shard that is not there", json!({"weight_map": {"x": "gone.safetensors"}})),
        index("index of a shard outside", json!({"weight_map": {"x": "../x.safetensors"}})),
        index("index that lies", json!({"weight_map": {"x": "model.safetensors"}})),
        qwen("index that is none").with_file(INDEX, "[]"),
        qwen("head's file outside").config(|config| config["mlx_lm_extra_tensors"]["mtp_file"] = json!("../x")),
        qwen("model_type of another type").config(|config| config["model_type"] = json!(7)),
        text_config("text_config of another type", json!([])),
        with("configuration that is not JSON", json!({"mtp_depth_max": 0})).with_file("config.json", "{"),
        qwen("configuration with a field stated twice")
            .with_file("config.json", r#"{"model_type": "qwen3_5", "model_type": "x", "auto_map": {"a": "b"}}"#),
        gone(qwen("no configuration"), "config.json"),
    ]
}

/// Claims what another claims as well.
struct Claims(Descriptor);

static CLAIMANTS: [Claims; 2] = [claimant("acme-mtp", "acme-arch"), claimant("other-mtp", "other-arch")];

const fn claimant(id: &'static str, crate_name: &'static str) -> Claims {
    Claims(Descriptor {
        id,
        name: "Toy",
        model_types: &["qwen3_5"],
        tier: Tier::Recognized,
        max_depth: 1,
        crate_name,
        crate_version: "1.0.0",
    })
}

impl MtpArchitecture for Claims {
    fn descriptor(&self) -> &'static Descriptor {
        CLAIMANTS.iter().map(|claims| &claims.0).find(|descriptor| descriptor.id == self.0.id).unwrap()
    }

    fn claims(&self, _: &Checkpoint) -> bool {
        true
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Err(checkpoint.config().error("model_type", "nothing is planned here"))
    }
}

/// No binary links two claimants by accident, so the library is asked.
fn two_claimants() -> String {
    let artifact = qwen("two claimants");
    let registry = Registry::new(CLAIMANTS.iter().map(|claims| claims as &dyn MtpArchitecture));
    let verdict = assess(&Checkpoint::open(artifact.dir.path()).unwrap(), &registry).verdict;
    // 4: what a command ends with that an incompatible verdict keeps from running.
    assert!(matches!(verdict, Verdict::Incompatible { hint: Hint::Architectures, .. }), "{verdict:?}");
    format!("## two claimants\nverdict 4: {verdict}\n")
}

#[test]
fn every_verdict_and_finding() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("machine"), MACHINE).unwrap();
    let artifacts: Vec<Artifact> = [evidence(), findings(), heads(), tiers(), incompatible(), faults(), unreadable()]
        .into_iter()
        .flatten()
        .collect();
    assert!(artifacts.len() >= 40);
    // In parts, each by a thread of its own: the program waits for its files and for its linker.
    let parts: Vec<&[Artifact]> = artifacts.chunks(artifacts.len().div_ceil(4)).collect();
    let said: Vec<String> = std::thread::scope(|scope| {
        let of = |part: &[Artifact]| part.iter().map(|artifact| artifact.said(home.path())).collect::<Vec<_>>();
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || of(part))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let all = format!("{}\n{}", said.join("\n"), two_claimants());
    insta::assert_snapshot!("gates", all.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}
