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
use crate::model::{CommittedRows, DraftRound, DraftRow, DraftState, DraftVocabulary, Drafter, Positions, token_array};
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
    fn block(&self, x: &Array, rows: &mut [Rows<'_>]) -> Result<[Array; 2]> {
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

    /// One layer over hidden states and the embeddings of the tokens that follow them, `[n, hidden]` each.
    fn run(&self, layer: usize, hidden: &Array, next: &Array, rows: &mut [Rows<'_>]) -> Result<Outputs> {
        let module = &self.modules[layer];
        let [block, normed] = module.block(&module.fuse(hidden, next)?, rows)?;
        let fed = match self.fed {
            HiddenVariant::PreNorm => block,
            HiddenVariant::PostNorm => normed.clone(),
        };
        Ok(Outputs { normed, fed })
    }

    /// Appends committed rows to the histories, which stay pending where it fails.
    fn append(&self, rows: &mut [CommittedRows<'_>]) -> Result<()> {
        let counts: Vec<i32> = rows.iter().map(|rows| rows.hidden.dim(0)).collect();
        let mut histories = Vec::with_capacity(rows.len());
        let (mut hidden, mut next, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for (CommittedRows { state, hidden: own, next: following, positions: stated }, &count) in
            rows.iter_mut().zip(&counts)
        {
            if self.modules.len() > 1 && matches!(stated, Positions::Explicit(_)) {
                return Err(crate::Error::unsupported("stated positions in a head of several layers"));
            }
            // Rows of drafts are dropped.
            state.history.commit(0)?;
            let layers = state.history.append(count as usize)?;
            histories.push((layers.split_at_mut(self.modules.len()), &mut state.round));
            hidden.push(*own);
            next.push(*following);
            positions.push(&*stated);
        }
        let kept = histories.iter_mut().zip(&counts).zip(&positions).map(|((((kv, _), _), &count), positions)| Rows {
            count,
            positions,
            cache: &mut kv[0],
        });
        let first = self.run(0, &stacked(&hidden)?, &stacked(&next)?, &mut kept.collect::<Vec<_>>())?;
        let mut made: Vec<DraftRound> = Vec::with_capacity(counts.len());
        for Outputs { normed, fed } in first.apart(&counts)? {
            let (last, last_fed) = (last_row(&normed)?, last_row(&fed)?);
            let (rows, fed) = (vec![normed], vec![fed]);
            made.push(DraftRound { rows, fed, last, last_fed, drafts: Vec::new() });
        }
        for layer in 1..self.modules.len() {
            // Everything the layer before put out, one row late: what it carried over, without its newest row.
            let mut ready = Vec::with_capacity(counts.len());
            let mut known = Vec::with_capacity(counts.len());
            for (((_, lagging), _), round) in histories.iter_mut().zip(&made) {
                let before = &round.fed[layer - 1];
                let carried = lagging[layer - 1].recurrent()?;
                let rows = match carried.states() {
                    [row] => ops::concatenate(&[row, before], 0)?,
                    _ => before.clone(),
                };
                carried.record(Lagging((rows.dim(0) > 0).then(|| last_row(&rows)).transpose()?));
                ready.push((rows.dim(0) - 1).max(0));
                known.push(rows);
            }
            let outputs = self.run_ready(layer, &ready, &known, &next, &mut histories)?;
            for ((round, outputs), known) in made.iter_mut().zip(outputs).zip(&known) {
                let none = || rows_of(known, 0, 0);
                let (normed, fed) = match outputs {
                    Some(Outputs { normed, fed }) => (normed, fed),
                    None => (none()?, none()?),
                };
                round.rows.push(normed);
                round.fed.push(fed);
            }
        }
        for ((_, state), round) in histories.into_iter().zip(made) {
            *state = Some(round);
        }
        rows.iter_mut().zip(counts).try_for_each(|(rows, count)| rows.state.history.commit(count as usize))
    }

    /// A later layer over the rows that wait for it, `ready` of each sequence's `known`; `None` where none does.
    fn run_ready(
        &self,
        layer: usize,
        ready: &[i32],
        known: &[Array],
        next: &[&Array],
        histories: &mut [Histories<'_>],
    ) -> Result<Vec<Option<Outputs>>> {
        let (mut hidden, mut following, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (((kv, _), _), &count)) in histories.iter_mut().zip(ready).enumerate() {
            if count > 0 {
                hidden.push(rows_of(&known[index], 0, count)?);
                following.push(rows_of(next[index], next[index].dim(0) - count, next[index].dim(0))?);
                rows.push(Rows { count, positions: &Positions::Sequential, cache: &mut kv[layer] });
            }
        }
        if rows.is_empty() {
            return Ok(ready.iter().map(|_| None).collect());
        }
        let [hidden, following] = [hidden, following].map(|parts| stacked(&parts.iter().collect::<Vec<_>>()));
        let counts: Vec<i32> = ready.iter().copied().filter(|&count| count > 0).collect();
        let mut outputs = self.run(layer, &hidden?, &following?, &mut rows)?.apart(&counts)?.into_iter();
        Ok(ready.iter().map(|&count| if count > 0 { outputs.next() } else { None }).collect())
    }

    /// The next outputs of drafts that go deeper, with a head of one layer: it is fed its own outputs.
    fn recur(&self, drafts: &mut [(&mut DraftState, &Array)]) -> Result<()> {
        let (mut fed, mut tokens) = (Vec::new(), Vec::new());
        for (state, previous) in drafts.iter() {
            fed.push(state.round()?.last_fed.clone());
            tokens.push(*previous);
        }
        let fed = stacked(&fed.iter().collect::<Vec<_>>())?;
        let next = self.embedding.forward(&stacked(&tokens)?)?;
        let mut rows = Vec::with_capacity(drafts.len());
        for (state, _) in drafts.iter_mut() {
            rows.push(Rows { count: 1, positions: &Positions::Sequential, cache: &mut state.history.extend(1)[0] });
        }
        let outputs = self.run(0, &fed, &next, &mut rows)?.apart(&vec![1; rows.len()])?;
        for ((state, previous), Outputs { normed, fed }) in drafts.iter_mut().zip(outputs) {
            let round = state.round_mut()?;
            round.drafts.push(previous.clone());
            (round.last, round.last_fed) = (normed, fed);
        }
        Ok(())
    }

    /// The same with a head of several layers: the next of them.
    fn deepen(&self, state: &mut DraftState, previous: &Array) -> Result<()> {
        let DraftState { history, round } = state;
        let round = round.as_mut().ok_or_else(nothing_ingested)?;
        round.drafts.push(previous.clone());
        let depth = round.drafts.len();
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
        let tentative = match round.fed[depth - 1].dim(0) {
            rows if depth > 1 => rows_of(&round.fed[depth - 1], rows - (depth as i32 - 1), rows)?,
            _ => rows_of(&round.fed[0], 0, 0)?,
        };
        let inputs = ops::concatenate(&[row, &tentative], 0)?;
        let next = self.embedding.forward(&ops::concatenate(&round.drafts, 0)?)?;
        let count = inputs.dim(0);
        let cache = &mut history.extend(count as usize)[depth];
        let rows = Rows { count, positions: &Positions::Sequential, cache };
        let outputs = self.run(depth, &inputs, &next, &mut [rows])?;
        (round.last, round.last_fed) = (last_row(&outputs.normed)?, last_row(&outputs.fed)?);
        match round.fed.get_mut(depth) {
            Some(fed) => *fed = ops::concatenate(&[&*fed, &outputs.fed], 0)?,
            None => round.fed.push(outputs.fed),
        }
        Ok(())
    }
}

/// A sequence's history in a pass: keys and values of each layer, rows that later layers lag behind; and the round it begins.
type Histories<'a> = ((&'a mut [LayerCache], &'a mut [LayerCache]), &'a mut Option<DraftRound>);

impl Outputs {
    /// Those of each sequence.
    fn apart(self, counts: &[i32]) -> Result<Vec<Self>> {
        if let [_] = counts {
            return Ok(vec![self]);
        }
        let mut start = 0;
        let part = |&count: &i32| {
            let own = Self {
                normed: rows_of(&self.normed, start, start + count)?,
                fed: rows_of(&self.fed, start, start + count)?,
            };
            start += count;
            Ok(own)
        };
        counts.iter().map(part).collect()
    }
}

/// The newest output of the layer before, for which the next token is not known yet; none while that layer lags too.
struct Lagging(Option<Array>);

impl Tape for Lagging {
    fn states_after(&self, _keep: usize) -> Result<Vec<Array>> {
        Ok(self.0.iter().cloned().collect())
    }
}

fn nothing_ingested() -> crate::Error {
    crate::Error::cache("a draft before any row was ingested")
}

/// Arrays one below the other.
fn stacked(parts: &[&Array]) -> Result<Array> {
    if let [only] = parts { Ok((*only).clone()) } else { Ok(ops::concatenate(parts, 0)?) }
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
    fn new_state(&self) -> DraftState {
        let kv = self.modules.iter().map(|module| module.block.new_cache());
        let lagging = self.modules.iter().skip(1).map(|_| LayerCache::Recurrent(RecurrentCache::default()));
        DraftState::new(Cache::new(kv.chain(lagging).collect()))
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.embedding.forward(tokens)
    }

    fn ingest(&self, rows: &mut [CommittedRows<'_>]) -> Result<()> {
        let done = self.append(rows);
        if done.is_err() {
            rows.iter_mut().try_for_each(|rows| rows.state.history.commit(0))?;
        }
        done
    }

    fn step(&self, drafts: &mut [DraftRow<'_>]) -> Result<Vec<Array>> {
        let deeper = drafts.iter_mut().filter_map(|draft| Some((&mut *draft.state, draft.previous?)));
        let mut deeper: Vec<_> = deeper.collect();
        match &mut deeper[..] {
            [] => {}
            deeper if self.modules.len() == 1 => self.recur(deeper)?,
            deeper => deeper.iter_mut().try_for_each(|(state, previous)| self.deepen(state, previous))?,
        }
        if drafts.len() > 1 && drafts.iter().all(|draft| draft.vocabulary.is_none()) {
            let last = drafts.iter().map(|draft| Ok(&draft.state.round()?.last)).collect::<Result<Vec<_>>>()?;
            let logits = self.lm_head.forward(&stacked(&last)?)?;
            return (0..drafts.len() as i32).map(|row| rows_of(&logits, row, row + 1)).collect();
        }
        drafts.iter().map(|draft| self.draft_logits(&draft.state.round()?.last, draft.vocabulary)).collect()
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
