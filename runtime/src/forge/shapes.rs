//! Shapes of published models, as configurations: what `forge synth --like` makes random weights for.
//!
//! Trimmed to the fields that decide a shape; vision parts and what only matters in training are left out.

use serde_json::{Value, json};

/// Names and configurations.
const SHAPES: [(&str, &str); 11] = [
    ("qwen3.6-35b-a3b", include_str!("shapes/qwen3.6-35b-a3b.json")),
    ("qwen3.6-27b", include_str!("shapes/qwen3.6-27b.json")),
    ("qwen3.5-9b", include_str!("shapes/qwen3.5-9b.json")),
    ("qwen3.5-4b", include_str!("shapes/qwen3.5-4b.json")),
    ("qwen3.5-0.8b", include_str!("shapes/qwen3.5-0.8b.json")),
    ("qwen3-next-80b", include_str!("shapes/qwen3-next-80b.json")),
    ("deepseek-v3", include_str!("shapes/deepseek-v3.json")),
    ("glm-4.5-air", include_str!("shapes/glm-4.5-air.json")),
    ("glm-4.7-flash", include_str!("shapes/glm-4.7-flash.json")),
    ("mimo-7b", include_str!("shapes/mimo-7b.json")),
    ("minimax-m2", include_str!("shapes/minimax-m2.json")),
];

/// The names of all shapes.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().map(|&(name, _)| name)
}

/// A shape's `config.json`.
pub fn config(name: &str) -> Option<&'static str> {
    SHAPES.iter().find(|(known, _)| *known == name).map(|&(_, config)| config)
}

/// A configuration with only the first `layers` of the trunk's layers.
///
/// # Errors
/// `layers` is 0 or more than there are; the error is their number.
pub fn with_layers(config: &mut Value, layers: usize) -> Result<(), u64> {
    let nested = config.get("text_config").is_some_and(Value::is_object);
    let text = if nested { &mut config["text_config"] } else { config };
    let all = text["num_hidden_layers"].as_u64().unwrap_or(0);
    if layers == 0 || layers as u64 > all {
        return Err(all);
    }
    text["num_hidden_layers"] = json!(layers);
    for field in ["layer_types", "attn_type_list"] {
        if let Some(Value::Array(list)) = text.get_mut(field) {
            list.truncate(layers);
        }
    }
    Ok(())
}
