//! Whole answers: the response of the last event.

use serde_json::Value;

use crate::wire::frame::Frame;
use crate::wire::internal::Failure;
use crate::wire::parts::{self, FoldedOrigins};

/// Fold of the frames of one answer.
#[derive(Debug, Default)]
pub struct Fold {
    last: Option<Value>,
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
        if let Frame::Failed { failure, .. } = frame {
            self.failure = Some(failure.clone());
        }
        let Some(data) = frame.value() else { return };
        self.origins.take(data);
        if matches!(data["type"].as_str(), Some("response.completed" | "response.incomplete")) {
            self.last = data.get("response").cloned();
        }
    }

    /// The whole response.
    ///
    /// # Errors
    /// The failure that ended the stream, or a stream that has no end.
    pub fn finish(self) -> Result<Value, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut response = self.last.ok_or_else(parts::cut_short)?;
        if let Some(fields) = response.as_object_mut() {
            self.origins.write(fields);
        }
        Ok(response)
    }
}
