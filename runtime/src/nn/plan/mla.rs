//! The plan of multi-head latent attention. MLX splits `kv_b_proj` in two.

use super::MixerPlan;
use super::config::{Common, MAX_HEADS, MAX_WIDTH, RopeFields};
use crate::architecture::CacheSize;
use crate::artifact::expected::Expected;
use crate::artifact::tensor_mapping::Source;
use crate::artifact::{ArtifactError, Checkpoint, Config, Rule};
use crate::mlx::slice_axis;
use crate::nn::mla::{MlaShape, Queries};
use crate::nn::{Mixer, Mla, RmsNorm, Rope, Weights};
use crate::quant::{Fused, Weight};
use crate::{Array, LoadError};

/// A layer of multi-head latent attention.
#[derive(Debug, Clone)]
pub struct MlaPlan {
    /// `hidden_size`.
    pub hidden: usize,
    /// `num_attention_heads`.
    pub heads: usize,
    /// `q_lora_rank`: width of the compressed queries; `None` where they are not compressed.
    pub q_rank: Option<usize>,
    /// `kv_lora_rank`: width of the latent that keys and values are made from.
    pub kv_rank: usize,
    /// `qk_nope_head_dim`: features a head without positions ...
    pub nope_dim: usize,
    /// ... and with (`qk_rope_head_dim`), the keys' shared by all heads.
    pub rope_dim: usize,
    /// `v_head_dim`.
    pub value_dim: usize,
    /// `attention_bias`: on the projections that read or write the hidden state.
    pub bias: bool,
    /// Of the norms of the latents.
    pub latent_eps: f32,
    /// Of the features with positions, which are rotated in interleaved pairs.
    pub rope: RopeFields,
}

