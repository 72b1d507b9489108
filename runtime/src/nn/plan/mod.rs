//! Plans: what a configuration says of a layer, as shapes and options, before there are any arrays.
//!
//! A plan knows its tensors by name and shape. It lists them, so that a checkpoint can be judged by its headers without a
//! device (`expected`), and it reads them (`load`).

mod architecture;
mod attention;
pub mod config;
mod feed_forward;
mod forge;
mod next_n;

pub use architecture::PlannedArchitecture;
pub use attention::{AttentionPlan, QkNormPlan};
pub use feed_forward::{FeedForwardPlan, MoePlan, RouterPlan, SharedPlan, SwiGluPlan};
pub use next_n::{HeadNames, HeadPlan};

use super::block::NORMS;
use super::{Block, Decoder, Mixer, Weights};
use crate::architecture::LoadOptions;
use crate::artifact::expected::{Expected, Place};
use crate::artifact::{Checkpoint, LoadError};
use crate::model::{ModelInfo, MtpModel};

/// The plan of a layer's mixer.
pub trait MixerPlan {
    /// What it loads.
    type Mixer: Mixer;

    /// Adds the tensors under `module` to `list`. The checkpoint is asked where a family is stored in more than one way.
    fn expected(&self, checkpoint: &Checkpoint, module: &str, list: &mut Vec<Expected>);

    /// Elements of keys, values or latents that it keeps of each row; `None` where that is not said.
    fn row_elements(&self) -> Option<usize> {
        None
    }

    /// Reads them.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    fn load(&self, weights: &Weights<'_>, module: &str) -> Result<Self::Mixer, LoadError>;
}

/// The plan of a decoder layer.
#[derive(Debug, Clone)]
pub struct LayerPlan<P> {
    /// Width.
    pub hidden: usize,
    /// Of the layer's norms.
    pub eps: f32,
    /// Mixes rows; under `self_attn`.
    pub mixer: P,
    /// The feed-forward part.
    pub feed_forward: FeedForwardPlan,
    /// Its module: `mlp`, as a rule.
    pub mlp: &'static str,
}

impl<P: MixerPlan> LayerPlan<P> {
    /// Adds the tensors of a layer at `prefix` (with its dot) to `list`.
    pub fn expected(&self, checkpoint: &Checkpoint, prefix: &str, list: &mut Vec<Expected>) {
        list.extend(NORMS.map(|norm| Expected::tensor(format!("{prefix}{norm}.weight"), [self.hidden])));
        self.mixer.expected(checkpoint, &format!("{prefix}self_attn"), list);
        self.feed_forward.expected(checkpoint, &format!("{prefix}{}", self.mlp), list);
    }

    /// Reads the layer at `prefix`.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    pub fn load(&self, weights: &Weights<'_>, prefix: &str) -> Result<Block<P::Mixer>, LoadError> {
        let mixer = self.mixer.load(weights, &format!("{prefix}self_attn"))?;
        let feed_forward = self.feed_forward.load(weights, &format!("{prefix}{}", self.mlp))?;
        Block::load(weights, prefix, (self.hidden, self.eps, false), mixer, feed_forward)
    }
}

/// The plan of a model whose layers all attend: trunk and draft head.
#[derive(Debug, Clone)]
pub struct DecoderPlan<P> {
    /// Sizes.
    pub common: config::Common,
    /// The trunk's layers.
    pub layers: Vec<LayerPlan<P>>,
    /// The draft head.
    pub head: HeadPlan<P>,
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
    pub fn each_expected(&self, checkpoint: &Checkpoint, each: &mut dyn FnMut(Place, Expected)) {
        self.each_of_trunk(checkpoint, &mut |expected| each(Place::Trunk, expected));
        self.head.expected(checkpoint).into_iter().for_each(|expected| each(Place::Head, expected));
        let optional = self.head.optional(checkpoint, &self.common);
        optional.into_iter().for_each(|expected| each(Place::Optional, expected));
    }

    /// Every tensor of trunk and draft head.
    pub fn expected(&self, checkpoint: &Checkpoint) -> Vec<Expected> {
        [self.expected_trunk(checkpoint), self.head.expected(checkpoint)].concat()
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
        let trunk = Decoder::load(&weights, self)?;
        let draft_head = if options.trunk_only {
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
        Ok(MtpModel { trunk: Box::new(trunk), draft_head, info })
    }
}
