//! Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245) with the options that families add: query and key
//! norms, a head at a time or over all of them, partial rotary positions, an output gate.

use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::ops;

use super::{BlockInput, BlockOutput, FusedMixer, Mixer, RmsNorm, Rope, RowPositions, Rows, each_sequence};
use crate::cache::KvCache;
use crate::kernels::attention::Layer;
use crate::mlx::{cuda_default, finite_rows, slice_axis};
use crate::quant::{Fused, Linear};
use crate::{Array, Result};

/// Scores of one layer at most that are written out, over two parts or on CUDA. There, that is cheaper than what MLX does for several
/// rows: it has cuDNN plan anew, for 12 ms, at every length of the history (H100, MLX 0.32.2).
const MOST_SCORES: i64 = 1 << 28;

/// The widths of an attention layer.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: i32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: i32,
    /// Features a head.
    pub head_dim: i32,
    /// Whether the query projection carries an output gate, interleaved head by head as `[query | gate]`
    /// (Qwen3-Next; Qiu et al. 2025, arXiv 2505.06708): the output is multiplied by its sigmoid.
    pub gated: bool,
}

/// Norms of queries and keys, in this order, before they are rotated.
#[derive(Debug, Clone)]
pub enum QkNorm {
    /// Over the features of each head: weights `[head_dim]`.
    PerHead([RmsNorm; 2]),
    /// Over the features of all heads at once (MiniMax-M2): weights `[heads * head_dim]`, `[kv_heads * head_dim]`.
    Joined([RmsNorm; 2]),
}

/// An attention layer.
#[derive(Debug, Clone)]
pub struct Attention {
    shape: AttentionShape,
    qkv: Fused,
    output: Linear,
    norms: Option<QkNorm>,
    rope: Rope,
}

/// Queries, keys and values `[1, heads, n, head_dim]`, and the gate `[n, heads * head_dim]`.
struct Projected {
    q: Array,
    k: Array,
    v: Array,
    gate: Option<Array>,
}

impl Attention {
    /// From the projections of queries (and gates), keys and values, and of the output.
    pub fn new(
        shape: AttentionShape,
        qkv: [Linear; 3],
        output: Linear,
        norms: Option<QkNorm>,
        rope: Rope,
    ) -> Result<Self> {
        Ok(Self { shape, qkv: Fused::new(qkv.into())?, output, norms, rope })
    }

