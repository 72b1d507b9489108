//! A request as every dialect reads it, and the events that every dialect writes.

use std::collections::BTreeMap;

pub use mtplx_engine::chat::{Call, Conversation, Message, Role, Tool};

/// A request for one text.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    /// The model's name as sent; `None` for the one that is loaded.
    pub model: Option<String>,
    /// The prompt.
    pub prompt: Prompt,
    /// Settings; the model's own where absent.
    pub options: Options,
    /// True for an answer in frames.
    pub stream: bool,
}

/// A prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Messages for the chat template.
    Conversation(Conversation),
    /// Raw prompts, each of which gets a text of its own (`/v1/completions` only).
    Raw(Vec<RawPrompt>),
}

/// A prompt without a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawPrompt {
    /// Text in which special tokens are special.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

/// Settings of one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Temperature.
    pub temperature: Option<f32>,
    /// Top-p.
    pub top_p: Option<f32>,
    /// Top-k; 0 keeps all.
    pub top_k: Option<u32>,
    /// Min-p.
    pub min_p: Option<f32>,
    /// Repetition penalty.
    pub repetition_penalty: Option<f32>,
    /// Presence penalty.
    pub presence_penalty: Option<f32>,
    /// Frequency penalty.
    pub frequency_penalty: Option<f32>,
    /// Biases by token id.
    pub logit_bias: BTreeMap<u32, f32>,
    /// The seed.
    pub seed: Option<u64>,
    /// Tokens at most: an upper bound that the server clamps to the context.
    pub max_tokens: Option<u64>,
    /// Strings that end the text.
    pub stop: Vec<String>,
    /// True for a text that stop tokens do not end.
    pub ignore_eos: bool,
    /// Log-probabilities of each token, and of so many likeliest ones in its place (0 to 20).
    pub logprobs: Option<usize>,
    /// Drafting.
    pub mtp: MtpOptions,
    /// Tokens of reasoning at most.
    pub max_thinking_tokens: Option<u64>,
}

/// The field `mtp`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MtpOptions {
    /// False decodes plainly.
    pub enabled: Option<bool>,
    /// Drafts a round, 0 to 8.
    pub depth: Option<usize>,
    /// The rule that accepts drafts.
    pub acceptance: Option<Acceptance>,
    /// True where each token's origin is wanted.
    pub origins: bool,
}

/// The rule that accepts drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// By the ratio of probabilities.
    Rejection,
    /// By coupled draws.
    Coupled,
}

/// An event of a request. Events come in order; the last is [`Event::End`] or [`Event::Failed`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A piece of reasoning.
    Reasoning(Piece),
    /// A piece of the answer.
    Text(Piece),
    /// A call begins; no other is open.
    Call {
        /// Its number in this answer, from 0.
        index: usize,
        /// Its id, unique in the server's life (`call_…`, 24 letters or digits behind it).
        id: String,
        /// The tool.
        name: String,
    },
    /// A piece of the JSON text of the open call's arguments.
    Arguments(Piece),
    /// The open call is complete.
    EndOfCall,
    /// The text is over.
    End(End),
    /// An error after the answer began.
    Failed(Failure),
}

/// Text, and the tokens that it was decided by.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Piece {
    /// The text; may be empty.
    pub text: String,
    /// Tokens, those without text among them.
    pub tokens: Vec<TokenInfo>,
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenInfo {
    /// The token's id.
    pub id: u32,
    /// Its text, with replacement characters where its bytes are no UTF-8.
    pub text: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How it came about.
    pub origin: Origin,
    /// Log-probabilities, where asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// The way a token came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Decoded plainly.
    Plain,
    /// A draft that was accepted, from this place in its round, from 1.
    Draft(usize),
    /// Drawn in place of a draft that was not.
    Recovered,
    /// Drawn behind drafts that all were.
    Bonus,
}

/// Log-probabilities of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// Of the token.
    pub logprob: f32,
    /// The likeliest tokens in its place, falling.
    pub top: Vec<TopLogprob>,
}

/// One of the likeliest tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TopLogprob {
    /// The token's id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its log-probability.
    pub logprob: f32,
}

/// The end of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Why it ended.
    pub reason: FinishReason,
    /// The stop string that ended it.
    pub stop_string: Option<String>,
    /// Counts.
    pub usage: Usage,
    /// Times and drafts.
    pub timings: Timings,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token.
    Stop,
    /// A stop string.
    StopString,
    /// The limit of tokens, or the end of the context.
    Length,
    /// A stop token behind at least one complete call.
    ToolCalls,
}

/// Counts of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, those from a store among them.
    pub prompt_tokens: u64,
    /// Tokens of the prompt that were not computed again.
    pub cached_tokens: u64,
    /// Generated tokens, those of reasoning among them.
    pub completion_tokens: u64,
    /// Generated tokens of reasoning.
    pub reasoning_tokens: u64,
    /// True where a budget ended the reasoning.
    pub thinking_budget_reached: bool,
}

/// The field `timings` of an answer.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Those that were not computed again.
    pub cached_tokens: u64,
    /// Generated tokens.
    pub completion_tokens: u64,
    /// Milliseconds to the first token.
    pub ttft_ms: f64,
    /// Generated tokens a second behind the first.
    pub tokens_per_second: f64,
    /// Rounds.
    pub rounds: u64,
    /// Drafts made, by place in the round.
    pub drafted: Vec<u64>,
    /// Drafts accepted, by place in the round.
    pub accepted: Vec<u64>,
}

/// An error, with the status that it has before an answer began.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// One sentence: the field, the value, what to do.
    pub message: String,
    /// Path of the field at fault (`messages[2].content`).
    pub param: Option<String>,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

/// Kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// 400.
    Invalid,
    /// 400 `context_length_exceeded`.
    ContextExceeded {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404, no such route or object.
    NotFound,
    /// 404 `model_not_found`.
    UnknownModel,
    /// 405.
    Method,
    /// 408, the body did not come in time.
    Timeout,
    /// 413.
    TooLarge,
    /// 415, a body that is no JSON.
    MediaType,
    /// 431.
    HeadTooLarge,
    /// 429.
    Busy,
    /// 500.
    Internal,
    /// 503.
    Unavailable,
}
