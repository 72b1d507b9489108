//! Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1; DeepSeek-V3, arXiv 2412.19437, section 2.1.1).
//!
//! ```text
//! q = expand(norm(q_a x))  per head [q_nope | q_pe]         c, k_pe = kv_a x;  c = norm(c)
//! k = [K_h c | rope(k_pe)],  v = V_h c                       o = W_o [softmax(scale q k) v]
//! ```
//!
//! The cache holds the latent `c` and the rotated `k_pe` that all heads share: `rank + rope` numbers a row where keys and
//! values of every head would be `heads * (nope + rope + value)`. Two forms compute the same from it:
//!
//! * *absorbed*: `q_nope · K_h c = (K_hᵀ q_nope) · c`, so queries move into the latent space, the latent serves as key and as
//!   value, and `V_h` is applied to what comes out. Nothing a row of the cache is computed: right for few queries.
//! * *expanded*: `K_h c` and `V_h c` are computed for every row of the cache, after which each query is cheaper by
//!   `2 rank / (nope + value)`: right for many queries.

use mlx_rs::fast::scaled_dot_product_attention;
use mlx_rs::ops;

use super::{
    BlockInput, BlockOutput, FusedMixer, Mixer, RmsNorm, Rope, RowPositions, Rows, attend_in_parts, causal_mask,
    contain_faults, each_sequence,
};
use crate::mlx::slice_axis;
use crate::quant::{Fused, Linear, NormedRows, Weight};
use crate::{Array, Result};

/// The widths of a layer.
#[derive(Debug, Clone, Copy)]
pub struct MlaShape {
    /// Query heads.
    pub heads: i32,
    /// Width of the latent of keys and values.
    pub kv_rank: i32,
    /// Features a head without positions.
    pub nope_dim: i32,
    /// Features a head with positions; the keys' are shared by all heads.
    pub rope_dim: i32,
    /// Features of a head's value.
    pub value_dim: i32,
}

/// The way from the first projection to queries.
#[derive(Debug, Clone)]
pub enum Queries {
    /// The projection is the queries.
    Plain,
    /// The projection is a latent of its own.
    Compressed {
        /// Of the latent.
        norm: RmsNorm,
        /// `[heads * (nope + rope), rank]`.
        expand: Linear,
    },
}

/// A layer.
#[derive(Debug, Clone)]
pub struct Mla {
    /// The widths.
    pub shape: MlaShape,
    /// Queries (or their latent); latent and shared key: one product.
    pub inputs: Fused,
    /// From the first of these to queries.
    pub queries: Queries,
    /// Of the latent of keys and values.
    pub latent_norm: RmsNorm,
    /// `[heads, rank, nope]`: a head's query into the latent space.
    pub embed_q: Weight,
    /// `[heads, value, rank]`: the latent to a head's value.
    pub unembed_out: Weight,
    /// `[hidden, heads * value]`.
    pub output: Linear,
    /// Of the features with positions.
    pub rope: Rope,
    /// Of scores, before the softmax.
    pub scale: f32,
}

/// New rows: queries `[1, heads, n, nope]` and `[1, heads, n, rope]`, latent `[1, 1, n, rank]`, key `[1, 1, n, rope]`. The
/// queries are scaled.
struct Projected {
    q_nope: Array,
    q_pe: Array,
    latent: Array,
    k_pe: Array,
}

impl Mla {
    /// The products of all sequences' rows: queries, scaled, `[n, heads * (nope + rope)]`, and the latent, normed, beside the shared
    /// key `[n, rank + rope]` as it is.
    fn products(&self, x: &NormedRows) -> Result<[Array; 3]> {
        let MlaShape { kv_rank, rope_dim, .. } = self.shape;
        let [q, kv] = <[Array; 2]>::try_from(self.inputs.forward(x)?)
            .map_err(|_| crate::Error::unsupported("two projections were joined"))?;
        let q = match &self.queries {
            Queries::Plain => q,
            Queries::Compressed { norm, expand } => expand.forward(&norm.forward(&q)?)?,
        };
        let q = q.multiply(Array::from_f32(self.scale).as_dtype(q.dtype())?)?;
        let latent = self.latent_norm.forward(&slice_axis(&kv, 1, 0, kv_rank)?)?;
        Ok([q, latent, slice_axis(&kv, 1, kv_rank, kv_rank + rope_dim)?])
    }