    /// The layer as the kernels take it, where it is one that they know.
    fn kernels(&self) -> Option<Layer<'_>> {
        let AttentionShape { heads, kv_heads, head_dim, gated } = self.shape;
        let norms = match &self.norms {
            None => None,
            Some(QkNorm::PerHead([q, k])) if q.eps() == k.eps() => Some(([q.weight(), k.weight()], q.eps())),
            Some(_) => return None,
        };
        let rope = self.rope.halves()?;
        Some(Layer { heads, kv_heads, width: head_dim, gated, norms, rope })
    }

    /// `joined`, the projections side by side, -> what goes into the output projection.
    fn by_kernels(&self, layer: &Layer<'_>, joined: &Array, position: usize, cache: &mut KvCache) -> Result<Array> {
        let rows = joined.dim(0) as usize;
        let ([k, v], first) = cache.reserve(rows, &[layer.kv_heads, layer.width], joined.dtype())?;
        let p = layer.prepare(joined, position, [&k, &v], first)?;
        // Or they would be held while the kernels write there.
        drop((k, v));
        let all = cache.append_written(p.k, p.v, rows)?;
        layer.attend(&p.q, joined, &all.history())
    }

    fn project(&self, [q, k, v]: [&Array; 3], positions: RowPositions<'_>) -> Result<Projected> {
        let AttentionShape { heads, kv_heads, head_dim, gated } = self.shape;
        let n = q.dim(0);
        let (q, gate) = if gated {
            let both = q.reshape(&[n, heads, 2 * head_dim])?;
            let gate = slice_axis(&both, 2, head_dim, 2 * head_dim)?.reshape(&[n, heads * head_dim])?;
            (slice_axis(&both, 2, 0, head_dim)?, Some(gate))
        } else {
            (q.clone(), None)
        };
        let split = |a: &Array, heads: i32| a.reshape(&[1, n, heads, head_dim]);
        let (q, k) = match &self.norms {
            None => (split(&q, heads)?, split(k, kv_heads)?),
            Some(QkNorm::PerHead([q_norm, k_norm])) => {
                (q_norm.forward(&split(&q, heads)?)?, k_norm.forward(&split(k, kv_heads)?)?)
            }
            Some(QkNorm::Joined([q_norm, k_norm])) => {
                let q = q_norm.forward(&q.reshape(&[n, heads * head_dim])?)?;
                (split(&q, heads)?, split(&k_norm.forward(k)?, kv_heads)?)
            }
        };
        let k = self.rope.forward(&k.swap_axes(1, 2)?, positions)?;
        let (k, v) = contain_faults(k, split(v, kv_heads)?.swap_axes(1, 2)?)?;
        Ok(Projected { q: self.rope.forward(&q.swap_axes(1, 2)?, positions)?, k, v, gate })
    }

    fn scale(&self) -> f32 {
        (self.shape.head_dim as f32).powf(-0.5)
    }

    /// Attention over everything in the cache, the new rows included.
    fn attend_cached(&self, p: &Projected, cache: &mut KvCache) -> Result<Array> {
        let all = cache.append(&p.k, &p.v)?;
        let n = p.q.dim(2);
        let few = i64::from(self.shape.heads) * i64::from(n) * all.rows() as i64 <= MOST_SCORES;
        if few && (all.has_prefix() || n > 1 && cuda_default()) {
            return self.attend(&p.q, &all.parts()?);
        }
        let (k, v) = all.joined()?;
        let mask = (n > 1).then_some(ScaledDotProductAttentionMask::Causal);
        Ok(scaled_dot_product_attention(&p.q, &k, &v, self.scale(), mask, None)?)
    }

    /// Attention of `q` `[1, heads, n, head_dim]`, op by op, over keys and values that lie in several buffers.
    fn attend(&self, q: &Array, parts: &[(Array, Array)]) -> Result<Array> {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.shape;
        let (n, group) = (q.dim(2), heads / kv_heads);
        // Query heads of one key head are rows of one product: [1, kv_heads, group * n, head_dim].
        let scaled = q.multiply(Array::from_f32(self.scale()).as_dtype(q.dtype())?)?;
        let q = scaled.reshape(&[1, kv_heads, group * n, head_dim])?;
        let scores = parts.iter().map(|(k, _)| Ok(q.matmul(k.swap_axes(2, 3)?)?)).collect::<Result<Vec<_>>>()?;
        let values: Vec<&Array> = parts.iter().map(|(_, v)| v).collect();
        Ok(attend_in_parts(scores, &values, n)?.reshape(&[1, heads, n, head_dim])?)
    }
}

impl Mixer for Attention {
    fn forward(&self, x: &Array, rows: &mut [Rows<'_>]) -> Result<Array> {
        self.forward_fused(x.clone().into(), rows)?.rows()
    }

    fn fused(&self) -> Option<&dyn FusedMixer> {
        Some(self)
    }
}

impl FusedMixer for Attention {
    fn forward_fused(&self, x: BlockInput<'_>, rows: &mut [Rows<'_>]) -> Result<BlockOutput> {
        let x = x.normed(&self.qkv)?;
        let attended = match self.qkv.joined(&x).transpose()? {
            Some(joined) => each_sequence(rows, &[joined], |joined, rows| self.attend_joined(&joined[0], rows))?,
            None => each_sequence(rows, &self.qkv.forward(&x)?, |parts, rows| self.attend_parts(parts, rows))?,
        };
        BlockOutput::product(&self.output, attended)
    }
}

