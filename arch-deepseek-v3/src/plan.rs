//! The trunk's layers: `x + mla(norm x)`, then `x + ffn(norm x)`, where the first few `ffn` are dense and the others
//! routed.
//!
//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last
//! (DeepSeek-V3, arXiv 2412.19437, section 2.2).
//!
//! Sources: vLLM `deepseek_mtp.py`, SGLang `deepseek_nextn.py`. What is fed back at deeper drafts is the output after
//! `shared_head.norm` (vLLM pull requests 45895 and 47448). vLLM makes the first position's embedding zero; that row holds a
//! real token after the shift, so this is taken for a mistake and not repeated (vLLM issue 33299).

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
