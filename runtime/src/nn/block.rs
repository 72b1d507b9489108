//! The pre-norm decoder layer: `x + mixer(norm x)`, then `x + ffn(norm x)`.

use mlx_rs::Dtype;

use super::{FeedForward, RmsNorm, Rows, Weights};
use crate::artifact::LoadError;
use crate::{Array, Result};

/// What mixes the rows of a layer and keeps two arrays a row: attention in all its forms.
pub trait Mixer: Send {
    /// `[n, hidden]` -> `[n, hidden]`, over the rows before them and, causally, over one another.
    fn forward(&self, x: &Array, rows: &mut Rows<'_>) -> Result<Array>;
}

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

    /// `[n, hidden]` -> `[n, hidden]`, with the mixer run by `mix`.
    pub fn run(&self, x: &Array, mix: impl FnOnce(&M, &Array) -> Result<Array>) -> Result<Array> {
        let x = x.as_dtype(Dtype::Float32)?;
        let x = x.add(mix(&self.mixer, &self.input_norm.forward(&x)?)?)?;
        x.add(self.feed_forward.forward(&self.post_norm.forward(&x)?)?)
    }
}

impl<M: Mixer> Block<M> {
    /// `[n, hidden]` -> `[n, hidden]`.
    pub fn forward(&self, x: &Array, rows: &mut Rows<'_>) -> Result<Array> {
        self.run(x, |mixer, x| mixer.forward(x, rows))
    }
}
