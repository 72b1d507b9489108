//! The draft head that DeepSeek-style families share (DeepSeek-V3, arXiv 2412.19437, section 2.2): MTP layers that fuse
//! the hidden state before them with the embedding of the next token.
//!
//! Row t of layer j is fed the output of layer j-1 (the trunk's hidden state for j = 0) at row t and token t+j+1, and
//! predicts token t+j+2. With a single layer, deeper drafts feed it its own output (after its norm) and the draft.

use mlx_rs::ops;

use super::{Block, Embedding, LmHead, Residual, RmsNorm, Rows};
use crate::artifact::{ConcatOrder, HiddenVariant};
use crate::cache::{Cache, LayerCache, RecurrentCache, Tape};
use crate::mlx::slice_axis;
use crate::model::{DraftState, DraftVocabulary, Drafter, token_array};
use crate::quant::Linear;
use crate::{Array, Result};

/// An MTP layer: `norm(block(projection([norm_e(embedding), norm_h(hidden)])))`.
pub struct MtpLayer {
    /// Of the embedding.
    pub embedding_norm: RmsNorm,
    /// Of the hidden state.
    pub hidden_norm: RmsNorm,
    /// `[hidden, 2 * hidden]`.
    pub projection: Linear,
    /// The order of its inputs.
    pub order: ConcatOrder,
    /// The decoder layer.
    pub block: Block,
    /// Before the head.
    pub norm: RmsNorm,
}

impl MtpLayer {
    /// Norms, joins and projects a hidden state and an embedding, both `[n, hidden]` -> `[n, hidden]`.
    fn fuse(&self, hidden: &Array, embedding: &Array) -> Result<Array> {
        let joined = match self.order {
            ConcatOrder::EmbeddingHidden => self.embedding_norm.join(embedding, &self.hidden_norm, hidden)?,
            ConcatOrder::HiddenEmbedding => self.hidden_norm.join(hidden, &self.embedding_norm, embedding)?,
        };
        self.projection.forward(&joined)
    }

    /// The decoder block and the norm before the head: `[n, hidden]` -> the output of each, `[n, hidden]`.
    fn block(&self, x: &Array, rows: &mut Rows<'_>) -> Result<[Array; 2]> {
        let mut x = Residual::new(x)?;
        self.block.forward(&mut x, rows)?;
        let normed = x.norm(&self.norm)?;
        Ok([x.sum()?, normed])
    }
}

/// A draft head of one or more MTP layers.
pub struct MtpHead {
    modules: Vec<MtpLayer>,
    embedding: Embedding,
    lm_head: LmHead,
    max_depth: usize,
    fed: HiddenVariant,
}

/// What a layer makes of some rows, `[n, hidden]` each.
struct Outputs {
    /// After its norm: logits are read from this.
    normed: Array,
    /// What the layer after it, or the next depth, is fed.
    fed: Array,
}

impl MtpHead {
    /// A head of `modules` that shares the trunk's embedding and head, or brings its own. A single layer drafts up to
    /// `max_depth` tokens by recursion; several draft one each.
    pub fn new(modules: Vec<MtpLayer>, embedding: Embedding, lm_head: LmHead, max_depth: usize) -> Self {
        let max_depth = if modules.len() == 1 { max_depth } else { modules.len() };
        Self { modules, embedding, lm_head, max_depth, fed: HiddenVariant::PostNorm }
    }

    /// The same, fed with its own outputs as a contract asks for them (`mtp_contract.hidden_variant`).
    #[must_use]
    pub fn feeding(mut self, variant: Option<HiddenVariant>) -> Self {
        self.fed = variant.unwrap_or(self.fed);
        self
    }

    /// Logits of a draft.
    fn draft_logits(&self, hidden: &Array, vocabulary: Option<&DraftVocabulary>) -> Result<Array> {
        vocabulary.map_or(&self.lm_head, DraftVocabulary::lm_head).forward(hidden)
    }

    fn run(&self, layer: usize, hidden: &Array, tokens: &Array, rows: &mut Rows<'_>) -> Result<Outputs> {
        let module = &self.modules[layer];
        let fused = module.fuse(hidden, &self.embedding.forward(tokens)?)?;
        let [block, normed] = module.block(&fused, rows)?;
        let fed = match self.fed {
            HiddenVariant::PreNorm => block,
            HiddenVariant::PostNorm => normed.clone(),
        };
        Ok(Outputs { normed, fed })
    }
}

/// The newest output of the layer before, for which the next token is not known yet; none while that layer lags too.
struct Lagging(Option<Array>);

impl Tape for Lagging {
    fn states_after(&self, _keep: usize) -> Result<Vec<Array>> {
        Ok(self.0.iter().cloned().collect())
    }
}

fn rows_of(a: &Array, start: i32, stop: i32) -> Result<Array> {
    Ok(slice_axis(a, 0, start, stop)?)
}

fn last_row(a: &Array) -> Result<Array> {
    rows_of(a, a.dim(0) - 1, a.dim(0))
}

impl Drafter for MtpHead {
    fn max_depth(&self) -> usize {
        self.max_depth
    }

