//! Tensors of a layer of multi-head latent attention. MLX splits `kv_b_proj` in two.

use crate::config::Config;
use crate::mla::{Mla, MlaShape, Queries};
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::artifact::expected::Expected;
use mtplx_runtime::mlx::slice_axis;
use mtplx_runtime::nn::plan::MixerPlan;
use mtplx_runtime::nn::{RmsNorm, Rope, Weights};
use mtplx_runtime::quant::{Fused, Weight};
use mtplx_runtime::{Array, LoadError};

/// A layer of multi-head latent attention.
#[derive(Debug, Clone)]
pub struct MlaPlan(pub(crate) Config);

/// A linear: name, `[out, in]`, bias.
type Projection = (&'static str, [usize; 2], bool);

/// The norms of the latents have an epsilon of their own: transformers and mlx-lm leave theirs at the default.
const LATENT_EPS: f32 = 1e-6;

impl MlaPlan {
    fn queries(&self) -> usize {
        self.0.heads * (self.0.nope_dim + self.0.rope_dim)
    }

    /// Queries or their latent, the latent of keys and values, the output: name, `[out, in]`, bias.
    fn outer(&self) -> [Projection; 3] {
        let Config { ref common, heads, q_rank, kv_rank, rope_dim, value_dim, attention_bias, .. } = self.0;
        let hidden = common.hidden;
        let first = match q_rank {
            Some(rank) => ("q_a_proj", [rank, hidden], attention_bias),
            None => ("q_proj", [self.queries(), hidden], false),
        };
        let latent = ("kv_a_proj_with_mqa", [kv_rank + rope_dim, hidden], attention_bias);
        [first, latent, ("o_proj", [hidden, heads * value_dim], attention_bias)]
    }

    /// Compressed queries to queries, and their rank.
    fn expand(&self) -> Option<(Projection, usize)> {
        self.0.q_rank.map(|rank| (("q_b_proj", [self.queries(), rank], false), rank))
    }

    /// `kv_b_proj` `[heads * (nope + value), rank]`, as published: each head's keys, then its values.
    fn joined_shape(&self) -> [usize; 2] {
        [self.0.heads * (self.0.nope_dim + self.0.value_dim), self.0.kv_rank]
    }

    /// The same in MLX's two parts: `embed_q`, its keys transposed, and `unembed_out`.
    fn split_shapes(&self) -> [(&'static str, [usize; 3]); 2] {
        let Config { heads, kv_rank, nope_dim, value_dim, .. } = self.0;
        [("embed_q", [heads, kv_rank, nope_dim]), ("unembed_out", [heads, value_dim, kv_rank])]
    }

    /// Whether a layer's latent is expanded by one matrix. A layer with neither form is like the others: published, unless
    /// those are MLX's.
    fn is_joined(checkpoint: &Checkpoint, module: &str) -> bool {
        let has = |name: &str| checkpoint.tensor(name).is_some();
        let converted = || checkpoint.tensors().any(|(name, _)| name.ends_with(".embed_q.weight"));
        let split = || ["embed_q", "unembed_out"].iter().any(|name| has(&format!("{module}.{name}.weight")));
        has(&format!("{module}.kv_b_proj.weight")) || !(split() || converted())
    }

    /// `embed_q` and `unembed_out`, cut out of `kv_b_proj` where that is stored.
    fn expansions(&self, weights: &Weights<'_>, module: &str) -> Result<[Weight; 2], LoadError> {
        if !Self::is_joined(weights.checkpoint(), module) {
            let [q, out] = self.split_shapes().map(|(name, shape)| {
                let weight = weights.weight(&format!("{module}.{name}"), &shape)?;
                Ok::<_, LoadError>(weight.multipliable(weights.dtype())?)
            });
            return Ok([q?, out?]);
        }
        let Config { heads, kv_rank, nope_dim, value_dim, .. } = self.0;
        let (heads, rank) = (heads as i32, kv_rank as i32);
        let (keys, all) = (nope_dim as i32, (nope_dim + value_dim) as i32);
        // Packed rows could be taken as they are, but not transposed: a packed matrix is unpacked.
        let joined = weights.weight(&format!("{module}.kv_b_proj"), &self.joined_shape())?.dense(weights.dtype())?;
        let joined = joined.reshape(&[heads, all, rank])?;
        let part = |array: Array| -> Result<Weight, LoadError> {
            let array = array.contiguous()?;
            array.eval()?;
            Ok(Weight::Dense(array))
        };
        let embed_q = slice_axis(&joined, 1, 0, keys)?.swap_axes(1, 2)?; // [heads, rank, nope]
        Ok([part(embed_q)?, part(slice_axis(&joined, 1, keys, all)?)?])
    }
}

impl MixerPlan for MlaPlan {
    type Mixer = Mla;

    fn expected(&self, checkpoint: &Checkpoint, module: &str, list: &mut Vec<Expected>) {
        let expand = self.expand();
        for (name, shape, bias) in self.outer().into_iter().chain(expand.map(|(expand, _)| expand)) {
            list.push(Expected::module(format!("{module}.{name}"), shape));
            if bias {
                list.push(Expected::tensor(format!("{module}.{name}.bias"), [shape[0]]));
            }
        }
        let q_norm = expand.map(|(_, rank)| ("q_a_layernorm", rank));
        for (name, width) in q_norm.into_iter().chain([("kv_a_layernorm", self.0.kv_rank)]) {
            list.push(Expected::tensor(format!("{module}.{name}.weight"), [width]));
        }
        if Self::is_joined(checkpoint, module) {
            list.push(Expected::module(format!("{module}.kv_b_proj"), self.joined_shape()));
        } else {
            let split = self.split_shapes();
            list.extend(split.map(|(name, shape)| Expected::module(format!("{module}.{name}"), shape)));
        }
    }

    fn row_elements(&self) -> Option<usize> {
        Some(self.0.kv_rank + self.0.rope_dim)
    }

    fn load(&self, weights: &Weights<'_>, module: &str) -> Result<Mla, LoadError> {
        let config = &self.0;
        let linear = |(name, [out, input], bias): (&str, [usize; 2], bool)| {
            weights.linear(&format!("{module}.{name}"), out, input, bias)
        };
        let norm = |name: &str, width: usize| -> Result<RmsNorm, LoadError> {
            weights.norm(&format!("{module}.{name}.weight"), width, LATENT_EPS, false)
        };
        let [first, latent, output] = self.outer();
        let queries = match self.expand() {
            Some((expand, rank)) => Queries::Compressed { norm: norm("q_a_layernorm", rank)?, expand: linear(expand)? },
            None => Queries::Plain,
        };
        let inputs = Fused::new(vec![linear(first)?, linear(latent)?])?;
        let output = linear(output)?;
        let [embed_q, unembed_out] = self.expansions(weights, module)?;
        let rope = match &config.yarn {
            Some(yarn) => Rope::yarn(config.rope_dim, config.rope_theta, true, yarn),
            None => Rope::new(config.rope_dim, config.rope_theta, true),
        };
        let sharpening = config.yarn.map_or(1.0, |yarn| yarn.sharpening(yarn.mscale_all_dim));
        let width = (config.nope_dim + config.rope_dim) as f64;
        Ok(Mla {
            shape: MlaShape {
                heads: config.heads as i32,
                kv_rank: config.kv_rank as i32,
                nope_dim: config.nope_dim as i32,
                rope_dim: config.rope_dim as i32,
                value_dim: config.value_dim as i32,
            },
            inputs,
            queries,
            latent_norm: norm("kv_a_layernorm", config.kv_rank)?,
            embed_q,
            unembed_out,
            output,
            rope,
            scale: (sharpening * sharpening / width.sqrt()) as f32,
        })
    }
}
