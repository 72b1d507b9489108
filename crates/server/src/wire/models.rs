//! `/v1/models`, one list for three readers: OpenAI's clients, Anthropic's, and Codex.

use serde_json::{Value, json};

use crate::wire::parts::rfc3339;

/// A model as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// The name that requests use.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Tokens of the context.
    pub context: u64,
    /// Its owner.
    pub owned_by: String,
    /// The name that people read.
    pub display_name: String,
}

/// The list of models.
#[must_use]
pub fn list(cards: &[ModelCard]) -> Value {
    json!({
        "object": "list",
        "data": cards.iter().map(model).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": cards.first().map(|card| card.id.as_str()),
        "last_id": cards.last().map(|card| card.id.as_str()),
        // Codex reads this list only, and gives up without one. An entry would have to bring a system prompt of its
        // own (`base_instructions`), so there is none: Codex goes on with what it knows by itself.
        "models": [],
    })
}

/// One model, as in the list.
#[must_use]
pub fn model(card: &ModelCard) -> Value {
    json!({
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.owned_by,
        "type": "model",
        "display_name": card.display_name,
        "created_at": rfc3339(card.created),
        "lifecycle": "active",
        "max_input_tokens": card.context,
        "max_model_len": card.context,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_serves_three_readers() {
        let card = ModelCard {
            id: "org/model".to_owned(),
            created: 951_782_400,
            context: 262_144,
            owned_by: "org".to_owned(),
            display_name: "Model".to_owned(),
        };
        let expected = json!({
            "id": "org/model",
            "object": "model",
            "created": 951_782_400,
            "owned_by": "org",
            "type": "model",
            "display_name": "Model",
            "created_at": "2000-02-29T00:00:00Z",
            "lifecycle": "active",
            "max_input_tokens": 262_144,
            "max_model_len": 262_144,
        });
        assert_eq!(model(&card), expected);
        assert_eq!(
            list(&[card]),
            json!({
                "object": "list",
                "data": [expected],
                "has_more": false,
                "first_id": "org/model",
                "last_id": "org/model",
                "models": [],
            })
        );
        assert_eq!(list(&[])["first_id"], Value::Null);
    }
}
