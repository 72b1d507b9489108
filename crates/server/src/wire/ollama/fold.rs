//! Lines to a whole answer.

use serde_json::{Map, Value};

use crate::wire::frame::Frame;
use crate::wire::internal::Failure;
use crate::wire::parts::{self, FoldedOrigins};

/// Fold of the frames of one answer.
#[derive(Debug, Default)]
pub struct Fold {
    content: Option<String>,
    thinking: Option<String>,
    calls: Option<Vec<Value>>,
    logprobs: Option<Vec<Value>>,
    origins: FoldedOrigins,
    /// The line that says `done`, which has everything else.
    last: Option<Map<String, Value>>,
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
            Frame::Line(line) => self.line(line),
            Frame::Data { .. } | Frame::Comment(_) | Frame::Done => {}
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
        let mut answer = self.last.ok_or_else(parts::cut_short)?;
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), self.content.unwrap_or_default().into());
        if let Some(thinking) = self.thinking {
            message.insert("thinking".to_owned(), thinking.into());
        }
        if let Some(calls) = self.calls {
            message.insert("tool_calls".to_owned(), calls.into());
        }
        answer.insert("message".to_owned(), message.into());
        if let Some(logprobs) = self.logprobs {
            answer.insert("logprobs".to_owned(), logprobs.into());
        }
        self.origins.write(&mut answer);
        Ok(Value::Object(answer))
    }

    fn line(&mut self, line: &Value) {
        let message = &line["message"];
        parts::append(&mut self.content, &message["content"]);
        parts::append(&mut self.thinking, &message["thinking"]);
        parts::extend(&mut self.calls, &message["tool_calls"]);
        parts::extend(&mut self.logprobs, &line["logprobs"]);
        self.origins.take(line);
        if line["done"] == true {
            self.last = line.as_object().cloned();
        }
    }
}
