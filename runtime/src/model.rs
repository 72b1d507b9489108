//! The seam between the loop and the architectures: trunk, draft head, and nothing else.
//!
//! A model owns weights only, which never change. A sequence owns caches, history, randomness and settings, so several sequences share
//! a model. Arrays that cross this seam are lazy: the loop evaluates once a round.
//!
//! A pass serves rows of any number of sequences, one below the other, without a batch axis ([`Batch`]).

use std::fmt;

use crate::artifact::HiddenVariant;
use crate::cache::{Cache, Prefix};
use crate::nn::LmHead;
use crate::{Array, Result};

/// A loaded model.
pub struct MtpModel {
    /// The language model proper.
    pub trunk: Box<dyn Trunk>,
    /// Its own draft head, where the checkpoint has one.
    pub drafter: Option<Box<dyn Drafter>>,
    /// Facts that the loop needs.
    pub info: ModelInfo,
}

/// Facts about a loaded model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Vocabulary size: the width of a row of logits.
    pub vocab_size: usize,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Tokens of context that the model was made for (`max_position_embeddings`).
    pub context: usize,
    /// Bytes of weights as loaded.
    pub weight_bytes: usize,
    /// Which hidden states the trunk puts out.
    pub hidden_variant: HiddenVariant,
}

/// Rows of several sequences, one below the other in their order.
pub struct Batch<'a> {
    /// The rows.
    pub input: Input<'a>,
    /// The sequences that they belong to.
    pub sequences: Vec<SequenceRows<'a>>,
}

impl<'a> Batch<'a> {
    /// Rows of one sequence, behind those in its cache.
    pub fn of_one(input: Input<'a>, cache: &'a mut Cache) -> Self {
        let count = input.rows();
        Self { input, sequences: vec![SequenceRows { cache, count, positions: Positions::Sequential }] }
    }
}

/// Rows before the first layer.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Tokens `[rows]` int32.
    Tokens(&'a Array),
    /// Embeddings `[rows, hidden]`.
    Embeddings(&'a Array),
}

impl Input<'_> {
    /// How many.
    pub fn rows(&self) -> usize {
        let (Self::Tokens(rows) | Self::Embeddings(rows)) = self;
        rows.dim(0).max(0) as usize
    }
}

/// The rows of one sequence in a batch.
pub struct SequenceRows<'a> {
    /// The sequence's cache, without pending rows.
    pub cache: &'a mut Cache,
    /// How many rows are its.
    pub count: usize,
    /// Where they are.
    pub positions: Positions,
}

/// Positions of a sequence's rows.
#[derive(Debug, Clone, Default)]
pub enum Positions {
    /// Behind the rows in the cache.
    #[default]
    Sequential,
    /// Stated, `[axes, count]` int32: one axis for text.
    Explicit(Array),
}

/// The language model proper: tokens in, hidden states and logits out.
pub trait Trunk: Send {
    /// An empty cache for one sequence.
    fn new_cache(&self) -> Cache;

    /// Embeddings of `tokens` `[n]` int32: `[n, hidden]`.
    fn embed(&self, tokens: &Array) -> Result<Array>;

