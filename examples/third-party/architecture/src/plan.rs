//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`.
//!
//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last, as
//! in DeepSeek-V3 (arXiv 2412.19437, section 2.2).

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

/// Any layer; those of the head are no different.
fn layer(config: &Config) -> LayerPlan<AttentionPlan> {
    LayerPlan {
        hidden: config.common.hidden,
        eps: config.common.eps,
        mixer: attention(config),
        feed_forward: feed_forward(config),
        mlp: "mlp",
    }
}

/// All of them.
fn layers(config: &Config) -> Vec<LayerPlan<AttentionPlan>> {
    vec![layer(config); config.common.layers]
}

/// Attention: no biases, norms over each head.
fn attention(config: &Config) -> AttentionPlan {
    let plain = AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta);
    AttentionPlan { qk_norm: Some(QkNormPlan::PerHead), ..plain }
}

/// The feed-forward part of every layer.
fn feed_forward(config: &Config) -> FeedForwardPlan {
    FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate })
}

/// The draft head.
fn drafter(config: &Config) -> DrafterPlan<AttentionPlan> {
    let layers = vec![layer(config); config.mtp_layers];
    DrafterPlan { names: NAMES, first: config.common.layers, order: ConcatOrder::EmbeddingHidden, layers }
}
