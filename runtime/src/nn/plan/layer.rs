//! The plan of a decoder layer, and of the mixer in it.

use crate::LoadError;
use crate::artifact::Checkpoint;
use crate::artifact::expected::Expected;
use crate::nn::block::NORMS;
use crate::nn::{Block, Mixer, Weights};

use super::feed_forward::FeedForwardPlan;

/// The plan of a layer's mixer.
pub trait MixerPlan {
    /// The mixer that it loads.
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
