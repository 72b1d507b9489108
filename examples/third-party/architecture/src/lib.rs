//! The Acme family (`acme`), invented for this example: grouped-query attention with norms over each head's queries and keys,
//! dense feed-forward parts, and one MTP layer after the trunk's last, in DeepSeek-V3's layout.
//!
//! Source: `reference.py` beside this crate, as there is no paper.

mod config;
mod plan;

use mtplx_runtime::architecture::{Descriptor, ModelPlan, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::register_architecture;

/// The acme family.
pub struct Acme;

register_architecture!(&Acme);

static DESCRIPTOR: Descriptor = Descriptor {
    id: "acme-mtp",
    name: "Acme",
    model_types: &["acme"],
    tier: Tier::Recognized,
    max_depth: 8,
    crate_name: env!("CARGO_PKG_NAME"),
    crate_version: env!("CARGO_PKG_VERSION"),
};

impl MtpArchitecture for Acme {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(plan::plan(checkpoint, DESCRIPTOR.max_depth)?))
    }
}

#[cfg(test)]
mod tests;
