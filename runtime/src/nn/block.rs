//! The pre-norm decoder layer: `x + mixer(norm x)`, then `x + ffn(norm x)`.

use super::mixer::{Mixer, Rows};
use super::residual::{BlockInput, BlockOutput, Residual};
use super::{FeedForward, RmsNorm, Weights};
use crate::{LoadError, Result};

/// A layer around a mixer.
#[derive(Debug, Clone)]
pub struct Block<M> {
    input_norm: RmsNorm,
    mixer: M,
    post_norm: RmsNorm,
    feed_forward: FeedForward,
}

/// The names of a layer's two norms.
pub(super) const NORMS: [&str; 2] = ["input_layernorm", "post_attention_layernorm"];

impl<M> Block<M> {
    /// Reads the norms of the layer at `prefix` (with its dot), around `mixer` and `feed_forward`; `plus_one` for norms
    /// stored around zero.
    ///
    /// # Errors
    /// A norm is missing or misshapen.
    pub fn load(
        weights: &Weights<'_>,
        prefix: &str,
        (hidden, eps, plus_one): (usize, f32, bool),
        mixer: M,
        feed_forward: FeedForward,
    ) -> Result<Self, LoadError> {
        let norm = |name: &str| weights.norm(&format!("{prefix}{name}.weight"), hidden, eps, plus_one);
        Ok(Self { input_norm: norm(NORMS[0])?, mixer, post_norm: norm(NORMS[1])?, feed_forward })
    }

    /// What mixes the rows.
    pub fn mixer(&self) -> &M {
        &self.mixer
    }

    /// Adds the layer to the stream, with the mixer run by `mix`.
    pub fn run(&self, x: &mut Residual, mix: impl FnOnce(&M, BlockInput<'_>) -> Result<BlockOutput>) -> Result<()> {
        let mixed = mix(&self.mixer, BlockInput::stream(x, &self.input_norm))?;
        x.add(mixed)?;
        let fed = self.feed_forward.forward(BlockInput::stream(x, &self.post_norm))?;
        x.add(fed)
    }
}

impl<M: Mixer> Block<M> {
    /// Adds the layer to the stream.
    pub fn forward(&self, x: &mut Residual, rows: &mut Rows<'_>) -> Result<()> {
        self.run(x, |mixer, x| mixer.forward(x, rows))
    }
}
