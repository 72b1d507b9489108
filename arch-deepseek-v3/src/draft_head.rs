//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last
//! (DeepSeek-V3, arXiv 2412.19437, section 2.2).
//!
//! Sources: vLLM `deepseek_mtp.py`, SGLang `deepseek_nextn.py`. What is fed back at deeper drafts is the output after
//! `shared_head.norm` (vLLM pull requests 45895 and 47448). vLLM makes the first position's embedding zero; that row holds a
//! real token after the shift, so this is taken for a mistake and not repeated (vLLM issue 33299).

use mtplx_runtime::artifact::ConcatOrder;
use mtplx_runtime::nn::plan::{HeadNames, HeadPlan};

use crate::config::Config;
use crate::trunk;
use crate::weights::MlaPlan;

/// The family's own, which others took over.
pub(crate) const NAMES: HeadNames = HeadNames::DEEPSEEK;

/// The head.
pub(crate) fn plan(config: &Config) -> HeadPlan<MlaPlan> {
    let first = config.common.layers;
    let layers = (first..first + config.mtp_layers).map(|index| trunk::layer(config, index)).collect();
    HeadPlan { names: NAMES, first, order: ConcatOrder::EmbeddingHidden, layers }
}
