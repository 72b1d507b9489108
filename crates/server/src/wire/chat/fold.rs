//! Chunks to a whole answer.

use serde_json::{Map, Value, json};

use crate::wire::chunk::FoldedHead;
use crate::wire::frame::Frame;
use crate::wire::internal::Failure;
use crate::wire::parts::{self, FoldedOrigins};

/// Fold of the frames of one answer.
#[derive(Debug, Default)]
pub struct Fold {
    head: FoldedHead,
    content: Option<String>,
    reasoning: Option<String>,
    /// Calls by their index.
    calls: Vec<Value>,
    logprobs: Option<Vec<Value>>,
    finish_reason: Option<Value>,
    timings: Option<Value>,
    origins: FoldedOrigins,
    failure: Option<Failure>,
}

impl Fold {
    /// A fold of no frames.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame.
    pub fn push(&mut self, frame: &Frame) {
        match frame {
            Frame::Failed { failure, .. } => self.failure = Some(failure.clone()),
            Frame::Data { data, .. } => self.chunk(data),
            Frame::Comment(_) | Frame::Done | Frame::Line(_) => {}
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// The failure that ended the answer, or an internal one if nothing did.
    pub fn finish(self) -> Result<Value, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let finish_reason = self.finish_reason.ok_or_else(parts::cut_short)?;
        // An answer of calls alone has no content, which is not the same as an empty one to some clients.
        let content = self.content.filter(|text| !text.is_empty() || self.calls.is_empty());
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), content.into());
        message.insert("refusal".to_owned(), Value::Null);
        if let Some(reasoning) = self.reasoning {
            message.insert("reasoning_content".to_owned(), reasoning.as_str().into());
            message.insert("reasoning".to_owned(), reasoning.into());
        }
        if !self.calls.is_empty() {
            message.insert("tool_calls".to_owned(), self.calls.into());
        }
        let logprobs = self.logprobs.map(|content| json!({"content": content, "refusal": null}));
        let choice = json!({"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason});
        let mut answer = self.head.answer("chat.completion", vec![choice]);
        if let Some(timings) = self.timings {
            answer.insert("timings".to_owned(), timings);
        }
        self.origins.write(&mut answer);
        Ok(Value::Object(answer))
    }

    fn chunk(&mut self, chunk: &Value) {
        self.head.take(chunk);
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        parts::append(&mut self.content, &delta["content"]);
        parts::append(&mut self.reasoning, &delta["reasoning_content"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call);
        }
        parts::extend(&mut self.logprobs, &choice["logprobs"]["content"]);
        self.origins.take(chunk);
        for (kept, found) in
            [(&mut self.finish_reason, &choice["finish_reason"]), (&mut self.timings, &chunk["timings"])]
        {
            if !found.is_null() {
                *kept = Some(found.clone());
            }
        }
    }

    /// A call's first delta begins it, and the others go on with its last string.
    fn call(&mut self, delta: &Value) {
        let index = delta["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| self.calls.get_mut(index)) {
            Some(call) => {
                for (kind, field) in [("function", "arguments"), ("custom", "input")] {
                    if let (Some(piece), Some(Value::String(text))) =
                        (delta[kind][field].as_str(), call.get_mut(kind).and_then(|inner| inner.get_mut(field)))
                    {
                        text.push_str(piece);
                    }
                }
            }
            None => {
                let mut call = delta.clone();
                if let Some(fields) = call.as_object_mut() {
                    // A whole answer's calls are numbered by their place.
                    fields.shift_remove("index");
                }
                self.calls.push(call);
            }
        }
    }
}
