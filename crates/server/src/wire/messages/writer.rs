//! Answers: events become the frames of a stream.

use serde_json::{Map, Value, json};

use super::request::Parsed;
use crate::wire::frame::Frame;
use crate::wire::internal::{End, Event, Failure, FinishReason, Piece};
use crate::wire::parts::{self, Origins};

/// Signature of every `thinking` block. Without one Claude Code fails (llama.cpp#18551), and clients may take an empty
/// one for none.
const SIGNATURE: &str = "dW5zaWduZWQ=";

/// A block that is open; there is never more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    ToolUse,
}

/// Writer of one answer.
#[derive(Debug)]
pub struct Writer {
    id: String,
    request_id: String,
    model: String,
    prompt_tokens: u64,
    origins: Origins,
    open: Option<Block>,
    /// Blocks begun so far.
    blocks: usize,
    /// True behind the last event.
    over: bool,
}

impl Writer {
    /// A writer of the message `id` (`msg_…`), by the model as the client named it.
    ///
    /// `prompt_tokens` is the count of the whole prompt. How many of them come from a store is only known at the end.
    #[must_use]
    pub fn new(
        parsed: &Parsed,
        id: impl Into<String>,
        request_id: impl Into<String>,
        model: impl Into<String>,
        prompt_tokens: u64,
    ) -> Self {
        Self {
            id: id.into(),
            request_id: request_id.into(),
            model: model.into(),
            prompt_tokens,
            origins: Origins::new(parsed.request.options.mtp.origins),
            open: None,
            blocks: 0,
            over: false,
        }
    }

    /// Frames before the first event, to be sent at once.
    #[must_use]
    pub fn start(&self) -> Vec<Frame> {
        let message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": {
                "input_tokens": self.prompt_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 0,
            },
        });
        vec![Frame::named("message_start", json!({"type": "message_start", "message": message}))]
    }

    /// The frame for a silence. Claude Code counts events and no comments (litellm#36024).
    #[must_use]
    pub fn keep_alive(&self) -> Frame {
        Frame::named("ping", json!({"type": "ping"}))
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
            Event::Reasoning(piece) => self.piece(Block::Thinking, piece, &mut frames),
            Event::Text(piece) => self.piece(Block::Text, piece, &mut frames),
            Event::Call { id, name, .. } => {
                let block = json!({"type": "tool_use", "id": tool_use_id(id), "name": name, "input": {}});
                self.begin(Block::ToolUse, block, &mut frames);
            }
            Event::Arguments(piece) => self.piece(Block::ToolUse, piece, &mut frames),
            Event::EndOfCall => self.close(&mut frames),
            Event::End(end) => self.end(end, &mut frames),
            Event::Failed(failure) => frames.push(self.failed(failure)),
        }
        frames
    }

    fn piece(&mut self, block: Block, piece: &Piece, frames: &mut Vec<Frame>) {
        if piece.text.is_empty() {
            self.origins.take(&piece.tokens);
            return;
        }
        if self.open != Some(block) {
            match block {
                Block::Thinking => {
                    self.begin(block, json!({"type": "thinking", "thinking": "", "signature": ""}), frames)
                }
                Block::Text => self.begin(block, json!({"type": "text", "text": ""}), frames),
                // Arguments without a call have no place; an engine sends none.
                Block::ToolUse => return,
            }
        }
        // Behind the end of the last block, whose frames are not this piece's.
        self.origins.take(&piece.tokens);
        let delta = match block {
            Block::Thinking => json!({"type": "thinking_delta", "thinking": piece.text}),
            Block::Text => json!({"type": "text_delta", "text": piece.text}),
            Block::ToolUse => json!({"type": "input_json_delta", "partial_json": piece.text}),
        };
        frames.push(self.delta(delta));
    }

    fn begin(&mut self, block: Block, content: Value, frames: &mut Vec<Frame>) {
        self.close(frames);
        self.open = Some(block);
        self.blocks += 1;
        let data = json!({"type": "content_block_start", "index": self.index(), "content_block": content});
        frames.push(Frame::named("content_block_start", data));
    }

    fn delta(&mut self, delta: Value) -> Frame {
        let mut data = Map::new();
        data.insert("type".to_owned(), json!("content_block_delta"));
        data.insert("index".to_owned(), json!(self.index()));
        data.insert("delta".to_owned(), delta);
        self.origins.write(&mut data);
        Frame::named("content_block_delta", Value::Object(data))
    }

    fn close(&mut self, frames: &mut Vec<Frame>) {
        if self.open == Some(Block::Thinking) {
            frames.push(self.delta(json!({"type": "signature_delta", "signature": SIGNATURE})));
        }
        if self.open.take().is_some() {
            let data = json!({"type": "content_block_stop", "index": self.index()});
            frames.push(Frame::named("content_block_stop", data));
        }
    }

    /// Index of the newest block.
    fn index(&self) -> usize {
        self.blocks.saturating_sub(1)
    }

    fn end(&mut self, end: &End, frames: &mut Vec<Frame>) {
        if self.blocks == 0 {
            self.begin(Block::Text, json!({"type": "text", "text": ""}), frames);
        }
        self.close(frames);
        let reason = match end.reason {
            FinishReason::Stop => "end_turn",
            FinishReason::StopString => "stop_sequence",
            FinishReason::Length => "max_tokens",
            FinishReason::ToolCalls => "tool_use",
        };
        let mut data = Map::new();
        data.insert("type".to_owned(), json!("message_delta"));
        data.insert("delta".to_owned(), json!({"stop_reason": reason, "stop_sequence": end.stop_string}));
        data.insert("usage".to_owned(), usage(end));
        data.insert("timings".to_owned(), parts::timings(&end.timings));
        self.origins.write(&mut data);
        frames.push(Frame::named("message_delta", Value::Object(data)));
        frames.push(Frame::named("message_stop", json!({"type": "message_stop"})));
    }

    fn failed(&self, failure: &Failure) -> Frame {
        Frame::failed(Frame::named("error", failure.anthropic(&self.request_id)), failure)
    }
}

/// Counts of the whole answer. `input_tokens` are those that were computed; `cache_read_input_tokens` come on top.
fn usage(end: &End) -> Value {
    let counts = &end.usage;
    let mut usage = json!({
        "input_tokens": counts.prompt_tokens.saturating_sub(counts.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached_tokens,
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"thinking_tokens": counts.reasoning_tokens},
    });
    parts::mark_budget(&mut usage, counts);
    usage
}

/// The id of a call in this dialect: `call_X` is `toolu_X`. Histories may bring either.
fn tool_use_id(id: &str) -> String {
    format!("toolu_{}", id.strip_prefix("call_").unwrap_or(id))
}
