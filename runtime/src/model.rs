//! The seam between the loop and the architectures: trunk, draft head, and nothing else.
//!
//! A model owns weights only, which never change. A session owns caches, history, randomness and settings, so several sessions share
//! a model. Arrays that cross this seam are lazy: the loop evaluates once a round.
//!
//! One sequence at a time: there is no batch axis, because the program serves one user at batch one and a verification
//! already is a batch of rows. Serving several sequences would add a method, not an axis to every one.

use std::fmt;

use crate::artifact::HiddenVariant;
use crate::cache::Cache;
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

/// The language model proper: tokens in, hidden states and logits out.
pub trait Trunk: Send {
    /// An empty cache for one sequence.
    fn new_cache(&self) -> Cache;

    /// Appends `tokens` to the cache and returns the hidden state of every row: after the final norm, unless the artifact's
    /// contract has its draft head fed from before it ([`ModelInfo::hidden_variant`]).
    ///
    /// `tokens`: `[n]` int32, n > 0. Returns `[n, hidden]`.
    ///
    /// The rows stay pending: the cache's length does not grow until [`Cache::commit`] says how many of them to keep.
    /// This is the whole rollback protocol; `commit(0)` aborts.
    fn verify(&self, tokens: &Array, cache: &mut Cache) -> Result<Array>;

    /// [`Trunk::verify`] with every row committed: the way to feed a prompt.
    fn forward(&self, tokens: &Array, cache: &mut Cache) -> Result<Array> {
        let hidden = self.verify(tokens, cache)?;
        cache.commit(tokens.dim(0) as usize)?;
        Ok(hidden)
    }

    /// `[n, hidden]` -> `[n, vocab]`, f32. Pass only the rows that are needed.
    fn logits(&self, hidden: &Array) -> Result<Array>;
}

/// A draft in progress: what [`Drafter::ingest`] leaves for [`Drafter::step`].
#[derive(Debug, Clone)]
pub struct DraftState {
    /// For each MTP layer, its outputs (after its norm) for the rows of the last ingest, `[rows, hidden]`.
    pub rows: Vec<Array>,
    /// What is fed on of them, to the layer after it or at the next depth: the same, unless the artifact's contract says
    /// before the norm. In heads of several layers, drafts add rows.
    pub fed: Vec<Array>,
    /// The output that the next logits are read from, `[1, hidden]`.
    pub last: Array,
    /// What of it is fed on.
    pub last_fed: Array,
    /// The drafts that were fed back so far, `[1]` int32 each.
    pub drafts: Vec<Array>,
    /// Keys and values of the drafts' own rows: never part of the history.
    pub side: Vec<(Array, Array)>,
}

/// The model's own draft head (multi-token prediction).
///
/// Row t of the head is fed the trunk's hidden state of row t and token t+1; its logits predict token t+2.
pub trait Drafter: Send {
    /// The largest depth that this head can draft.
    fn max_depth(&self) -> usize;

    /// An empty history, one for each session, like the trunk's cache.
    fn new_history(&self) -> Cache;

    /// Feeds committed rows: `hidden` `[n, hidden]` from the trunk and the token that follows each, `[n]` int32.
    ///
    /// The only way the history grows. Returns the state that drafts start from.
    fn ingest(&self, hidden: &Array, next_tokens: &Array, history: &mut Cache) -> Result<DraftState>;

    /// Logits `[1, vocab]` of the next draft: of the first with `previous = None`, after that with the draft that was
    /// drawn before, `[1]` int32. The history is read, never changed. Where drafts are restricted, a column for each token of
    /// `vocabulary`.
    fn step(
        &self,
        state: &mut DraftState,
        previous: Option<&Array>,
        history: &Cache,
        vocabulary: Option<&DraftVocabulary>,
    ) -> Result<Array>;

    /// Logits `[n, vocab]` of rows of [`DraftState::rows`].
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
