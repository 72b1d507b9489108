//! Events to chunks.

use serde_json::{Value, json};

use super::request::Parsed;
use crate::wire::chunk::Head;
use crate::wire::frame::Frame;
use crate::wire::internal::{End, Event, Failure, FinishReason, Prompt, TokenInfo};
use crate::wire::parts::{self, Origins};
use crate::wire::raw_input::RawInput;

/// Writer of one answer.
#[derive(Debug)]
pub struct Writer {
    head: Head,
    /// Likeliest tokens a place, where log-probabilities were asked for.
    logprobs: Option<usize>,
    origins: Origins,
    /// Names of tools that take one string rather than JSON.
    custom: Vec<String>,
    open: Option<OpenCall>,
    /// True behind a complete call.
    called: bool,
    /// True behind the last event.
    over: bool,
}

/// The call whose arguments come next.
#[derive(Debug)]
struct OpenCall {
    index: usize,
    /// Reader of the input, for a tool whose arguments are no JSON on the wire.
    raw: Option<RawInput>,
}

impl Writer {
    /// A writer for the answer to a request; `created` is in seconds since 1970.
    #[must_use]
    pub fn new(parsed: &Parsed, id: impl Into<String>, created: u64, model: impl Into<String>) -> Self {
        let request = &parsed.request;
        let custom = match &request.prompt {
            Prompt::Conversation(conversation) => {
                conversation.tools.iter().filter(|tool| tool.custom).map(|tool| tool.name.clone()).collect()
            }
            Prompt::Raw(_) => Vec::new(),
        };
        Self {
            head: Head {
                id: id.into(),
                object: "chat.completion.chunk",
                created,
                model: model.into(),
                // A whole answer always has its usage.
                include_usage: parsed.include_usage || !request.stream,
            },
            logprobs: request.options.logprobs,
            origins: Origins::new(request.options.mtp.origins),
            custom,
            open: None,
            called: false,
            over: false,
        }
    }

    /// Frames before the first event: the role, which can be sent while the prompt is read.
    #[must_use]
    pub fn start(&self) -> Vec<Frame> {
        vec![self.delta(json!({"role": "assistant", "content": ""}))]
    }

    /// A frame for times of silence.
    #[must_use]
    pub fn keep_alive(&self) -> Frame {
        Frame::Comment("keep-alive")
    }

    /// Frames of one event; none behind the last event.
    #[must_use]
    pub fn event(&mut self, event: &Event) -> Vec<Frame> {
        if self.over {
            return Vec::new();
        }
        match event {
            Event::Reasoning(piece) => {
                // Clients are split between the two names.
                let delta = json!({"reasoning_content": piece.text, "reasoning": piece.text});
                self.piece(&piece.text, delta, &piece.tokens)
            }
            Event::Text(piece) => self.piece(&piece.text, json!({"content": piece.text}), &piece.tokens),
            Event::Call { index, id, name } => vec![self.begin_call(*index, id, name)],
            Event::Arguments(piece) => self.arguments(&piece.text, &piece.tokens),
            Event::EndOfCall => {
                self.called = true;
                self.end_call()
            }
            Event::End(end) => self.end(end),
            Event::Failed(failure) => self.failed(failure),
        }
    }

    fn begin_call(&mut self, index: usize, id: &str, name: &str) -> Frame {
        let is_custom = self.custom.iter().any(|custom| custom == name);
        self.open = Some(OpenCall { index, raw: is_custom.then(RawInput::default) });
        let call = if is_custom {
            json!({"index": index, "id": id, "type": "custom", "custom": {"name": name, "input": ""}})
        } else {
            json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}})
        };
        self.delta(json!({ "tool_calls": [call] }))
    }

    fn arguments(&mut self, text: &str, tokens: &[TokenInfo]) -> Vec<Frame> {
        let Some(open) = &mut self.open else { return Vec::new() };
        let (text, call) = match &mut open.raw {
            Some(raw) => {
                let input = raw.push(text);
                let call = input_delta(open.index, &input);
                (input, call)
            }
            None => (text.to_owned(), json!({"index": open.index, "function": {"arguments": text}})),
        };
        self.piece(&text, json!({ "tool_calls": [call] }), tokens)
    }

    /// Ends the open call. Input that was not written as asked is known as a whole only.
    fn end_call(&mut self) -> Vec<Frame> {
        let Some(OpenCall { index, raw: Some(mut raw) }) = self.open.take() else { return Vec::new() };
        let rest = raw.finish();
        if rest.is_empty() {
            return Vec::new();
        }
        vec![self.delta(json!({ "tool_calls": [input_delta(index, &rest)] }))]
    }

    fn end(&mut self, end: &End) -> Vec<Frame> {
        // A limit inside of a custom call: its input so far.
        let mut frames = self.end_call();
        let reason = match end.reason {
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::Length => "length",
            FinishReason::Stop | FinishReason::StopString if self.called => "tool_calls",
            FinishReason::Stop | FinishReason::StopString => "stop",
        };
        let mut last = self.head.chunk(json!([choice(json!({}), None, Some(reason))]));
        last.insert("timings".to_owned(), parts::timings(&end.timings));
        frames.push(Frame::data(Value::Object(last)));
        frames.extend(self.head.end(&end.usage));
        self.over = true;
        frames
    }

    fn failed(&mut self, failure: &Failure) -> Vec<Frame> {
        self.over = true;
        vec![Frame::failed(Frame::data(failure.openai()), failure)]
    }

    /// A chunk for a piece, unless it would say nothing.
    ///
    /// A piece without text has one where something is told of its tokens, with an empty delta.
    fn piece(&mut self, text: &str, delta: Value, tokens: &[TokenInfo]) -> Vec<Frame> {
        self.origins.take(tokens);
        let logprobs = self.logprobs.map(|top| parts::logprobs(tokens, top)).filter(|entries| !entries.is_empty());
        if text.is_empty() && logprobs.is_none() && self.origins.is_empty() {
            return Vec::new();
        }
        let delta = if text.is_empty() { json!({}) } else { delta };
        let mut chunk = self.head.chunk(json!([choice(delta, logprobs, None)]));
        self.origins.write(&mut chunk);
        vec![Frame::data(Value::Object(chunk))]
    }

    /// A chunk without tokens.
    fn delta(&self, delta: Value) -> Frame {
        Frame::data(Value::Object(self.head.chunk(json!([choice(delta, None, None)]))))
    }
}

fn choice(delta: Value, logprobs: Option<Vec<Value>>, finish_reason: Option<&str>) -> Value {
    let logprobs = logprobs.map(|content| json!({"content": content, "refusal": null}));
    json!({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason})
}

/// A delta of a custom tool's input.
fn input_delta(index: usize, input: &str) -> Value {
    json!({"index": index, "custom": {"input": input}})
}
