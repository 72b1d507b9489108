//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`, where the first few `ffn` are dense and the others
//! routed.
//!
//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last.
//!
//! Sources: SGLang `glm4_moe_nextn.py`, transformers' MTP layer, llama.cpp `glm4-moe.cpp`: what is fed back at deeper drafts
//! is the output after `shared_head.norm` (vLLM `glm4_moe_mtp.py` dissents). With several layers, layer k sees all rows and
//! ids shifted by k + 1.

use std::sync::Arc;

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, FeedForwardPlan, LayerPlan, MixerPlan, QkNormPlan};

use crate::config::{Config, NAMES};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint, max_depth: usize) -> Result<DecoderPlan, ArtifactError> {
    let config = Config::new(checkpoint)?;
    let attention: Arc<dyn MixerPlan> = Arc::new(attention(&config));
    let layer = |index| LayerPlan::new(&config.common, attention.clone(), feed_forward(&config, index));
    Ok(DecoderPlan::numbered(&config.common, NAMES, config.mtp_layers, max_depth, layer))
}

/// Attention: biases on queries, keys and values only; where there are norms, over each head.
fn attention(config: &Config) -> AttentionPlan {
    AttentionPlan {
        qkv_bias: config.attention_bias,
        qk_norm: config.qk_norm.then_some(QkNormPlan::PerHead),
        ..AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta)
    }
}

/// The feed-forward part of layer `index`.
fn feed_forward(config: &Config, index: usize) -> FeedForwardPlan {
    if index < config.dense_layers {
        FeedForwardPlan::dense(config.common.hidden, config.intermediate)
    } else {
        FeedForwardPlan::Sparse(config.moe.clone())
    }
}
