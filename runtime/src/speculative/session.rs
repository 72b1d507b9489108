//! The loop: draft, verify, accept, commit, ingest, emit.
//!
//! Between rounds the trunk's cache holds everything but the last emitted token, the *anchor*; the head's history holds
//! the pairs (hidden state of a row, token after it) of committed rows, or they wait in a queue while nothing is
//! drafted. Drafts, verification and the draws that decide are one lazy graph: a round reads back once.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

use mlx_rs::{error::Exception, ops, transforms};

use super::accept::{Acceptance, RowOutcome, Rule, decide};
use super::depth::DepthPolicy;
use super::simulate::Simulation;
use super::stats::SpeculationStats;
use crate::Array;
use crate::cache::Cache;
use crate::mlx::{async_eval, cuda_default, slice_axis, values, wait};
use crate::model::{DraftState, DraftVocabulary, MtpModel, token_array};
use crate::sampling::device::{Outcomes, RoundNoise, TargetDistribution};
use crate::sampling::{DeviceSampler, Noise, ParamsError, Role, SamplingParams, TokenCounts};

/// Prompt tokens fed at once, so that a prompt can be broken off; more on CUDA, where weights are unpacked for every chunk.
const PREFILL_CHUNK: usize = 512;
const CUDA_PREFILL_CHUNK: usize = 2048;
/// Pairs that wait at most, while nothing is drafted, before they are fed to the head after all.
const QUEUE: usize = 256;

/// How a session generates.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The target distribution.
    pub sampling: SamplingParams,
    /// Drafting; `None` decodes plainly and leaves the draft head alone.
    pub drafts: Option<DraftOptions>,
    /// How rounds decide.
    pub rule: Rule,
    /// All randomness follows from it.
    pub seed: u64,
    /// Tokens that end the text; they are emitted.
    pub stop_tokens: Vec<u32>,
}

/// How a session drafts. Nothing of it changes the output's distribution.
#[derive(Debug, Clone)]
pub struct DraftOptions {
    /// How many drafts a round.
    pub depth: DepthPolicy,
    /// How drafts are drawn; like the target unless stated.
    pub sampling: Option<SamplingParams>,
    /// Tokens that drafts are restricted to ([`Drafter::restrict`](crate::model::Drafter::restrict)); `None` for all.
    pub vocabulary: Option<Rc<DraftVocabulary>>,
}

impl DraftOptions {
    /// Drafts from the whole vocabulary, drawn like the target.
    pub fn new(depth: DepthPolicy) -> Self {
        Self { depth, sampling: None, vocabulary: None }
    }
}

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nothing to continue.
    #[error("the prompt is empty: expected at least one token")]
    EmptyPrompt,
    /// A token that the model does not have.
    #[error("prompt token {token}: expected an id below the vocabulary's size {vocab}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// The vocabulary's size.
        vocab: usize,
    },
    /// A sampling parameter out of range.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// Calls in the wrong order.
    #[error("{0}")]
    Order(&'static str),
    /// Logits that decide on a token are not finite.
    #[error("the model's logits are not finite numbers")]
    NotFinite,
    /// The caller broke off while the prompt was being fed.
    #[error("interrupted while the prompt was being fed")]
    Interrupted,
    /// MLX failed.
    #[error("MLX: {0}")]
    Mlx(crate::Error),
}

impl From<crate::Error> for SessionError {
    fn from(error: crate::Error) -> Self {
        Self::Mlx(error)
    }
}

impl From<Exception> for SessionError {
    fn from(error: Exception) -> Self {
        Self::Mlx(error.into())
    }
}

type Result<T> = std::result::Result<T, SessionError>;

/// What a round emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The tokens, in order; at least one.
    pub tokens: Vec<u32>,
    /// The drafts, accepted or not.
    pub drafts: Vec<u32>,
    /// What was decided, before clipping.
    pub acceptance: Acceptance,
    /// Whether the last token is a stop token.
    pub stopped: bool,
}

/// A session between rounds, to go on from any number of times: the caches of trunk and head, the pairs that wait (the
/// trunk's last hidden state among them) and the counts. What a session was asked for is not part of it.
pub struct Snapshot {
    cache: Cache,
    history: Option<Cache>,
    draft_state: Option<DraftState>,
    queue: Vec<(Array, Vec<u32>)>,
    counts: TokenCounts,
    anchor: Option<u32>,
}

