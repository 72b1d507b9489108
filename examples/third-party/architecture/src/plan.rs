//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`.
//!
//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last, as
//! in DeepSeek-V3 (arXiv 2412.19437, section 2.2).

use std::sync::Arc;

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, DrafterPlan, FeedForwardPlan, LayerPlan, QkNormPlan};

use crate::config::{Config, NAMES};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint, max_depth: usize) -> Result<DecoderPlan, ArtifactError> {
    let config = Config::new(checkpoint)?;
    // Those of the head are no different.
    let feed_forward = FeedForwardPlan::dense(config.common.hidden, config.intermediate);
    let layer = LayerPlan::new(&config.common, Arc::new(attention(&config)), feed_forward);
    let first = config.common.layers;
    let drafter = DrafterPlan::new(NAMES, first, vec![layer.clone(); config.mtp_layers], max_depth);
    Ok(DecoderPlan::new(config.common, vec![layer; first], drafter))
}

/// Attention: no biases, norms over each head.
fn attention(config: &Config) -> AttentionPlan {
    let plain = AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta);
    AttentionPlan { qk_norm: Some(QkNormPlan::PerHead), ..plain }
}
