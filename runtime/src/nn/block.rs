//! The pre-norm decoder layer: `x + mixer(norm x)`, then `x + ffn(norm x)`.

use super::mixer::{Mixer, Rows};
use super::residual::{BlockInput, Residual};
use super::{FeedForward, RmsNorm, Weights};
use crate::cache::LayerCache;
use crate::{LoadError, Result};

/// A layer around a mixer.
pub struct Block {
    input_norm: RmsNorm,
    mixer: Box<dyn Mixer>,
    post_norm: RmsNorm,
    feed_forward: FeedForward,
}

/// The names of a layer's two norms.
pub(super) const NORMS: [&str; 2] = ["input_layernorm", "post_attention_layernorm"];

impl Block {
    /// Reads the norms of the layer at `prefix` (with its dot), around `mixer` and `feed_forward`.
    ///
    /// # Errors
    /// A norm is missing or misshapen.
    pub fn load(
        weights: &Weights<'_>,
        prefix: &str,
        (hidden, eps): (usize, f32),
        mixer: Box<dyn Mixer>,
        feed_forward: FeedForward,
    ) -> Result<Self, LoadError> {
        let norm = |name: &str| weights.norm(&format!("{prefix}{name}.weight"), hidden, eps);
        Ok(Self { input_norm: norm(NORMS[0])?, mixer, post_norm: norm(NORMS[1])?, feed_forward })
    }

    /// An empty cache of one sequence.
    pub fn new_cache(&self) -> LayerCache {
        self.mixer.new_cache()
    }

    /// Adds the layer to the stream.
    ///
    /// # Errors
    /// A cache of another kind of layer; when MLX fails.
    pub fn forward(&self, x: &mut Residual, rows: &mut [Rows<'_>]) -> Result<()> {
        let input = BlockInput::stream(x, &self.input_norm);
        let mixed = match self.mixer.fused() {
            Some(fused) => fused.forward_fused(input, rows)?,
            None => self.mixer.forward(&input.rows()?, rows)?.into(),
        };
        x.add(mixed)?;
        let fed = self.feed_forward.forward(BlockInput::stream(x, &self.post_norm))?;
        x.add(fed)
    }
}
