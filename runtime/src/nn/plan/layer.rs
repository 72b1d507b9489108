//! The plan of a decoder layer, and of the mixer in it.

use std::fmt;
use std::sync::Arc;

use super::config::Common;
use super::feed_forward::FeedForwardPlan;
use crate::LoadError;
use crate::architecture::{CacheSize, PassSize};
use crate::artifact::expected::Expected;
use crate::artifact::{Checkpoint, Rule};
use crate::nn::block::NORMS;
use crate::nn::{Block, Mixer, Weights};

/// The plan of a layer's mixer.
pub trait MixerPlan: fmt::Debug + Send + Sync {
    /// Its module, under the layer's prefix.
    fn module(&self) -> &'static str {
        "self_attn"
    }

    /// Adds the tensors under `module` to `list`. The checkpoint is asked where a family is stored in more than one way.
    fn expected(&self, checkpoint: &Checkpoint, module: &str, list: &mut Vec<Expected>);

    /// The size of its cache; `None` where that is not known.
    fn cache_size(&self) -> Option<CacheSize> {
        None
    }

    /// Query heads, each of which computes a score for every row of context; 0 for a mixer without scores.
    fn score_heads(&self) -> usize {
        0
    }

    /// The rules that take the place of `rule` in an artifact; `None` where the tensor stays as it is. Every rule of the model is
    /// shown, in the names of the checkpoint.
    fn convert(&self, rule: &Rule) -> Option<Vec<Rule>> {
        let _ = rule;
        None
    }

    /// Reads it.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    fn load(&self, weights: &Weights<'_>, module: &str) -> Result<Box<dyn Mixer>, LoadError>;
}

/// The plan of a decoder layer.
#[derive(Debug, Clone)]
pub struct LayerPlan {
    /// Width.
    pub hidden: usize,
    /// Of the layer's norms.
    pub eps: f32,
    /// Mixes rows.
    pub mixer: Arc<dyn MixerPlan>,
    /// The feed-forward part.
    pub feed_forward: FeedForwardPlan,
    /// Its module, under the layer's prefix.
    pub mlp: &'static str,
}

impl LayerPlan {
    /// A layer whose feed-forward part is `mlp`.
    pub fn new(common: &Common, mixer: Arc<dyn MixerPlan>, feed_forward: FeedForwardPlan) -> Self {
        Self { hidden: common.hidden, eps: common.eps, mixer, feed_forward, mlp: "mlp" }
    }

    /// Adds the tensors of a layer at `prefix` (with its dot) to `list`.
    pub fn expected(&self, checkpoint: &Checkpoint, prefix: &str, list: &mut Vec<Expected>) {
        list.extend(NORMS.map(|norm| Expected::norm(format!("{prefix}{norm}.weight"), self.hidden)));
        self.mixer.expected(checkpoint, &format!("{prefix}{}", self.mixer.module()), list);
        self.feed_forward.expected(checkpoint, &format!("{prefix}{}", self.mlp), list);
    }

    /// Sizes of a pass through the layer.
    pub(super) fn pass_size(&self, checkpoint: &Checkpoint) -> PassSize {
        let mut linears = Vec::new();
        self.mixer.expected(checkpoint, "", &mut linears);
        let shapes = linears.iter().filter_map(|expected| match expected {
            Expected::Module { shape, .. } => Some(shape.as_slice()),
            Expected::Tensor { .. } | Expected::Norm { .. } => None,
        });
        let (mut width, mut largest_linear) = self.feed_forward.pass_size();
        for shape in shapes {
            // `[out, in]`, or `[heads, out, in]`: each head for itself.
            let out: usize = shape.iter().rev().skip(1).product();
            width = width.saturating_add(out);
            largest_linear = largest_linear.max(shape.iter().product());
        }
        PassSize { width, heads: self.mixer.score_heads(), largest_linear }
    }

    /// Reads the layer at `prefix`.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    pub fn load(&self, weights: &Weights<'_>, prefix: &str) -> Result<Block, LoadError> {
        let mixer = self.mixer.load(weights, &format!("{prefix}{}", self.mixer.module()))?;
        let feed_forward = self.feed_forward.load(weights, &format!("{prefix}{}", self.mlp))?;
        Block::load(weights, prefix, (self.hidden, self.eps), mixer, feed_forward)
    }
}
