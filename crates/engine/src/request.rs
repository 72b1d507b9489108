//! Requests, and the events that answer them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mtplx_runtime::sampling::SamplingParams;
use mtplx_runtime::speculative::{DepthPolicy, Origin, Rule, SpeculationStats, TokenLogprobs};
use mtplx_runtime::text::Ending;
use tokio::sync::mpsc::Receiver;

use crate::error::RequestError;
use crate::output::OutputSplitter;
use crate::prefix_store::Miss;
use crate::settings::{PromptMode, Settings};

/// A text to generate.
#[derive(Debug, Clone)]
pub struct Request {
    /// Tokens of the prompt.
    pub prompt: Vec<u32>,
    /// True for a text that goes on from the prompt, whose leading space belongs to it; false for an answer.
    pub continues: bool,
    /// The target distribution.
    pub sampling: SamplingParams,
    /// Drafting; `None` decodes plainly.
    pub drafts: Option<DraftSettings>,
    /// How rounds decide.
    pub rule: Rule,
    /// All randomness follows from it.
    pub seed: u64,
    /// Tokens at most; no more than the context has room for are generated.
    pub max_tokens: usize,
    /// Strings that end the text, which are not part of it.
    pub stop: Vec<String>,
    /// True for a text that the model's stop tokens do not end.
    pub ignore_eos: bool,
    /// Log-probabilities of every token and of so many likeliest ones in its place.
    pub logprobs: Option<usize>,
    /// True where special tokens have text too.
    pub special_text: bool,
    /// Reader of reasoning and tool calls; without it, all is text.
    pub output: Option<OutputSplitter>,
    /// True for a text that ends behind its first tool call.
    pub single_call: bool,
    /// Tokens at the prompt's end that begin the answer: a conversation that goes on may render them in another way.
    pub answer_tokens: usize,
    /// Tokens of reasoning, behind which the engine ends it.
    pub thinking_budget: Option<usize>,
    /// Ends the text early.
    pub cancel: CancelFlag,
}

/// How drafts are made. Nothing of it changes the output's distribution.
#[derive(Debug, Clone)]
pub struct DraftSettings {
    /// How many drafts a round.
    pub depth: DepthPolicy,
    /// How drafts are drawn; like the target unless stated.
    pub sampling: Option<SamplingParams>,
}

impl Request {
    /// `prompt`, generated with `settings`.
    pub fn new(prompt: Vec<u32>, settings: &Settings) -> Self {
        Self {
            prompt,
            continues: settings.prompt_mode.value != PromptMode::Chat,
            sampling: settings.sampling(),
            drafts: Some(DraftSettings { depth: settings.depth_policy(), sampling: settings.draft_sampling() }),
            rule: settings.acceptance.value,
            seed: settings.seed.value,
            max_tokens: settings.max_tokens.value,
            stop: settings.stop.value.clone(),
            ignore_eos: settings.ignore_eos.value,
            logprobs: None,
            special_text: false,
            output: None,
            single_call: false,
            answer_tokens: 0,
            thinking_budget: None,
            cancel: CancelFlag::default(),
        }
    }
}

/// A flag that ends a request after its next unit of work. A clone is the same flag.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// The flag that `flag` is.
    pub fn shared(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// Sets it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once it is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Stages of a request, in their order; the last is [`Event::End`] or an error.
#[derive(Debug, Clone)]
pub enum Event {
    /// It waits.
    Queued {
        /// Requests before it.
        ahead: usize,
    },
    /// It begins, behind a part of its prompt that was kept from another request.
    Begun {
        /// Tokens of that part.
        cached: usize,
        /// The place where the prompt leaves the kept prefix that it has most in common with, if that is further on.
        miss: Option<Miss>,
    },
    /// A part of the prompt was fed.
    Prefill {
        /// Tokens so far.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// A piece of the answer.
    Text(Piece),
    /// A piece of reasoning.
    Reasoning(Piece),
    /// A tool call begins; no other is open.
    Call {
        /// The tool.
        name: String,
    },
    /// A piece of the JSON text of the open call's arguments.
    Arguments(Piece),
    /// The open call ends.
    EndOfCall {
        /// False where its arguments are broken, or lack their end.
        complete: bool,
    },
    /// The text is over.
    End(End),
}

/// Text that is decided, and the tokens that were drawn for it: often those of the text, sometimes fewer or more.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Piece {
    /// The text; may be empty.
    pub text: String,
    /// The tokens, those without text among them.
    pub tokens: Vec<TokenInfo>,
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenInfo {
    /// The token.
    pub id: u32,
    /// How it came about.
    pub origin: Origin,
    /// Its log-probabilities, where they were asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// The end of a text.
#[derive(Debug, Clone)]
pub struct End {
    /// Why it ended.
    pub ending: Ending,
    /// The stop token that ended it; it is in no piece.
    pub stop_token: Option<TokenInfo>,
    /// The stop string that ended it, by its place in the request.
    pub stop_string: Option<usize>,
    /// Tokens of the text, the stop token included.
    pub tokens: usize,
    /// Tokens of the prompt that were kept from another request.
    pub cached_tokens: usize,
    /// Tokens of the text that are reasoning.
    pub reasoning_tokens: usize,
    /// True where the budget ended the reasoning.
    pub thinking_budget_reached: bool,
    /// Tool calls.
    pub calls: usize,
    /// Counters of rounds.
    pub stats: SpeculationStats,
}

/// The events of one request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Stream {
    pub(crate) events: Receiver<Result<Event, RequestError>>,
    pub(crate) cancel: CancelFlag,
}

impl Stream {
    /// The next event; `None` after the last.
    pub async fn recv(&mut self) -> Option<Result<Event, RequestError>> {
        self.events.recv().await
    }

    /// Ends the text after the unit of work that is running; its end is still an event.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

/// Waits for each event. Not for asynchronous code, which [`Stream::recv`] serves.
impl Iterator for Stream {
    type Item = Result<Event, RequestError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.events.blocking_recv()
    }
}
