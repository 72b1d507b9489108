//! The plan of grouped-query attention.

use super::MixerPlan;
use super::config::{Common, Heads};
use crate::LoadError;
use crate::architecture::CacheSize;
use crate::artifact::Checkpoint;
use crate::artifact::expected::Expected;
use crate::nn::{Attention, AttentionShape, Mixer, QkNorm, Rope, Weights};

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNormPlan {
    /// Over each head.
    PerHead,
    /// Over all heads at once.
    Joined,
}

/// An attention layer.
#[derive(Debug, Clone)]
pub struct AttentionPlan {
    /// Width of the layer.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Features a head.
    pub head_dim: usize,
    /// Whether the query projection carries an output gate; see [`AttentionShape::gated`].
    pub gated: bool,
    /// Whether the projections of queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the output's has one.
    pub output_bias: bool,
    /// Norms of queries and keys.
    pub qk_norm: Option<QkNormPlan>,
    /// Of those norms.
    pub eps: f32,
    /// Features rotated.
    pub rotary_dims: usize,
    /// The base of the frequencies.
    pub rope_theta: f32,
}

impl AttentionPlan {
    /// Neither gate nor biases nor norms of queries and keys.
    pub fn plain(common: &Common, heads: &Heads, rotary_dims: usize, rope_theta: f32) -> Self {
        Self {
            hidden: common.hidden,
            heads: heads.queries,
            kv_heads: heads.keys,
            head_dim: heads.dim,
            gated: false,
            qkv_bias: false,
            output_bias: false,
            qk_norm: None,
            eps: common.eps,
            rotary_dims,
            rope_theta,
        }
    }

    /// Queries, keys, values and output: name, `[out, in]`, bias.
    fn linears(&self) -> [(&'static str, [usize; 2], bool); 4] {
        let [queries, keys] = self.widths();
        let with_gate = if self.gated { 2 * queries } else { queries };
        [
            ("q_proj", [with_gate, self.hidden], self.qkv_bias),
            ("k_proj", [keys, self.hidden], self.qkv_bias),
            ("v_proj", [keys, self.hidden], self.qkv_bias),
            ("o_proj", [self.hidden, queries], self.output_bias),
        ]
    }

    /// Of all queries, of all keys.
    fn widths(&self) -> [usize; 2] {
        [self.heads * self.head_dim, self.kv_heads * self.head_dim]
    }

    /// Query and key norms: name, width.
    fn norms(&self) -> Option<[(&'static str, usize); 2]> {
        let [queries, keys] = match self.qk_norm? {
            QkNormPlan::PerHead => [self.head_dim; 2],
            QkNormPlan::Joined => self.widths(),
        };
        Some([("q_norm", queries), ("k_norm", keys)])
    }
}

impl MixerPlan for AttentionPlan {
    fn expected(&self, _checkpoint: &Checkpoint, module: &str, list: &mut Vec<Expected>) {
        for (name, shape, bias) in self.linears() {
            list.push(Expected::module(format!("{module}.{name}"), shape));
            if bias {
                list.push(Expected::tensor(format!("{module}.{name}.bias"), [shape[0]]));
            }
        }
        for (name, width) in self.norms().into_iter().flatten() {
            list.push(Expected::norm(format!("{module}.{name}.weight"), width));
        }
    }

    fn cache_size(&self) -> Option<CacheSize> {
        Some(CacheSize { row_elements: 2 * self.widths()[1], ..CacheSize::default() })
    }

    fn score_heads(&self) -> usize {
        self.heads
    }

    fn load(&self, weights: &Weights<'_>, module: &str) -> Result<Box<dyn Mixer>, LoadError> {
        let [q, k, v, o] = self
            .linears()
            .map(|(name, [out, input], bias)| weights.linear(&format!("{module}.{name}"), out, input, bias));
        let norms = self.norms().map(|norms| {
            let [q, k] = norms.map(|(name, width)| weights.norm(&format!("{module}.{name}.weight"), width, self.eps));
            Ok::<_, LoadError>([q?, k?])
        });
        let norms = norms.transpose()?.map(|norms| match self.qk_norm {
            Some(QkNormPlan::Joined) => QkNorm::Joined(norms),
            _ => QkNorm::PerHead(norms),
        });
        let shape = AttentionShape {
            heads: self.heads as i32,
            kv_heads: self.kv_heads as i32,
            head_dim: self.head_dim as i32,
            gated: self.gated,
        };
        let rope = Rope::new(self.rotary_dims, self.rope_theta, false);
        Ok(Box::new(Attention::new(shape, [q?, k?, v?], o?, norms, rope)?))
    }
}
