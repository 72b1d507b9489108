//! Tensors of the family, as Hugging Face and as MLX write them, and the parts that trunk and head share.

use mtplx_runtime::LoadError;
use mtplx_runtime::architecture::LoadOptions;
use mtplx_runtime::artifact::expected::Expected;
use mtplx_runtime::artifact::{Checkpoint, HeadSource, NormEncoding, NormRule, norm_encoding};
use mtplx_runtime::nn::plan::config::Common;
use mtplx_runtime::nn::plan::{AttentionPlan, FeedForwardPlan, MixerPlan as _, MoePlan, QkNormPlan, SwiGluPlan};
use mtplx_runtime::nn::{Attention, Block, FeedForward, RmsNorm, Weights};

use crate::config::{Config, Mixer};
use crate::names::{Names, is_next};

/// The norms of a layer, before its mixer and before its feed-forward part.
const LAYER_NORMS: [&str; 2] = ["input_layernorm", "post_attention_layernorm"];

impl Names {
    /// Every tensor of the trunk as this checkpoint stores it, one by one: a layer's list at a time is all that is held.
    pub(crate) fn each_of_trunk(&self, checkpoint: &Checkpoint, config: &Config, each: &mut dyn FnMut(Expected)) {
        let Common { hidden, vocab, tied, .. } = config.common;
        each(Expected::module(format!("{}embed_tokens", self.trunk), [vocab, hidden]));
        let mut list = Vec::new();
        for (index, mixer) in config.mixers.iter().enumerate() {
            let prefix = format!("{}layers.{index}.", self.trunk);
            list.extend(LAYER_NORMS.map(|name| Expected::tensor(format!("{prefix}{name}.weight"), [hidden])));
            match mixer {
                Mixer::Attention => {
                    attention(config, self.raw).expected(checkpoint, &format!("{prefix}self_attn"), &mut list);
                }
                Mixer::GatedDelta => self.gated_delta(checkpoint, config, &format!("{prefix}linear_attn"), &mut list),
            }
            feed_forward(config, config.sparse(index)).expected(checkpoint, &format!("{prefix}mlp"), &mut list);
            list.drain(..).for_each(&mut *each);
        }
        each(Expected::tensor(format!("{}norm.weight", self.trunk), [hidden]));
        if !tied {
            each(Expected::module(self.lm_head, [vocab, hidden]));
        }
    }

    /// The tensors of a Gated DeltaNet layer.
    fn gated_delta(&self, checkpoint: &Checkpoint, config: &Config, module: &str, list: &mut Vec<Expected>) {
        let (hidden, delta) = (config.common.hidden, config.delta);
        let linear = |name: &str, out: usize| Expected::module(format!("{module}.{name}"), [out, hidden]);
        let has = |name: &str| checkpoint.tensor(&format!("{module}.{name}.weight")).is_some();
        let (heads, channels, values) = (delta.value_heads, delta.channels(), delta.values());
        if has("in_proj_qkvz") || has("in_proj_ba") || (is_next(checkpoint) && !has("in_proj_qkv")) {
            list.extend([linear("in_proj_qkvz", channels + values), linear("in_proj_ba", 2 * heads)]);
        } else {
            let outs = [channels, values, heads, heads];
            let names = ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"];
            list.extend(names.into_iter().zip(outs).map(|(name, out)| linear(name, out)));
        }
        // A bare configuration stands for an artifact: MLX's axes.
        let conv = if self.raw { [channels, 1, delta.taps] } else { [channels, delta.taps, 1] };
        list.push(Expected::tensor(format!("{module}.conv1d.weight"), conv));
        list.extend(["A_log", "dt_bias"].map(|name| Expected::tensor(format!("{module}.{name}"), [heads])));
        list.push(Expected::tensor(format!("{module}.norm.weight"), [delta.value_dim]));
        list.push(Expected::module(format!("{module}.out_proj"), [hidden, values]));
    }

    /// The embedding that a draft head may have of its own.
    pub(crate) fn own_embedding(&self, checkpoint: &Checkpoint, config: &Config) -> Option<Expected> {
        let own = format!("{}embed_tokens", self.head);
        let there = config.mtp_layers > 0 && checkpoint.tensor(&format!("{own}.weight")).is_some();
        there.then(|| Expected::module(own, [config.common.vocab, config.common.hidden]))
    }

    /// Everything that a complete draft head consists of.
    pub(crate) fn expected_head(&self, checkpoint: &Checkpoint, config: &Config) -> Vec<Expected> {
        let (head, hidden) = (self.head, config.common.hidden);
        let mut list = vec![Expected::module(format!("{head}fc"), [hidden, 2 * hidden])];
        let norm = |name: String| Expected::tensor(format!("{name}.weight"), [hidden]);
        list.extend(["pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"].map(|name| norm(format!("{head}{name}"))));
        for layer in 0..config.mtp_layers {
            let prefix = format!("{head}layers.{layer}.");
            list.extend(LAYER_NORMS.map(|name| norm(format!("{prefix}{name}"))));
            attention(config, true).expected(checkpoint, &format!("{prefix}self_attn"), &mut list);
            let mlp = format!("{prefix}mlp");
            feed_forward(config, routed(checkpoint, config, &mlp)).expected(checkpoint, &mlp, &mut list);
        }
        list
    }
}

