//! The small files of an artifact: `config.json`, the index, the contract, and what is copied as it is.

use std::collections::HashSet;

use safetensors::Dtype;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::graft::is_of_this_program;
use super::work::hex;
use super::{ForgeError, Part, Plan};
use crate::architecture::Descriptor;
use crate::artifact::{CONTRACT, Checkpoint, Contract};

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

/// `config.json`: the checkpoint's fields, with the artifact's own quantization in place of whatever it had, and what `head`, where
/// the draft head comes from, says of it.
pub(super) fn config(mut fields: Map<String, Value>, plan: &Plan, head: Option<&Checkpoint>) -> Value {
    // A path on the machine of whoever saved it.
    fields.shift_remove("_name_or_path");
    let mut notes = Map::new();
    for field in ["quantization", "quantization_config"] {
        let mut removed = vec![fields.shift_remove(field)];
        if let Some(Value::Object(text)) = fields.get_mut("text_config") {
            removed.push(text.shift_remove(field));
            text.shift_remove("_name_or_path");
        }
        if plan.policy.keeps_packed {
            notes.extend(removed.into_iter().flatten().flat_map(notes_of));
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
    if let Some(mut quantization) = plan.quantization() {
        if let Value::Object(quantization) = &mut quantization {
            let modules: HashSet<&str> = plan.modules().collect();
            notes.retain(|name, _| !quantization.contains_key(name) && !modules.contains(name.as_str()));
            quantization.extend(notes);
        }
        fields.insert("quantization".to_owned(), quantization.clone());
        fields.insert("quantization_config".to_owned(), quantization);
    }
    let of_head = head.into_iter().flat_map(|head| head.config().fields());
    for (name, value) in of_head.filter(|(name, _)| is_of_this_program(name)) {
        if !fields.contains_key(name) {
            fields.insert(name.to_owned(), value.clone());
        }
    }
    if plan.outputs.iter().any(|output| output.rule.part == Part::Head) {
        let stated = head.and_then(|head| head.config().get(HEAD_QUANTIZATION)?.as_object());
        let mut written = plan.head_quantization();
        for (name, value) in stated.into_iter().flatten() {
            // What was packed before is still packed by that policy.
            if !written.contains_key(name) || name == "policy" && plan.keeps_head() {
                written.insert(name.clone(), value.clone());
            }
        }
        fields.insert(HEAD_QUANTIZATION.to_owned(), Value::Object(written));
        fields.insert("mlx_lm_extra_tensors".to_owned(), json!({"mtp_file": super::plan::HEAD_FILE}));
    }
    Value::Object(fields)
}

/// The draft head's section of `config.json`.
const HEAD_QUANTIZATION: &str = "mtplx_mtp_quantization";

/// Fields of a quantization section that are not schemes: notes on policy, calibration and the like.
fn notes_of(section: Value) -> Map<String, Value> {
    let is_scheme = |name: &str, value: &Value| {
        let sizes = ["bits", "group_size", "mode"];
        sizes.contains(&name)
            || value.is_boolean()
            || value.as_object().is_some_and(|entry| sizes.iter().any(|size| entry.contains_key(*size)))
    };
    let Value::Object(fields) = section else { return Map::new() };
    fields.into_iter().filter(|(name, value)| !is_scheme(name, value)).collect()
}

/// Changes the type of the weights where it is stated.
fn restate(fields: &mut Map<String, Value>, name: &str) {
    for field in ["dtype", "torch_dtype"] {
        if let Some(stated) = fields.get_mut(field) {
            *stated = json!(name);
        }
    }
}

/// Recommendations that a new contract takes over.
const RECOMMENDED: [&str; 5] = [
    "recommended_profile",
    "recommended_generation_mode",
    "recommended_draft_sampler",
    "recommended_draft_lm_head",
    "mtp_depth_default",
];

/// A checkpoint's contract as it is spelled; nothing where it has none that can be read.
fn stated(checkpoint: Option<&Checkpoint>) -> Map<String, Value> {
    checkpoint.and_then(|checkpoint| Contract::fields(checkpoint).ok()?).unwrap_or_default()
}

/// Adds the contracts of what an artifact is made from, word for word, and what they say of their own making.
pub(super) fn keep_provenance(provenance: &mut Value, trunk: &Checkpoint, head: Option<&Checkpoint>) {
    for (place, checkpoint) in [("source", Some(trunk)), ("mtp_from", head)] {
        let contract = stated(checkpoint);
        if let Some(Value::Object(made)) = contract.get("forge_provenance")
            && let Value::Object(provenance) = &mut *provenance
        {
            for (name, value) in made {
                provenance.entry(name).or_insert_with(|| value.clone());
            }
        }
        if !contract.is_empty() {
            provenance[place]["contract"] = Value::Object(contract);
        }
    }
}

/// The contract of an artifact that nobody measured yet. `trunk` and `head` are where these came from: the conventions that
/// the head's own contract states stay with the head, and whether the model is to be chatted with stays with the trunk. What
/// either says beyond that is kept, evidence aside: that speaks of other files.
pub(super) fn contract(
    descriptor: &Descriptor,
    plan: &Plan,
    [trunk, head]: [Option<&Checkpoint>; 2],
    provenance: Value,
) -> (String, Vec<u8>) {
    let (of_trunk, of_head) = (stated(trunk), stated(head));
    let read = |fields: &Map<String, Value>| {
        let (contract, _) = Contract::parse(fields.clone());
        serde_json::to_value(contract).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default()
    };
    let (of_trunk, of_head) = (read(&of_trunk), read(&of_head));
    let mut conventions = match of_head.get("mtp_contract") {
        Some(Value::Object(conventions)) => conventions.clone(),
        _ => Map::new(),
    };
    let kept_policy = conventions.get("mtp_quant_policy").filter(|_| plan.keeps_head()).cloned();
    let names = [
        ("bits", "mtp_quant_bits"),
        ("group_size", "mtp_quant_group_size"),
        ("mode", "mtp_quant_mode"),
        ("policy", "mtp_quant_policy"),
        ("prequantized", "mtp_prequantized"),
    ];
    let mut written = plan.head_quantization();
    written.extend(kept_policy.map(|policy| ("policy".to_owned(), policy)));
    for (field, name) in names {
        match written.get(field) {
            Some(value) => conventions.insert(name.to_owned(), value.clone()),
            None => conventions.shift_remove(name),
        };
    }
    let max_depth = of_head
        .get("mtp_depth_max")
        .and_then(Value::as_u64)
        .map_or(descriptor.max_depth as u64, |stated| stated.min(descriptor.max_depth as u64));
    let mut contract = json!({
        "mtplx_version": env!("CARGO_PKG_VERSION"),
        "contract_version": 1,
        "arch_id": descriptor.id,
        "mtp_depth_max": max_depth,
        "recommended_profile": "stable",
        "recommended_generation_mode": "mtp",
        "mtp_contract": conventions,
        "exactness_baseline": {"status": "pending"},
        "verified_on": {},
        "forge_provenance": provenance,
    });
    for field in RECOMMENDED {
        if let Some(value) = of_head.get(field).or_else(|| of_trunk.get(field)) {
            contract[field] = value.clone();
        }
    }
    if contract["mtp_depth_default"].as_u64().is_some_and(|depth| depth > max_depth) {
        contract["mtp_depth_default"] = json!(max_depth);
    }
    let known = |name: &str| KNOWN.contains(&name) || name == PROMPT_MODE;
    for (name, value) in of_trunk.iter().chain(&of_head).filter(|(name, _)| !known(name)) {
        if contract.get(name).is_none() {
            contract[name] = value.clone();
        }
    }
    if let Some(mode @ ("raw" | "chat")) = of_trunk.get(PROMPT_MODE).and_then(Value::as_str) {
        contract[PROMPT_MODE] = json!(mode);
    }
    (CONTRACT.to_owned(), pretty(&contract))
}

/// Fields that speak of the source's own files or program.
const KNOWN: [&str; 4] = ["speed_evidence", "vision", "sha256", "min_engine_version"];

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
