//! MiniMax-M2 (`minimax_m2`): grouped-query attention with norms over all heads at once, routed experts without a shared
//! one, and MTP modules that the configuration announces and the published checkpoints lack.
//!
//! Sources: transformers `modeling_minimax_m2.py`; MLX names as mlx-lm 0.32 writes them. There is no published reference
//! for the MTP modules: the layout read here is DeepSeek-V3's.

mod config;
mod plan;

use mtplx_runtime::architecture::{Descriptor, HeadStatus, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, PlannedArchitecture};
use mtplx_runtime::register_architecture;

/// The MiniMax-M2 class.
pub struct MiniMaxM2;

register_architecture!(&MiniMaxM2);

impl PlannedArchitecture for MiniMaxM2 {
    type Mixer = AttentionPlan;

    const DESCRIPTOR: Descriptor = Descriptor {
        id: "minimax-m2-mtp",
        name: "MiniMax-M2",
        model_types: &["minimax_m2"],
        tier: Tier::Recognized,
        max_depth: 8,
        crate_name: env!("CARGO_PKG_NAME"),
        crate_version: env!("CARGO_PKG_VERSION"),
    };

    fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<AttentionPlan>, ArtifactError> {
        plan::plan(checkpoint)
    }

    fn judge(plan: &DecoderPlan<AttentionPlan>, checkpoint: &Checkpoint) -> HeadStatus {
        plan::judge(&plan.head, checkpoint)
    }
}

#[cfg(test)]
mod tests;
