//! MiMo-7B (`mimo`): Qwen2's dense decoder, with MTP layers that join hidden state and embedding the other way round.
//!
//! Sources: transformers `modeling_qwen2.py` for the trunk; the MTP layer as in vLLM `mimo_mtp.py`; MLX names as mlx-lm
//! 0.32 writes them.

mod config;
mod draft_head;
mod trunk;
mod weights;

use mtplx_runtime::architecture::{Descriptor, Detection, Head, LoadOptions, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{Checkpoint, LoadError};
use mtplx_runtime::forge::Rules;
use mtplx_runtime::model::MtpModel;
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
