//! Which tensors the family's layers consist of. Hugging Face's names are MLX's too, but for the experts.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, FeedForwardPlan, QkNormPlan, SwiGluPlan};

use crate::config::Config;
use crate::{draft_head, trunk};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<AttentionPlan>, ArtifactError> {
    let config = Config::new(checkpoint)?;
    Ok(DecoderPlan { layers: trunk::layers(&config), head: draft_head::plan(&config), common: config.common })
}

/// Attention: biases on queries, keys and values only; where there are norms, over each head.
pub(crate) fn attention(config: &Config) -> AttentionPlan {
    AttentionPlan {
        qkv_bias: config.attention_bias,
        qk_norm: config.qk_norm.then_some(QkNormPlan::PerHead),
        ..AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta)
    }
}

/// The feed-forward part of layer `layer`, MTP layers counted on.
pub(crate) fn feed_forward(config: &Config, layer: usize) -> FeedForwardPlan {
    if layer < config.dense_layers {
        FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate })
    } else {
        FeedForwardPlan::Sparse(config.moe.clone())
    }
}
