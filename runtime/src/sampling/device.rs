//! The same filters and draws as [`super::filter`] and [`crate::speculative::accept`], as MLX operations on rows.
//!
//! Distributions stay on the device, dense, `[rows, vocab]` f32 in token order, or as the few tokens that the filters keep: a round
//! brings back a few numbers a row. Candidates are ordered by a 64-bit key of logit and token id, so no order depends on how a
//! backend breaks ties.

use mlx_rs::ops::indexing::{argmax_axis, take_along_axis};
use mlx_rs::{Dtype, ops, random};

use super::{Noise, Role, SamplingParams, TokenCounts};
use crate::kernels::ranking::{self, Ranked};
use crate::kernels::relative_difference;
use crate::mlx::{finite_rows, slice_axis, values};
use crate::speculative::accept::{RowOutcome, Rule};
use crate::{Array, Result};

/// Turns rows of logits into distributions and draws from them.
#[derive(Debug)]
pub struct DeviceSampler {
    params: SamplingParams,
    vocab: i32,
    /// Of the logits: a token each.
    columns: i32,
    /// Their numbers, `[1, columns]` int32.
    ids: Array,
    /// Their tokens, where they are some of the vocabulary.
    tokens: Option<Tokens>,
    /// `[1, columns]`.
    bias: Option<Array>,
}

/// The tokens of some columns, rising.
#[derive(Debug)]
struct Tokens {
    host: Vec<u32>,
    /// `[columns]` int32.
    device: Array,
}

/// How often tokens occurred, as the penalties need it: `[rows, columns]` f32 each.
pub struct CountRows {
    /// 1 where the token is in the prompt or the output.
    seen: Array,
    /// Occurrences in the output.
    output: Array,
}

/// The distributions of some rows.
#[derive(Debug, Clone)]
pub enum TargetDistribution {
    /// Of every token.
    Dense {
        /// Probabilities `[rows, vocab]` f32.
        p: Array,
        /// Rows whose logits are all finite, `[rows]` f32, 1 or 0: the probabilities of a greedy row do not tell.
        finite: Array,
    },
    /// Of the few that are kept, out of a vocabulary of so many. A row of logits that are not all finite has no finite probability.
    Ranked(Ranked, i32),
}

impl TargetDistribution {
    /// Of every token, `[rows, vocab]` f32.
    pub fn dense(&self) -> Result<Array> {
        match self {
            Self::Dense { p, .. } => Ok(p.clone()),
            Self::Ranked(ranked, vocab) => ranked.dense(*vocab),
        }
    }

    /// Rows whose logits were all finite, `[rows]` f32: 1, or 0.
    fn finite(&self) -> Result<Array> {
        match self {
            Self::Dense { finite, .. } => Ok(finite.clone()),
            Self::Ranked(ranked, _) => finite_flags(&ranked.p),
        }
    }
}

/// `[rows, n]` -> `[rows]` f32: 1 where every number of the row is finite, else 0.
fn finite_flags(x: &Array) -> Result<Array> {
    Ok(finite_rows(x)?.squeeze_axes(&[-1])?.as_dtype(Dtype::Float32)?)
}

/// Token ids are below this in the keys of candidates.
const ID_SPAN: i64 = 1 << 32;

fn integer(value: i64) -> Array {
    Array::from_slice(&[value], &[1])
}

fn scalar(value: f32) -> Array {
    Array::from_f32(value)
}

impl DeviceSampler {
    /// For rows of `vocab` logits. `params` were validated.
    pub fn new(params: SamplingParams, vocab: usize) -> Result<Self> {
        Self::of(params, vocab, None)
    }

    /// For rows of logits of `tokens` alone, which are rising and of a vocabulary of so many. What comes out is of the whole
    /// vocabulary: the other tokens have no probability.
    pub fn restricted(params: SamplingParams, vocab: usize, tokens: &[u32]) -> Result<Self> {
        let device = Array::from_slice(&tokens.iter().map(|&id| id as i32).collect::<Vec<_>>(), &[tokens.len() as i32]);
        Self::of(params, vocab, Some(Tokens { host: tokens.to_vec(), device }))
    }

