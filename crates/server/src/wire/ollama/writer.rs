//! Events to lines.

use serde_json::{Map, Value, json};

use super::request::Parsed;
use crate::wire::frame::Frame;
use crate::wire::internal::{End, Event, Failure, FinishReason, Timings, TokenInfo};
use crate::wire::parts::{self, Origins, rfc3339};

/// Writer of one answer.
#[derive(Debug)]
pub struct Writer {
    created_at: String,
    model: String,
    /// Likeliest tokens a place, where log-probabilities were asked for.
    logprobs: Option<usize>,
    origins: Origins,
    open: Option<OpenCall>,
    /// True behind the last event.
    over: bool,
}

/// The call whose arguments come next: a line holds a whole one.
#[derive(Debug)]
struct OpenCall {
    index: usize,
    id: String,
    name: String,
    arguments: String,
}

impl Writer {
    /// A writer for the answer to a request; `created` is in seconds since 1970, and stands in every line.
    ///
    /// The dialect has no id.
    #[must_use]
    pub fn new(parsed: &Parsed, created: u64, model: impl Into<String>) -> Self {
        let options = &parsed.request.options;
        Self {
            created_at: rfc3339(created),
            model: model.into(),
            logprobs: options.logprobs,
            origins: Origins::new(options.mtp.origins),
            open: None,
            over: false,
        }
    }

    /// Frames before the first event.
    #[must_use]
    pub fn start(&self) -> Vec<Frame> {
        Vec::new()
    }

    /// A frame for times of silence: a line without text, since lines have no comments.
    #[must_use]
    pub fn keep_alive(&self) -> Frame {
        Frame::Line(Value::Object(self.line(json!({"content": ""}))))
    }

    /// Frames of one event; none behind the last event.
    #[must_use]
    pub fn event(&mut self, event: &Event) -> Vec<Frame> {
        if self.over {
            return Vec::new();
        }
        match event {
            Event::Reasoning(piece) => {
                let message = json!({"content": "", "thinking": piece.text});
                self.piece(&piece.text, message, &piece.tokens)
            }
            Event::Text(piece) => self.piece(&piece.text, json!({"content": piece.text}), &piece.tokens),
            Event::Call { index, id, name } => {
                self.open =
                    Some(OpenCall { index: *index, id: id.clone(), name: name.clone(), arguments: String::new() });
                Vec::new()
            }
            Event::Arguments(piece) => {
                if let Some(open) = &mut self.open {
                    open.arguments.push_str(&piece.text);
                }
                self.piece("", json!({}), &piece.tokens)
            }
            Event::EndOfCall => self.end_call(),
            Event::End(end) => self.end(end),
            Event::Failed(failure) => self.failed(failure),
        }
    }

    fn end_call(&mut self) -> Vec<Frame> {
        let Some(OpenCall { index, id, name, arguments }) = self.open.take() else { return Vec::new() };
        // A model may write what is no object. Clients accept nothing else here; the tool says what it misses.
        let arguments = serde_json::from_str::<Map<String, Value>>(&arguments).unwrap_or_default();
        let call = json!({"id": id, "function": {"index": index, "name": name, "arguments": arguments}});
        vec![Frame::Line(Value::Object(self.line(json!({"content": "", "tool_calls": [call]}))))]
    }

    /// The last line. A call that the limit cut is left out: with part of its arguments it would be another call.
    fn end(&mut self, end: &End) -> Vec<Frame> {
        self.over = true;
        let reason = match end.reason {
            FinishReason::Length => "length",
            FinishReason::Stop | FinishReason::StopString | FinishReason::ToolCalls => "stop",
        };
        let (prompt, generation) = durations(&end.timings);
        let mut line = self.line(json!({"content": ""}));
        for (field, value) in [
            ("done", Value::from(true)),
            ("done_reason", reason.into()),
            ("total_duration", prompt.saturating_add(generation).into()),
            ("load_duration", 0.into()),
            ("prompt_eval_count", end.usage.prompt_tokens.into()),
            ("prompt_eval_duration", prompt.into()),
            ("eval_count", end.usage.completion_tokens.into()),
            ("eval_duration", generation.into()),
            ("timings", parts::timings(&end.timings)),
        ] {
            line.insert(field.to_owned(), value);
        }
        if end.usage.thinking_budget_reached {
            line.insert("thinking_budget_reached".to_owned(), true.into());
        }
        vec![Frame::Line(Value::Object(line))]
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Frame> {
        self.over = true;
        vec![Frame::failed(Frame::Line(failure.ollama()), failure)]
    }

    /// A line for a piece, unless it would say nothing.
    fn piece(&mut self, text: &str, message: Value, tokens: &[TokenInfo]) -> Vec<Frame> {
        self.origins.take(tokens);
        let logprobs = self.logprobs.map(|top| parts::logprobs(tokens, top)).filter(|entries| !entries.is_empty());
        if text.is_empty() && logprobs.is_none() && self.origins.is_empty() {
            return Vec::new();
        }
        let message = if text.is_empty() { json!({"content": ""}) } else { message };
        let mut line = self.line(message);
        if let Some(logprobs) = logprobs {
            line.insert("logprobs".to_owned(), logprobs.into());
        }
        self.origins.write(&mut line);
        vec![Frame::Line(Value::Object(line))]
    }

    fn line(&self, message: Value) -> Map<String, Value> {
        let mut full = Map::new();
        full.insert("role".to_owned(), "assistant".into());
        if let Value::Object(fields) = message {
            full.extend(fields);
        }
        let mut line = Map::new();
        line.insert("model".to_owned(), self.model.as_str().into());
        line.insert("created_at".to_owned(), self.created_at.as_str().into());
        line.insert("message".to_owned(), full.into());
        line.insert("done".to_owned(), false.into());
        line
    }
}

/// Nanoseconds to the first token, and from there to the last.
fn durations(timings: &Timings) -> (u64, u64) {
    // A cast saturates, and makes 0 of NaN.
    let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
    let further = timings.completion_tokens.saturating_sub(1);
    let generation = if timings.tokens_per_second > 0.0 { further as f64 / timings.tokens_per_second } else { 0.0 };
    (nanoseconds(timings.ttft_ms / 1e3), nanoseconds(generation))
}