/// One sequence being generated. Weights are the model's, so several sessions may share one model.
pub struct Session {
    sampler: DeviceSampler,
    draft_sampler: Option<DeviceSampler>,
    vocabulary: Option<Rc<DraftVocabulary>>,
    rule: Rule,
    /// Decides instead of the rule, in benchmarks.
    simulation: Option<Simulation>,
    depth: DepthPolicy,
    noise: Noise,
    stop_tokens: Vec<u32>,
    cache: Cache,
    history: Option<Cache>,
    draft_state: Option<DraftState>,
    /// Committed pairs that the head has not seen yet: hidden rows and the token after each.
    queue: Vec<(Array, Vec<u32>)>,
    counts: TokenCounts,
    anchor: Option<u32>,
    /// Whether a plain round is sent before the one ahead of it is read back.
    looks_ahead: bool,
    ahead: Option<PlainRound>,
    /// What the depth policy said of the next round already.
    planned: Option<usize>,
    /// The next token was to come from a row that is not finite.
    faulty: bool,
    stats: SpeculationStats,
}

/// A round without drafts that was sent; its row is pending.
struct PlainRound {
    /// `[1, hidden]`.
    hidden: Array,
    /// What was drawn, `[1]` int32.
    token: Array,
    /// The same, to be read back.
    read: Array,
}

/// The decision of a round.
struct Decided {
    /// Hidden states of the anchor and the drafts, `[1 + drafts, hidden]`.
    hidden: Array,
    drafts: Vec<u32>,
    acceptance: Acceptance,
    /// Rows, one for each token that could be emitted, before the first one that is not finite: at least one.
    finite_rows: usize,
}

impl Session {
    /// An empty session on `model`.
    ///
    /// # Errors
    /// Parameters out of range.
    pub fn new(model: &MtpModel, options: SessionOptions) -> Result<Self> {
        let vocab = model.info.vocab_size;
        options.sampling.validate(vocab)?;
        if let Some(draft) = options.drafts.as_ref().and_then(|drafts| drafts.sampling.as_ref()) {
            draft.validate(vocab)?;
        }
        let drafter = model.drafter.as_ref().filter(|_| options.drafts.is_some());
        let DraftOptions { depth, sampling, vocabulary } =
            options.drafts.unwrap_or_else(|| DraftOptions::new(DepthPolicy::Fixed(0)));
        let draft_sampler = match (sampling, &vocabulary) {
            (None, None) => None,
            (Some(params), None) => Some(DeviceSampler::new(params, vocab)?),
            (params, Some(restricted)) => {
                let params = params.unwrap_or_else(|| options.sampling.clone());
                Some(DeviceSampler::restricted(params, vocab, restricted.tokens())?)
            }
        };
        Ok(Self {
            sampler: DeviceSampler::new(options.sampling, vocab)?,
            draft_sampler,
            rule: options.rule,
            simulation: None,
            depth,
            vocabulary,
            noise: Noise::new(options.seed),
            stop_tokens: options.stop_tokens,
            cache: model.trunk.new_cache(),
            history: drafter.map(|head| head.new_history()),
            draft_state: None,
            queue: Vec::new(),
            counts: TokenCounts::default(),
            anchor: None,
            looks_ahead: cuda_default(),
            ahead: None,
            planned: None,
            faulty: false,
            stats: SpeculationStats::new(),
        })
    }

