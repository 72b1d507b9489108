//! The pre-norm decoder layer: `x + mixer(norm x)`, then `x + ffn(norm x)`, and the stream that runs through it.

use mlx_rs::Dtype;

use super::{FeedForward, RmsNorm, Rows, Weights};
use crate::artifact::LoadError;
use crate::kernels::MAX_ROWS;
use crate::kernels::experts::Down;
use crate::kernels::qmm;
use crate::mlx::{begin, cuda_default};
use crate::quant::linear::product;
use crate::quant::{Fused, Linear, Normed, Tiled};
use crate::{Array, Result};

/// What mixes the rows of a layer and keeps two arrays a row: attention in all its forms.
pub trait Mixer: Send {
    /// `[n, hidden]` -> `[n, hidden]`, over the rows before them and, causally, over one another.
    fn forward(&self, x: Input<'_>, rows: &mut Rows<'_>) -> Result<Addend>;
}

/// What a part of a layer reads: the stream behind a norm, or rows as they are.
#[derive(Debug)]
pub struct Input<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Stream(&'a mut Residual, &'a RmsNorm),
    Rows(Array),
}

impl From<Array> for Input<'_> {
    fn from(rows: Array) -> Self {
        Self(Source::Rows(rows))
    }
}

impl Input<'_> {
    /// Normed rows `[n, hidden]`.
    pub fn rows(self) -> Result<Array> {
        match self.0 {
            Source::Stream(stream, norm) => stream.norm(norm),
            Source::Rows(rows) => Ok(rows),
        }
    }

    /// The same for `reader`, whose products can do a part of the norm where kernels run all of them: see [`Normed`].
    pub fn normed(self, reader: &Fused) -> Result<Normed> {
        match self.0 {
            Source::Stream(stream, norm) if reader.is_tiled() => stream.normed(norm),
            _ => self.rows().map(Normed::from),
        }
    }
}

/// What a part of a layer adds to the stream, `[n, hidden]`: made already, or by a launch that can add it as well.
#[derive(Debug)]
pub enum Addend {
    /// As is.
    Rows(Array),
    /// A packed product of rows `[n, in]`.
    Product(Array, Tiled),
    /// The last product of a mixture of experts.
    Experts(Down),
}

impl From<Array> for Addend {
    fn from(rows: Array) -> Self {
        Self::Rows(rows)
    }
}

impl Addend {
    /// What `linear` makes of `x` `[n, in]`.
    pub fn product(linear: &Linear, x: Array) -> Result<Self> {
        match linear.tiled() {
            Some(w) if qmm::ready(&x, w) => Ok(Self::Product(x, w.clone())),
            _ => linear.forward(&x).map(Self::Rows),
        }
    }

    /// Adds it to `stream`, on its way through `norm`; `None` where it takes two steps.
    fn add(&self, stream: &Array, norm: &RmsNorm) -> Option<Result<qmm::Added>> {
        match self {
            _ if !norm.makes_bf16() => None,
            Self::Rows(_) => None,
            Self::Product(x, w) => Some(qmm::add_product(x, w, stream, norm.weight())),
            Self::Experts(down) => Some(down.add(stream, norm.weight())),
        }
    }

    /// By itself.
    pub fn rows(self) -> Result<Array> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Product(x, w) => product(&x, &w),
            Self::Experts(down) => down.rows(),
        }
    }

    /// What there is to begin on.
    fn begun(&self) -> &Array {
        match self {
            Self::Rows(x) | Self::Product(x, _) => x,
            Self::Experts(down) => down.input(),
        }
    }
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
    /// None before the first addition.
    sum: Option<Array>,
    rows: i32,
    addend: Option<Addend>,
    additions: usize,
    /// The sum at the end of the last stretch, which may not be computed yet.
    under_way: Option<Array>,
}

impl Residual {
    /// A stream that begins with `x` `[n, hidden]`.
    pub fn new(x: &Array) -> Result<Self> {
        let rows = x.dim(0);
        if rows <= MAX_ROWS {
            // What follows is sent as it is made, once this is.
            begin([x])?;
        }
        Ok(Self { sum: None, rows, addend: Some(x.clone().into()), additions: 0, under_way: None })
    }

    /// The stream, and `waiting` on top of it.
    fn with(&self, waiting: Addend) -> Result<Array> {
        let rows = waiting.rows()?;
        self.sum.as_ref().map_or_else(|| rows.as_dtype(Dtype::Float32), |sum| sum.add(&rows))
    }

    /// Adds `y` `[n, hidden]`.
    pub fn add(&mut self, y: impl Into<Addend>) -> Result<()> {
        if let Some(waiting) = self.addend.replace(y.into()) {
            self.sum = Some(self.with(waiting)?);
        }
        self.additions += 1;
        // With few rows, making operations takes as long as running them.
        let few = self.rows <= MAX_ROWS;
        let due = if few {
            self.additions == FIRST || self.additions.is_multiple_of(BATCH)
        } else {
            self.additions.is_multiple_of(STRETCH)
        };
        if due && cuda_default() {
            begin(self.addend.iter().map(Addend::begun).chain(&self.sum))?;
            let before = std::mem::replace(&mut self.under_way, self.sum.clone());
            if let Some(before) = before.filter(|_| !few) {
                before.eval()?;
            }
        }
        Ok(())
    }

    /// Everything added so far.
    pub fn sum(mut self) -> Result<Array> {
        match self.addend.take() {
            Some(addend) => self.with(addend),
            None => self.sum.ok_or_else(|| "a stream of nothing".into()),
        }
    }

    /// The norm of everything added so far.
    pub fn norm(&mut self, norm: &RmsNorm) -> Result<Array> {
        let Some(addend) = self.addend.take() else {
            return norm.forward(self.sum.as_ref().ok_or("a stream of nothing")?);
        };
        let (sum, normed) = norm.add_forward(self.sum.as_ref(), &addend.rows()?)?;
        self.sum = Some(sum);
        Ok(normed)
    }

    /// The same for packed products.
    fn normed(&mut self, norm: &RmsNorm) -> Result<Normed> {
        let both = self.addend.as_ref().zip(self.sum.as_ref());
        let Some(added) = both.and_then(|(addend, sum)| addend.add(sum, norm)) else {
            return self.norm(norm).map(Normed::from);
        };
        let (sum, normed) = Normed::undivided(added?, norm.eps());
        (self.sum, self.addend) = (Some(sum), None);
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
    pub fn run(&self, x: &mut Residual, mix: impl FnOnce(&M, Input<'_>) -> Result<Addend>) -> Result<()> {
        let mixed = mix(&self.mixer, Input(Source::Stream(x, &self.input_norm)))?;
        x.add(mixed)?;
        let fed = self.feed_forward.forward(Input(Source::Stream(x, &self.post_norm)))?;
        x.add(fed)
    }
}

impl<M: Mixer> Block<M> {
    /// Adds the layer to the stream.
    pub fn forward(&self, x: &mut Residual, rows: &mut Rows<'_>) -> Result<()> {
        self.run(x, |mixer, x| mixer.forward(x, rows))
    }
}
