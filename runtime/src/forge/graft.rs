//! The draft head of another checkpoint of the same model: whether it fits, and what the configuration then says.

use serde_json::{Map, Value};

use super::{ForgeError, Part, Rules};
use crate::architecture::MtpArchitecture;
use crate::artifact::{Checkpoint, Config};

/// What must be the same in both configurations: what shapes do not show, or do not show by name.
const SAME: [&str; 24] = [
    "hidden_size",
    "vocab_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "rms_norm_eps",
    "hidden_act",
    "attention_bias",
    "attn_output_gate",
    "use_qk_norm",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "rotary_dim",
    "q_lora_rank",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "routed_scaling_factor",
];

/// What a configuration says of its head, and a grafted one takes over.
const OF_THE_HEAD: [&str; 6] = [
    "mtp_num_hidden_layers",
    "mtp_use_dedicated_embeddings",
    "num_nextn_predict_layers",
    "use_mtp",
    "num_mtp_modules",
    "mtp_transformer_layers",
];

/// The trunk's configuration with the head of `other`.
///
/// # Errors
/// Another model, by `model_type` or by a field that the head's arithmetic depends on.
pub(super) fn config(trunk: &Checkpoint, other: &Checkpoint) -> Result<Map<String, Value>, ForgeError> {
    let differ = |field: &str, theirs: String, ours: String| ForgeError::Graft {
        other: other.path("config.json").into(),
        field: field.into(),
        theirs: theirs.into(),
        ours: ours.into(),
    };
    let (ours, theirs) = (trunk.config(), other.config());
    let fits = match other.is_head_alone() {
        true => family(ours.model_type()) == family(theirs.model_type()),
        false => ours.model_type() == theirs.model_type(),
    };
    if !fits {
        return Err(differ("model_type", theirs.model_type().to_owned(), ours.model_type().to_owned()));
    }
    let stated = |config: &Config, field: &str| config.text().get(field).filter(|value| !value.is_null()).cloned();
    for field in SAME {
        // What one of them leaves out is the family's default, or is seen in the shapes.
        if let (Some(ours), Some(theirs)) = (stated(ours, field), stated(theirs, field))
            && !agree(&ours, &theirs)
        {
            return Err(differ(field, theirs.to_string(), ours.to_string()));
        }
    }
    let mut fields: Map<String, Value> = ours.fields().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let text = match fields.get_mut("text_config") {
        Some(Value::Object(text)) => text,
        _ => &mut fields,
    };
    for field in OF_THE_HEAD {
        match stated(theirs, field) {
            Some(value) => text.insert(field.to_owned(), value),
            None => text.shift_remove(field),
        };
    }
    Ok(fields)
}

/// A head that is published by itself as a part of `trunk`'s model: with its configuration, but for what the head's own says of the head
/// and of the fields that must be the same. Any other checkpoint stays as it is.
///
/// # Errors
/// The configurations make none together.
pub fn head_for(trunk: &Checkpoint, head: Checkpoint) -> Result<Checkpoint, ForgeError> {
    if !head.is_head_alone() {
        return Ok(head);
    }
    let owned = |config: &Config| -> Map<String, Value> {
        config.fields().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    };
    let (mut fields, theirs) = (owned(trunk.config()), head.config());
    let of_trunk = |name: &str| matches!(name, "quantization" | "quantization_config") || is_of_this_program(name);
    fields.retain(|name, _| !of_trunk(name));
    fields.insert("model_type".to_owned(), theirs.model_type().into());
    let text = match fields.get_mut("text_config") {
        Some(Value::Object(text)) => text,
        _ => &mut fields,
    };
    text.retain(|name, _| !of_trunk(name) && !OF_THE_HEAD.contains(&name.as_str()));
    let theirs = theirs.text();
    for field in SAME.into_iter().chain(OF_THE_HEAD).filter(|field| theirs.has(field)) {
        // That there are no MTP layers is said of the trunk that the file was made from.
        let value = theirs.get(field).filter(|value| value.as_u64() != Some(0) || SAME.contains(&field));
        text.extend(value.map(|value| (field.to_owned(), value.clone())));
    }
    fields.extend(owned(head.config()).into_iter().filter(|(name, _)| is_of_this_program(name)));
    Ok(head.with_config(&fields)?)
}

/// True for MTPLX's own fields of a configuration.
pub(super) fn is_of_this_program(field: &str) -> bool {
    field.starts_with("mtplx_")
}

/// The family that `model_type` belongs to: a head that is published by itself has one of its own.
fn family(model_type: &str) -> &str {
    let ends = ["_mtp", "_text", "_moe", "_nextn", "_draft"];
    match ends.iter().find_map(|end| model_type.strip_suffix(end)) {
        Some(shorter) => family(shorter),
        None => model_type,
    }
}

/// Whether two values mean the same: numbers however they are written, of objects the fields that both have (writers
/// rename `rope_type` and leave out defaults).
fn agree(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.iter().all(|(field, value)| theirs.get(field).is_none_or(|other| agree(value, other)))
        }
        (Value::Number(ours), Value::Number(theirs)) => ours.as_f64() == theirs.as_f64(),
        _ => ours == theirs,
    }
}

/// The rules of the trunk with the head of `other`, whose tensors must be what the trunk's configuration asks of a head.
///
/// # Errors
/// A tensor of another shape; either checkpoint cannot be read.
pub(super) fn rules(
    architecture: &dyn MtpArchitecture,
    rules: Rules,
    config: &Map<String, Value>,
    other: &Checkpoint,
) -> Result<Rules, ForgeError> {
    let grafted = architecture.plan(other)?.conversion(other)?.grouped();
    let text = Value::Object(config.clone()).to_string();
    let imagined = Checkpoint::of_config("the trunk's configuration", text.as_bytes())?;
    // Where no field announces a head (Qwen3-Next), tensors do, and these are what there is to go by.
    let asked = architecture.plan(&imagined)?.conversion(&imagined)?.grouped();
    for rule in grafted.iter().filter(|rule| rule.part == Part::Head) {
        let ours = asked.iter().find(|asked| asked.output == rule.output).map(|asked| &asked.shape);
        if let Some(shape) = ours.filter(|shape| **shape != rule.shape) {
            return Err(ForgeError::Graft {
                other: other.label().into(),
                field: rule.output.clone().into(),
                theirs: format!("{:?}", rule.shape).into(),
                ours: format!("{shape:?}").into(),
            });
        }
    }
    Ok(rules.with_head_of(&grafted))
}
