//! Which tensors the family's layers consist of.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, FeedForwardPlan, QkNormPlan, SwiGluPlan};

use crate::config::Config;
use crate::{draft_head, trunk};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<AttentionPlan>, ArtifactError> {
    let config = Config::new(checkpoint)?;
    Ok(DecoderPlan { layers: trunk::layers(&config), head: draft_head::plan(&config), common: config.common })
}

/// Attention: no biases, norms over each head.
pub(crate) fn attention(config: &Config) -> AttentionPlan {
    let plain = AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta);
    AttentionPlan { qk_norm: Some(QkNormPlan::PerHead), ..plain }
}

/// The feed-forward part of every layer.
pub(crate) fn feed_forward(config: &Config) -> FeedForwardPlan {
    FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate })
}
