//! MiniMax-M2 (`minimax_m2`): grouped-query attention with norms over all heads at once, routed experts without a shared
//! one, and MTP modules that the configuration announces and the published checkpoints lack.
//!
//! Sources: transformers `modeling_minimax_m2.py`; MLX names as mlx-lm 0.32 writes them. There is no published reference
//! for the MTP modules: the layout read here is DeepSeek-V3's.

mod config;
mod plan;

use mtplx_runtime::architecture::{Descriptor, ModelPlan, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::register_architecture;

/// The MiniMax-M2 class.
pub struct MiniMaxM2;

register_architecture!(&MiniMaxM2);

static DESCRIPTOR: Descriptor = Descriptor {
    id: "minimax-m2-mtp",
    name: "MiniMax-M2",
    model_types: &["minimax_m2"],
    tier: Tier::Recognized,
    max_depth: 8,
    crate_name: env!("CARGO_PKG_NAME"),
    crate_version: env!("CARGO_PKG_VERSION"),
};

impl MtpArchitecture for MiniMaxM2 {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(plan::plan(checkpoint, DESCRIPTOR.max_depth)?))
    }
}

#[cfg(test)]
mod tests;
