//! GLM-4.7-Flash (`glm4_moe_lite`): multi-head latent attention, DeepSeek-style routed experts behind a dense layer, and an MTP
//! layer after the trunk's last.
//!
//! Sources: transformers `modeling_glm4_moe_lite.py`; vLLM and SGLang `glm4_moe_lite.py`; the MTP layer as in SGLang
//! `glm4_moe_lite_nextn.py`; MLX names as mlx-lm 0.32 writes them.

mod config;
mod plan;

use mtplx_runtime::architecture::{Descriptor, ModelPlan, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::register_architecture;

/// The GLM-4.7-Flash class.
pub struct Glm4MoeLite;

register_architecture!(&Glm4MoeLite);

static DESCRIPTOR: Descriptor = Descriptor {
    id: "glm4-moe-lite-mtp",
    name: "GLM-4.7-Flash",
    model_types: &["glm4_moe_lite"],
    tier: Tier::Recognized,
    max_depth: 8,
    crate_name: env!("CARGO_PKG_NAME"),
    crate_version: env!("CARGO_PKG_VERSION"),
};

impl MtpArchitecture for Glm4MoeLite {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(plan::plan(checkpoint, DESCRIPTOR.max_depth)?))
    }
}

#[cfg(test)]
mod tests;
