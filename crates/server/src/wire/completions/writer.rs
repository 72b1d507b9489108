//! Events to chunks.

use serde_json::{Map, Value, json};

use super::request::Parsed;
use crate::wire::chunk::Head;
use crate::wire::frame::Frame;
use crate::wire::internal::{End, Event, Failure, FinishReason, Piece, TokenInfo, Usage};
use crate::wire::parts::{self, Origins};

/// Writer of one answer, which holds a text for each prompt.
#[derive(Debug)]
pub struct Writer {
    head: Head,
    /// Likeliest tokens a place, where log-probabilities were asked for.
    logprobs: Option<usize>,
    origins: Origins,
    texts: Vec<Text>,
    usage: Usage,
    /// True behind the last event.
    over: bool,
}

/// The text of one prompt so far.
#[derive(Debug, Clone, Default)]
struct Text {
    /// Characters that its tokens began.
    offset: usize,
    is_over: bool,
}

impl Writer {
    /// A writer for the answer to a request; `created` is in seconds since 1970.
    #[must_use]
    pub fn new(parsed: &Parsed, id: impl Into<String>, created: u64, model: impl Into<String>) -> Self {
        let request = &parsed.request;
        Self {
            head: Head {
                id: id.into(),
                object: "text_completion",
                created,
                model: model.into(),
                // A whole answer always has its usage.
                include_usage: parsed.include_usage || !request.stream,
            },
            logprobs: request.options.logprobs,
            origins: Origins::new(request.options.mtp.origins),
            texts: vec![Text::default(); parsed.prompts],
            usage: Usage::default(),
            over: false,
        }
    }

    /// Frames before the first event: none, since a chunk of this dialect has nothing to say without text.
    #[must_use]
    pub fn start(&self) -> Vec<Frame> {
        Vec::new()
    }

    /// A frame for times of silence.
    #[must_use]
    pub fn keep_alive(&self) -> Frame {
        Frame::Comment("keep-alive")
    }

    /// Frames of one event of the prompt with this index; none behind the last event of that prompt.
    #[must_use]
    pub fn event(&mut self, index: usize, event: &Event) -> Vec<Frame> {
        if self.over || self.texts.get(index).is_none_or(|text| text.is_over) {
            return Vec::new();
        }
        match event {
            // Raw prompts have no reasoning and no calls: everything is text, in the order it came.
            Event::Text(piece) | Event::Reasoning(piece) | Event::Arguments(piece) => self.piece(index, piece),
            Event::Call { .. } | Event::EndOfCall => Vec::new(),
            Event::End(end) => self.end(index, end),
            Event::Failed(failure) => self.failed(failure),
        }
    }

    fn piece(&mut self, index: usize, piece: &Piece) -> Vec<Frame> {
        let logprobs = self.logprobs(index, &piece.tokens);
        self.origins.take(&piece.tokens);
        if piece.text.is_empty() && logprobs.is_none() && self.origins.is_empty() {
            return Vec::new();
        }
        let mut chunk = self.head.chunk(json!([choice(index, &piece.text, logprobs, None)]));
        self.origins.write(&mut chunk);
        vec![Frame::data(Value::Object(chunk))]
    }

    fn end(&mut self, index: usize, end: &End) -> Vec<Frame> {
        let reason = match end.reason {
            FinishReason::Length => "length",
            FinishReason::Stop | FinishReason::StopString | FinishReason::ToolCalls => "stop",
        };
        let mut last = self.head.chunk(json!([choice(index, "", None, Some(reason))]));
        last.insert("timings".to_owned(), parts::timings(&end.timings));
        let mut frames = vec![Frame::data(Value::Object(last))];
        self.count(&end.usage);
        if let Some(text) = self.texts.get_mut(index) {
            text.is_over = true;
        }
        if self.texts.iter().all(|text| text.is_over) {
            self.over = true;
            frames.extend(self.head.end(&self.usage));
        }
        frames
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Frame> {
        self.over = true;
        vec![Frame::failed(Frame::data(failure.openai()), failure)]
    }

    fn count(&mut self, usage: &Usage) {
        self.usage.prompt_tokens += usage.prompt_tokens;
        self.usage.cached_tokens += usage.cached_tokens;
        self.usage.completion_tokens += usage.completion_tokens;
        self.usage.reasoning_tokens += usage.reasoning_tokens;
        self.usage.thinking_budget_reached |= usage.thinking_budget_reached;
    }

    /// Log-probabilities in the older shape: lists side by side.
    ///
    /// Offsets count characters from the start of the answer. A token that goes on with a character which the one
    /// before it began stands behind that character.
    fn logprobs(&mut self, index: usize, tokens: &[TokenInfo]) -> Option<Value> {
        let top = self.logprobs?;
        let text = self.texts.get_mut(index)?;
        let (mut texts, mut own, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for token in tokens {
            let offset = text.offset;
            // Every byte of UTF-8 but the continuations begins a character.
            text.offset += token.bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
            let Some(logprobs) = &token.logprobs else { continue };
            let mut map = Map::new();
            for entry in logprobs.top.iter().take(top) {
                // Two tokens may have one text; the likelier one came first.
                map.entry(entry.text.as_str()).or_insert_with(|| parts::finite(entry.logprob).into());
            }
            // The token itself is always there, so that a map has up to one entry more than asked for.
            map.insert(token.text.clone(), parts::finite(logprobs.logprob).into());
            texts.push(token.text.as_str());
            own.push(parts::finite(logprobs.logprob));
            tops.push(Value::Object(map));
            offsets.push(offset);
        }
        (!texts.is_empty())
            .then(|| json!({"tokens": texts, "token_logprobs": own, "top_logprobs": tops, "text_offset": offsets}))
    }
}

fn choice(index: usize, text: &str, logprobs: Option<Value>, finish_reason: Option<&str>) -> Value {
    json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason})
}
