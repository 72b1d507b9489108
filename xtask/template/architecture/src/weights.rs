//! Which tensors the family's layers consist of.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, FeedForwardPlan, SwiGluPlan};

use crate::config::Config;
use crate::{draft_head, trunk};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<AttentionPlan>, ArtifactError> {
    let config = Config::new(checkpoint)?;
    Ok(DecoderPlan { layers: trunk::layers(&config), head: draft_head::plan(&config), common: config.common })
}

/// Attention. FILL IN: biases, norms of queries and keys, an output gate, as fields of the plan.
pub(crate) fn attention(config: &Config) -> AttentionPlan {
    AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta)
}

/// The feed-forward part. FILL IN: `FeedForwardPlan::Sparse` where layers are routed.
pub(crate) fn feed_forward(config: &Config) -> FeedForwardPlan {
    FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate })
}
