//! A script in a model's place: texts by what the prompt holds, through the same thread, scheduler, tokenizer and channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mtplx_runtime::speculative::{Acceptance, Origin, SequenceError, SpeculationStats, TokenLogprobs};
use mtplx_runtime::text::{ChatTemplate, TextError, TextFiles, Tokenizer};
use serde::Deserialize;

use crate::drawn::Drawn;
use crate::error::RequestError;
use crate::request::{Request, TokenInfo};

/// Drafts a round, all of which are accepted but the last of every other round.
const DEPTH: usize = 2;

/// Replies and times.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Tokens of the context; those of the model whose tokenizer is used where 0.
    pub context: usize,
    /// A chat template in place of that model's.
    pub template: Option<String>,
    /// Milliseconds of a round.
    pub round_ms: u64,
    /// Milliseconds of a chunk of a prompt.
    pub chunk_ms: u64,
    /// Replies, the first of which that fits is given.
    pub replies: Vec<Reply>,
    #[serde(skip)]
    pub(crate) tokenizer: Option<Arc<Tokenizer>>,
}

/// A reply, and the prompts that it answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// Texts that the prompt holds.
    pub when: Vec<String>,
    /// Texts that it does not hold.
    pub unless: Vec<String>,
    /// Texts that it holds so often.
    pub count: BTreeMap<String, usize>,
    /// Texts that it holds so often, or more.
    pub at_least: BTreeMap<String, usize>,
    /// The text, markup and all.
    pub text: String,
    /// An error or a panic behind the text, in place of its end.
    pub fails: Option<Fails>,
}

/// Ends of a reply that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fails {
    /// Logits that are not finite.
    Error,
    /// A panic.
    Panic,
}

/// One reply as it is given.
#[derive(Debug)]
pub(crate) struct ScriptedText {
    tokens: Vec<u32>,
    given: usize,
    stop: Option<u32>,
    fails: Option<Fails>,
    logprobs: Option<usize>,
    round: Duration,
    chunk: Duration,
    stats: SpeculationStats,
    prompt: usize,
    begun: Instant,
}

impl Script {
    /// The template that stands in place of the model's, if the script has one.
    ///
    /// # Errors
    /// It does not compile.
    pub fn chat_template(&self, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, TextError> {
        let Some(source) = &self.template else { return Ok(None) };
        let files = TextFiles { chat_template: Some(source.clone().into()), ..TextFiles::default() };
        ChatTemplate::find(&files, tokenizer)
    }

    pub(crate) fn text(&self, request: &Request, stop_tokens: Vec<u32>) -> Result<ScriptedText, RequestError> {
        let tokenizer = self.tokenizer.as_ref().ok_or(RequestError::Ended)?;
        let prompt = tokenizer.decode(&request.prompt, false)?;
        let reply = self.replies.iter().find(|reply| reply.fits(&prompt)).cloned().unwrap_or_default();
        let tokens = tokenizer.encode(&reply.text, false)?;
        Ok(ScriptedText {
            tokens,
            given: 0,
            stop: stop_tokens.first().copied(),
            fails: reply.fails,
            logprobs: request.logprobs,
            round: Duration::from_millis(self.round_ms),
            chunk: Duration::from_millis(self.chunk_ms),
            stats: SpeculationStats::new(),
            prompt: 0,
            begun: Instant::now(),
        })
    }
}

impl Reply {
    fn fits(&self, prompt: &str) -> bool {
        let times = |text: &str| prompt.matches(text).count();
        self.when.iter().all(|text| prompt.contains(text))
            && !self.unless.iter().any(|text| prompt.contains(text))
            && self.count.iter().all(|(text, count)| times(text) == *count)
            && self.at_least.iter().all(|(text, count)| times(text) >= *count)
    }
}

impl ScriptedText {
    pub(crate) fn feed(&mut self, tokens: &[u32]) -> Result<(), RequestError> {
        sleep(self.chunk);
        self.prompt += tokens.len();
        Ok(())
    }

    /// The next tokens: `room` at most, and no more than a round has.
    pub(crate) fn round(&mut self, room: usize) -> Result<Drawn, RequestError> {
        let first = self.given == 0;
        if first {
            self.stats.record_prefill(self.prompt, 0.0, self.begun.elapsed().as_secs_f64());
        } else {
            sleep(self.round);
        }
        let drafted = if first { 0 } else { DEPTH.min(room - 1) };
        let rejected = usize::from(self.given.is_multiple_of(2) && drafted > 0);
        let mut tokens = Vec::new();
        let mut stopped = false;
        for place in 0..=drafted - rejected {
            let origin = match place {
                place if place < drafted - rejected => Origin::Draft(place + 1),
                _ if drafted == 0 => Origin::Plain,
                _ if rejected > 0 => Origin::Recovered,
                _ => Origin::Bonus,
            };
            let next = self.tokens.get(self.given).copied();
            let id = match (next, self.fails, self.stop) {
                (Some(id), ..) => id,
                (None, Some(_), _) if !tokens.is_empty() => break,
                (None, Some(Fails::Error), _) => return Err(SequenceError::NotFinite.into()),
                (None, Some(Fails::Panic), _) => panic!("scripted"),
                (None, None, Some(stop)) => {
                    stopped = true;
                    stop
                }
                // A text that nothing ends goes on with its last token.
                (None, None, None) => self.tokens.last().copied().unwrap_or(0),
            };
            self.given += 1;
            let logprobs = self.logprobs.map(|top| TokenLogprobs {
                logprob: -0.5,
                top: (0..top as u32).map(|place| (place, -0.5 - place as f32)).collect(),
            });
            tokens.push(TokenInfo { id, origin, logprobs });
            if stopped {
                break;
            }
        }
        if !first {
            let next = tokens.last().map_or(0, |token| token.id);
            let acceptance = Acceptance { drafted, accepted: drafted - rejected, next };
            self.stats.record_round(&acceptance, tokens.len(), self.round.as_secs_f64());
        }
        Ok(Drawn { tokens, stopped, acceptance: None })
    }

    pub(crate) fn stats(&self) -> SpeculationStats {
        self.stats.clone()
    }
}
