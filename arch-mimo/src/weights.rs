//! Which tensors the family's layers consist of. Hugging Face's names are MLX's too.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, FeedForwardPlan, SwiGluPlan};

use crate::config::Config;
use crate::{draft_head, trunk};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<AttentionPlan>, ArtifactError> {
    let config = Config::new(checkpoint)?;
    Ok(DecoderPlan { layers: trunk::layers(&config), head: draft_head::plan(&config), common: config.common })
}

/// Attention: Qwen2's, with biases on queries, keys and values whatever `attention_bias` says.
pub(crate) fn attention(config: &Config) -> AttentionPlan {
    let plain = AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta);
    AttentionPlan { qkv_bias: true, ..plain }
}

/// The feed-forward part of every layer.
pub(crate) fn feed_forward(config: &Config) -> FeedForwardPlan {
    FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate })
}