    fn of(params: SamplingParams, vocab: usize, tokens: Option<Tokens>) -> Result<Self> {
        let columns = tokens.as_ref().map_or(vocab, |tokens| tokens.host.len()) as i32;
        let ids = ops::arange::<i32, i32>(0, columns, None)?.reshape(&[1, columns])?;
        let mut sampler = Self { params, vocab: vocab as i32, columns, ids, tokens, bias: None };
        if !sampler.params.logit_bias.is_empty() {
            let biases = sampler.params.logit_bias.iter().map(|(&token, &bias)| (token, bias));
            sampler.bias = Some(sampler.row(biases));
        }
        Ok(sampler)
    }

    /// Numbers of tokens, 0 for the others: `[1, columns]` f32.
    fn row(&self, numbers: impl Iterator<Item = (u32, f32)>) -> Array {
        let mut row = vec![0.0; self.columns as usize];
        for (token, number) in numbers {
            let column = match &self.tokens {
                None => Some(token as usize),
                Some(tokens) => tokens.host.binary_search(&token).ok(),
            };
            if let Some(place) = column.and_then(|column| row.get_mut(column)) {
                *place = number;
            }
        }
        Array::from_slice(&row, &[1, self.columns])
    }

    /// What was asked for.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Columns `[n]` int32 -> `[n, columns]` f32, one 1 in each row.
    fn one_hot(&self, chosen: &Array) -> Result<Array> {
        Ok(chosen.expand_dims(-1)?.eq(&self.ids)?.as_dtype(Dtype::Float32)?)
    }

    /// The counts that hold at each of `drafts.len() + 1` rows: `counts`, and the drafts before the row. `None` where
    /// no penalty needs them.
    pub fn count_rows(&self, counts: &TokenCounts, drafts: &[Array]) -> Result<Option<CountRows>> {
        if !self.params.needs_counts() {
            return Ok(None);
        }
        let seen = self.row(counts.iter().map(|(token, _)| (token, 1.0)));
        let output = self.row(counts.iter().map(|(token, count)| (token, count as f32)));
        if drafts.is_empty() {
            return Ok(Some(CountRows { seen, output }));
        }
        let tokens = self.tokens.as_ref().map_or(&self.ids, |tokens| &tokens.device);
        let drafts = ops::concatenate(drafts, 0)?.expand_dims(-1)?;
        let added = drafts.eq(tokens)?.as_dtype(Dtype::Float32)?.cumsum(0, None, None)?;
        let added = ops::concatenate(&[&ops::zeros::<f32>(&[1, self.columns])?, &added], 0)?;
        Ok(Some(CountRows {
            seen: ops::maximum(&seen, ops::minimum(&added, scalar(1.0))?)?,
            output: output.add(added)?,
        }))
    }

    /// The counts that hold behind all of `drafts`, as one row.
    pub fn count_row(&self, counts: &TokenCounts, drafts: &[Array]) -> Result<Option<CountRows>> {
        let Some(CountRows { seen, output }) = self.count_rows(counts, drafts)? else { return Ok(None) };
        let last = |a: &Array| slice_axis(a, 0, a.dim(0) - 1, a.dim(0));
        Ok(Some(CountRows { seen: last(&seen)?, output: last(&output)? }))
    }

    /// Logits `[n, columns]` f32 -> distributions `[n, vocab]` f32. `counts` has n rows.
    pub fn distribution(&self, logits: &Array, counts: Option<&CountRows>) -> Result<Array> {
        let logits = self.penalized(logits, counts)?;
        if self.ranks() {
            return self.rank(&logits, &ops::zeros::<f32>(&[1, 2])?)?.0.dense(self.vocab);
        }
        self.spread(self.dense(&logits)?)
    }

    /// Whether the kernels serve these logits: no row is short of candidates.
    fn ranks(&self) -> bool {
        (self.tokens.is_none() || self.columns >= ranking::KEEP) && ranking::serves(&self.params, check_ranking)
    }

    fn rank(&self, logits: &Array, uniforms: &Array) -> Result<(Ranked, Array)> {
        let (ranked, drawn) = ranking::rank(logits, &self.params, uniforms)?;
        let Some(tokens) = &self.tokens else { return Ok((ranked, drawn)) };
        let named = |columns: &Array| tokens.device.take(columns);
        Ok((Ranked { ids: named(&ranked.ids)?, p: ranked.p }, named(&drawn)?))
    }