impl Attention {
    /// The rows of one sequence, from their projections side by side: what goes into the output projection.
    fn attend_joined(&self, joined: &Array, rows: &mut Rows<'_>) -> Result<Array> {
        if let (Some(layer), RowPositions::From(position)) = (self.kernels(), rows.positions()?)
            && layer.served(joined)
        {
            return self.by_kernels(&layer, joined, position, rows.cache.kv()?);
        }
        self.attend_parts(&self.qkv.split(joined)?, rows)
    }

    /// The same from queries, keys and values.
    fn attend_parts(&self, parts: &[Array], rows: &mut Rows<'_>) -> Result<Array> {
        let [q, k, v] = parts else { return Err(crate::Error::unsupported("three projections were joined")) };
        let p = self.project([q, k, v], rows.positions()?)?;
        let attended = self.attend_cached(&p, rows.cache.kv()?)?;
        let width = self.shape.heads * self.shape.head_dim;
        let joined = attended.swap_axes(1, 2)?.reshape(&[rows.count, width])?;
        match p.gate {
            Some(gate) => Ok(joined.multiply(ops::sigmoid(gate)?)?),
            None => Ok(joined),
        }
    }
}

/// Keys and values of new rows, `[.., n, ..]` each, made so that a row that is not finite spoils those that attend to it and no other.
///
/// Rows of a verification that come before a draft give its value the weight 0, and 0 times infinity is not a number. Such a value
/// becomes 0, and its key not a number, from which every weight on it follows.
pub fn contain_faults(keys: Array, values: Array) -> Result<(Array, Array)> {
    if keys.dim(-2) == 1 {
        return Ok((keys, values));
    }
    let finite = finite_rows(&keys)?.logical_and(finite_rows(&values)?)?;
    let or = |rows: &Array, other: f32| ops::select(&finite, rows, Array::from_f32(other).as_dtype(rows.dtype())?);
    Ok((or(&keys, f32::NAN)?, or(&values, 0.0)?))
}

/// A causal mask for the last `n` of `rows` rows, `[n, rows]`: true where a row attends.
pub fn causal_mask(n: i32, rows: i32) -> Result<Array> {
    let column = ops::arange::<i32, i32>(0, rows, None)?;
    let last = ops::arange::<i32, i32>(rows - n, rows, None)?.expand_dims(1)?;
    Ok(column.le(last)?)
}

/// Attention over keys and values that lie in several buffers: joining them would copy a long history for every row.
///
/// `scores`, one for each of `values` (`[1, kv_heads, rows, width]`): `[1, kv_heads, group * n, rows]`, scaled. The last `n`
/// rows are the queries' own and attend causally. Returns `[1, kv_heads, group * n, width]`.
pub fn attend_in_parts(mut scores: Vec<Array>, values: &[&Array], n: i32) -> Result<Array> {
    if let (true, Some(own)) = (n > 1, scores.last_mut()) {
        let [_, kv_heads, grouped, rows] = own.shape()[..] else {
            return Err(crate::Error::unsupported("scores of four axes"));
        };
        let nothing = Array::from_f32(f32::NEG_INFINITY).as_dtype(own.dtype())?;
        let masked = own.reshape(&[1, kv_heads, grouped / n, n, rows])?;
        *own = ops::select(causal_mask(n, rows)?, masked, nothing)?.reshape(&[1, kv_heads, grouped, rows])?;
    }
    let joined = if let [only] = &scores[..] { only.clone() } else { ops::concatenate(&scores, 3)? };
    let weights = ops::softmax_axis(joined, -1, true)?;
    let mut start = 0;
    let mut sum: Option<Array> = None;
    for v in values {
        let rows = v.dim(2);
        let part = slice_axis(&weights, 3, start, start + rows)?.matmul(v)?;
        start += rows;
        sum = Some(sum.map_or(Ok(part.clone()), |sum| sum.add(&part))?);
    }
    sum.ok_or_else(|| crate::Error::unsupported("attention over no rows"))
}