    /// Appends the rows of each sequence to its cache and returns the hidden state of every row: after the final norm, unless the
    /// artifact's contract has its draft head fed from before it ([`ModelInfo::hidden_variant`]). Returns `[rows, hidden]`.
    ///
    /// The rows stay pending: a cache's length does not grow until [`Cache::commit`] says how many of them to keep. This is the whole
    /// rollback protocol; `commit(0)` aborts.
    ///
    /// # Errors
    /// Rows pending already; when MLX fails: then the rows are pending, and to be dropped.
    fn forward(&self, batch: &mut Batch<'_>) -> Result<Array>;

    /// [`Trunk::forward`] of `tokens` `[n]` int32 of one sequence.
    ///
    /// # Errors
    /// As [`Trunk::forward`].
    fn verify(&self, tokens: &Array, cache: &mut Cache) -> Result<Array> {
        self.forward(&mut Batch::of_one(Input::Tokens(tokens), cache))
    }

    /// [`Trunk::verify`] with every row committed: the way to feed a prompt.
    ///
    /// # Errors
    /// As [`Trunk::forward`].
    fn append(&self, tokens: &Array, cache: &mut Cache) -> Result<Array> {
        let hidden = self.verify(tokens, cache)?;
        cache.commit(tokens.dim(0) as usize)?;
        Ok(hidden)
    }

    /// `[n, hidden]` -> `[n, vocab]`, f32. Pass only the rows that are needed.
    fn logits(&self, hidden: &Array) -> Result<Array>;
}

/// State of a drafter for one sequence: its history, and the round in progress.
#[derive(Debug)]
pub struct DraftState {
    /// Keys and values of committed rows; those of drafts are pending, and never kept.
    pub history: Cache,
    /// The rows of the last ingest and the drafts behind them; `None` before the first.
    pub round: Option<DraftRound>,
}

impl DraftState {
    /// An empty history.
    pub fn new(history: Cache) -> Self {
        Self { history, round: None }
    }

    /// The round in progress.
    ///
    /// # Errors
    /// Nothing was ingested yet.
    pub fn round(&self) -> Result<&DraftRound> {
        self.round.as_ref().ok_or_else(|| crate::Error::cache("a draft before any row was ingested"))
    }

    /// The same, to change.
    ///
    /// # Errors
    /// Nothing was ingested yet.
    pub fn round_mut(&mut self) -> Result<&mut DraftRound> {
        self.round.as_mut().ok_or_else(|| crate::Error::cache("a draft before any row was ingested"))
    }

    /// The same at `history` with `round`, between rounds.
    pub fn resumed(history: &Prefix, round: Option<DraftRound>) -> Self {
        Self { history: history.fork(), round }
    }

    /// The committed rows as a prefix ([`Cache::freeze`]), and the round behind them. A draft in progress is dropped; the next one needs
    /// rows ingested.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn freeze(&mut self) -> Result<(Prefix, Option<DraftRound>)> {
        self.drop_drafts()?;
        Ok((self.history.freeze()?, self.round.clone()))
    }

    /// Drops the rows of drafts, and the round if it has some.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn drop_drafts(&mut self) -> Result<()> {
        self.round = self.round.take().filter(|round| round.drafts.is_empty());
        self.history.commit(0)
    }
}

/// A draft in progress: what [`Drafter::ingest`] leaves for [`Drafter::step`].
#[derive(Debug, Clone)]
pub struct DraftRound {
    /// For each MTP layer, its outputs (after its norm) for the rows of the last ingest, `[rows, hidden]`.
    pub rows: Vec<Array>,
    /// Input of the next layer or depth; equals `rows` unless the contract asks for pre-norm states. In heads of several layers, drafts
    /// add rows.
    pub fed: Vec<Array>,
    /// The output that the next logits are read from, `[1, hidden]`.
    pub last: Array,
    /// Input of the next depth, `[1, hidden]`.
    pub last_fed: Array,
    /// The drafts that were fed back so far, `[1]` int32 each.
    pub drafts: Vec<Array>,
}

/// Committed rows of one sequence.
pub struct CommittedRows<'a> {
    /// The drafter's state for it.
    pub state: &'a mut DraftState,
    /// Hidden states from the trunk, `[n, hidden]`.
    pub hidden: &'a Array,
    /// The embedding of the token that follows each, `[n, hidden]`: [`Drafter::embed`].
    pub next: &'a Array,
    /// Where they are.
    pub positions: Positions,
}