    /// Distributions of columns as those of the vocabulary.
    fn spread(&self, p: Array) -> Result<Array> {
        let Some(tokens) = &self.tokens else { return Ok(p) };
        let rows = p.dim(0);
        let places = ops::broadcast_to(&tokens.device, &[rows, self.columns])?;
        Ok(ops::zeros::<f32>(&[rows, self.vocab])?.put_along_axis(places, &p, -1)?)
    }

    /// Logits `[n, columns]` f32 -> their distributions, and a token drawn from the last as `role` asks, `[1]` int32. `counts` has n
    /// rows, whose first is `draws`'s.
    pub fn sample(
        &self,
        logits: &Array,
        counts: Option<&CountRows>,
        draws: &RoundNoise<'_>,
        role: Role,
    ) -> Result<(TargetDistribution, Array)> {
        let logits = self.penalized(logits, counts)?;
        let rows = logits.dim(0);
        let last = RoundNoise { first: draws.first + rows as u64 - 1, ..*draws };
        // The coupled rule's noise is on every token.
        if draws.rule == Rule::Rejection && self.ranks() {
            let (ranked, token) = self.rank(&logits, &last.uniforms(1, role))?;
            return Ok((TargetDistribution::Ranked(ranked, self.vocab), token));
        }
        let p = self.spread(self.dense(&logits)?)?;
        let row = if rows == 1 { p.clone() } else { slice_axis(&p, 0, rows - 1, rows)? };
        let token = last.draw(&row, role)?;
        Ok((TargetDistribution::Dense { p, finite: finite_flags(&logits)? }, token))
    }

    fn dense(&self, logits: &Array) -> Result<Array> {
        if self.params.is_greedy() {
            let best = argmax_axis(logits, -1, false)?.as_dtype(Dtype::Int32)?;
            return self.one_hot(&best);
        }
        // From the largest down, so that no temperature overflows; adding zero turns -0 into +0, which the keys below
        // would tell apart.
        let falling = logits.subtract(logits.max_axis(-1, true)?)?;
        let scaled = falling.divide(scalar(self.params.temperature))?.add(scalar(0.0))?;
        let p = ops::softmax_axis(&scaled, -1, true)?;
        let min_p = self.params.min_p;
        let p = if self.params.top_k > 0 || self.params.top_p < 1.0 {
            self.ranked(&scaled, &p)?
        } else if min_p > 0.0 {
            let kept = p.ge(p.max_axis(-1, true)?.multiply(scalar(min_p))?)?;
            ops::select(kept, &p, scalar(0.0))?
        } else {
            return Ok(p);
        };
        Ok(p.divide(p.sum_axis(-1, true)?)?)
    }

