//! GLM-4.5, GLM-4.6 and GLM-4.7 (`glm4_moe`): grouped-query attention, DeepSeek-style routed experts behind a few dense
//! layers, and MTP layers after the trunk's last.
//!
//! Sources: transformers `modeling_glm4_moe.py`; the MTP layer as in SGLang `glm4_moe_nextn.py`; MLX names as mlx-lm 0.32
//! writes them.

mod config;
mod draft_head;
mod trunk;
mod weights;

use mtplx_runtime::architecture::{Descriptor, Detection, Head, LoadOptions, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{Checkpoint, LoadError};
use mtplx_runtime::forge::Rules;
use mtplx_runtime::model::MtpModel;
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

    fn detect(&self, checkpoint: &Checkpoint) -> Detection {
        if !DESCRIPTOR.claims(checkpoint) {
            return Detection::No;
        }
        let plan = weights::plan(checkpoint);
        Detection::Claimed {
            head: plan.map_or_else(|_| Head::unjudged(checkpoint), |plan| plan.head.detect(checkpoint)),
        }
    }

    fn load(&self, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<MtpModel, LoadError> {
        weights::plan(checkpoint)?.load(checkpoint, options, DESCRIPTOR.max_depth)
    }

    fn forge_rules(&self, checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
        Ok(weights::plan(checkpoint)?.forge_rules(checkpoint))
    }
}

#[cfg(test)]
mod tests;
