//! The trunk's layers: `x + mla(norm x)`, then `x + ffn(norm x)`, where the first few `ffn` are dense and the others routed.
//!
//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last.
//!
//! Sources: SGLang `glm4_moe_lite_nextn.py`, transformers' MTP layer, llama.cpp `deepseek2.cpp`: what is fed back at deeper drafts is
//! the output after `shared_head.norm` (vLLM `glm4_moe_lite_mtp.py` dissents).

use std::sync::Arc;

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{DecoderPlan, FeedForwardPlan, LayerPlan, MixerPlan};

use crate::config::{Config, NAMES};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint, max_depth: usize) -> Result<DecoderPlan, ArtifactError> {
    let config = Config::new(checkpoint)?;
    let attention: Arc<dyn MixerPlan> = Arc::new(config.attention.clone());
    let layer = |index| LayerPlan::new(&config.common, attention.clone(), feed_forward(&config, index));
    Ok(DecoderPlan::numbered(&config.common, NAMES, config.mtp_layers, max_depth, layer))
}

/// The feed-forward part of layer `index`.
fn feed_forward(config: &Config, index: usize) -> FeedForwardPlan {
    if config.is_sparse(index) {
        FeedForwardPlan::Sparse(config.moe.clone())
    } else {
        FeedForwardPlan::dense(config.common.hidden, config.intermediate)
    }
}
