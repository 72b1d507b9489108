//! The state of one sequence: caches, what the drafter keeps of it, randomness, settings, counters.
//!
//! Between rounds ([`super::round`]) the trunk's cache holds everything but the last emitted token, the *anchor*; the head's history
//! holds the pairs (hidden state of a row, token after it) of committed rows, or they wait in a queue while nothing is drafted.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

use mlx_rs::{error::Exception, ops, transforms};

use super::accept::Rule;
use super::depth::DepthPolicy;
use super::logprobs::{self, TokenLogprobs};
use super::simulate::Simulation;
use super::stats::SpeculationStats;
use crate::Array;
use crate::cache::{Cache, Prefix};
use crate::mlx::{cuda_default, slice_axis, values, wait};
use crate::model::{
    Batch, CommittedRows, DraftRound, DraftState, DraftVocabulary, Drafter, Input, MtpModel, Positions, SequenceRows,
    token_array,
};
use crate::sampling::device::{Outcomes, RoundNoise};
use crate::sampling::{DeviceSampler, Noise, ParamsError, Role, SamplingParams, TokenCounts};

/// [`prefill_chunk`]: more on CUDA, where weights are unpacked for every chunk.
const PREFILL_CHUNK: usize = 512;
const CUDA_PREFILL_CHUNK: usize = 2048;
/// Pairs that wait at most, while nothing is drafted, before they are fed to the head after all.
pub(super) const QUEUE: usize = 256;

/// How a sequence generates.
#[derive(Debug, Clone)]
pub struct SequenceOptions {
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
    /// Log-probabilities of every token and of so many likeliest ones in its place; `None` computes none.
    pub logprobs: Option<usize>,
}

/// How a sequence drafts. Nothing of it changes the output's distribution.
#[derive(Debug, Clone)]
pub struct DraftOptions {
    /// How many drafts a round.
    pub depth: DepthPolicy,
    /// How drafts are drawn; like the target unless stated.
    pub sampling: Option<SamplingParams>,
    /// Tokens that drafts are restricted to ([`Drafter::restrict`]); `None` for all.
    pub vocabulary: Option<Rc<DraftVocabulary>>,
}

impl DraftOptions {
    /// Drafts from the whole vocabulary, drawn like the target.
    pub fn new(depth: DepthPolicy) -> Self {
        Self { depth, sampling: None, vocabulary: None }
    }
}

/// Why a sequence cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
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

impl From<crate::Error> for SequenceError {
    fn from(error: crate::Error) -> Self {
        Self::Mlx(error)
    }
}

impl From<Exception> for SequenceError {
    fn from(error: Exception) -> Self {
        Self::Mlx(error.into())
    }
}

pub(super) type Result<T> = std::result::Result<T, SequenceError>;

/// A sequence between rounds, to go on from any number of times: the caches of trunk and head, the pairs that wait (the trunk's last
/// hidden state among them) and the counts. A clone shares the caches' rows. What a sequence was asked for is not part of it.
#[derive(Clone)]
pub struct Snapshot {
    cache: Prefix,
    draft: Option<(Prefix, Option<DraftRound>)>,
    queue: Vec<Pairs>,
    tail: Option<Tail>,
    counts: TokenCounts,
    anchor: Option<u32>,
}

impl Snapshot {
    /// The trunk's rows: everything but the last emitted token.
    pub fn cache(&self) -> &Prefix {
        &self.cache
    }

    /// True where a sequence that goes on from it can draft.
    pub fn drafts(&self) -> bool {
        self.draft.is_some()
    }

    /// Bytes held, spare capacity included; caches that go on from it share them.
    pub fn nbytes(&self) -> usize {
        let history = self.draft.as_ref().map_or(0, |(history, _)| history.nbytes());
        let queue = self.queue.iter().map(|pairs| pairs.hidden.nbytes()).sum::<usize>();
        self.cache.nbytes() + history + queue
    }
}

