//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`, all alike.
//!
//! The MTP layers: `final_layernorm(block(input_proj([hidden_layernorm(hidden), token_layernorm(embedding)])))`. The hidden
//! state comes first: the reverse of every other family.
//!
//! Sources: vLLM `mimo_mtp.py`, SGLang `mimo_mtp.py`. Both make the first position's embedding zero; that row holds a real
//! token after the shift, so this is taken for a mistake and not repeated (vLLM issue 33299).

use std::sync::Arc;

use mtplx_runtime::artifact::{ArtifactError, Checkpoint, ConcatOrder};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, DrafterPlan, FeedForwardPlan, LayerPlan};

use crate::config::{Config, NAMES};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint, max_depth: usize) -> Result<DecoderPlan, ArtifactError> {
    let config = Config::new(checkpoint)?;
    // Those of the head are no different.
    let feed_forward = FeedForwardPlan::dense(config.common.hidden, config.intermediate);
    let layer = LayerPlan::new(&config.common, Arc::new(attention(&config)), feed_forward);
    let drafter = DrafterPlan::new(NAMES, 0, vec![layer.clone(); config.mtp_layers], max_depth);
    let drafter = drafter.map(|drafter| DrafterPlan { order: ConcatOrder::HiddenEmbedding, ..drafter });
    let layers = vec![layer; config.common.layers];
    Ok(DecoderPlan::new(config.common, layers, drafter))
}

/// Attention: Qwen2's, with biases on queries, keys and values whatever `attention_bias` says.
fn attention(config: &Config) -> AttentionPlan {
    let plain = AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta);
    AttentionPlan { qkv_bias: true, ..plain }
}
