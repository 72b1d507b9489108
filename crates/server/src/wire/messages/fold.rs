//! Whole answers: the fold of their own stream.

use serde_json::{Map, Value};

use super::partial;
use crate::wire::frame::Frame;
use crate::wire::internal::Failure;
use crate::wire::parts::{self, FoldedOrigins};

/// Fold of the frames of one answer, as the official clients fold them.
#[derive(Debug, Default)]
pub struct Fold {
    message: Option<Map<String, Value>>,
    content: Vec<Value>,
    /// JSON text of the open call's arguments.
    input: String,
    origins: FoldedOrigins,
    stopped: bool,
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
        if let Frame::Failed { failure, .. } = frame {
            self.failure = Some(failure.clone());
        }
        let Some(data) = frame.value() else { return };
        self.origins.take(data);
        match data["type"].as_str() {
            Some("message_start") => self.message = data["message"].as_object().cloned(),
            Some("content_block_start") => {
                self.input.clear();
                self.content.push(data["content_block"].clone());
            }
            Some("content_block_delta") => self.delta(&data["delta"]),
            Some("content_block_stop") => self.end_of_block(),
            Some("message_delta") => self.message_delta(data),
            Some("message_stop") => self.stopped = true,
            _ => {}
        }
    }

    /// The whole message.
    ///
    /// # Errors
    /// The failure that ended the stream, or a stream that has no end.
    pub fn finish(self) -> Result<Value, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut message = self.message.filter(|_| self.stopped).ok_or_else(parts::cut_short)?;
        message.insert("content".to_owned(), Value::Array(self.content));
        self.origins.write(&mut message);
        Ok(Value::Object(message))
    }

    fn delta(&mut self, delta: &Value) {
        let Some(block) = self.content.last_mut() else { return };
        for (kind, key) in [("text_delta", "text"), ("thinking_delta", "thinking"), ("signature_delta", "signature")] {
            if delta["type"] == kind
                && let (Some(Value::String(text)), Some(piece)) = (block.get_mut(key), delta[key].as_str())
            {
                text.push_str(piece);
            }
        }
        if delta["type"] == "input_json_delta" {
            self.input.push_str(delta["partial_json"].as_str().unwrap_or_default());
        }
    }

    fn end_of_block(&mut self) {
        if let Some(block) = self.content.last_mut()
            && block["type"] == "tool_use"
        {
            block["input"] = Value::Object(partial::object(&self.input));
        }
    }

    /// Counts of a `message_delta` replace those of the start; the rest of it joins the message.
    fn message_delta(&mut self, data: &Value) {
        let Some(message) = &mut self.message else { return };
        for (key, value) in data["delta"].as_object().into_iter().flatten() {
            message.insert(key.clone(), value.clone());
        }
        if let Some(usage) = message.get_mut("usage").and_then(Value::as_object_mut) {
            for (key, value) in data["usage"].as_object().into_iter().flatten() {
                usage.insert(key.clone(), value.clone());
            }
        }
        if let Some(timings) = data.get("timings") {
            message.insert("timings".to_owned(), timings.clone());
        }
    }
}
