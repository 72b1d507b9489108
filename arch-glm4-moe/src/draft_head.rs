//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last.
//!
//! Sources: SGLang `glm4_moe_nextn.py`, transformers' MTP layer, llama.cpp `glm4-moe.cpp`: what is fed back at deeper drafts
//! is the output after `shared_head.norm` (vLLM `glm4_moe_mtp.py` dissents). With several layers, layer k sees all rows and
//! ids shifted by k + 1.

use mtplx_runtime::artifact::ConcatOrder;
use mtplx_runtime::nn::plan::{AttentionPlan, HeadNames, HeadPlan};

use crate::config::Config;
use crate::trunk;

/// As in DeepSeek-V3.
pub(crate) const NAMES: HeadNames = HeadNames::DEEPSEEK;

/// The head.
pub(crate) fn plan(config: &Config) -> HeadPlan<AttentionPlan> {
    let first = config.common.layers;
    let layers = (first..first + config.mtp_layers).map(|index| trunk::layer(config, index)).collect();
    HeadPlan { names: NAMES, first, order: ConcatOrder::EmbeddingHidden, layers }
}