    fn penalized(&self, logits: &Array, counts: Option<&CountRows>) -> Result<Array> {
        let mut logits = match &self.bias {
            Some(bias) => logits.add(bias)?,
            None => logits.clone(),
        };
        let Some(CountRows { seen, output }) = counts else { return Ok(logits) };
        let SamplingParams { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.params;
        if repetition_penalty != 1.0 {
            let r = scalar(repetition_penalty);
            let weakened = ops::select(logits.gt(scalar(0.0))?, logits.divide(&r)?, logits.multiply(&r)?)?;
            logits = ops::select(seen.gt(scalar(0.0))?, weakened, logits)?;
        }
        if presence_penalty != 0.0 {
            logits = logits.subtract(ops::minimum(output, scalar(1.0))?.multiply(scalar(presence_penalty))?)?;
        }
        if frequency_penalty != 0.0 {
            logits = logits.subtract(output.multiply(scalar(frequency_penalty))?)?;
        }
        Ok(logits)
    }

    /// `p` where top-p, top-k and min-p keep it, 0 elsewhere. What they keep are the first tokens of one order, so a
    /// threshold on the order's key says it all.
    fn ranked(&self, scaled: &Array, p: &Array) -> Result<Array> {
        let SamplingParams { top_p, top_k, min_p, .. } = self.params;
        let most = i32::try_from(top_k).map_or(self.columns, |k| k.min(self.columns));
        let keep_at_most = if top_k == 0 { self.columns } else { most };
        let keys = self.keys(scaled)?;
        let best = if keep_at_most < self.columns {
            slice_axis(&ops::partition_axis(&keys, keep_at_most - 1, -1)?, 1, 0, keep_at_most)?
        } else {
            keys.clone()
        };
        let best = ops::sort_axis(best, -1)?; // the best first
        let chosen = best.remainder(integer(ID_SPAN))?.as_dtype(Dtype::Int32)?;
        let ranked = take_along_axis(p, &chosen, -1)?;
        // 1 means off, also where an f32 sum reaches 1 before the last token.
        let before = ranked.cumsum(-1, None, false)?;
        let mut keep = before.lt(scalar(if top_p < 1.0 { top_p } else { f32::INFINITY }))?;
        if min_p > 0.0 {
            let floor = slice_axis(&ranked, 1, 0, 1)?.multiply(scalar(min_p))?;
            keep = keep.logical_and(ranked.ge(floor)?)?;
        }
        let last = keep.as_dtype(Dtype::Int32)?.sum_axis(-1, true)?.subtract(Array::from_int(1))?;
        let threshold = take_along_axis(&best, &last, -1)?;
        Ok(ops::select(keys.le(threshold)?, p, scalar(0.0))?)
    }

    /// Keys that sort by falling logit, then by rising token id: `[n, columns]` int64, the column in the low half.
    fn keys(&self, logits: &Array) -> Result<Array> {
        // The bits of a float sort like the float; those of negative ones sort the other way round.
        let bits = logits.view_dtype(Dtype::Int32)?.as_dtype(Dtype::Int64)?;
        let turned = integer(i64::from(i32::MIN) - 1).subtract(&bits)?;
        let rising = ops::select(bits.lt(integer(0))?, turned, bits)?;
        Ok(rising.multiply(integer(-ID_SPAN))?.add(&self.ids)?)
    }
}

/// What a round asks of the device, in positions: row j decides about the token at `first + j`.
#[derive(Debug, Clone, Copy)]
pub struct RoundNoise<'a> {
    /// The rule.
    pub rule: Rule,
    /// Where numbers come from.
    pub noise: &'a Noise,
    /// The absolute position of the first row's token.
    pub first: u64,
}

