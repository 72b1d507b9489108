//! Events that the program may write to its log. None has text of a prompt or an answer.

use std::sync::Arc;
use std::time::Duration;

/// An event of the server.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEvent {
    /// A request was answered, or its client is gone.
    Answered(Answered),
    /// A prompt that takes some time is being read.
    LongPrompt {
        /// The request's id.
        id: String,
        /// Tokens of the prompt.
        tokens: u64,
        /// Tokens a second, as measured so far.
        rate: f64,
        /// Time that the rest of it takes at this rate.
        estimate: Duration,
    },
    /// A remark on a request.
    Warning {
        /// The request's id.
        id: String,
        /// The remark.
        text: &'static str,
    },
    /// A prompt left a kept prefix that it had more in common with than it could use.
    PrefixMiss {
        /// The request's id.
        id: String,
        /// Tokens that were used of what is kept.
        cached: usize,
        /// Place of the first difference, from 0.
        position: usize,
        /// Token of the kept prefix there.
        kept: u32,
        /// Token of the prompt there.
        sent: u32,
    },
    /// The weights were dropped, since nobody used them.
    Unloaded,
}

/// A request that was answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answered {
    /// The request's id.
    pub id: String,
    /// Its method.
    pub method: String,
    /// Its path, as sent.
    pub path: String,
    /// Status of the answer.
    pub status: u16,
    /// How the text ended, for a request that generates.
    pub finish: Option<&'static str>,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Those of them that were kept from another request.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Milliseconds to the first token.
    pub ttft_ms: Option<f64>,
    /// Tokens a second behind the first.
    pub tokens_per_second: Option<f64>,
    /// Time to the end of the answer.
    pub total: Duration,
}

/// Takes events.
pub type Log = Arc<dyn Fn(&LogEvent) + Send + Sync>;
