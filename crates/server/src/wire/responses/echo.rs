//! Fields of a request that a response repeats, for clients whose types want them.

use serde_json::{Map, Value, json};

use crate::wire::field::Field;

/// The fields: as sent, else OpenAI's defaults. Sampling settings that were not sent are null: the model's own hold.
pub(super) fn fields(root: &Field<'_>) -> Map<String, Value> {
    let sent = |key: &str, default: Value| root.get(key).map_or(default, |field| field.value().clone());
    let mut fields = Map::new();
    for (key, default) in [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("max_tool_calls", Value::Null),
        ("parallel_tool_calls", json!(true)),
        ("prompt_cache_key", Value::Null),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("safety_identifier", Value::Null),
        ("temperature", Value::Null),
        ("text", json!({})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_logprobs", json!(0)),
        ("top_p", Value::Null),
        ("truncation", json!("disabled")),
        ("user", Value::Null),
        ("metadata", json!({})),
    ] {
        fields.insert(key.to_owned(), sent(key, default));
    }
    if let Some(text) = fields.get_mut("text").and_then(Value::as_object_mut) {
        text.entry("format").or_insert_with(|| json!({"type": "text"}));
    }
    for (key, value) in [
        ("background", json!(false)),
        ("previous_response_id", Value::Null),
        ("service_tier", json!("default")),
        ("store", json!(false)),
    ] {
        fields.insert(key.to_owned(), value);
    }
    fields
}
