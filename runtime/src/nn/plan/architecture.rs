//! An architecture whose models are plans: it states its descriptor and the plan that a configuration makes.

use super::{DecoderPlan, MixerPlan};
use crate::LoadError;
use crate::architecture::{
    CacheSize, CheckpointFacts, Descriptor, Detection, HeadStatus, LoadOptions, MtpArchitecture,
};
use crate::artifact::expected::{Expected, TensorRole};
use crate::artifact::{ArtifactError, Checkpoint, Rules};
use crate::model::MtpModel;

/// What is left to state where all layers attend; it makes an [`MtpArchitecture`].
pub trait PlannedArchitecture: Send + Sync + 'static {
    /// The plan of every layer's mixer.
    type Mixer: MixerPlan<Mixer: 'static>;

    /// The constant facts.
    const DESCRIPTOR: Descriptor;

    /// The model that `config.json` describes. The tensors are asked where it leaves something open.
    ///
    /// # Errors
    /// Names the field, the value found and the one expected.
    fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<Self::Mixer>, ArtifactError>;

    /// Judges the draft head by the headers: the plan lists its tensors.
    fn judge(plan: &DecoderPlan<Self::Mixer>, checkpoint: &Checkpoint) -> HeadStatus {
        plan.head.detect(checkpoint)
    }

    /// What becomes of a checkpoint's tensors in an artifact.
    ///
    /// # Errors
    /// As [`PlannedArchitecture::plan`].
    fn forge_rules(plan: &DecoderPlan<Self::Mixer>, checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
        plan.forge_rules(checkpoint)
    }
}

impl<A: PlannedArchitecture> MtpArchitecture for A {
    fn descriptor(&self) -> &'static Descriptor {
        const { &A::DESCRIPTOR }
    }

    fn detect(&self, checkpoint: &Checkpoint) -> Detection {
        if !A::DESCRIPTOR.claims(checkpoint) {
            return Detection::No;
        }
        let head = match A::plan(checkpoint) {
            Ok(plan) => A::judge(&plan, checkpoint),
            Err(_) => HeadStatus::unjudged(checkpoint),
        };
        Detection::Claimed { head }
    }

    fn load(&self, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<MtpModel, LoadError> {
        A::plan(checkpoint)?.load(checkpoint, options, A::DESCRIPTOR.max_depth)
    }

    fn expected(&self, checkpoint: &Checkpoint, each: &mut dyn FnMut(TensorRole, Expected)) -> Result<bool, LoadError> {
        A::plan(checkpoint)?.each_expected(checkpoint, each);
        Ok(true)
    }

    fn facts(&self, checkpoint: &Checkpoint) -> Result<CheckpointFacts, LoadError> {
        let row_elements = A::plan(checkpoint)?.row_elements();
        let cache = row_elements.map(|row_elements| CacheSize { row_elements, state_bytes: 0 });
        Ok(CheckpointFacts { cache, norms: None })
    }

    fn forge_rules(&self, checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
        A::forge_rules(&A::plan(checkpoint)?, checkpoint)
    }
}