/// The experts of an MTP layer's `mlp`. Whether it is sparse is not stated anywhere: its tensors decide, any of which
/// tells.
fn routed<'a>(checkpoint: &Checkpoint, config: &'a Config, mlp: &str) -> Option<&'a MoePlan> {
    let has = |part: &str| checkpoint.tensor(&format!("{mlp}.{part}_proj.weight")).is_some();
    config.moe.as_ref().filter(|_| !["gate", "up", "down"].into_iter().any(has))
}

/// How the draft head's norms are stored, and which rule said so.
pub(crate) fn head_norms(checkpoint: &Checkpoint, names: &Names) -> Result<(NormEncoding, NormRule), LoadError> {
    let mean = |name: &str| -> Result<f32, LoadError> {
        let values = checkpoint.floats(&format!("{}{name}", names.head))?;
        Ok(values.iter().sum::<f32>() / values.len().max(1) as f32)
    };
    // A sidecar beside a raw trunk may be in MLX's form: what its own file states, or holds, decides.
    let raw = names.raw && *checkpoint.head_source() == HeadSource::Shards;
    norm_encoding(checkpoint.config(), raw, mean)
}

/// Whether the draft head's norms are stored as w and applied as 1 + w.
pub(crate) fn head_norms_around_zero(checkpoint: &Checkpoint, names: &Names) -> Result<bool, LoadError> {
    let (encoding, rule) = head_norms(checkpoint, names)?;
    tracing::debug!(?encoding, %rule, "norms of the draft head");
    Ok(encoding == NormEncoding::Delta)
}

/// Gated attention; `plus_one` for norms that are stored around zero.
pub(crate) fn attention(config: &Config, plus_one: bool) -> AttentionPlan {
    AttentionPlan {
        gated: config.gated,
        qkv_bias: config.attention_bias,
        output_bias: config.attention_bias,
        qk_norm: Some(QkNormPlan::PerHead),
        norms_plus_one: plus_one,
        ..AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta)
    }
}

/// The feed-forward part: routed where `moe` says so.
pub(crate) fn feed_forward(config: &Config, moe: Option<&MoePlan>) -> FeedForwardPlan {
    match moe {
        Some(moe) => FeedForwardPlan::Sparse(moe.clone()),
        None => FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate }),
    }
}

/// Reads the parts of one checkpoint.
pub(crate) struct Loader<'a> {
    pub config: &'a Config,
    pub names: &'a Names,
    pub weights: Weights<'a>,
    checkpoint: &'a Checkpoint,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        config: &'a Config,
        names: &'a Names,
        options: &LoadOptions,
    ) -> Result<Self, LoadError> {
        Ok(Self { config, names, weights: Weights::new(checkpoint, options)?, checkpoint })
    }

    /// Whether the draft head's norms are stored as w and applied as 1 + w.
    pub(crate) fn head_norms_around_zero(&self) -> Result<bool, LoadError> {
        head_norms_around_zero(self.checkpoint, self.names)
    }

    /// A norm over the hidden width.
    pub(crate) fn norm(&self, name: &str, plus_one: bool) -> Result<RmsNorm, LoadError> {
        self.weights.norm(&format!("{name}.weight"), self.config.common.hidden, self.config.common.eps, plus_one)
    }

    /// A gated attention layer.
    pub(crate) fn attention(&self, module: &str, plus_one: bool) -> Result<Attention, LoadError> {
        attention(self.config, plus_one).load(&self.weights, module)
    }

    /// The experts of an MTP layer's `mlp`, if it has some.
    pub(crate) fn routed(&self, mlp: &str) -> Option<&'a MoePlan> {
        routed(self.checkpoint, self.config, mlp)
    }

    /// The feed-forward part `mlp`: routed where `moe` says so.
    pub(crate) fn feed_forward(&self, mlp: &str, moe: Option<&MoePlan>) -> Result<FeedForward, LoadError> {
        feed_forward(self.config, moe).load(&self.weights, mlp)
    }

    /// The layer at `prefix` around `mixer`.
    pub(crate) fn block<M>(
        &self,
        prefix: &str,
        mixer: M,
        feed_forward: FeedForward,
        plus_one: bool,
    ) -> Result<Block<M>, LoadError> {
        let Common { hidden, eps, .. } = self.config.common;
        Block::load(&self.weights, prefix, (hidden, eps, plus_one), mixer, feed_forward)
    }
}

#[cfg(test)]
mod tests {
    use mtplx_runtime::testing::{Fill, TinyCheckpoint};
    use serde_json::json;

    use super::*;

    /// A model may attend in every layer: then there is no convolution to tell the layouts by.
    #[test]
    fn without_convolutions_mlx_is_known_by_what_only_it_writes() {
        let raw = |name: &str| {
            let dir =
                TinyCheckpoint::new(json!({"model_type": "qwen3_5"}), 0).tensor(name, &[2], Fill::Normal(1.0)).write();
            Names::new(&Checkpoint::open(dir.path()).expect("a checkpoint")).raw
        };
        assert!(raw("model.norm.weight"));
        assert!(raw("model.language_model.norm.weight"));
        assert!(raw("model.layers.0.mlp.experts.gate_up_proj"));
        assert!(!raw("language_model.model.norm.weight"));
        assert!(!raw("model.layers.0.mlp.switch_mlp.gate_proj.weight"));
        assert!(!raw("model.layers.0.mlp.gate_proj.scales"));
    }
}