    fn project(&self, [q, latent, k_pe]: [&Array; 3], position: RowPositions<'_>) -> Result<Projected> {
        let MlaShape { heads, kv_rank, nope_dim, rope_dim, .. } = self.shape;
        let n = q.dim(0);
        let q = q.reshape(&[1, n, heads, nope_dim + rope_dim])?.swap_axes(1, 2)?;
        let (latent, k_pe) = (latent.reshape(&[1, 1, n, kv_rank])?, k_pe.reshape(&[1, 1, n, rope_dim])?);
        // The latent is the value; of what makes scores, the shared key alone may be other than a number.
        let (k_pe, latent) = contain_faults(self.rope.forward(&k_pe, position)?, latent)?;
        let q_pe = self.rope.forward(&slice_axis(&q, 3, nope_dim, nope_dim + rope_dim)?, position)?;
        Ok(Projected { q_nope: slice_axis(&q, 3, 0, nope_dim)?, q_pe, latent, k_pe })
    }

    /// Whether `n` queries are cheaper absorbed, by multiplications a row of the cache.
    fn absorbs(&self, n: i32) -> bool {
        let MlaShape { kv_rank, nope_dim, value_dim, .. } = self.shape;
        let (rank, n) = (i64::from(kv_rank), i64::from(n));
        let expanded = i64::from(nope_dim) + i64::from(value_dim);
        n * 2 * rank <= (n + rank) * expanded
    }

    /// Over `parts`, latents and keys of all rows, the new ones last. `[1, heads, n, value]`.
    fn absorbed(&self, p: &Projected, parts: &[(Array, Array)]) -> Result<Array> {
        let MlaShape { heads, kv_rank, rope_dim, .. } = self.shape;
        let n = p.q_nope.dim(2);
        // All heads read the one latent, so their queries are rows of one product.
        let q = self.embed_q.product(&p.q_nope)?.reshape(&[1, 1, heads * n, kv_rank])?;
        let q_pe = p.q_pe.reshape(&[1, 1, heads * n, rope_dim])?;
        let scores = |(latent, k_pe): &(Array, Array)| {
            q.matmul(latent.swap_axes(2, 3)?)?.add(q_pe.matmul(k_pe.swap_axes(2, 3)?)?)
        };
        let scores = parts.iter().map(|part| Ok(scores(part)?)).collect::<Result<Vec<_>>>()?;
        let latents: Vec<&Array> = parts.iter().map(|(latent, _)| latent).collect();
        let mixed = attend_in_parts(scores, &latents, n)?.reshape(&[1, heads, n, kv_rank])?;
        self.unembed_out.product(&mixed)
    }

    /// Over all rows, the new ones last. `[1, heads, n, value]`.
    fn expanded(&self, p: &Projected, latent: &Array, k_pe: &Array) -> Result<Array> {
        let (n, rows) = (p.q_nope.dim(2), latent.dim(2));
        let keys = latent.matmul(self.embed_q.dense(latent.dtype())?.expand_dims(0)?)?; // [1, heads, rows, nope]
        let values = self.unembed_out.product(latent)?;
        // The part of the scores that has positions goes in as a bias, so the rest is attention as usual.
        let bias = p.q_pe.matmul(k_pe.swap_axes(2, 3)?)?; // [1, heads, n, rows]
        let nothing = Array::from_f32(f32::NEG_INFINITY).as_dtype(bias.dtype())?;
        let bias = ops::select(causal_mask(n, rows)?, bias, nothing)?;
        Ok(scaled_dot_product_attention(&p.q_nope, keys, values, 1.0, &bias, None)?)
    }
}

impl Mixer for Mla {
    fn forward(&self, x: &Array, rows: &mut [Rows<'_>]) -> Result<Array> {
        self.forward_fused(x.clone().into(), rows)?.rows()
    }

    fn fused(&self) -> Option<&dyn FusedMixer> {
        Some(self)
    }
}

impl FusedMixer for Mla {
    fn forward_fused(&self, x: BlockInput<'_>, rows: &mut [Rows<'_>]) -> Result<BlockOutput> {
        let products = self.products(&x.normed(&self.inputs)?)?;
        let attended = each_sequence(rows, &products, |products, rows| self.attend(products, rows))?;
        BlockOutput::product(&self.output, attended)
    }
}

impl Mla {
    /// The rows of one sequence: what goes into the output projection.
    fn attend(&self, products: &[Array], rows: &mut Rows<'_>) -> Result<Array> {
        let [q, latent, k_pe] = products else { return Err(crate::Error::unsupported("three products of a row")) };
        let p = self.project([q, latent, k_pe], rows.positions()?)?;
        let n = rows.count;
        let all = rows.cache.kv()?.append(&p.latent, &p.k_pe)?;
        let attended = if self.absorbs(n) {
            self.absorbed(&p, &all.parts()?)?
        } else {
            let (latent, k_pe) = all.joined()?;
            self.expanded(&p, &latent, &k_pe)?
        };
        Ok(attended.swap_axes(1, 2)?.reshape(&[n, self.shape.heads * self.shape.value_dim])?)
    }
}

#[cfg(test)]
mod tests;
