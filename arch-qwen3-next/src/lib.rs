//! Qwen3-Next (`qwen3_next`), Qwen3.5 and Qwen3.6 (`qwen3_5`, `qwen3_5_moe`): three layers of Gated DeltaNet for each
//! of gated attention, dense or sparse feed-forward blocks, and one or more MTP layers.
//!
//! Sources: transformers `modeling_qwen3_next.py`, `modeling_qwen3_5.py`; the MTP layer as in vLLM `qwen3_next_mtp.py`;
//! MLX names as mlx-lm 0.32 writes them.

mod config;
mod gated_delta;
mod gated_delta_plan;
mod names;
mod plan;

use mtplx_runtime::architecture::{Descriptor, ModelPlan, MtpArchitecture, Tier};
use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::register_architecture;

/// The Qwen3-Next class.
pub struct Qwen3Next;

register_architecture!(&Qwen3Next);

static DESCRIPTOR: Descriptor = Descriptor {
    id: "qwen3-next-mtp",
    name: "Qwen3-Next, Qwen3.5, Qwen3.6",
    model_types: &["qwen3_next", "qwen3_5", "qwen3_5_moe"],
    tier: Tier::Verified,
    max_depth: 8,
    crate_name: env!("CARGO_PKG_NAME"),
    crate_version: env!("CARGO_PKG_VERSION"),
};

impl MtpArchitecture for Qwen3Next {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    /// A text model by itself of the later families calls itself `qwen3_5_text`, `qwen3_5_moe_text`.
    fn claims(&self, checkpoint: &Checkpoint) -> bool {
        let model_type = checkpoint.config().model_type();
        DESCRIPTOR.model_types.contains(&model_type.strip_suffix("_text").unwrap_or(model_type))
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(plan::plan(checkpoint, DESCRIPTOR.max_depth)?))
    }
}
