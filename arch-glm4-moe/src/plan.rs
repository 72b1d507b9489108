//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`, where the first few `ffn` are dense and the others
//! routed.
//!
//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last.
//!
//! Sources: SGLang `glm4_moe_nextn.py`, transformers' MTP layer, llama.cpp `glm4-moe.cpp`: what is fed back at deeper drafts
//! is the output after `shared_head.norm` (vLLM `glm4_moe_mtp.py` dissents). With several layers, layer k sees all rows and
//! ids shifted by k + 1.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint, ConcatOrder};
use mtplx_runtime::nn::plan::{
    AttentionPlan, DecoderPlan, DrafterPlan, FeedForwardPlan, LayerPlan, QkNormPlan, SwiGluPlan,
};

use crate::config::{Config, NAMES};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<AttentionPlan>, ArtifactError> {
    let config = Config::new(checkpoint)?;
    Ok(DecoderPlan { layers: layers(&config), head: drafter(&config), common: config.common })
}

/// One layer, MTP layers counted on.
fn layer(config: &Config, index: usize) -> LayerPlan<AttentionPlan> {
    LayerPlan {
        hidden: config.common.hidden,
        eps: config.common.eps,
        mixer: attention(config),
        feed_forward: feed_forward(config, index),
        mlp: "mlp",
    }
}

/// All of them.
fn layers(config: &Config) -> Vec<LayerPlan<AttentionPlan>> {
    (0..config.common.layers).map(|index| layer(config, index)).collect()
}

/// Attention: biases on queries, keys and values only; where there are norms, over each head.
fn attention(config: &Config) -> AttentionPlan {
    AttentionPlan {
        qkv_bias: config.attention_bias,
        qk_norm: config.qk_norm.then_some(QkNormPlan::PerHead),
        ..AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta)
    }
}

/// The feed-forward part of layer `layer`, MTP layers counted on.
fn feed_forward(config: &Config, layer: usize) -> FeedForwardPlan {
    if layer < config.dense_layers {
        FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate })
    } else {
        FeedForwardPlan::Sparse(config.moe.clone())
    }
}

/// The draft head.
fn drafter(config: &Config) -> DrafterPlan<AttentionPlan> {
    let first = config.common.layers;
    let layers = (first..first + config.mtp_layers).map(|index| layer(config, index)).collect();
    DrafterPlan { names: NAMES, first, order: ConcatOrder::EmbeddingHidden, layers }
}
