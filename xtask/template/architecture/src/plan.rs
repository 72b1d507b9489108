//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`.
//!
//! The MTP layers: `norm(block(projection([norm_e(embedding), norm_h(hidden)])))`. FILL IN: the source of this formula.

use std::sync::Arc;

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, DrafterPlan, FeedForwardPlan, LayerPlan};

use crate::config::{Config, NAMES};

/// The whole model. FILL IN: a layer for each number where layers differ, `FeedForwardPlan::Sparse` where they are routed, and
/// `DrafterPlan::order` where the projection reads the hidden state before the embedding.
pub(crate) fn plan(checkpoint: &Checkpoint, max_depth: usize) -> Result<DecoderPlan, ArtifactError> {
    let config = Config::new(checkpoint)?;
    // Those of the head are no different.
    let feed_forward = FeedForwardPlan::dense(config.common.hidden, config.intermediate);
    let layer = LayerPlan::new(&config.common, Arc::new(attention(&config)), feed_forward);
    let first = config.common.layers;
    let drafter = DrafterPlan::new(NAMES, first, vec![layer.clone(); config.mtp_layers], max_depth);
    Ok(DecoderPlan::new(config.common, vec![layer; first], drafter))
}

/// Attention. FILL IN: biases, norms of queries and keys, an output gate, as fields of the plan.
fn attention(config: &Config) -> AttentionPlan {
    AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta)
}
