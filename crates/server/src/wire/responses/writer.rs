//! Answers: events become the frames of a stream.

use serde_json::{Map, Value, json};

use super::item::{Callee, Item, Kind, Part};
use super::request::Parsed;
use crate::wire::frame::Frame;
use crate::wire::internal::{End, Event, Failure, FailureKind, FinishReason, Piece};
use crate::wire::parts::{self, Origins};
use crate::wire::raw_input::RawInput;
use crate::wire::tools::Name;

/// Writer of one answer.
#[derive(Debug)]
pub struct Writer {
    id: String,
    created: u64,
    model: String,
    echo: Map<String, Value>,
    names: Vec<Name>,
    /// True where reasoning is written as a summary.
    summary: bool,
    /// Likeliest tokens a place, where log-probabilities were asked for.
    top_logprobs: Option<usize>,
    origins: Origins,
    /// Log-probabilities of the answer's tokens that no frame has told of yet.
    logprobs: Vec<Value>,
    /// Number of the next event.
    sequence: u64,
    /// Items that are complete.
    output: Vec<Value>,
    open: Option<Item>,
    /// True behind the last event.
    over: bool,
}

impl Writer {
    /// A writer of the response `id` (`resp_…`), begun at `created` in seconds since 1970.
    #[must_use]
    pub fn new(parsed: &Parsed, id: impl Into<String>, created: u64, model: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            created,
            model: model.into(),
            echo: parsed.echo.clone(),
            names: parsed.names.clone(),
            summary: parsed.summary,
            top_logprobs: parsed.request.options.logprobs,
            origins: Origins::new(parsed.request.options.mtp.origins),
            logprobs: Vec::new(),
            sequence: 0,
            output: Vec::new(),
            open: None,
            over: false,
        }
    }

    /// Frames before the first event, to be sent at once.
    #[must_use]
    pub fn start(&mut self) -> Vec<Frame> {
        let response = self.response("in_progress");
        vec![self.frame("response.created", json!({ "response": response })), self.keep_alive()]
    }

    /// The frame for a silence. Codex's timer counts events and no comments (codex#31539).
    #[must_use]
    pub fn keep_alive(&mut self) -> Frame {
        let response = self.response("in_progress");
        self.frame("response.in_progress", json!({ "response": response }))
    }

    /// Frames of an event; none behind the last one.
    #[must_use]
    pub fn event(&mut self, event: &Event) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.over {
            return frames;
        }
        self.over = matches!(event, Event::End(_) | Event::Failed(_));
        match event {
            Event::Reasoning(piece) => {
                let part = if self.summary { Part::Summary } else { Part::Reasoning };
                self.text(part, piece, &mut frames);
            }
            Event::Text(piece) => self.text(Part::Message, piece, &mut frames),
            Event::Call { id, name, .. } => self.call(id, name, &mut frames),
            Event::Arguments(piece) => {
                self.origins.take(&piece.tokens);
                self.arguments(&piece.text, &mut frames);
            }
            Event::EndOfCall => self.close("completed", &mut frames),
            Event::End(end) => self.end(end, &mut frames),
            Event::Failed(failure) => frames.push(self.failed(failure)),
        }
        frames
    }

    /// Adds text to the open item, or to a new one where that is of another kind.
    fn text(&mut self, part: Part, piece: &Piece, frames: &mut Vec<Frame>) {
        if piece.text.is_empty() {
            self.take(part, piece);
            return;
        }
        if !self.open.as_ref().is_some_and(|item| matches!(item.kind, Kind::Part(open) if open == part)) {
            self.close("completed", frames);
            let unique = self.id.strip_prefix("resp_").unwrap_or(&self.id);
            let id = format!("{}_{unique}_{}", part.prefix(), self.output.len());
            self.begin(Item::new(id, Kind::Part(part)), frames);
        }
        // Behind the end of the last item, whose frames are not this piece's.
        self.take(part, piece);
        let Some(item) = &mut self.open else { return };
        item.text.push_str(&piece.text);
        let events = part.events();
        let mut data =
            json!({"item_id": item.id, "output_index": self.output.len(), events.index: 0, "delta": piece.text});
        if part == Part::Message {
            let new = std::mem::take(&mut self.logprobs);
            data["logprobs"] = json!(new);
            item.logprobs.extend(new);
        }
        frames.push(self.delta(events.delta, data));
    }

    /// Takes the tokens of a piece, for the next frame.
    fn take(&mut self, part: Part, piece: &Piece) {
        self.origins.take(&piece.tokens);
        if let (Some(top), Part::Message) = (self.top_logprobs, part) {
            self.logprobs.extend(parts::logprobs(&piece.tokens, top));
        }
    }

    fn call(&mut self, id: &str, flat: &str, frames: &mut Vec<Frame>) {
        self.close("completed", frames);
        let name = self.names.iter().find(|name| name.flat == flat);
        let callee = Callee::new(id, flat, name);
        let unique = id.strip_prefix("call_").unwrap_or(id);
        let item = if name.is_some_and(|name| name.custom) {
            Item::new(format!("ctc_{unique}"), Kind::Custom(callee, RawInput::default()))
        } else {
            Item::new(format!("fc_{unique}"), Kind::Function(callee))
        };
        self.begin(item, frames);
    }

    fn arguments(&mut self, piece: &str, frames: &mut Vec<Frame>) {
        let Some(item) = &mut self.open else { return };
        let delta = match &mut item.kind {
            // Arguments without a call have no place; an engine sends none.
            Kind::Part(_) => return,
            Kind::Custom(_, raw) => raw.push(piece),
            Kind::Function(_) => {
                item.text.push_str(piece);
                piece.to_owned()
            }
        };
        if !delta.is_empty() {
            let data = json!({"item_id": item.id, "output_index": self.output.len(), "delta": delta});
            let kind = item.call_events().delta;
            frames.push(self.delta(kind, data));
        }
    }

    fn begin(&mut self, item: Item, frames: &mut Vec<Frame>) {
        let index = self.output.len();
        let added = json!({"output_index": index, "item": item.value("in_progress")});
        frames.push(self.frame("response.output_item.added", added));
        if let Kind::Part(part) = item.kind {
            let events = part.events();
            let data = json!({"item_id": item.id, "output_index": index, events.index: 0, "part": item.part(part)});
            frames.push(self.frame(events.added, data));
        }
        self.open = Some(item);
    }

    /// Ends the open item, if there is one.
    fn close(&mut self, status: &str, frames: &mut Vec<Frame>) {
        let Some(mut item) = self.open.take() else { return };
        let index = self.output.len();
        if let Kind::Part(part) = item.kind {
            self.close_part(&mut item, part, frames);
        } else {
            self.close_call(&mut item, frames);
        }
        let value = item.value(status);
        frames.push(self.frame("response.output_item.done", json!({"output_index": index, "item": value})));
        self.output.push(value);
    }

    fn close_part(&mut self, item: &mut Item, part: Part, frames: &mut Vec<Frame>) {
        let (index, events) = (self.output.len(), part.events());
        let mut done = json!({"item_id": item.id, "output_index": index, events.index: 0, "text": item.text});
        if part == Part::Message {
            item.logprobs.append(&mut self.logprobs);
            done["logprobs"] = json!(item.logprobs);
        }
        frames.push(self.frame(events.text_done, done));
        let data = json!({"item_id": item.id, "output_index": index, events.index: 0, "part": item.part(part)});
        frames.push(self.frame(events.part_done, data));
    }

    fn close_call(&mut self, item: &mut Item, frames: &mut Vec<Frame>) {
        let (index, events) = (self.output.len(), item.call_events());
        if let Kind::Custom(_, raw) = &mut item.kind {
            let rest = raw.finish();
            if !rest.is_empty() {
                let data = json!({"item_id": item.id, "output_index": index, "delta": rest});
                frames.push(self.delta(events.delta, data));
            }
        }
        let mut done = json!({"item_id": item.id, "output_index": index, events.text: item.arguments()});
        if let Kind::Function(callee) = &item.kind {
            done["name"] = json!(callee.name);
        }
        frames.push(self.frame(events.done, done));
    }

    fn end(&mut self, end: &End, frames: &mut Vec<Frame>) {
        let (kind, status) = match end.reason {
            FinishReason::Length => ("response.incomplete", "incomplete"),
            FinishReason::Stop | FinishReason::StopString | FinishReason::ToolCalls => {
                ("response.completed", "completed")
            }
        };
        self.close(status, frames);
        let mut response = self.response(status);
        if end.reason == FinishReason::Length {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response["usage"] = usage(end);
        response["timings"] = parts::timings(&end.timings);
        frames.push(self.delta(kind, json!({ "response": response })));
    }

    fn failed(&mut self, failure: &Failure) -> Frame {
        let mut response = self.response("failed");
        response["error"] = json!({"code": code(failure), "message": failure.message});
        Frame::failed(self.delta("response.failed", json!({ "response": response })), failure)
    }

    /// The response as it is now, the open item included: OpenAI's client for JavaScript replaces its own state by a
    /// repeated `response.in_progress`, and fails at the next delta of an item that is not there.
    fn response(&self, status: &str) -> Value {
        let item_status = if status == "failed" { "incomplete" } else { status };
        let open = self.open.as_ref().map(|item| item.value(item_status));
        let output: Vec<&Value> = self.output.iter().chain(&open).collect();
        let mut response = Map::new();
        for (key, value) in [
            ("id", json!(self.id)),
            ("object", json!("response")),
            ("created_at", json!(self.created)),
            ("status", json!(status)),
            ("error", Value::Null),
            ("incomplete_details", Value::Null),
            ("model", json!(self.model)),
            ("output", json!(output)),
        ] {
            response.insert(key.to_owned(), value);
        }
        response.extend(self.echo.clone());
        response.insert("usage".to_owned(), Value::Null);
        Value::Object(response)
    }

    /// A numbered event.
    fn frame(&mut self, kind: &'static str, fields: Value) -> Frame {
        let mut data = Map::new();
        data.insert("type".to_owned(), json!(kind));
        data.insert("sequence_number".to_owned(), json!(self.sequence));
        if let Value::Object(fields) = fields {
            data.extend(fields);
        }
        self.sequence += 1;
        Frame::named(kind, Value::Object(data))
    }

    /// A numbered event with the origins of tokens.
    fn delta(&mut self, kind: &'static str, mut fields: Value) -> Frame {
        if let Some(fields) = fields.as_object_mut() {
            self.origins.write(fields);
        }
        self.frame(kind, fields)
    }
}

/// Counts of the whole answer.
fn usage(end: &End) -> Value {
    let counts = &end.usage;
    let mut usage = json!({
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.prompt_tokens.saturating_add(counts.completion_tokens),
    });
    parts::mark_budget(&mut usage, counts);
    usage
}

/// Codes of a failed response. Codex understands the first; the others are those of OpenAI's list.
fn code(failure: &Failure) -> &'static str {
    match failure.kind {
        FailureKind::ContextExceeded { .. } => "context_length_exceeded",
        FailureKind::Busy => "rate_limit_exceeded",
        FailureKind::Internal | FailureKind::Unavailable | FailureKind::Timeout => "server_error",
        _ => "invalid_prompt",
    }
}
