//! The small files of an artifact: `config.json`, the index, the contract, and what is copied as it is.

use safetensors::Dtype;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::work::hex;
use super::{ForgeError, Part, Plan};
use crate::architecture::Descriptor;
use crate::artifact::{CONTRACT, Checkpoint, Contract, MtpContract};

/// Files with their contents.
pub(super) type Documents = Vec<(String, Vec<u8>)>;

/// What is copied from the checkpoint's folder, where it is there.
const COPIED: [&str; 16] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
];
/// The contract's word on whether a prompt is a message or text to go on with.
const PROMPT_MODE: &str = "recommended_prompt_mode";
/// Largest of them.
const MAX_COPIED: usize = 128 << 20;

/// The files of [`COPIED`] that a checkpoint has.
pub(super) fn copied(checkpoint: &Checkpoint) -> Result<Documents, ForgeError> {
    let mut documents = Documents::new();
    for name in COPIED {
        if let Some(bytes) = checkpoint.read(name, MAX_COPIED)? {
            documents.push((name.to_owned(), bytes.into_owned()));
        }
    }
    Ok(documents)
}

/// `config.json`: the checkpoint's fields, with the artifact's own quantization in place of whatever it had.
pub(super) fn config(mut fields: Map<String, Value>, plan: &Plan) -> Value {
    // A path on the machine of whoever saved it.
    fields.shift_remove("_name_or_path");
    for field in ["quantization", "quantization_config"] {
        fields.shift_remove(field);
        if let Some(Value::Object(text)) = fields.get_mut("text_config") {
            text.shift_remove(field);
            text.shift_remove("_name_or_path");
        }
    }
    // Activations take the type that is stated.
    if let Some(dense) = plan.policy.dense {
        let name = match dense {
            Dtype::F16 => "float16",
            Dtype::F32 => "float32",
            _ => "bfloat16",
        };
        restate(&mut fields, name);
        if let Some(Value::Object(text)) = fields.get_mut("text_config") {
            restate(text, name);
        }
    }
    if let Some(quantization) = plan.quantization() {
        fields.insert("quantization".to_owned(), quantization.clone());
        fields.insert("quantization_config".to_owned(), quantization);
    }
    if plan.outputs.iter().any(|output| output.rule.part == Part::Head) {
        fields.insert("mtplx_mtp_quantization".to_owned(), plan.head_quantization());
        fields.insert("mlx_lm_extra_tensors".to_owned(), json!({"mtp_file": super::plan::HEAD_FILE}));
    }
    Value::Object(fields)
}

/// Changes the type of the weights where it is stated.
fn restate(fields: &mut Map<String, Value>, name: &str) {
    for field in ["dtype", "torch_dtype"] {
        if let Some(stated) = fields.get_mut(field) {
            *stated = json!(name);
        }
    }
}

/// The contract of an artifact that nobody measured yet. `trunk` and `head` are where these came from: the conventions that
/// the head's own contract states stay with the head, and whether the model is to be chatted with stays with the trunk.
pub(super) fn contract(
    descriptor: &Descriptor,
    plan: &Plan,
    [trunk, head]: [Option<&Checkpoint>; 2],
    provenance: Value,
) -> (String, Vec<u8>) {
    let stated = head.and_then(|head| serde_json::to_value(MtpContract::stated(head)).ok());
    let mut head = Map::new();
    for field in ["base_hidden_variant", "hidden_variant", "concat_order", "mtp_position_mode"] {
        if let Some(value) = stated.as_ref().and_then(|stated| stated.get(field)) {
            head.insert(field.to_owned(), value.clone());
        }
    }
    if let Value::Object(stated) = plan.head_quantization() {
        let names = [
            ("bits", "mtp_quant_bits"),
            ("group_size", "mtp_quant_group_size"),
            ("mode", "mtp_quant_mode"),
            ("policy", "mtp_quant_policy"),
            ("prequantized", "mtp_prequantized"),
        ];
        for (field, name) in names {
            if let Some(value) = stated.get(field) {
                head.insert(name.to_owned(), value.clone());
            }
        }
    }
    let mut contract = json!({
        "mtplx_version": env!("CARGO_PKG_VERSION"),
        "contract_version": 1,
        "arch_id": descriptor.id,
        "mtp_depth_max": descriptor.max_depth,
        "recommended_profile": "stable",
        "recommended_generation_mode": "mtp",
        "mtp_contract": head,
        "exactness_baseline": {"status": "pending"},
        "verified_on": {},
        "forge_provenance": provenance,
    });
    let stated = trunk.and_then(|trunk| Contract::fields(trunk).ok()?);
    if let Some(mode) = stated.and_then(|stated| stated.get(PROMPT_MODE)?.as_str().map(str::to_owned))
        && matches!(&*mode, "raw" | "chat")
    {
        contract[PROMPT_MODE] = json!(mode);
    }
    (CONTRACT.to_owned(), pretty(&contract))
}

/// A JSON file's text.
pub(super) fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// What a checkpoint is, for provenance: its name without its place, and hashes of configuration and headers.
pub(super) fn identity(checkpoint: &Checkpoint) -> Value {
    let files = checkpoint.files().map(|(name, size)| {
        let bytes = checkpoint.file_bytes(name).unwrap_or_default();
        let length = bytes.first_chunk().map_or(0, |prefix| u64::from_le_bytes(*prefix) as usize);
        let header = bytes.get(..length.saturating_add(8)).unwrap_or_default();
        (name.to_owned(), json!({"bytes": size, "header_sha256": hex(&Sha256::digest(header))}))
    });
    let files: Map<String, Value> = files.collect();
    let fields: Map<String, Value> =
        checkpoint.config().fields().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let config = Value::Object(fields).to_string();
    json!({"name": name(checkpoint), "config_sha256": hex(&Sha256::digest(config)), "files": files})
}

/// A checkpoint's name: its folder's, or OWNER/NAME@REVISION in a Hugging Face cache.
pub(super) fn name(checkpoint: &Checkpoint) -> String {
    let part = |path: &std::path::Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some(dir) = checkpoint.dir() else { return checkpoint.label().to_owned() };
    let repository = || {
        let snapshots = dir.parent().filter(|parent| part(parent).is_some_and(|name| name == "snapshots"))?;
        let repository = part(snapshots.parent()?)?;
        let (owner, name) = repository.strip_prefix("models--")?.split_once("--")?;
        Some(format!("{owner}/{name}@{}", part(dir)?))
    };
    repository().or_else(|| part(dir)).unwrap_or_default()
}
