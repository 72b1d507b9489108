//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`.
//!
//! The MTP layers: `norm(block(projection([norm_e(embedding), norm_h(hidden)])))`. FILL IN: the source of this formula.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint, ConcatOrder};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, DrafterPlan, FeedForwardPlan, LayerPlan, SwiGluPlan};

use crate::config::{Config, NAMES};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<AttentionPlan>, ArtifactError> {
    let config = Config::new(checkpoint)?;
    Ok(DecoderPlan { layers: layers(&config), head: drafter(&config), common: config.common })
}

/// Any layer; those of the head are no different. FILL IN: take the layer's number where layers differ.
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

/// Attention. FILL IN: biases, norms of queries and keys, an output gate, as fields of the plan.
fn attention(config: &Config) -> AttentionPlan {
    AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta)
}

/// The feed-forward part. FILL IN: `FeedForwardPlan::Sparse` where layers are routed.
fn feed_forward(config: &Config) -> FeedForwardPlan {
    FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate })
}

/// The draft head. FILL IN: the order in which the projection reads embedding and hidden state.
fn drafter(config: &Config) -> DrafterPlan<AttentionPlan> {
    let layers = vec![layer(config); config.mtp_layers];
    DrafterPlan { names: NAMES, first: config.common.layers, order: ConcatOrder::EmbeddingHidden, layers }
}