/// The next draft of one sequence.
pub struct DraftRow<'a> {
    /// The drafter's state for it.
    pub state: &'a mut DraftState,
    /// The draft that was drawn before, `[1]` int32; `None` for the first.
    pub previous: Option<&'a Array>,
    /// The tokens that drafts are restricted to.
    pub vocabulary: Option<&'a DraftVocabulary>,
}

/// The model's own draft head (multi-token prediction).
///
/// Row t of the head is fed the trunk's hidden state of row t and token t+1; its logits predict token t+2.
pub trait Drafter: Send {
    /// The largest depth that this head can draft.
    fn max_depth(&self) -> usize;

    /// An empty state, one for each sequence, like the trunk's cache.
    fn new_state(&self) -> DraftState;

    /// Embeddings of `tokens` `[n]` int32, the head's own where it has some: `[n, hidden]`.
    fn embed(&self, tokens: &Array) -> Result<Array>;

    /// Feeds committed rows of several sequences: the only way histories grow. Leaves the rounds that drafts start from.
    ///
    /// # Errors
    /// When MLX fails: histories are then as before.
    fn ingest(&self, rows: &mut [CommittedRows<'_>]) -> Result<()>;

    /// Logits `[1, vocab]` of the next draft of each sequence, or a column for each token of its vocabulary. Histories are read, never
    /// changed.
    ///
    /// # Errors
    /// Nothing ingested; deeper than the head drafts; when MLX fails.
    fn step(&self, drafts: &mut [DraftRow<'_>]) -> Result<Vec<Array>>;

    /// [`Drafter::ingest`] of one sequence: hidden states `[n, hidden]` and the tokens that follow, `[n]` int32.
    ///
    /// # Errors
    /// As [`Drafter::ingest`].
    fn feed(&self, state: &mut DraftState, hidden: &Array, next_tokens: &Array) -> Result<()> {
        let next = self.embed(next_tokens)?;
        self.ingest(&mut [CommittedRows { state, hidden, next: &next, positions: Positions::Sequential }])
    }

    /// [`Drafter::step`] of one sequence.
    ///
    /// # Errors
    /// As [`Drafter::step`].
    fn draft(
        &self,
        state: &mut DraftState,
        previous: Option<&Array>,
        vocabulary: Option<&DraftVocabulary>,
    ) -> Result<Array> {
        let mut logits = self.step(&mut [DraftRow { state, previous, vocabulary }])?;
        logits.pop().ok_or_else(|| crate::Error::unsupported("a step of no sequences"))
    }

    /// Logits `[n, vocab]` of rows of [`DraftRound::rows`].
    fn logits(&self, hidden: &Array) -> Result<Array>;

    /// A vocabulary of `tokens` alone, which are rising: less of the output matrix to read for each draft. Sampling stays exact,
    /// since q is 0 elsewhere (FR-Spec, Zhao et al. 2025, arXiv 2502.14856, does so with a draft model).
    ///
    /// # Errors
    /// No tokens, tokens out of order or beyond the vocabulary; when MLX fails.
    fn restrict(&self, tokens: &[u32]) -> Result<DraftVocabulary>;
}

/// Tokens that drafts are restricted to, and their rows of the output matrix. Sequences share it.
pub struct DraftVocabulary {
    tokens: Vec<u32>,
    lm_head: LmHead,
}

impl DraftVocabulary {
    /// The rows of `lm_head` are those of `tokens`, which are rising.
    pub fn new(tokens: Vec<u32>, lm_head: LmHead) -> Self {
        Self { tokens, lm_head }
    }

    /// The tokens, rising.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Their rows of the output matrix.
    pub fn lm_head(&self) -> &LmHead {
        &self.lm_head
    }
}

impl fmt::Debug for DraftVocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DraftVocabulary({} tokens)", self.tokens.len())
    }
}

/// Token ids as a model takes them, `[n]` int32.
#[must_use]
pub fn token_array(tokens: &[u32]) -> Array {
    let tokens: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    Array::from_slice(&tokens, &[tokens.len() as i32])
}
