//! The plan of a model whose layers all attend.

use crate::LoadError;
use crate::architecture::LoadOptions;
use crate::artifact::expected::{Expected, TensorRole};
use crate::artifact::{Checkpoint, MtpContract};
use crate::model::{ModelInfo, MtpModel};
use crate::nn::{Decoder, LmHead, Output, Weights};

use super::config;
use super::drafter::DrafterPlan;
use super::layer::{LayerPlan, MixerPlan};

/// The plan of a model whose layers all attend: trunk and draft head.
#[derive(Debug, Clone)]
pub struct DecoderPlan<P> {
    /// Sizes.
    pub common: config::Common,
    /// The trunk's layers.
    pub layers: Vec<LayerPlan<P>>,
    /// The draft head.
    pub head: DrafterPlan<P>,
}

impl<P: MixerPlan> DecoderPlan<P>
where
    P::Mixer: 'static,
{
    /// Elements that trunk and draft head keep of each row of context.
    pub fn row_elements(&self) -> Option<usize> {
        self.layers.iter().chain(&self.head.layers).map(|layer| layer.mixer.row_elements()).sum()
    }

    /// Every tensor of the trunk.
    pub fn expected_trunk(&self, checkpoint: &Checkpoint) -> Vec<Expected> {
        let mut list = Vec::new();
        self.each_of_trunk(checkpoint, &mut |expected| list.push(expected));
        list
    }

    /// The same one by one: a layer's list at a time is all that is held.
    fn each_of_trunk(&self, checkpoint: &Checkpoint, each: &mut dyn FnMut(Expected)) {
        let config::Common { hidden, vocab, tied, .. } = self.common;
        each(Expected::module("model.embed_tokens", [vocab, hidden]));
        each(Expected::tensor("model.norm.weight", [hidden]));
        if !tied {
            each(Expected::module("lm_head", [vocab, hidden]));
        }
        let mut list = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            layer.expected(checkpoint, &format!("model.layers.{index}."), &mut list);
            list.drain(..).for_each(&mut *each);
        }
    }

    /// Everything that is read of trunk and draft head, one by one.
    pub fn each_expected(&self, checkpoint: &Checkpoint, each: &mut dyn FnMut(TensorRole, Expected)) {
        self.each_of_trunk(checkpoint, &mut |expected| each(TensorRole::Trunk, expected));
        self.head.expected(checkpoint).into_iter().for_each(|expected| each(TensorRole::Head, expected));
        let optional = self.head.optional(checkpoint, &self.common);
        optional.into_iter().for_each(|expected| each(TensorRole::Optional, expected));
    }

    /// Every tensor of trunk and draft head.
    pub fn expected(&self, checkpoint: &Checkpoint) -> Vec<Expected> {
        [self.expected_trunk(checkpoint), self.head.expected(checkpoint)].concat()
    }

    /// Reads the trunk under Hugging Face's names, which MLX keeps: `model.*` and `lm_head`.
    fn load_trunk(&self, weights: &Weights<'_>) -> Result<Decoder<P::Mixer>, LoadError> {
        let config::Common { vocab, hidden, eps, tied, .. } = self.common;
        let mut embedding = weights.embedding("model.embed_tokens", vocab, hidden)?;
        let lm_head =
            if tied { embedding.tied_head()? } else { LmHead(weights.linear("lm_head", vocab, hidden, false)?) };
        let layers = self.layers.iter().enumerate();
        let variant = MtpContract::stated(weights.checkpoint()).base_hidden_variant;
        let layers = layers
            .map(|(index, layer)| layer.load(weights, &format!("model.layers.{index}.")))
            .collect::<Result<_, _>>()?;
        let norm = weights.norm("model.norm.weight", hidden, eps, false)?;
        Ok(Decoder::new(embedding, layers, Output::new(norm, lm_head, variant)))
    }

    /// Reads trunk and draft head.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    pub fn load(
        &self,
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        max_depth: usize,
    ) -> Result<MtpModel, LoadError> {
        let weights = Weights::new(checkpoint, options)?;
        let trunk = self.load_trunk(&weights)?;
        let drafter = if options.trunk_only {
            None
        } else {
            self.head.load(&weights, &self.common, (trunk.embedding(), trunk.lm_head()), max_depth)?
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