    /// Keys and values of each layer, then for each layer but the first the one row that it lags behind.
    fn new_history(&self) -> Cache {
        let kv = self.modules.iter().map(|module| module.block.new_cache());
        let lagging = self.modules.iter().skip(1).map(|_| LayerCache::Recurrent(RecurrentCache::default()));
        Cache::new(kv.chain(lagging).collect())
    }

    fn ingest(&self, hidden: &Array, next_tokens: &Array, history: &mut Cache) -> Result<DraftState> {
        let n = hidden.dim(0);
        let layers = history.append(n as usize)?;
        let (kv, lagging) = layers.split_at_mut(self.modules.len());
        let first = self.run(0, hidden, next_tokens, &mut Rows::Kept(&mut kv[0]))?;
        let (mut rows, mut fed) = (vec![first.normed], vec![first.fed]);
        for layer in 1..self.modules.len() {
            let before = &fed[layer - 1];
            let carried = lagging[layer - 1].recurrent()?;
            // Everything the layer before put out, one row late: what it carried over, without its newest row.
            let known = match carried.states() {
                [row] => ops::concatenate(&[row, before], 0)?,
                _ => before.clone(),
            };
            let ready = (known.dim(0) - 1).max(0);
            carried.record(Lagging((known.dim(0) > 0).then(|| last_row(&known)).transpose()?));
            let outputs = if ready == 0 {
                let none = rows_of(&known, 0, 0)?;
                Outputs { normed: none.clone(), fed: none }
            } else {
                let tokens = rows_of(next_tokens, n - ready, n)?;
                self.run(layer, &rows_of(&known, 0, ready)?, &tokens, &mut Rows::Kept(&mut kv[layer]))?
            };
            rows.push(outputs.normed);
            fed.push(outputs.fed);
        }
        history.commit(n as usize)?;
        let (last, last_fed) = (last_row(&rows[0])?, last_row(&fed[0])?);
        Ok(DraftState { rows, fed, last, last_fed, drafts: Vec::new(), side: Vec::new() })
    }

    fn step(
        &self,
        state: &mut DraftState,
        previous: Option<&Array>,
        history: &Cache,
        vocabulary: Option<&DraftVocabulary>,
    ) -> Result<Array> {
        let Some(previous) = previous else { return self.draft_logits(&state.last, vocabulary) };
        state.drafts.push(previous.clone());
        let depth = state.drafts.len();
        let kv = |layer: usize| match &history.layers()[layer] {
            LayerCache::Kv(kv) => Ok(kv),
            LayerCache::Recurrent(_) => Err(crate::Error::cache("the history's first layers hold keys and values")),
        };
        if self.modules.len() == 1 {
            let mut rows = Rows::Beside { history: kv(0)?, side: &mut state.side };
            let outputs = self.run(0, &state.last_fed, previous, &mut rows)?;
            (state.last, state.last_fed) = (outputs.normed, outputs.fed);
        } else {
            if depth >= self.modules.len() {
                let what = format!("a head of {} layers drafts no deeper", self.modules.len());
                return Err(crate::Error::unsupported(what));
            }
            // Layer `depth` lags `depth` rows; the drafts so far are the tokens those rows waited for.
            let LayerCache::Recurrent(carried) = &history.layers()[self.modules.len() + depth - 1] else {
                return Err(crate::Error::unsupported("the history's last layers hold lagging rows"));
            };
            let [row] = carried.states() else {
                let what = format!("depth {} needs a prompt of more than {depth} tokens", depth + 1);
                return Err(crate::Error::unsupported(what));
            };
            let tentative = match state.fed[depth - 1].dim(0) {
                rows if depth > 1 => rows_of(&state.fed[depth - 1], rows - (depth as i32 - 1), rows)?,
                _ => rows_of(&state.fed[0], 0, 0)?,
            };
            let inputs = ops::concatenate(&[row, &tentative], 0)?;
            let tokens = ops::concatenate(&state.drafts, 0)?;
            let mut side = Vec::new();
            let outputs =
                self.run(depth, &inputs, &tokens, &mut Rows::Beside { history: kv(depth)?, side: &mut side })?;
            (state.last, state.last_fed) = (last_row(&outputs.normed)?, last_row(&outputs.fed)?);
            match state.fed.get_mut(depth) {
                Some(fed) => *fed = ops::concatenate(&[&*fed, &outputs.fed], 0)?,
                None => state.fed.push(outputs.fed),
            }
        }
        self.draft_logits(&state.last, vocabulary)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.lm_head.forward(hidden)
    }

    fn restrict(&self, tokens: &[u32]) -> Result<DraftVocabulary> {
        let vocab = self.lm_head.0.weight().out_features();
        let last = tokens.last().ok_or_else(|| crate::Error::unsupported("drafts of no tokens"))?;
        if !tokens.is_sorted_by(|a, b| a < b) || i64::from(*last) >= i64::from(vocab) {
            let what =
                format!("drafts of {} tokens, the last {last}: expected rising ones below {vocab}", tokens.len());
            return Err(crate::Error::unsupported(what));
        }
        let lm_head = LmHead(self.lm_head.0.take_rows(&token_array(tokens))?);
        Ok(DraftVocabulary::new(tokens.to_vec(), lm_head))
    }
}
