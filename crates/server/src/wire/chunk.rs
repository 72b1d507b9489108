//! Chunks of OpenAI's older routes: the fields that chats and completions share.

use serde_json::{Map, Value, json};

use crate::wire::frame::Frame;
use crate::wire::internal::Usage;
use crate::wire::parts;

/// Begin of every chunk of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    /// The answer's id.
    pub id: String,
    /// The kind of a chunk.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model as the client named it.
    pub model: String,
    /// True where the last chunk holds the usage; the others have the field as well then.
    pub include_usage: bool,
}

impl Head {
    /// A chunk with these choices.
    pub fn chunk(&self, choices: Value) -> Map<String, Value> {
        let mut chunk = Map::new();
        for (field, value) in [
            ("id", self.id.as_str().into()),
            ("object", self.object.into()),
            ("created", self.created.into()),
            ("model", self.model.as_str().into()),
            ("choices", choices),
        ] {
            chunk.insert(field.to_owned(), value);
        }
        if self.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        chunk
    }

    /// Last frames of an answer: the usage where it is wanted, and the end of the stream.
    pub fn end(&self, counts: &Usage) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.include_usage {
            let mut chunk = self.chunk(json!([]));
            chunk.insert("usage".to_owned(), usage(counts));
            frames.push(Frame::data(Value::Object(chunk)));
        }
        frames.push(Frame::Done);
        frames
    }
}

fn usage(counts: &Usage) -> Value {
    let mut usage = json!({
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens.saturating_add(counts.completion_tokens),
        "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
    });
    parts::mark_budget(&mut usage, counts);
    usage
}

/// Fields of a whole answer that are the same in every chunk, and the usage of the last one.
#[derive(Debug, Default)]
pub(crate) struct FoldedHead {
    fields: Map<String, Value>,
    usage: Option<Value>,
}

impl FoldedHead {
    /// Takes the fields of a chunk.
    pub fn take(&mut self, chunk: &Value) {
        if self.fields.is_empty() {
            for field in ["id", "created", "model"] {
                self.fields.insert(field.to_owned(), chunk[field].clone());
            }
        }
        if !chunk["usage"].is_null() {
            self.usage = Some(chunk["usage"].clone());
        }
    }

    /// The whole answer with these choices; `object` is its kind.
    pub fn answer(mut self, object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let mut answer = Map::new();
        answer.insert("id".to_owned(), self.fields.remove("id").unwrap_or_default());
        answer.insert("object".to_owned(), object.into());
        answer.insert("created".to_owned(), self.fields.remove("created").unwrap_or_default());
        answer.insert("model".to_owned(), self.fields.remove("model").unwrap_or_default());
        answer.insert("choices".to_owned(), choices.into());
        if let Some(usage) = self.usage {
            answer.insert("usage".to_owned(), usage);
        }
        answer
    }
}
