//! Files that are missing, damaged, or not for this program: one line with file, field and value, a hint, the documented
//! exit code, and no panic.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::command::{copy, fails};
use crate::forge::{tensors, write};

const MODEL: &str = "trained_qwen3_5/mlx_q4g32";

/// The error of running what `damage` makes of a model.
fn error_of(code: i32, damage: impl FnOnce(&Path)) -> String {
    let dir = copy(MODEL);
    damage(dir.path());
    let (error, _hint) = fails(&["run", "x", "--allow-unverified", "--model", dir.path().to_str().unwrap()], code);
    error.replace(dir.path().to_str().unwrap(), "MODEL")
}

fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

/// Writes a safetensors file anew with some tensors replaced: `None` drops one, a shape reshapes it.
fn rewrite(file: &Path, change: impl Fn(&str, &[usize]) -> Option<Vec<usize>>) {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.iter().filter_map(|(name, view)| {
        let shape = change(name, view.shape())?;
        Some((name.to_owned(), TensorView::new(view.dtype(), shape, view.data()).unwrap()))
    });
    let out = safetensors::serialize(kept, None).unwrap();
    fs::write(file, out).unwrap();
}

#[test]
fn a_wrong_path() {
    let (error, hint) = fails(&["run", "x", "--model", "no/such/model"], 5);
    assert!(error.contains("no/such/model") && error.contains("not found"), "{error}");
    assert!(!hint.is_empty());
}

/// Families with draft heads and no crate here: the error calls them by their names, and no checkpoint of theirs is taken for
/// one of a family that is linked.
#[test]
fn a_family_without_a_crate() {
    for (model_type, family) in [
        ("deepseek_v32", "DeepSeek V3.2"),
        ("deepseek_v4", "DeepSeek V4"),
        ("glm_moe_dsa", "GLM-5"),
        ("mimo_v2_flash", "MiMo-V2-Flash"),
        ("minimax_m3", "MiniMax-M3"),
        ("minimax_m3_vl", "MiniMax-M3"),
        ("qwen4_exp", "Qwen4-preview"),
        ("nemotron_h", "Nemotron-H"),
        ("step3p5", "Step-3.5"),
        ("hy_v3", "Hunyuan V3"),
        ("ernie4_5_moe", "ERNIE-4.5 MoE"),
        ("exaone_moe", "EXAONE-MoE"),
        ("longcat_flash", "LongCat-Flash"),
        ("pangu_ultra_moe", "openPangu"),
        ("gemma4_assistant", "Gemma-4 assistant"),
        ("kimi_k3", "Kimi-K3"),
    ] {
        let error = error_of(4, |dir| {
            edit(&dir.join("config.json"), |config| {
                *config = json!({"model_type": model_type, "hidden_size": 64, "num_hidden_layers": 2});
            });
        });
        let expected = format!("\"{model_type}\" is {family}: no linked architecture implements it (linked: ");
        assert!(error.contains(&expected) && error.contains("qwen3-next-mtp"), "{error}");
    }
}

#[test]
fn no_weights() {
    let error = error_of(5, |dir| fs::remove_file(dir.join("model.safetensors")).unwrap());
    assert!(error.contains("MODEL"), "{error}");
}

#[test]
fn an_empty_weight_file() {
    let error = error_of(5, |dir| fs::write(dir.join("model.safetensors"), "").unwrap());
    assert!(error.starts_with("MODEL: damaged: MODEL/model.safetensors: "), "{error}");
}

#[test]
fn a_truncated_weight_file() {
    for (file, keep) in [("model.safetensors", 4), ("model.safetensors", 300_000), ("mtp.safetensors", 1000)] {
        let error = error_of(5, |dir| {
            let bytes = fs::read(dir.join(file)).unwrap();
            fs::write(dir.join(file), &bytes[..keep]).unwrap();
        });
        assert!(error.starts_with(&format!("MODEL: damaged: MODEL/{file}: ")), "{error}");
    }
}

