//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`, all alike.
//!
//! The MTP layers: `final_layernorm(block(input_proj([hidden_layernorm(hidden), token_layernorm(embedding)])))`. The hidden
//! state comes first: the reverse of every other family.
//!
//! Sources: vLLM `mimo_mtp.py`, SGLang `mimo_mtp.py`. Both make the first position's embedding zero; that row holds a real
//! token after the shift, so this is taken for a mistake and not repeated (vLLM issue 33299).

use mtplx_runtime::artifact::{ArtifactError, Checkpoint, ConcatOrder};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, DrafterPlan, FeedForwardPlan, LayerPlan, SwiGluPlan};

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

/// Attention: Qwen2's, with biases on queries, keys and values whatever `attention_bias` says.
fn attention(config: &Config) -> AttentionPlan {
    let plain = AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta);
    AttentionPlan { qkv_bias: true, ..plain }
}

/// The feed-forward part of every layer.
fn feed_forward(config: &Config) -> FeedForwardPlan {
    FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate })
}

/// The draft head.
fn drafter(config: &Config) -> DrafterPlan<AttentionPlan> {
    let layers = vec![layer(config); config.mtp_layers];
    DrafterPlan { names: NAMES, first: 0, order: ConcatOrder::HiddenEmbedding, layers }
}