impl RoundNoise<'_> {
    /// Two numbers a row, `[rows, 2]`.
    fn uniforms(&self, rows: i32, role: Role) -> Array {
        let draws: Vec<f32> = (0..rows as u64).flat_map(|row| self.noise.uniform_f32(self.first + row, role)).collect();
        Array::from_slice(&draws, &[rows, 2])
    }

    /// Tokens drawn from row distributions `[n, vocab]`, drafts or others as `role` says: `[n]` int32.
    pub fn draw(&self, p: &Array, role: Role) -> Result<Array> {
        match self.rule {
            Rule::Rejection => categorical(p, &self.uniforms(p.dim(0), role)),
            Rule::Coupled => self.gumbel_max(p),
        }
    }

    /// Outcomes of a round, in one array of f32, which is exact for token ids: `bonus` `[1]` and 1 if its row's logits are finite, else
    /// 0; then for each of `drafts` (`[1]` int32 each) p of it, q of it, the token instead of it, itself, and 1 if the logits behind p
    /// and q are finite, else 0. `p` has a row more than there are drafts, `q` one a draft. [`Outcomes`] reads it.
    pub fn outcomes(
        &self,
        p: &TargetDistribution,
        q: &[TargetDistribution],
        drafts: &[Array],
        bonus: &Array,
    ) -> Result<Array> {
        let Some(first) = drafts.first() else {
            return if let TargetDistribution::Ranked(p, _) = p {
                ranking::reveal(bonus, &p.p)
            } else {
                Ok(ops::concatenate(&[&bonus.as_dtype(Dtype::Float32)?, &p.finite()?], 0)?)
            };
        };
        let depth = drafts.len() as i32;
        let x = if depth == 1 { first.clone() } else { ops::concatenate(drafts, 0)? };
        let ranked: Vec<&Ranked> =
            q.iter().filter_map(|q| if let TargetDistribution::Ranked(q, _) = q { Some(q) } else { None }).collect();
        if let (TargetDistribution::Ranked(p, vocab), true) = (p, ranked.len() == q.len() && depth <= ranking::DRAFTS) {
            let uniforms = self.uniforms(depth, Role::Residual);
            return ranking::outcomes((p, &Ranked::stack(&ranked)?), &x, bonus, &uniforms, *vocab);
        }
        let all_finite = p.finite()?;
        let part = |start, stop| slice_axis(&all_finite, 0, start, stop);
        let q_finite = ops::concatenate(&q.iter().map(TargetDistribution::finite).collect::<Result<Vec<_>>>()?, 0)?;
        let (finite, bonus_finite) = (part(0, depth)?.multiply(q_finite)?, part(depth, depth + 1)?);
        let p = slice_axis(&p.dense()?, 0, 0, depth)?;
        let q = ops::concatenate(&q.iter().map(TargetDistribution::dense).collect::<Result<Vec<_>>>()?, 0)?;
        let recovered = self.recovered(&p, &q)?;
        let packed =
            [bonus.clone(), bonus_finite, probability_of(&p, &x)?, probability_of(&q, &x)?, recovered, x, finite];
        let packed = packed.iter().map(|a| Ok(a.as_dtype(Dtype::Float32)?)).collect::<Result<Vec<_>>>()?;
        Ok(ops::concatenate(&packed, 0)?)
    }

    /// The token that each row emits if its draft is rejected. `[n]` int32.
    pub fn recovered(&self, p: &Array, q: &Array) -> Result<Array> {
        match self.rule {
            Rule::Rejection => {
                let excess = ops::maximum(p.subtract(q)?, scalar(0.0))?;
                let any = excess.sum_axis(-1, true)?.gt(scalar(0.0))?;
                categorical(&ops::select(any, excess, p)?, &self.uniforms(p.dim(0), Role::Residual))
            }
            Rule::Coupled => self.gumbel_max(p),
        }
    }

    /// `argmax(log p + gumbel)`, one key a position: draft and target see the same noise.
    fn gumbel_max(&self, p: &Array) -> Result<Array> {
        let (rows, vocab) = (p.dim(0), p.dim(1));
        let noise = (0..rows as u64)
            .map(|row| gumbel(vocab, &random::key(self.noise.key(self.first + row))?))
            .collect::<Result<Vec<_>>>()?;
        let noise = if noise.len() == 1 { noise[0].clone() } else { ops::concatenate(&noise, 0)? };
        Ok(argmax_axis(p.log()?.add(noise)?, -1, false)?.as_dtype(Dtype::Int32)?)
    }
}

/// [`RoundNoise::outcomes`] on the host.
#[derive(Debug)]
pub struct Outcomes {
    read: Vec<f32>,
    depth: usize,
}

impl Outcomes {
    /// Columns of a draft.
    const COLUMNS: usize = 5;

    /// From the numbers read back.
    pub fn new(read: Vec<f32>) -> Self {
        let depth = read.len().saturating_sub(2) / Self::COLUMNS;
        Self { read, depth }
    }

    fn column(&self, index: usize) -> &[f32] {
        &self.read[2 + index * self.depth..][..self.depth]
    }

    /// The token drawn from the last row.
    pub fn bonus(&self) -> u32 {
        self.read[0] as u32
    }

    /// The drafts, each with what decides on it.
    pub fn rows(&self) -> Vec<RowOutcome> {
        let row = |row: usize| RowOutcome {
            draft: self.column(3)[row] as u32,
            p: self.column(0)[row].into(),
            q: self.column(1)[row].into(),
            recovered: self.column(2)[row] as u32,
        };
        (0..self.depth).map(row).collect()
    }

    /// Rows before the first one whose logits, the trunk's or the head's, are not finite. There is a row a draft, and one more.
    pub fn finite_rows(&self) -> usize {
        let rows = self.column(4).iter().chain(&self.read[1..2]);
        rows.take_while(|&&finite| finite == 1.0).count()
    }
}

