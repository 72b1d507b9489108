//! Mixers: the part of a layer that sees other rows.

use mlx_rs::ops;

use super::residual::{BlockInput, BlockOutput};
use super::rope::RowPositions;
use crate::cache::{KvCache, LayerCache};
use crate::mlx::slice_axis;
use crate::model::Positions;
use crate::{Array, Result};

/// The part of a layer that mixes rows: attention in all its forms, or a recurrence.
pub trait Mixer: Send {
    /// An empty cache of one sequence.
    fn new_cache(&self) -> LayerCache {
        LayerCache::Kv(KvCache::default())
    }

    /// Normed rows `[n, hidden]` -> `[n, hidden]`: the rows of each sequence over those before them and, causally, over one another.
    ///
    /// # Errors
    /// A cache of another kind of layer; when MLX fails.
    fn forward(&self, x: &Array, rows: &mut [Rows<'_>]) -> Result<Array>;

    /// The same mixer for layers that fuse it with the norm before it and the addition behind it; `None` for [`Mixer::forward`] alone.
    fn fused(&self) -> Option<&dyn FusedMixer> {
        None
    }
}

/// A mixer whose kernels do a part of the norm before it, or add its output to the stream.
pub trait FusedMixer {
    /// [`Mixer::forward`] of the stream behind a norm.
    ///
    /// # Errors
    /// As [`Mixer::forward`].
    fn forward_fused(&self, x: BlockInput<'_>, rows: &mut [Rows<'_>]) -> Result<BlockOutput>;
}

/// The new rows of one sequence in a layer.
pub struct Rows<'a> {
    /// How many.
    pub count: i32,
    /// Where they are.
    pub positions: &'a Positions,
    /// Where they go, and what they attend to.
    pub cache: &'a mut LayerCache,
}

impl<'a> Rows<'a> {
    /// The positions of the rows of an attention layer.
    ///
    /// # Errors
    /// A recurrent cache, which counts no rows; positions on several axes.
    pub fn positions(&mut self) -> Result<RowPositions<'a>> {
        match self.positions {
            Positions::Sequential => Ok(RowPositions::From(self.cache.kv()?.position())),
            Positions::Explicit(each) if each.shape() == [1, self.count] => Ok(RowPositions::Each(each)),
            Positions::Explicit(each) => {
                let (shape, count) = (each.shape(), self.count);
                let what =
                    format!("positions {shape:?}: expected [1, {count}]: rotations of several axes are not here");
                Err(crate::Error::unsupported(what))
            }
        }
    }
}

/// Runs `run` on the rows of each sequence by themselves: `parts` `[n, ..]` -> one array `[n, ..]`.
pub fn each_sequence(
    rows: &mut [Rows<'_>],
    parts: &[Array],
    mut run: impl FnMut(&[Array], &mut Rows<'_>) -> Result<Array>,
) -> Result<Array> {
    if let [only] = rows {
        return run(parts, only);
    }
    let mut start = 0;
    let mut outputs = Vec::with_capacity(rows.len());
    for sequence in rows {
        let stop = start + sequence.count;
        let own = parts.iter().map(|part| slice_axis(part, 0, start, stop)).collect::<Result<Vec<_>, _>>()?;
        outputs.push(run(&own, sequence)?);
        start = stop;
    }
    Ok(ops::concatenate(&outputs, 0)?)
}
