//! A decoder's plan as the plan of a model: lists, conversion and loading of trunk and draft head together.

use super::conversion;
use super::decoder::DecoderPlan;
use crate::LoadError;
use crate::architecture::{CheckpointFacts, HeadStatus, LoadOptions, ModelPlan};
use crate::artifact::expected::{Expected, TensorRole};
use crate::artifact::{Checkpoint, Rules};
use crate::model::{ModelInfo, MtpModel};
use crate::nn::Weights;

impl ModelPlan for DecoderPlan {
    fn head(&self, checkpoint: &Checkpoint) -> HeadStatus {
        self.drafter.as_ref().map_or(HeadStatus::Absent, |drafter| drafter.status(checkpoint))
    }

    fn tensors(&self, checkpoint: &Checkpoint, each: &mut dyn FnMut(TensorRole, Expected)) {
        self.each_of_trunk(checkpoint, &mut |expected| each(TensorRole::Trunk, expected));
        let Some(drafter) = &self.drafter else { return };
        drafter.expected(checkpoint).into_iter().for_each(|expected| each(TensorRole::Head, expected));
        let optional = drafter.optional(checkpoint, self.modules().shape);
        optional.into_iter().for_each(|expected| each(TensorRole::Optional, expected));
    }

    fn facts(&self, checkpoint: &Checkpoint) -> CheckpointFacts {
        let norms = self.drafter.as_ref().and_then(|drafter| drafter.guessed_norms(checkpoint));
        CheckpointFacts { cache: self.cache_size(), pass: Some(self.pass_size(checkpoint)), norms }
    }

    fn conversion(&self, checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
        conversion::rules(self, checkpoint)
    }

    fn load(&self, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<MtpModel, LoadError> {
        let weights = Weights::new(checkpoint, options)?;
        let trunk = self.load_trunk(&weights.with_norms(self.norms))?;
        let drafter = match &self.drafter {
            Some(drafter) if !options.trunk_only => Some(drafter.load(&weights, &self.modules(), &trunk)?),
            _ => None,
        };
        let info = ModelInfo {
            vocab_size: self.common.vocab,
            hidden_size: self.common.hidden,
            context: self.common.context,
            weight_bytes: weights.nbytes(),
            hidden_variant: trunk.hidden_variant(),
        };
        Ok(MtpModel { trunk: Box::new(trunk), drafter, info })
    }
}
