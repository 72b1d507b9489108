//! The MTP modules, which configurations announce (`use_mtp`, `num_mtp_modules`) and published checkpoints do not hold
//! (MiniMax-AI/MiniMax-M2 issue 47; the same in M2.5 and M2.7).
//!
//! A checkpoint that does hold them is read in DeepSeek-V3's layout, `norm(block(eh_proj([enorm(embedding),
//! hnorm(hidden)])))`, each module a decoder layer after the trunk's last: no reference states one for this family.

use mtplx_runtime::architecture::Head;
use mtplx_runtime::artifact::{Checkpoint, ConcatOrder, HeadSource};
use mtplx_runtime::nn::plan::{AttentionPlan, HeadNames, HeadPlan};

use crate::config::Config;
use crate::trunk;

/// The head.
pub(crate) fn plan(config: &Config) -> HeadPlan<AttentionPlan> {
    let layers = vec![trunk::layer(config); config.mtp_modules];
    HeadPlan { names: HeadNames::DEEPSEEK, first: config.common.layers, order: ConcatOrder::EmbeddingHidden, layers }
}

/// Judges the head; where there is nothing of it, as in all that was published, says so in place of thousands of names.
pub(crate) fn judge(head: &HeadPlan<AttentionPlan>, checkpoint: &Checkpoint) -> Head {
    let modules = head.layers.len();
    if modules == 0 || *checkpoint.head_source() != HeadSource::None {
        return head.detect(checkpoint);
    }
    let modules = if modules == 1 { "an MTP module".to_owned() } else { format!("{modules} MTP modules") };
    let missing = format!(
        "model.layers.{}.* (config.json announces {modules}, the checkpoint carries none; MiniMax has published none)",
        head.first
    );
    Head::Incomplete { missing: vec![missing], misshapen: Vec::new() }
}