    /// This session, sending plain rounds ahead on whatever device there is.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn looking_ahead(self) -> Self {
        Self { looks_ahead: true, ..self }
    }

    /// Everything that the next round depends on but the options. Buffers are shared, not copied.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        self.forget_ahead()?;
        Ok(Snapshot {
            cache: self.cache.snapshot()?,
            history: self.history.as_ref().map(Cache::snapshot).transpose()?,
            draft_state: self.draft_state.clone(),
            queue: self.queue.clone(),
            counts: self.counts.clone(),
            anchor: self.anchor,
        })
    }

    /// A session that goes on where `snapshot` was taken, on the same model, with options of its own; it drafts only where the
    /// snapshot has a history.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn resume(model: &MtpModel, options: SessionOptions, snapshot: &Snapshot) -> Result<Self> {
        let new = Self::new(model, options)?;
        let history = snapshot.history.as_ref().filter(|_| new.history.is_some());
        Ok(Self {
            cache: snapshot.cache.snapshot()?,
            history: history.map(Cache::snapshot).transpose()?,
            draft_state: snapshot.draft_state.clone(),
            queue: snapshot.queue.clone(),
            counts: snapshot.counts.clone(),
            anchor: snapshot.anchor,
            ..new
        })
    }

    /// This session with the decision of every round by stated figures: **not exact**, for benchmarks. See
    /// [`super::simulate`].
    ///
    /// # Errors
    /// Under the coupled rule, where what the target drew is emitted, whether it is the draft or not: there is no decision
    /// to replace.
    pub fn simulated(self, simulation: Simulation) -> Result<Self> {
        match self.rule {
            Rule::Rejection => Ok(Self { simulation: Some(simulation), ..self }),
            Rule::Coupled => Err(SessionError::Order("the coupled rule has no acceptance to simulate")),
        }
    }

    /// Counters so far.
    pub fn stats(&self) -> &SpeculationStats {
        &self.stats
    }

    /// The depth policy and what it learned.
    pub fn depth(&self) -> &DepthPolicy {
        &self.depth
    }

    /// The trunk's cache: everything but the last emitted token, whose row may be pending, sent ahead.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The head's history, with every committed pair in it.
    pub fn history(&mut self, model: &MtpModel) -> Result<Option<&Cache>> {
        self.ingest_queue(model)?;
        Ok(self.history.as_ref())
    }

    /// Feeds the prompt and draws the first token. `progress` is told the tokens fed so far and all of them, and may
    /// break off between two chunks.
    ///
    /// # Errors
    /// An empty prompt, a token that the model does not have, a second prompt, [`SessionError::Interrupted`],
    /// [`SessionError::NotFinite`].
    pub fn prefill(
        &mut self,
        model: &MtpModel,
        prompt: &[u32],
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<u32> {
        let started = Instant::now();
        if prompt.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        let vocab = model.info.vocab_size;
        if let Some(&token) = prompt.iter().find(|&&token| token as usize >= vocab) {
            return Err(SessionError::UnknownToken { token, vocab });
        }
        if self.anchor.is_some() || !self.cache.is_empty() || self.cache.pending() > 0 {
            return Err(SessionError::Order("a session takes one prompt, once"));
        }
        self.counts = TokenCounts::from_prompt(prompt);
        let mut last = None;
        let size = if cuda_default() { CUDA_PREFILL_CHUNK } else { PREFILL_CHUNK };
        for (index, chunk) in prompt.chunks(size).enumerate() {
            let hidden = model.trunk.forward(&token_array(chunk), &mut self.cache)?;
            let end = index * size + chunk.len();
            let rows = hidden.dim(0);
            // The last row of the prompt waits for the token that is about to be drawn.
            let known = if end < prompt.len() { rows } else { rows - 1 };
            if known > 0 {
                let next = prompt[end - chunk.len() + 1..][..known as usize].to_vec();
                self.queue.push((slice_axis(&hidden, 0, 0, known)?, next));
                self.ingest_queue(model)?;
            }
            let row = slice_axis(&hidden, 0, rows - 1, rows)?;
            let head = self.history.iter().flat_map(Cache::arrays);
            transforms::eval(self.cache.arrays().chain(head).chain([&row]))?;
            last = Some(row);
            if progress(end, prompt.len()).is_break() {
                return Err(SessionError::Interrupted);
            }
        }
        let hidden = last.ok_or(SessionError::EmptyPrompt)?;
        let fed = started.elapsed().as_secs_f64();
        let logits = model.trunk.logits(&hidden)?;
        let counts = self.sampler.count_rows(&self.counts, &[])?;
        let draws = RoundNoise { rule: self.rule, noise: &self.noise, first: prompt.len() as u64 };
        let (law, first) = self.sampler.sample(&logits, counts.as_ref(), &draws, Role::Bonus)?;
        let first = read_back(&draws.outcomes(&law, &[], &[], &first)?)?.decided()?.bonus();
        self.queue.push((hidden, vec![first]));
        self.counts.push(first);
        self.anchor = Some(first);
        self.stats.record_prefill(prompt.len(), fed, started.elapsed().as_secs_f64());
        Ok(first)
    }

    /// One round that emits at most `limit` tokens.
    ///
    /// # Errors
    /// Before [`Session::prefill`]. [`SessionError::NotFinite`], or when MLX fails: after either the session is at the end of the round
    /// before; or over, if it had sent the next round already.
    pub fn round(&mut self, model: &MtpModel, limit: usize) -> Result<Round> {
        let started = Instant::now();
        let anchor = self.anchor.ok_or(SessionError::Order("a round before the prompt, or after an error"))?;
        if self.faulty {
            return Err(SessionError::NotFinite);
        }
        let most = model.drafter.as_ref().map_or(0, |head| head.max_depth());
        let depth = match self.ahead {
            Some(_) => 0,
            None => {
                let wanted = self.planned.take().unwrap_or_else(|| self.depth.next_depth());
                // A draft that could not be emitted is not worth drawing, and deep MTP layers need as many rows before them.
                wanted.min(most).min(limit.saturating_sub(1)).min(self.cache.len())
            }
        };
        // What waited during plain rounds is not this round's cost: the depth policy must not see it.
        let backlog = self.queued() > most + 1;
        if depth > 0 && backlog {
            self.ingest_queue(model)?;
            self.settle_history()?;
        }
        let round_started = Instant::now();
        let Decided { hidden, drafts, acceptance, finite_rows } = if depth == 0 {
            self.decide_plainly(model, anchor, limit)?
        } else {
            self.decide(model, anchor, depth)
                .or_else(|error| self.cache.commit(0).map_err(Into::into).and(Err(error)))?
        };
        let mut tokens: Vec<u32> = acceptance.tokens(&drafts).take(limit.max(1)).collect();
        // The text goes as far as plain decoding's would, and the error comes with the row that it would come with.
        let faulty = finite_rows < tokens.len();
        tokens.truncate(finite_rows);
        let stop = tokens.iter().position(|token| self.stop_tokens.contains(token));
        if let Some(stop) = stop {
            tokens.truncate(stop + 1);
            self.forget_ahead()?;
        }
        self.faulty = faulty && stop.is_none();
        // The rows of the anchor and of all new tokens but the last, which is the next anchor.
        let kept = tokens.len();
        if depth > 0 {
            self.cache.commit(kept)?;
        }
        self.queue.push((slice_axis(&hidden, 0, 0, kept as i32)?, tokens.clone()));
        self.draft_state = None;
        if self.history.is_none() {
            self.queue.clear();
        }
        tokens.iter().for_each(|&token| self.counts.push(token));
        self.anchor = tokens.last().copied();
        self.depth.observe_round(&acceptance, round_started.elapsed().as_secs_f64());
        if self.queued() >= QUEUE {
            self.ingest_queue(model)?;
            self.settle_history()?;
        }
        self.stats.record_round(&acceptance, tokens.len(), started.elapsed().as_secs_f64());
        Ok(Round { tokens, drafts, acceptance, stopped: stop.is_some() })
    }

    /// A round without drafts, committed. If another one follows, that one is sent before this one's token is known here: the
    /// device need not wait for the processor between them.
    fn decide_plainly(&mut self, model: &MtpModel, anchor: u32, limit: usize) -> Result<Decided> {
        let PlainRound { hidden, token, read } = match self.ahead.take() {
            Some(round) => round,
            None => self.send_plainly(model, &token_array(&[anchor]), &[])?,
        };
        let first = self.cache.len() as u64 + 1;
        if self.looks_ahead && limit > 1 && *self.planned.get_or_insert_with(|| self.depth.next_depth()) == 0 {
            self.planned = None;
            self.cache.commit(1)?;
            // If it fails, it fails again when its turn comes.
            self.ahead = self.send_plainly(model, &token, std::slice::from_ref(&token)).ok();
            let read = read_back(&read).and_then(Outcomes::decided).inspect_err(|_| self.anchor = None)?;
            return Ok(self.decided(hidden, &read, first));
        }
        match read_back(&read).and_then(Outcomes::decided) {
            Ok(read) => {
                self.cache.commit(1)?;
                Ok(self.decided(hidden, &read, first))
            }
            Err(error) => {
                self.cache.commit(0)?;
                Err(error)
            }
        }
    }

    /// The decision of a round whose first token is at position `first`.
    fn decided(&self, hidden: Array, read: &Outcomes, first: u64) -> Decided {
        let outcomes = read.rows();
        let acceptance = self.acceptance(&outcomes, read.bonus(), first);
        let drafts = outcomes.iter().map(|row| row.draft).collect();
        Decided { hidden, drafts, acceptance, finite_rows: read.finite_rows() }
    }

    /// Sends a round without drafts behind `token` `[1]` int32, which `drawn` holds as well if it is not counted yet.
    fn send_plainly(&mut self, model: &MtpModel, token: &Array, drawn: &[Array]) -> Result<PlainRound> {
        let first = self.cache.len() as u64 + 1;
        let mut send = || {
            let hidden = model.trunk.verify(token, &mut self.cache)?;
            let logits = model.trunk.logits(&hidden)?;
            let counts = self.sampler.count_row(&self.counts, drawn)?;
            let draws = RoundNoise { rule: self.rule, noise: &self.noise, first };
            let (law, token) = self.sampler.sample(&logits, counts.as_ref(), &draws, Role::Bonus)?;
            let read = draws.outcomes(&law, &[], &[], &token)?;
            async_eval([&read])?;
            Ok(PlainRound { hidden, token, read })
        };
        let sent = send();
        if sent.is_err() {
            self.cache.commit(0)?;
        }
        sent
    }

    /// Takes back a round that was sent ahead.
    fn forget_ahead(&mut self) -> Result<()> {
        if self.ahead.take().is_some() {
            self.cache.commit(0)?;
        }
        Ok(())
    }

    /// What a round emits, by the rule or by stated figures.
    fn acceptance(&self, outcomes: &[RowOutcome], bonus: u32, first: u64) -> Acceptance {
        match &self.simulation {
            None => decide(self.rule, outcomes, bonus, first, &self.noise),
            Some(simulation) => simulation.decide(outcomes, bonus, self.stats.rounds(), &self.noise),
        }
    }

    /// Drafts, verifies and decides; the rows stay pending.
    fn decide(&mut self, model: &MtpModel, anchor: u32, depth: usize) -> Result<Decided> {
        self.ingest_queue(model)?;
        let first = self.cache.len() as u64 + 1;
        let draws = |row: usize| RoundNoise { rule: self.rule, noise: &self.noise, first: first + row as u64 };
        let mut drafts: Vec<Array> = Vec::with_capacity(depth);
        let mut proposals: Vec<TargetDistribution> = Vec::with_capacity(depth); // q, a row each
        // From a copy: if the round fails, the next one drafts from the same state again.
        let mut state = self.draft_state.clone();
        if let (Some(head), Some(history), Some(state)) = (&model.drafter, &self.history, &mut state) {
            let sampler = self.draft_sampler.as_ref().unwrap_or(&self.sampler);
            for row in 0..depth {
                let logits = head.step(state, drafts.last(), history, self.vocabulary.as_deref())?;
                let counts = sampler.count_row(&self.counts, &drafts)?;
                let (q, draft) = sampler.sample(&logits, counts.as_ref(), &draws(row), Role::Draft)?;
                async_eval([&draft])?;
                drafts.push(draft);
                proposals.push(q);
            }
        }
        let mut rows = vec![token_array(&[anchor])];
        rows.extend(drafts.iter().cloned());
        let hidden = model.trunk.verify(&ops::concatenate(&rows, 0)?, &mut self.cache)?;
        let logits = model.trunk.logits(&hidden)?;
        let counts = self.sampler.count_rows(&self.counts, &drafts)?;
        let (p, bonus) = self.sampler.sample(&logits, counts.as_ref(), &draws(0), Role::Bonus)?;
        // One read-back.
        let read = read_back(&draws(0).outcomes(&p, &proposals, &drafts, &bonus)?)?.decided()?;
        Ok(self.decided(hidden, &read, first))
    }

    /// Pairs that wait.
    fn queued(&self) -> usize {
        self.queue.iter().map(|(_, tokens)| tokens.len()).sum()
    }

    /// Computes the history now instead of with the next round.
    fn settle_history(&self) -> Result<()> {
        Ok(transforms::eval(self.history.iter().flat_map(Cache::arrays))?)
    }

    /// Feeds the head every pair that waits, and starts a draft behind the last.
    fn ingest_queue(&mut self, model: &MtpModel) -> Result<()> {
        let (Some(head), Some(history)) = (&model.drafter, &mut self.history) else {
            self.queue.clear();
            return Ok(());
        };
        if self.queue.is_empty() {
            return Ok(());
        }
        let hidden: Vec<&Array> = self.queue.iter().map(|(hidden, _)| hidden).collect();
        let hidden = if let [only] = hidden[..] { only.clone() } else { ops::concatenate(&hidden, 0)? };
        let next: Vec<u32> = self.queue.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
        self.draft_state = match head.ingest(&hidden, &token_array(&next), history) {
            Ok(state) => Some(state),
            Err(error) => {
                history.commit(0)?;
                return Err(error.into());
            }
        };
        self.queue.clear();
        Ok(())
    }
}

impl Outcomes {
    /// These, if they decide on a token.
    fn decided(self) -> Result<Self> {
        if self.finite_rows() == 0 { Err(SessionError::NotFinite) } else { Ok(self) }
    }
}

/// The outcomes of a round, on the host.
fn read_back(read: &Array) -> Result<Outcomes> {
    wait(read)?;
    Ok(Outcomes::new(values(read)?))
}