/// One sequence being generated. Weights are the model's, so many sequences share one model.
pub struct Sequence {
    pub(super) sampler: DeviceSampler,
    pub(super) draft_sampler: Option<DeviceSampler>,
    pub(super) vocabulary: Option<Rc<DraftVocabulary>>,
    pub(super) rule: Rule,
    /// Decides instead of the rule, in benchmarks.
    pub(super) simulation: Option<Simulation>,
    pub(super) depth: DepthPolicy,
    pub(super) noise: Noise,
    pub(super) stop_tokens: Vec<u32>,
    pub(super) logprobs: Option<usize>,
    pub(super) cache: Cache,
    /// What the drafter keeps; `None` where nothing is drafted.
    pub(super) draft: Option<DraftState>,
    /// Committed pairs that the head has not seen yet.
    pub(super) queue: Vec<Pairs>,
    /// The last row of the prompt, while no token follows it.
    pub(super) tail: Option<Tail>,
    pub(super) fed: Option<Fed>,
    pub(super) counts: TokenCounts,
    pub(super) anchor: Option<u32>,
    /// True where a plain round is sent before the one ahead of it is read back.
    pub(super) looks_ahead: bool,
    pub(super) ahead: Option<PlainRound>,
    /// What the depth policy said of the next round already.
    pub(super) planned: Option<usize>,
    /// The next token was to come from a row that is not finite.
    pub(super) faulty: bool,
    pub(super) stats: SpeculationStats,
}

/// A round without drafts that was sent; its row is pending.
pub(super) struct PlainRound {
    /// `[1, hidden]`.
    pub hidden: Array,
    /// What was drawn, `[1]` int32.
    pub token: Array,
    /// The same, to be read back.
    pub read: Array,
    /// `[1, vocab]`, where log-probabilities were asked for.
    pub logits: Option<Array>,
}

/// Committed rows and what follows each.
#[derive(Clone)]
pub(super) struct Pairs {
    /// Hidden states `[n, hidden]`.
    pub hidden: Array,
    pub next: Next,
    pub positions: Positions,
}

/// What follows rows.
#[derive(Clone)]
pub(super) enum Next {
    Tokens(Vec<u32>),
    /// `[n, hidden]`.
    Embeddings(Array),
}

impl Next {
    fn len(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Embeddings(rows) => rows.dim(0).max(0) as usize,
        }
    }

    fn embed(&self, head: &dyn Drafter) -> Result<Array> {
        match self {
            Self::Tokens(tokens) => Ok(head.embed(&token_array(tokens))?),
            Self::Embeddings(rows) => Ok(rows.clone()),
        }
    }
}

/// The token behind a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstToken {
    /// The token.
    pub token: u32,
    /// True where it is a stop token.
    pub stopped: bool,
    /// Its log-probabilities, where they were asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// The pieces of a prompt so far.
pub(super) struct Fed {
    since: Instant,
    tokens: usize,
    /// Of work; others may have been served between two pieces.
    seconds: f64,
}

/// A row without a token behind it.
#[derive(Clone)]
pub(super) struct Tail {
    /// `[1, hidden]`.
    pub(super) hidden: Array,
    pub(super) positions: Positions,
}

/// A piece of a prompt.
#[derive(Debug, Clone, Copy)]
pub struct PromptChunk<'a> {
    /// The tokens; at least one.
    pub tokens: &'a [u32],
    /// Embeddings `[n, hidden]` in place of the tokens' own: rows of images among them.
    pub embeddings: Option<&'a Array>,
    /// Where the rows are.
    pub positions: &'a Positions,
}

impl<'a> PromptChunk<'a> {
    /// Text behind what was fed before.
    pub fn text(tokens: &'a [u32]) -> Self {
        Self { tokens, embeddings: None, positions: &Positions::Sequential }
    }
}

