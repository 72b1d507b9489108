//! Qwen3-Next (`qwen3_next`), Qwen3.5 and Qwen3.6 (`qwen3_5`, `qwen3_5_moe`): three layers of Gated DeltaNet for each
//! of gated attention, dense or sparse feed-forward blocks, and one or more MTP layers.
//!
//! Sources: transformers `modeling_qwen3_next.py`, `modeling_qwen3_5.py`; the MTP layer as in vLLM `qwen3_next_mtp.py`;
//! MLX names as mlx-lm 0.32 writes them.

mod config;
mod drafter;
mod forge;
mod gated_delta;
mod names;
mod trunk;
mod weights;

use mtplx_runtime::architecture::{
    CheckpointFacts, Descriptor, Detection, HeadStatus, LoadOptions, MtpArchitecture, Tier,
};
use mtplx_runtime::artifact::expected::{Expected, TensorRole};
use mtplx_runtime::artifact::{Checkpoint, HeadSource, Rules};
use mtplx_runtime::model::{ModelInfo, MtpModel};
use mtplx_runtime::{LoadError, register_architecture};

use config::Config;
use names::Names;

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

    fn detect(&self, checkpoint: &Checkpoint) -> Detection {
        // A bare text model of the later families calls itself `qwen3_5_text`, `qwen3_5_moe_text`.
        let model_type = checkpoint.config().model_type();
        let model_type = model_type.strip_suffix("_text").unwrap_or(model_type);
        if !DESCRIPTOR.model_types.contains(&model_type) {
            return Detection::No;
        }
        let names = Names::new(checkpoint);
        let head = match Config::new(checkpoint, &names) {
            Err(_) => HeadStatus::unjudged(checkpoint),
            Ok(config) if config.mtp_layers == 0 => HeadStatus::Absent,
            Ok(config) => HeadStatus::judge(checkpoint, &names.expected_head(checkpoint, &config)),
        };
        Detection::Claimed { head }
    }

    fn expected(&self, checkpoint: &Checkpoint, each: &mut dyn FnMut(TensorRole, Expected)) -> Result<bool, LoadError> {
        let names = Names::new(checkpoint);
        let config = Config::new(checkpoint, &names)?;
        names.each_of_trunk(checkpoint, &config, &mut |expected| each(TensorRole::Trunk, expected));
        if config.mtp_layers > 0 {
            names.expected_head(checkpoint, &config).into_iter().for_each(|expected| each(TensorRole::Head, expected));
        }
        names.own_embedding(checkpoint, &config).into_iter().for_each(|expected| each(TensorRole::Optional, expected));
        Ok(true)
    }

    fn facts(&self, checkpoint: &Checkpoint) -> Result<CheckpointFacts, LoadError> {
        let names = Names::new(checkpoint);
        let config = Config::new(checkpoint, &names)?;
        let headless = config.mtp_layers == 0 || *checkpoint.head_source() == HeadSource::None;
        // A head that is incomplete may lack the very norms that are asked; the verdict says so.
        let norms = if headless { None } else { weights::head_norms(checkpoint, &names).ok() };
        Ok(CheckpointFacts { cache: Some(config.cache_size()), norms })
    }

    fn load(&self, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<MtpModel, LoadError> {
        let names = Names::new(checkpoint);
        let config = Config::new(checkpoint, &names)?;
        let loader = weights::Loader::new(checkpoint, &config, &names, options)?;
        let trunk = trunk::Qwen3NextTrunk::load(&loader)?;
        let drafter = if options.trunk_only || config.mtp_layers == 0 {
            None
        } else {
            Some(drafter::load(&loader, &trunk, DESCRIPTOR.max_depth)?)
        };
        let info = ModelInfo {
            vocab_size: config.common.vocab,
            hidden_size: config.common.hidden,
            context: config.common.context,
            weight_bytes: loader.weights.nbytes(),
            hidden_variant: trunk.output.variant(),
        };
        Ok(MtpModel { trunk: Box::new(trunk), drafter, info })
    }

    fn forge_rules(&self, checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
        forge::rules(checkpoint)
    }
}
