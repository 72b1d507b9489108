//! The new-arch family (`new_arch`). FILL IN: what it is made of, and the sources this was read from.

mod config;
mod plan;

use mtplx_runtime::architecture::{Descriptor, ModelPlan, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::register_architecture;

/// The new-arch family.
pub struct NewArch;

register_architecture!(&NewArch);

static DESCRIPTOR: Descriptor = Descriptor {
    id: "new-arch-mtp",
    // FILL IN: the name that people know it by.
    name: "new-arch",
    // FILL IN: `model_type` of its config.json, word for word. No other architecture may claim it.
    model_types: &["new_arch"],
    tier: Tier::Recognized,
    max_depth: 8,
    crate_name: env!("CARGO_PKG_NAME"),
    crate_version: env!("CARGO_PKG_VERSION"),
};

impl MtpArchitecture for NewArch {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(plan::plan(checkpoint, DESCRIPTOR.max_depth)?))
    }
}

#[cfg(test)]
mod tests;
