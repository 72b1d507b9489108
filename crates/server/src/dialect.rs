//! Dialects, as the rest of the server sees them: a body becomes a request, events become frames, and frames fold into a whole answer.

use serde_json::Value;

use crate::wire::frame::{EVENT_STREAM, Frame, NDJSON};
use crate::wire::internal::{Event, Failure, GenerationRequest};
use crate::wire::{chat, completions, messages, ollama, responses};

/// Words of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorStyle {
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's.
    Ollama,
}

impl ErrorStyle {
    /// The style of a path, whether a route answers it or not.
    pub fn of_path(path: &str) -> Self {
        if path.starts_with("/v1/messages") {
            Self::Anthropic
        } else if path == "/api" || path.starts_with("/api/") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }

    /// The body of an error.
    pub fn body(self, failure: &Failure, request_id: &str) -> Value {
        match self {
            Self::OpenAi => failure.openai(),
            Self::Anthropic => failure.anthropic(request_id),
            Self::Ollama => failure.ollama(),
        }
    }
}

/// Facts about an answer that its writer puts into frames.
pub struct AnswerContext<'a> {
    /// The request's id.
    pub request_id: &'a str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model as the client named it.
    pub model: &'a str,
    /// Tokens of the prompts.
    pub prompt_tokens: u64,
}

/// Writer of one answer.
pub trait Writer: Send {
    /// Frames before the first event.
    fn start(&mut self) -> Vec<Frame>;
    /// Frames of an event of the prompt with this index.
    fn event(&mut self, index: usize, event: &Event) -> Vec<Frame>;
    /// A frame for times of silence.
    fn keep_alive(&mut self) -> Frame;
}

/// Frames of one answer, gathered.
pub trait Fold: Send {
    /// Adds a frame.
    fn push(&mut self, frame: &Frame);
    /// The whole answer.
    ///
    /// # Errors
    /// The answer failed.
    fn finish(self: Box<Self>) -> Result<Value, Failure>;
}

/// A dialect that generates text.
pub trait Dialect: 'static {
    /// Path of its route.
    const ROUTE: &'static str;
    /// `content-type` of a streamed answer.
    const STREAM: &'static str;
    /// A request as it was read.
    type Parsed: Send + Sync + 'static;

    /// Reads a body.
    ///
    /// # Errors
    /// The field that is wrong.
    fn parse(body: &[u8]) -> Result<Self::Parsed, Failure>;
    /// The request in it.
    fn request(parsed: &Self::Parsed) -> &GenerationRequest;
    /// A writer for its answer.
    fn writer(parsed: &Self::Parsed, context: &AnswerContext<'_>) -> Box<dyn Writer>;
    /// An empty answer.
    fn fold() -> Box<dyn Fold>;
}

/// A dialect of one prompt a request: `$id` makes the answer's id, if the dialect has one.
macro_rules! dialect {
    ($name:ident, $wire:ident, $route:literal, $stream:expr, |$parsed:ident, $context:ident| $writer:expr) => {
        #[doc = concat!("`", $route, "`.")]
        pub enum $name {}

        impl Dialect for $name {
            const ROUTE: &'static str = $route;
            const STREAM: &'static str = $stream;
            type Parsed = $wire::Parsed;

            fn parse(body: &[u8]) -> Result<Self::Parsed, Failure> {
                $wire::parse(body)
            }

            fn request(parsed: &Self::Parsed) -> &GenerationRequest {
                &parsed.request
            }

            fn writer($parsed: &Self::Parsed, $context: &AnswerContext<'_>) -> Box<dyn Writer> {
                Box::new($writer)
            }

            fn fold() -> Box<dyn Fold> {
                Box::new($wire::Fold::new())
            }
        }

        impl Fold for $wire::Fold {
            fn push(&mut self, frame: &Frame) {
                $wire::Fold::push(self, frame);
            }

            fn finish(self: Box<Self>) -> Result<Value, Failure> {
                $wire::Fold::finish(*self)
            }
        }
    };
}

/// A writer that knows one prompt only.
macro_rules! writer_of_one {
    ($wire:ident) => {
        impl Writer for $wire::Writer {
            fn start(&mut self) -> Vec<Frame> {
                $wire::Writer::start(self)
            }

            fn event(&mut self, _index: usize, event: &Event) -> Vec<Frame> {
                $wire::Writer::event(self, event)
            }

            fn keep_alive(&mut self) -> Frame {
                $wire::Writer::keep_alive(self)
            }
        }
    };
}

dialect!(Chat, chat, "/v1/chat/completions", EVENT_STREAM, |parsed, context| chat::Writer::new(
    parsed,
    context.id("chatcmpl-"),
    context.created,
    context.model
));
dialect!(Completions, completions, "/v1/completions", EVENT_STREAM, |parsed, context| completions::Writer::new(
    parsed,
    context.id("cmpl-"),
    context.created,
    context.model
));
dialect!(Responses, responses, "/v1/responses", EVENT_STREAM, |parsed, context| responses::Writer::new(
    parsed,
    context.id("resp_"),
    context.created,
    context.model
));
dialect!(Messages, messages, "/v1/messages", EVENT_STREAM, |parsed, context| messages::Writer::new(
    parsed,
    context.id("msg_"),
    context.request_id,
    context.model,
    context.prompt_tokens
));
dialect!(Ollama, ollama, "/api/chat", NDJSON, |parsed, context| ollama::Writer::new(
    parsed,
    context.created,
    context.model
));

writer_of_one!(chat);
writer_of_one!(responses);
writer_of_one!(messages);
writer_of_one!(ollama);

impl Writer for completions::Writer {
    fn start(&mut self) -> Vec<Frame> {
        completions::Writer::start(self)
    }

    fn event(&mut self, index: usize, event: &Event) -> Vec<Frame> {
        completions::Writer::event(self, index, event)
    }

    fn keep_alive(&mut self) -> Frame {
        completions::Writer::keep_alive(self)
    }
}

impl AnswerContext<'_> {
    /// The id of the answer: that of the request under another prefix.
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.request_id.trim_start_matches("req_"))
    }
}
