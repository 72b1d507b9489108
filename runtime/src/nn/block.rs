//! The pre-norm decoder layer: `x + mixer(norm x)`, then `x + ffn(norm x)`, and the stream that runs through it.

use mlx_rs::Dtype;

use super::{FeedForward, RmsNorm, Rows, Weights};
use crate::artifact::LoadError;
use crate::kernels::MAX_ROWS;
use crate::mlx::{begin, cuda_default};
use crate::{Array, Result};

/// What mixes the rows of a layer and keeps two arrays a row: attention in all its forms.
pub trait Mixer: Send {
    /// `[n, hidden]` -> `[n, hidden]`, over the rows before them and, causally, over one another.
    fn forward(&self, x: &Array, rows: &mut Rows<'_>) -> Result<Array>;
}

/// Additions, two a layer, after which a CUDA device begins on them: soon, and then rarely, since that takes as long as ten
/// operations.
const FIRST: usize = 4;
const BATCH: usize = 32;
/// The same with many rows, where the next but one waits for them: weights that were unpacked for them are held until then.
const STRETCH: usize = 8;

/// The stream that layers add to, `[n, hidden]` f32: in fewer bits every addition would round it.
///
/// The newest addend waits for the norm that follows, which adds it in the same pass.
#[derive(Debug)]
pub struct Residual {
    sum: Array,
    addend: Option<Array>,
    additions: usize,
    /// The sum at the end of the last stretch, which may not be computed yet.
    under_way: Option<Array>,
}

impl Residual {
    /// A stream that begins with `x` `[n, hidden]`.
    pub fn new(x: &Array) -> Result<Self> {
        Ok(Self { sum: x.as_dtype(Dtype::Float32)?, addend: None, additions: 0, under_way: None })
    }

    /// Adds `y` `[n, hidden]`.
    pub fn add(&mut self, y: Array) -> Result<()> {
        if let Some(waiting) = self.addend.replace(y) {
            self.sum = self.sum.add(waiting)?;
        }
        self.additions += 1;
        // With few rows, making operations takes as long as running them.
        let few = self.sum.dim(0) <= MAX_ROWS;
        let due = if few {
            self.additions == FIRST || self.additions.is_multiple_of(BATCH)
        } else {
            self.additions.is_multiple_of(STRETCH)
        };
        if due && cuda_default() {
            begin(self.addend.iter().chain([&self.sum]))?;
            if let Some(before) = self.under_way.replace(self.sum.clone()).filter(|_| !few) {
                before.eval()?;
            }
        }
        Ok(())
    }

    /// Everything added so far.
    pub fn sum(self) -> Result<Array> {
        self.addend.map_or(Ok(self.sum.clone()), |addend| self.sum.add(addend))
    }

    /// The norm of everything added so far.
    pub fn norm(&mut self, norm: &RmsNorm) -> Result<Array> {
        let Some(addend) = self.addend.take() else { return norm.forward(&self.sum) };
        let (sum, normed) = norm.add_forward(&self.sum, &addend)?;
        self.sum = sum;
        Ok(normed)
    }
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

    /// Adds the layer to the stream, with the mixer run by `mix`.
    pub fn run(&self, x: &mut Residual, mix: impl FnOnce(&M, &Array) -> Result<Array>) -> Result<()> {
        let mixed = mix(&self.mixer, &x.norm(&self.input_norm)?)?;
        x.add(mixed)?;
        let fed = self.feed_forward.forward(&x.norm(&self.post_norm)?)?;
        x.add(fed)
    }
}

impl<M: Mixer> Block<M> {
    /// Adds the layer to the stream.
    pub fn forward(&self, x: &mut Residual, rows: &mut Rows<'_>) -> Result<()> {
        self.run(x, |mixer, x| mixer.forward(x, rows))
    }
}