impl Sequence {
    /// An empty sequence on `model`.
    ///
    /// # Errors
    /// Parameters out of range.
    pub fn new(model: &MtpModel, options: SequenceOptions) -> Result<Self> {
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
            logprobs: options.logprobs,
            cache: model.trunk.new_cache(),
            draft: drafter.map(|head| head.new_state()),
            queue: Vec::new(),
            tail: None,
            fed: None,
            counts: TokenCounts::default(),
            anchor: None,
            looks_ahead: cuda_default(),
            ahead: None,
            planned: None,
            faulty: false,
            stats: SpeculationStats::new(),
        })
    }

    /// This sequence, sending plain rounds ahead on whatever device there is.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn looking_ahead(self) -> Self {
        Self { looks_ahead: true, ..self }
    }

    /// Everything that the next round depends on but the options. This sequence goes on behind the same rows ([`Cache::freeze`]).
    ///
    /// # Errors
    /// When MLX fails.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        self.forget_ahead()?;
        Ok(Snapshot {
            cache: self.cache.freeze()?,
            draft: self.draft.as_mut().map(DraftState::freeze).transpose()?,
            queue: self.queue.clone(),
            tail: self.tail.clone(),
            counts: self.counts.clone(),
            anchor: self.anchor,
        })
    }

    /// A sequence that goes on where `snapshot` was taken, on the same model, with options of its own; it drafts only where the
    /// snapshot has a history.
    ///
    /// # Errors
    /// As [`Sequence::new`].
    pub fn resume(model: &MtpModel, options: SequenceOptions, snapshot: &Snapshot) -> Result<Self> {
        let new = Self::new(model, options)?;
        let draft = snapshot.draft.as_ref().filter(|_| new.draft.is_some());
        Ok(Self {
            cache: snapshot.cache.fork(),
            draft: draft.map(|(history, round)| DraftState::resumed(history, round.clone())),
            queue: snapshot.queue.clone(),
            tail: snapshot.tail.clone(),
            counts: snapshot.counts.clone(),
            anchor: snapshot.anchor,
            ..new
        })
    }

    /// This sequence with the decision of every round by stated figures: **not exact**, for benchmarks. See
    /// [`super::simulate`].
    ///
    /// # Errors
    /// Under the coupled rule, where what the target drew is emitted, whether it is the draft or not: there is no decision
    /// to replace.
    pub fn simulated(self, simulation: Simulation) -> Result<Self> {
        match self.rule {
            Rule::Rejection => Ok(Self { simulation: Some(simulation), ..self }),
            Rule::Coupled => Err(SequenceError::Order("the coupled rule has no acceptance to simulate")),
        }
    }

    /// Counters so far.
    pub fn stats(&self) -> &SpeculationStats {
        &self.stats
    }

    /// Sets the depth of the next round, at most the depth policy's own; nothing where that is fixed, since the text of a seed depends on
    /// it. False there, and for a sequence that does not draft.
    pub fn plan_depth(&mut self, depth: usize) -> bool {
        let adapts = self.draft.is_some() && matches!(self.depth, DepthPolicy::Adaptive(_));
        if adapts {
            self.planned = Some(depth.min(self.depth.max_depth()));
        }
        adapts
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
        ingest(model, &mut [&mut *self])?;
        Ok(self.draft.as_ref().map(|draft| &draft.history))
    }

    /// Feeds a prompt and draws the token after it. `progress` is told the tokens fed so far and all of them, and may break off between
    /// two chunks. Behind text that was generated before, the prompt goes on from it.
    ///
    /// # Errors
    /// An empty prompt, a token that the model does not have, [`SequenceError::Interrupted`], [`SequenceError::NotFinite`].
    pub fn prefill(
        &mut self,
        model: &MtpModel,
        prompt: &[u32],
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<u32> {
        check(model, prompt)?;
        let mut fed = 0;
        for tokens in prompt.chunks(prefill_chunk()) {
            self.feed(model, PromptChunk::text(tokens))?;
            fed += tokens.len();
            if progress(fed, prompt.len()).is_break() {
                return Err(SequenceError::Interrupted);
            }
        }
        Ok(self.first(model)?.token)
    }

    /// Feeds a piece of a prompt, behind everything before it, and draws nothing.
    ///
    /// # Errors
    /// No tokens, or one that the model does not have; embeddings of another count; after an error that ended the sequence.
    pub fn feed(&mut self, model: &MtpModel, chunk: PromptChunk<'_>) -> Result<()> {
        let started = Instant::now();
        check(model, chunk.tokens)?;
        let rows = chunk.tokens.len();
        if chunk.embeddings.is_some_and(|embeddings| embeddings.dim(0) as usize != rows) {
            return Err(SequenceError::Order("a chunk has an embedding for each token"));
        }
        if self.faulty || self.anchor.is_none() && self.tail.is_none() && !self.cache.is_empty() {
            return Err(SequenceError::Order("a prompt after an error"));
        }
        self.forget_ahead()?;
        self.counts.extend_prompt(chunk.tokens);
        // The token that was drawn last is in no cache yet.
        if let Some(anchor) = self.anchor.take() {
            let hidden = self.append(model, Input::Tokens(&token_array(&[anchor])), &Positions::Sequential)?;
            self.tail = Some(Tail { hidden, positions: Positions::Sequential });
        }
        let tokens = token_array(chunk.tokens);
        let input = chunk.embeddings.map_or(Input::Tokens(&tokens), Input::Embeddings);
        let next = |start: usize, stop: usize| -> Result<Next> {
            Ok(match chunk.embeddings {
                Some(rows) => Next::Embeddings(slice_axis(rows, 0, start as i32, stop as i32)?),
                None => Next::Tokens(chunk.tokens[start..stop].to_vec()),
            })
        };
        let hidden = self.append(model, input, chunk.positions)?;
        if let Some(Tail { hidden, positions }) = self.tail.take() {
            self.queue.push(Pairs { hidden, next: next(0, 1)?, positions });
        }
        if rows > 1 {
            let known = slice_axis(&hidden, 0, 0, rows as i32 - 1)?;
            let positions = part(chunk.positions, 0, rows as i32 - 1)?;
            self.queue.push(Pairs { hidden: known, next: next(1, rows)?, positions });
        }
        ingest(model, &mut [&mut *self])?;
        let last = slice_axis(&hidden, 0, rows as i32 - 1, rows as i32)?;
        let head = self.draft.iter().flat_map(|draft| draft.history.arrays());
        transforms::eval(self.cache.arrays().chain(head).chain([&last]))?;
        self.tail = Some(Tail { hidden: last, positions: part(chunk.positions, rows as i32 - 1, rows as i32)? });
        let fed = self.fed.get_or_insert(Fed { since: started, tokens: 0, seconds: 0.0 });
        fed.tokens += rows;
        fed.seconds += started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Rows in the trunk's cache, committed; dropped where that fails.
    fn append(&mut self, model: &MtpModel, input: Input<'_>, positions: &Positions) -> Result<Array> {
        let count = input.rows();
        let rows = SequenceRows { cache: &mut self.cache, count, positions: positions.clone() };
        let hidden = model.trunk.forward(&mut Batch { input, sequences: vec![rows] });
        self.cache.commit(if hidden.is_ok() { count } else { 0 })?;
        Ok(hidden?)
    }

    /// Draws the token after the prompt.
    ///
    /// # Errors
    /// Before a prompt; [`SequenceError::NotFinite`].
    pub fn first(&mut self, model: &MtpModel) -> Result<FirstToken> {
        let Tail { hidden, positions } =
            self.tail.clone().ok_or(SequenceError::Order("a first token before the prompt"))?;
        let logits = model.trunk.logits(&hidden)?;
        let counts = self.sampler.count_rows(&self.counts, &[])?;
        let draws = RoundNoise { rule: self.rule, noise: &self.noise, first: self.cache.len() as u64 };
        let (law, first) = self.sampler.sample(&logits, counts.as_ref(), &draws, Role::Bonus)?;
        let first = read_back(&draws.outcomes(&law, &[], &[], &first)?)?.decided()?.bonus();
        self.queue.push(Pairs { hidden, next: Next::Tokens(vec![first]), positions });
        self.tail = None;
        self.counts.push(first);
        self.anchor = Some(first);
        if let Some(Fed { since, tokens, seconds }) = self.fed.take() {
            self.stats.record_prefill(tokens, seconds, since.elapsed().as_secs_f64());
        }
        let logprobs = self.logprobs.map(|top| logprobs::of_rows(&logits, &[first], top)).transpose()?;
        Ok(FirstToken {
            token: first,
            stopped: self.stop_tokens.contains(&first),
            logprobs: logprobs.and_then(|mut rows| rows.pop()),
        })
    }

    /// Takes back a round that was sent ahead.
    pub(super) fn forget_ahead(&mut self) -> Result<()> {
        if self.ahead.take().is_some() {
            self.cache.commit(0)?;
        }
        Ok(())
    }

    /// Pairs that wait.
    pub(super) fn queued(&self) -> usize {
        self.queue.iter().map(|pairs| pairs.next.len()).sum()
    }

    /// Computes the history now instead of with the next round.
    pub(super) fn settle_history(&self) -> Result<()> {
        Ok(transforms::eval(self.draft.iter().flat_map(|draft| draft.history.arrays()))?)
    }
}

/// Prompt tokens that are fed at once, so that a prompt can be broken off.
pub fn prefill_chunk() -> usize {
    if cuda_default() { CUDA_PREFILL_CHUNK } else { PREFILL_CHUNK }
}

/// Refuses a prompt of no tokens, or with one that the model does not have.
fn check(model: &MtpModel, prompt: &[u32]) -> Result<()> {
    if prompt.is_empty() {
        return Err(SequenceError::EmptyPrompt);
    }
    let vocab = model.info.vocab_size;
    match prompt.iter().find(|&&token| token as usize >= vocab) {
        Some(&token) => Err(SequenceError::UnknownToken { token, vocab }),
        None => Ok(()),
    }
}

/// The positions of rows `start` to `stop`.
fn part(positions: &Positions, start: i32, stop: i32) -> Result<Positions> {
    Ok(match positions {
        Positions::Sequential => Positions::Sequential,
        Positions::Explicit(each) => Positions::Explicit(slice_axis(each, 1, start, stop)?),
    })
}

/// Feeds the head every pair that waits in `sequences`, together, and starts drafts behind the last of each.
pub(super) fn ingest(model: &MtpModel, sequences: &mut [&mut Sequence]) -> Result<()> {
    let mut inputs = Vec::with_capacity(sequences.len());
    let mut states = Vec::with_capacity(sequences.len());
    let Some(head) = &model.drafter else {
        sequences.iter_mut().for_each(|sequence| sequence.queue.clear());
        return Ok(());
    };
    for sequence in sequences.iter_mut() {
        match &mut sequence.draft {
            None => sequence.queue.clear(),
            Some(_) if sequence.queue.is_empty() => {}
            Some(state) => {
                inputs.push(joined(&sequence.queue, &**head)?);
                states.push(state);
            }
        }
    }
    if states.is_empty() {
        return Ok(());
    }
    let rows = states.into_iter().zip(&inputs).map(|(state, (hidden, next, positions))| CommittedRows {
        state,
        hidden,
        next,
        positions: positions.clone(),
    });
    head.ingest(&mut rows.collect::<Vec<_>>())?;
    sequences.iter_mut().for_each(|sequence| sequence.queue.clear());
    Ok(())
}

/// The pairs of a queue in one: hidden states, what follows them, positions.
fn joined(queue: &[Pairs], head: &dyn Drafter) -> Result<(Array, Array, Positions)> {
    let hidden: Vec<&Array> = queue.iter().map(|pairs| &pairs.hidden).collect();
    let hidden = if let [only] = hidden[..] { only.clone() } else { ops::concatenate(&hidden, 0)? };
    let tokens = queue.iter().map(|pairs| match &pairs.next {
        Next::Tokens(tokens) => Some(&tokens[..]),
        Next::Embeddings(_) => None,
    });
    let next = match tokens.collect::<Option<Vec<_>>>() {
        Some(tokens) => head.embed(&token_array(&tokens.concat()))?,
        None => {
            let parts = queue.iter().map(|pairs| pairs.next.embed(head)).collect::<Result<Vec<_>>>()?;
            ops::concatenate(&parts, 0)?
        }
    };
    let stated = queue.iter().map(|pairs| match &pairs.positions {
        Positions::Explicit(each) => Some(each),
        Positions::Sequential => None,
    });
    // Rows behind stated ones are sequential again; a queue is of one kind, since every chunk empties it.
    let positions = match stated.collect::<Option<Vec<_>>>() {
        Some(each) => Positions::Explicit(ops::concatenate(&each, 1)?),
        None => Positions::Sequential,
    };
    Ok((hidden, next, positions))
}

impl Outcomes {
    /// These, if they decide on a token.
    pub(super) fn decided(self) -> Result<Self> {
        if self.finite_rows() == 0 { Err(SequenceError::NotFinite) } else { Ok(self) }
    }
}

/// The outcomes of a round, on the host.
pub(super) fn read_back(read: &Array) -> Result<Outcomes> {
    wait(read)?;
    Ok(Outcomes::new(values(read)?))
}
