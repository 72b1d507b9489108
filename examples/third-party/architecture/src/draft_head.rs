//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last, as
//! in DeepSeek-V3 (arXiv 2412.19437, section 2.2).

use mtplx_runtime::artifact::ConcatOrder;
use mtplx_runtime::nn::plan::{AttentionPlan, HeadNames, HeadPlan};

use crate::config::Config;
use crate::trunk;

/// As in DeepSeek-V3.
pub(crate) const NAMES: HeadNames = HeadNames::DEEPSEEK;

/// The head.
pub(crate) fn plan(config: &Config) -> HeadPlan<AttentionPlan> {
    let layers = vec![trunk::layer(config); config.mtp_layers];
    HeadPlan { names: NAMES, first: config.common.layers, order: ConcatOrder::EmbeddingHidden, layers }
}