/// Standard Gumbel noise `[1, count]`, finite: `-ln(-ln(1 - u))`.
///
/// The small numbers u are the finely spaced ones in f32, so the far tail, which decides, is taken from them; MLX's own
/// takes it from the coarse end and can be infinite.
fn gumbel(count: i32, key: &Array) -> Result<Array> {
    let u = random::uniform::<_, f32>(0.0, 1.0, &[1, count][..], key)?;
    let u = ops::maximum(u, scalar(f32::powi(2.0, -33)))?;
    Ok(u.negative()?.log1p()?.negative()?.log()?.negative()?)
}

/// Tokens of a block in [`categorical`].
const BLOCK: i32 = 512;

/// Draws a token from each row: `[n, vocab]` and two uniform numbers a row, `[n, 2]` -> `[n]` int32.
///
/// By inverting the cumulative sum. Over a large vocabulary an f32 sum near 1 swallows small probabilities, so there a
/// block of tokens is drawn first, by its mass, and then a token of the block.
fn categorical(p: &Array, u: &Array) -> Result<Array> {
    let (n, vocab) = (p.dim(0), p.dim(1));
    let coarse = slice_axis(u, 1, 0, 1)?;
    if vocab <= BLOCK {
        return invert(p, &coarse);
    }
    let blocks = (vocab + BLOCK - 1) / BLOCK;
    let padded = ops::pad(p, &[(0, 0), (0, blocks * BLOCK - vocab)], None, None)?.reshape(&[n, blocks, BLOCK])?;
    let block = invert(&padded.sum_axis(2, false)?, &coarse)?;
    let rows = ops::arange::<i32, i32>(0, n, None)?.multiply(Array::from_int(blocks))?.add(&block)?;
    let within = padded.reshape(&[n * blocks, BLOCK])?.take_axis(rows, 0)?;
    Ok(invert(&within, &slice_axis(u, 1, 1, 2)?)?.add(block.multiply(Array::from_int(BLOCK))?)?)
}

/// Inverts the cumulative sum at `u` `[n, 1]`: `[n, m]` -> `[n]` int32. Never a place without mass.
fn invert(p: &Array, u: &Array) -> Result<Array> {
    let sums = p.cumsum(-1, None, None)?;
    let total = slice_axis(&sums, 1, p.dim(1) - 1, p.dim(1))?;
    // A parallel sum may step up by rounding where p is 0, so p is asked as well.
    let past = sums.gt(total.multiply(u)?)?.logical_and(p.gt(scalar(0.0))?)?;
    let first = argmax_axis(&past, -1, false)?;
    let found = past.any_axis(-1, false)?;
    Ok(ops::select(found, first, argmax_axis(p, -1, false)?)?.as_dtype(Dtype::Int32)?)
}

/// The probability of each row's token: `[n, vocab]` and `[n]` -> `[n]`.
pub fn probability_of(p: &Array, tokens: &Array) -> Result<Array> {
    Ok(take_along_axis(p, tokens.expand_dims(-1)?, -1)?.squeeze_axes(&[1])?)
}

