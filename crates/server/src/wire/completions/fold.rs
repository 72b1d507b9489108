//! Chunks to a whole answer.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::wire::chunk::FoldedHead;
use crate::wire::frame::Frame;
use crate::wire::internal::Failure;
use crate::wire::parts::{self, FoldedOrigins};

/// Lists of the older shape of log-probabilities.
const LOGPROBS: [&str; 4] = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];

/// Fold of the frames of one answer.
#[derive(Debug, Default)]
pub struct Fold {
    head: FoldedHead,
    choices: BTreeMap<u64, Choice>,
    is_done: bool,
    failure: Option<Failure>,
}

/// The text of one prompt.
#[derive(Debug, Default)]
struct Choice {
    text: Option<String>,
    logprobs: Option<[Option<Vec<Value>>; 4]>,
    finish_reason: Value,
    timings: Value,
    origins: FoldedOrigins,
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
            Frame::Done => self.is_done = true,
            Frame::Comment(_) | Frame::Line(_) => {}
        }
    }

    /// The whole answer.
    ///
    /// `timings` and `mtp` stand in the answer where it has one text, else in the choice that they are about.
    ///
    /// # Errors
    /// The failure that ended the answer, or an internal one if nothing did.
    pub fn finish(self) -> Result<Value, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if !self.is_done {
            return Err(parts::cut_short());
        }
        let is_single = self.choices.len() == 1;
        let mut ours = Map::new();
        let mut choices = Vec::new();
        for (index, choice) in self.choices {
            let logprobs = choice.logprobs.map(|lists| {
                let lists = LOGPROBS.into_iter().zip(lists);
                lists.map(|(name, list)| (name.to_owned(), list.into())).collect::<Map<_, Value>>()
            });
            let mut fields = Map::new();
            fields.insert("index".to_owned(), index.into());
            fields.insert("text".to_owned(), choice.text.unwrap_or_default().into());
            fields.insert("logprobs".to_owned(), logprobs.into());
            fields.insert("finish_reason".to_owned(), choice.finish_reason);
            let own = if is_single { &mut ours } else { &mut fields };
            own.insert("timings".to_owned(), choice.timings);
            choice.origins.write(own);
            choices.push(Value::Object(fields));
        }
        let mut answer = self.head.answer("text_completion", choices);
        answer.extend(ours);
        Ok(Value::Object(answer))
    }

    fn chunk(&mut self, chunk: &Value) {
        self.head.take(chunk);
        let found = &chunk["choices"][0];
        let Some(index) = found["index"].as_u64() else { return };
        let choice = self.choices.entry(index).or_default();
        parts::append(&mut choice.text, &found["text"]);
        if found["logprobs"].is_object() {
            let lists = choice.logprobs.get_or_insert_default();
            for (name, list) in LOGPROBS.into_iter().zip(lists) {
                parts::extend(list, &found["logprobs"][name]);
            }
        }
        choice.origins.take(chunk);
        for (kept, found) in
            [(&mut choice.finish_reason, &found["finish_reason"]), (&mut choice.timings, &chunk["timings"])]
        {
            if !found.is_null() {
                *kept = found.clone();
            }
        }
    }
}
