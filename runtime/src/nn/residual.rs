//! The residual stream of a decoder, what layers read of it and what they add to it.

use mlx_rs::Dtype;

use super::RmsNorm;
use crate::kernels::experts::Down;
use crate::kernels::{MAX_ROWS, NormedRows, PackedTiles, StreamSum, qmm};
use crate::mlx::{async_eval, cuda_default};
use crate::quant::linear::product;
use crate::quant::{Fused, Linear};
use crate::{Array, Result};

/// The input of a part of a layer: the stream behind a norm, or rows as they are.
#[derive(Debug)]
pub struct BlockInput<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Stream(&'a mut Residual, &'a RmsNorm),
    Rows(Array),
}

impl From<Array> for BlockInput<'_> {
    fn from(rows: Array) -> Self {
        Self(Source::Rows(rows))
    }
}

impl<'a> BlockInput<'a> {
    /// The stream behind `norm`.
    pub(super) fn stream(stream: &'a mut Residual, norm: &'a RmsNorm) -> Self {
        Self(Source::Stream(stream, norm))
    }

    /// Normed rows `[n, hidden]`.
    pub fn rows(self) -> Result<Array> {
        match self.0 {
            Source::Stream(stream, norm) => stream.norm(norm),
            Source::Rows(rows) => Ok(rows),
        }
    }

    /// The same for `reader`, whose products can do a part of the norm where kernels run all of them: see [`NormedRows`].
    pub fn normed(self, reader: &Fused) -> Result<NormedRows> {
        match self.0 {
            Source::Stream(stream, norm) if reader.is_tiled() => stream.normed(norm),
            _ => self.rows().map(NormedRows::from),
        }
    }
}

/// The output of a part of a layer, which is added to the stream, `[n, hidden]`: made already, or by a launch that can add it as well.
#[derive(Debug)]
pub enum BlockOutput {
    /// As is.
    Rows(Array),
    /// A packed product of rows `[n, in]`.
    Product(Array, PackedTiles),
    /// The last product of a mixture of experts.
    Experts(Down),
}

impl From<Array> for BlockOutput {
    fn from(rows: Array) -> Self {
        Self::Rows(rows)
    }
}

impl BlockOutput {
    /// The product of `linear` with `x` `[n, in]`.
    pub fn product(linear: &Linear, x: Array) -> Result<Self> {
        match linear.tiled() {
            Some(w) if qmm::ready(&x, w) => Ok(Self::Product(x, w.clone())),
            _ => linear.forward(&x).map(Self::Rows),
        }
    }

    /// Adds it to `stream`, on its way through `norm`; `None` where it takes two steps.
    fn add(&self, stream: &Array, norm: &RmsNorm) -> Option<Result<StreamSum>> {
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

    /// The array that a device can begin on.
    fn pending_array(&self) -> &Array {
        match self {
            Self::Rows(x) | Self::Product(x, _) => x,
            Self::Experts(down) => down.input(),
        }
    }
}

/// Additions, two a layer, after which a CUDA device begins on them: after 4, then every 32; a flush costs about ten launches.
const FIRST_FLUSH: usize = 4;
const FLUSH_EVERY: usize = 32;
/// The same with many rows, where the next but one waits for them: weights that were unpacked for them are held until then.
const PREFILL_FLUSH_EVERY: usize = 8;

/// The stream that layers add to, `[n, hidden]` f32: in fewer bits every addition would round it.
///
/// The newest addend waits for the norm that follows, which adds it in the same pass.
#[derive(Debug)]
pub struct Residual {
    /// None before the first addition.
    sum: Option<Array>,
    rows: i32,
    addend: Option<BlockOutput>,
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
            async_eval([x])?;
        }
        Ok(Self { sum: None, rows, addend: Some(x.clone().into()), additions: 0, under_way: None })
    }

    /// The stream, and `waiting` on top of it.
    fn with(&self, waiting: BlockOutput) -> Result<Array> {
        let rows = waiting.rows()?;
        Ok(self.sum.as_ref().map_or_else(|| rows.as_dtype(Dtype::Float32), |sum| sum.add(&rows))?)
    }

    /// Adds `y` `[n, hidden]`.
    pub fn add(&mut self, y: impl Into<BlockOutput>) -> Result<()> {
        if let Some(waiting) = self.addend.replace(y.into()) {
            self.sum = Some(self.with(waiting)?);
        }
        self.additions += 1;
        // With few rows, making operations takes as long as running them.
        let few = self.rows <= MAX_ROWS;
        let due = if few {
            self.additions == FIRST_FLUSH || self.additions.is_multiple_of(FLUSH_EVERY)
        } else {
            self.additions.is_multiple_of(PREFILL_FLUSH_EVERY)
        };
        if due && cuda_default() {
            async_eval(self.addend.iter().map(BlockOutput::pending_array).chain(&self.sum))?;
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
            None => self.sum.ok_or_else(|| crate::Error::unsupported("a stream of nothing")),
        }
    }

    /// The norm of everything added so far.
    pub fn norm(&mut self, norm: &RmsNorm) -> Result<Array> {
        let Some(addend) = self.addend.take() else {
            return norm.forward(self.sum.as_ref().ok_or_else(|| crate::Error::unsupported("a stream of nothing"))?);
        };
        let (sum, normed) = norm.add_forward(self.sum.as_ref(), &addend.rows()?)?;
        self.sum = Some(sum);
        Ok(normed)
    }

    /// The same for packed products.
    fn normed(&mut self, norm: &RmsNorm) -> Result<NormedRows> {
        let both = self.addend.as_ref().zip(self.sum.as_ref());
        let Some(added) = both.and_then(|(addend, sum)| addend.add(sum, norm)) else {
            return self.norm(norm).map(NormedRows::from);
        };
        let (sum, normed) = NormedRows::undivided(added?, norm.eps());
        (self.sum, self.addend) = (Some(sum), None);
        Ok(normed)
    }
}