/// The kernels of [`ranking`] against the operations here: distributions, and what decides a round.
fn check_ranking() -> Result<(f32, f32)> {
    let noise = Noise::new(3);
    let mut worst = 0f32;
    for (vocab, params) in [
        (40, SamplingParams { temperature: 0.7, top_p: 0.8, top_k: 7, min_p: 0.05, ..SamplingParams::default() }),
        (70_000, SamplingParams { temperature: 0.6, top_p: 0.95, top_k: 20, ..SamplingParams::default() }),
        (5000, SamplingParams::greedy()),
    ] {
        let logits = |seed: u64, rows: i32| -> Result<Array> {
            Ok(random::normal::<f32>(&[rows, vocab], None, 3.0, &random::key(seed)?)?)
        };
        let (of_p, of_q) = (logits(1, 4)?, logits(1, 3)?.add(logits(2, 3)?.multiply(scalar(0.2))?)?);
        let sampler = DeviceSampler::new(params, vocab as usize)?;
        let draws = RoundNoise { rule: Rule::Rejection, noise: &noise, first: 9 };
        let both = |of: &Array| -> Result<(Ranked, Array, [Array; 2])> {
            let last = RoundNoise { first: 9 + of.dim(0) as u64 - 1, ..draws };
            let (ranked, token) = ranking::rank(of, sampler.params(), &last.uniforms(1, Role::Bonus))?;
            let dense = sampler.dense(of)?;
            let row = slice_axis(&dense, 0, of.dim(0) - 1, of.dim(0))?;
            Ok((ranked, dense, [token, last.draw(&row, Role::Bonus)?]))
        };
        let ((p, p_dense, [bonus, twin]), (q, q_dense, _)) = (both(&of_p)?, both(&of_q)?);
        for (ranked, dense) in [(&p, &p_dense), (&q, &q_dense)] {
            worst = worst.max(relative_difference(&ranked.dense(vocab)?, dense)?);
        }
        worst = worst.max(relative_difference(&bonus, &twin)?);
        let revealed = ranking::reveal(&bonus, &p.p)?;
        worst = worst.max(relative_difference(&slice_axis(&revealed, 0, 0, 1)?, &twin)?);
        let drafts = draws.draw(&q_dense, Role::Draft)?;
        let drafts = (0..3).map(|row| Ok(slice_axis(&drafts, 0, row, row + 1)?)).collect::<Result<Vec<_>>>()?;
        let law = |p: Array, of: &Array| -> Result<TargetDistribution> {
            Ok(TargetDistribution::Dense { p, finite: finite_flags(of)? })
        };
        let ours = draws.outcomes(
            &TargetDistribution::Ranked(p, vocab),
            &[TargetDistribution::Ranked(q, vocab)],
            &drafts,
            &bonus,
        )?;
        let theirs = draws.outcomes(&law(p_dense, &of_p)?, &[law(q_dense, &of_q)?], &drafts, &twin)?;
        // The bonus token; its row, p and q; tokens instead, drafts; rows: numbers of very different sizes.
        for (start, stop) in [(0, 1), (1, 8), (8, 14), (14, 17)] {
            let part = |a: &Array| slice_axis(a, 0, start, stop);
            worst = worst.max(relative_difference(&part(&ours)?, &part(&theirs)?)?);
        }
        worst = worst.max(check_faults(&sampler, &of_p, &draws)?);
    }
    Ok((worst, 1e-3))
}

/// Infinite where the kernels do not tell rows of logits that are not all finite from others; wherever the one that is not stands.
fn check_faults(sampler: &DeviceSampler, logits: &Array, draws: &RoundNoise<'_>) -> Result<f32> {
    let (rows, columns) = (logits.dim(0), logits.dim(1));
    for (place, fault) in
        [(0, f32::NAN), (columns / 2, f32::INFINITY), (columns - 1, -f32::NAN), (7, f32::NEG_INFINITY)]
    {
        let is_place = |index: i32, of: i32, axis: i32| -> Result<Array> {
            Ok(ops::arange::<i32, i32>(0, of, None)?.eq(Array::from_int(index))?.expand_dims(axis)?)
        };
        // The second row is the faulty one.
        let faulty = is_place(1, rows, 1)?.logical_and(is_place(place, columns, 0)?)?;
        let logits = ops::select(faulty, scalar(fault), logits)?;
        let (ranked, token) = ranking::rank(&logits, sampler.params(), &draws.uniforms(1, Role::Bonus))?;
        let drafts: Vec<Array> = (0..rows - 1).map(|row| Array::from_slice(&[row], &[1])).collect();
        let q = (0..rows - 1)
            .map(|row| {
                let part = |a: &Array| slice_axis(a, 0, row, row + 1);
                Ok(TargetDistribution::Ranked(Ranked { ids: part(&ranked.ids)?, p: part(&ranked.p)? }, columns))
            })
            .collect::<Result<Vec<_>>>()?;
        let read = draws.outcomes(&TargetDistribution::Ranked(ranked.clone(), columns), &q, &drafts, &token)?;
        let alone = ranking::reveal(&token, &slice_axis(&ranked.p, 0, 1, 2)?)?;
        if Outcomes::new(values(&read)?).finite_rows() != 1 || Outcomes::new(values(&alone)?).finite_rows() != 0 {
            return Ok(f32::INFINITY);
        }
    }
    Ok(0.0)
}

#[cfg(test)]
mod tests;