/// A linear: name, `[out, in]`, bias.
type Projection = (&'static str, [usize; 2], bool);

/// DeepSeek-V3's epsilon of the norms of the latents, whatever `rms_norm_eps` is: transformers and mlx-lm leave theirs at the default.
const LATENT_EPS: f32 = 1e-6;

impl MlaPlan {
    /// Reads DeepSeek-V3's fields.
    ///
    /// # Errors
    /// A field is missing or out of bounds.
    pub fn read(text: &Config, common: &Common, rope: RopeFields) -> Result<Self, ArtifactError> {
        let rope_dim = text.size("qk_rope_head_dim", MAX_WIDTH)?;
        if !rope_dim.is_multiple_of(2) {
            return Err(text.error("qk_rope_head_dim", "expected an even number"));
        }
        Ok(Self {
            hidden: common.hidden,
            heads: text.size("num_attention_heads", MAX_HEADS)?,
            q_rank: text.has("q_lora_rank").then(|| text.size("q_lora_rank", MAX_WIDTH)).transpose()?,
            kv_rank: text.size("kv_lora_rank", MAX_WIDTH)?,
            nope_dim: text.size("qk_nope_head_dim", MAX_WIDTH)?,
            rope_dim,
            value_dim: text.size("v_head_dim", MAX_WIDTH)?,
            bias: text.flag_or("attention_bias", false)?,
            latent_eps: LATENT_EPS,
            rope,
        })
    }

    fn queries(&self) -> usize {
        self.heads * (self.nope_dim + self.rope_dim)
    }

    /// Queries or their latent, the latent of keys and values, the output: name, `[out, in]`, bias.
    fn outer(&self) -> [Projection; 3] {
        let Self { hidden, heads, q_rank, kv_rank, rope_dim, value_dim, bias, .. } = *self;
        let first = match q_rank {
            Some(rank) => ("q_a_proj", [rank, hidden], bias),
            None => ("q_proj", [self.queries(), hidden], false),
        };
        let latent = ("kv_a_proj_with_mqa", [kv_rank + rope_dim, hidden], bias);
        [first, latent, ("o_proj", [hidden, heads * value_dim], bias)]
    }

    /// Compressed queries to queries, and their rank.
    fn expand(&self) -> Option<(Projection, usize)> {
        self.q_rank.map(|rank| (("q_b_proj", [self.queries(), rank], false), rank))
    }

    /// `kv_b_proj` `[heads * (nope + value), rank]`, as published: each head's keys, then its values.
    fn joined_shape(&self) -> [usize; 2] {
        [self.heads * (self.nope_dim + self.value_dim), self.kv_rank]
    }

    /// The same in MLX's two parts: `embed_q`, its keys transposed, and `unembed_out`.
    fn split_shapes(&self) -> [(&'static str, [usize; 3]); 2] {
        let Self { heads, kv_rank, nope_dim, value_dim, .. } = *self;
        [("embed_q", [heads, kv_rank, nope_dim]), ("unembed_out", [heads, value_dim, kv_rank])]
    }

    /// True where a layer's latent is expanded by one matrix. A layer with neither form is like the others: published, unless
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
        let Self { heads, kv_rank, nope_dim, value_dim, .. } = *self;
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
    fn expected(&self, checkpoint: &Checkpoint, module: &str, list: &mut Vec<Expected>) {
        let expand = self.expand();
        for (name, shape, bias) in self.outer().into_iter().chain(expand.map(|(expand, _)| expand)) {
            list.push(Expected::module(format!("{module}.{name}"), shape));
            if bias {
                list.push(Expected::tensor(format!("{module}.{name}.bias"), [shape[0]]));
            }
        }
        let q_norm = expand.map(|(_, rank)| ("q_a_layernorm", rank));
        for (name, width) in q_norm.into_iter().chain([("kv_a_layernorm", self.kv_rank)]) {
            list.push(Expected::norm(format!("{module}.{name}.weight"), width));
        }
        if Self::is_joined(checkpoint, module) {
            list.push(Expected::module(format!("{module}.kv_b_proj"), self.joined_shape()));
        } else {
            let split = self.split_shapes();
            list.extend(split.map(|(name, shape)| Expected::module(format!("{module}.{name}"), shape)));
        }
    }

    fn cache_size(&self) -> Option<CacheSize> {
        Some(CacheSize { row_elements: self.kv_rank + self.rope_dim, ..CacheSize::default() })
    }

    fn score_heads(&self) -> usize {
        self.heads
    }

    /// `kv_b_proj` in MLX's two parts, of which `embed_q` is transposed.
    fn convert(&self, rule: &Rule) -> Option<Vec<Rule>> {
        let Self { heads, kv_rank, nope_dim, value_dim, .. } = *self;
        let module = rule.output.strip_suffix("kv_b_proj.weight")?;
        let tensor = rule.source.tensors().first()?.clone();
        let each = nope_dim + value_dim;
        let part = |name: &str, shape: [usize; 3], source: Source| Rule {
            output: format!("{module}{name}.weight"),
            shape: shape.to_vec(),
            source,
            ..rule.clone()
        };
        Some(vec![
            part("embed_q", [heads, kv_rank, nope_dim], Source::Columns { tensor: tensor.clone(), each, start: 0 }),
            part("unembed_out", [heads, value_dim, kv_rank], Source::Rows { tensor, each, start: nope_dim }),
        ])
    }

    fn load(&self, weights: &Weights<'_>, module: &str) -> Result<Box<dyn Mixer>, LoadError> {
        let linear = |(name, [out, input], bias): (&str, [usize; 2], bool)| {
            weights.linear(&format!("{module}.{name}"), out, input, bias)
        };
        let norm = |name: &str, width: usize| -> Result<RmsNorm, LoadError> {
            weights.norm(&format!("{module}.{name}.weight"), width, self.latent_eps)
        };
        let [first, latent, output] = self.outer();
        let queries = match self.expand() {
            Some((expand, rank)) => Queries::Compressed { norm: norm("q_a_layernorm", rank)?, expand: linear(expand)? },
            None => Queries::Plain,
        };
        let inputs = Fused::new(vec![linear(first)?, linear(latent)?])?;
        let output = linear(output)?;
        let [embed_q, unembed_out] = self.expansions(weights, module)?;
        let rope = match &self.rope.yarn {
            Some(yarn) => Rope::yarn(self.rope_dim, self.rope.theta, true, yarn),
            None => Rope::new(self.rope_dim, self.rope.theta, true),
        };
        let sharpening = self.rope.yarn.map_or(1.0, |yarn| yarn.sharpening(yarn.mscale_all_dim));
        let width = (self.nope_dim + self.rope_dim) as f64;
        Ok(Box::new(Mla {
            shape: MlaShape {
                heads: self.heads as i32,
                kv_rank: self.kv_rank as i32,
                nope_dim: self.nope_dim as i32,
                rope_dim: self.rope_dim as i32,
                value_dim: self.value_dim as i32,
            },
            inputs,
            queries,
            latent_norm: norm("kv_a_layernorm", self.kv_rank)?,
            embed_q,
            unembed_out,
            output,
            rope,
            scale: (sharpening * sharpening / width.sqrt()) as f32,
        }))
    }
}
