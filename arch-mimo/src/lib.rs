//! MiMo-7B (`mimo`): Qwen2's dense decoder, with MTP layers that join hidden state and embedding the other way round.
//!
//! Sources: transformers `modeling_qwen2.py` for the trunk; the MTP layer as in vLLM `mimo_mtp.py`; MLX names as mlx-lm
//! 0.32 writes them.

mod config;
mod plan;

use mtplx_runtime::architecture::{Descriptor, ModelPlan, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::register_architecture;

/// MiMo-7B.
pub struct Mimo;

register_architecture!(&Mimo);

static DESCRIPTOR: Descriptor = Descriptor {
    id: "mimo-mtp",
    name: "MiMo-7B",
    model_types: &["mimo"],
    tier: Tier::Recognized,
    max_depth: 8,
    crate_name: env!("CARGO_PKG_NAME"),
    crate_version: env!("CARGO_PKG_VERSION"),
};

impl MtpArchitecture for Mimo {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(plan::plan(checkpoint, DESCRIPTOR.max_depth)?))
    }
}

#[cfg(test)]
mod tests;