/// Nothing of it is text.
#[test]
fn weights_that_are_no_numbers() {
    for (name, number) in [
        ("model.norm.weight", f32::NAN),
        ("embed_tokens.scales", f32::NAN),
        ("model.norm.weight", f32::INFINITY),
        ("model.norm.weight", f32::NEG_INFINITY),
    ] {
        let error = error_of(1, |dir| {
            let mut all = tensors(dir, "model.safetensors");
            let (dtype, _, bytes) = all.iter_mut().find(|(tensor, _)| tensor.ends_with(name)).unwrap().1;
            assert_eq!(*dtype, safetensors::Dtype::F32);
            bytes.chunks_exact_mut(4).for_each(|chunk| chunk.copy_from_slice(&number.to_le_bytes()));
            write(dir, "model.safetensors", &all);
        });
        assert_eq!(error, "the model's logits are not finite numbers", "{name} {number}");
    }
}

#[test]
fn a_missing_tensor() {
    let error = error_of(5, |dir| {
        rewrite(&dir.join("model.safetensors"), |name, shape| {
            (!name.ends_with("layers.0.linear_attn.A_log")).then(|| shape.to_vec())
        });
    });
    assert!(error.contains("layers.0.linear_attn.A_log") && error.contains("not found"), "{error}");
    let error = error_of(3, |dir| {
        rewrite(&dir.join("mtp.safetensors"), |name, shape| (!name.ends_with("mtp.fc.weight")).then(|| shape.to_vec()));
    });
    assert!(error.contains("incomplete") && error.contains("mtp.fc.weight"), "{error}");
}

#[test]
fn a_shape_that_does_not_fit() {
    let flipped = |suffix: &'static str| {
        move |name: &str, shape: &[usize]| {
            let mut shape = shape.to_vec();
            if name.ends_with(suffix) {
                shape = vec![1, shape.iter().product()];
            }
            Some(shape)
        }
    };
    let error = error_of(5, |dir| rewrite(&dir.join("model.safetensors"), flipped("model.norm.weight")));
    assert!(error.contains("norm.weight") && error.contains("[1, 128]") && error.contains("[128]"), "{error}");
    let error = error_of(3, |dir| rewrite(&dir.join("mtp.safetensors"), flipped("mtp.norm.weight")));
    assert!(error.contains("mtp.norm.weight") && error.contains("[1, 128]") && error.contains("[128]"), "{error}");
}

#[test]
fn an_unknown_model_type() {
    let error = error_of(4, |dir| edit(&dir.join("config.json"), |config| config["model_type"] = json!("warp_drive")));
    assert!(error.contains("config.json: model_type: ") && error.contains("\"warp_drive\""), "{error}");
    assert!(error.contains("qwen3-next-mtp"), "says what is linked: {error}");
}

#[test]
fn a_field_that_makes_no_sense() {
    let error = error_of(5, |dir| {
        edit(&dir.join("config.json"), |config| config["text_config"]["hidden_size"] = json!(-3));
    });
    assert!(error.contains("config.json: text_config.hidden_size: -3: "), "{error}");
    let error = error_of(5, |dir| fs::write(dir.join("config.json"), "{").unwrap());
    assert!(error.starts_with("MODEL: damaged: MODEL/config.json: "), "{error}");
}

#[test]
fn a_tokenizer_that_is_none() {
    let error = error_of(5, |dir| fs::remove_file(dir.join("tokenizer.json")).unwrap());
    assert_eq!(error, "MODEL: damaged: tokenizer.json: not found");
    let error = error_of(5, |dir| fs::write(dir.join("tokenizer.json"), "{}").unwrap());
    assert!(error.starts_with("MODEL: damaged: tokenizer.json: "), "{error}");
    let error = error_of(5, |dir| fs::write(dir.join("generation_config.json"), r#"{"top_p": 7}"#).unwrap());
    assert_eq!(error, "MODEL: damaged: generation_config.json: top_p: 7: a number from 0 to 1 was expected");
}
