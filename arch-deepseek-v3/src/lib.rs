//! DeepSeek-V3 and R1 (`deepseek_v3`): multi-head latent attention, group-limited routed experts behind a few dense layers,
//! and MTP layers after the trunk's last.
//!
//! Sources: DeepSeek-V3 (arXiv 2412.19437) and its `inference/model.py`; transformers `modeling_deepseek_v3.py`; the MTP
//! layer as in vLLM `deepseek_mtp.py`; MLX names as mlx-lm 0.32 writes them.

mod config;
mod plan;

use mtplx_runtime::architecture::{Descriptor, ModelPlan, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::register_architecture;

/// The DeepSeek-V3 class.
pub struct DeepSeekV3;

register_architecture!(&DeepSeekV3);

static DESCRIPTOR: Descriptor = Descriptor {
    id: "deepseek-v3-mtp",
    name: "DeepSeek-V3, DeepSeek-R1",
    model_types: &["deepseek_v3"],
    tier: Tier::Recognized,
    max_depth: 8,
    crate_name: env!("CARGO_PKG_NAME"),
    crate_version: env!("CARGO_PKG_VERSION"),
};

impl MtpArchitecture for DeepSeekV3 {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(plan::plan(checkpoint, DESCRIPTOR.max_depth)?))
    }
}

#[cfg(test)]
mod tests;
