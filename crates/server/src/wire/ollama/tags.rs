//! Lists of models, and the version.

use serde_json::{Value, json};

use crate::wire::parts::rfc3339;

/// A model as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The name that requests use.
    pub name: String,
    /// Seconds since 1970.
    pub modified: u64,
    /// Bytes of its files.
    pub size: u64,
    /// Its hash in hexadecimal digits.
    pub digest: String,
    /// Format of its files, such as `safetensors`.
    pub format: String,
    /// Its architecture.
    pub family: String,
    /// Number of its parameters for people, such as `27B`.
    pub parameter_size: String,
    /// Format of its weights, such as `4-bit`.
    pub quantization_level: String,
}

/// The answer of `/api/tags`.
#[must_use]
pub fn tags(tags: &[Tag]) -> Value {
    let models: Vec<Value> = tags
        .iter()
        .map(|tag| {
            json!({
                "name": tag.name,
                "model": tag.name,
                "modified_at": rfc3339(tag.modified),
                "size": tag.size,
                "digest": tag.digest,
                "details": {
                    "parent_model": "",
                    "format": tag.format,
                    "family": tag.family,
                    "families": [tag.family],
                    "parameter_size": tag.parameter_size,
                    "quantization_level": tag.quantization_level,
                },
            })
        })
        .collect();
    json!({ "models": models })
}

/// The answer of `/api/version`.
///
/// Clients compare it with versions of Ollama, so the server says which one it behaves like.
#[must_use]
pub fn version(version: &str) -> Value {
    json!({ "version": version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_the_served_model() {
        let tag = Tag {
            name: "org/model".to_owned(),
            modified: 951_782_400,
            size: 15_000_000_000,
            digest: "ab12".to_owned(),
            format: "safetensors".to_owned(),
            family: "qwen3_next".to_owned(),
            parameter_size: "27B".to_owned(),
            quantization_level: "4-bit".to_owned(),
        };
        assert_eq!(
            tags(&[tag]),
            json!({"models": [{
                "name": "org/model",
                "model": "org/model",
                "modified_at": "2000-02-29T00:00:00Z",
                "size": 15_000_000_000_u64,
                "digest": "ab12",
                "details": {
                    "parent_model": "",
                    "format": "safetensors",
                    "family": "qwen3_next",
                    "families": ["qwen3_next"],
                    "parameter_size": "27B",
                    "quantization_level": "4-bit",
                },
            }]})
        );
        assert_eq!(version("0.12.0"), json!({"version": "0.12.0"}));
    }
}
