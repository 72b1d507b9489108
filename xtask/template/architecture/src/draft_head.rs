//! The MTP layers: `norm(block(projection([norm_e(embedding), norm_h(hidden)])))`. FILL IN: the source of this formula.

use mtplx_runtime::artifact::ConcatOrder;
use mtplx_runtime::nn::plan::{AttentionPlan, HeadNames, HeadPlan};

use crate::config::Config;
use crate::trunk;

/// FILL IN: what the family calls the parts, if not what DeepSeek-V3 does.
pub(crate) const NAMES: HeadNames = HeadNames::DEEPSEEK;

/// The head. FILL IN: the order in which the projection reads embedding and hidden state.
pub(crate) fn plan(config: &Config) -> HeadPlan<AttentionPlan> {
    let layers = vec![trunk::layer(config); config.mtp_layers];
    HeadPlan { names: NAMES, first: config.common.layers, order: ConcatOrder::EmbeddingHidden, layers }
}
