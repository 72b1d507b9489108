//! The MTP layers: `final_layernorm(block(input_proj([hidden_layernorm(hidden), token_layernorm(embedding)])))`. The hidden
//! state comes first: the reverse of every other family.
//!
//! Sources: vLLM `mimo_mtp.py`, SGLang `mimo_mtp.py`. Both make the first position's embedding zero; that row holds a real
//! token after the shift, so this is taken for a mistake and not repeated (vLLM issue 33299).

use mtplx_runtime::artifact::ConcatOrder;
use mtplx_runtime::nn::plan::{AttentionPlan, HeadNames, HeadPlan};

use crate::config::Config;
use crate::trunk;

/// A list of its own, and other words than DeepSeek's.
pub(crate) const NAMES: HeadNames = HeadNames {
    list: "model.mtp_layers",
    embedding_norm: "token_layernorm",
    hidden_norm: "hidden_layernorm",
    projection: "input_proj",
    norm: ["final_layernorm"; 2],
    embedding: "embed_tokens",
    head: ["lm_head"; 2],
};

/// The head.
pub(crate) fn plan(config: &Config) -> HeadPlan<AttentionPlan> {
    let layers = vec![trunk::layer(config); config.mtp_layers];
    HeadPlan { names: NAMES, first: 0, order: ConcatOrder::HiddenEmbedding, layers }
}
