//! GLM-4.5, GLM-4.6 and GLM-4.7 (`glm4_moe`): grouped-query attention, DeepSeek-style routed experts behind a few dense
//! layers, and MTP layers after the trunk's last.
//!
//! Sources: transformers `modeling_glm4_moe.py`; the MTP layer as in SGLang `glm4_moe_nextn.py`; MLX names as mlx-lm 0.32
//! writes them.

mod config;
mod plan;

use mtplx_runtime::architecture::{Descriptor, ModelPlan, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::register_architecture;

/// The GLM-4.5 class.
pub struct Glm4Moe;

register_architecture!(&Glm4Moe);

static DESCRIPTOR: Descriptor = Descriptor {
    id: "glm4-moe-mtp",
    name: "GLM-4.5, GLM-4.6, GLM-4.7",
    model_types: &["glm4_moe"],
    tier: Tier::Recognized,
    max_depth: 8,
    crate_name: env!("CARGO_PKG_NAME"),
    crate_version: env!("CARGO_PKG_VERSION"),
};

impl MtpArchitecture for Glm4Moe {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(plan::plan(checkpoint, DESCRIPTOR.max_depth)?))
    }
}

#[cfg(test)]
mod tests;
