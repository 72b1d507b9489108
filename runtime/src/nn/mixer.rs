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

    /// `[n, hidden]` -> `[n, hidden]`: the rows of each sequence over those before them and, causally, over one another.
    ///
    /// # Errors
    /// A cache of another kind of layer; when MLX fails.
    fn forward(&self, x: BlockInput<'_>, rows: &mut [Rows<'_>]) -> Result<BlockOutput>;
}

/// The new rows of one sequence in a layer.
pub struct Rows<'a> {
    /// How many.
    pub count: i32,
    /// Where they are.
    pub positions: &'a Positions,
    /// Where their keys and values go, and what they attend to.
    pub target: Target<'a>,
}

/// The destination of new keys and values, and the rows that queries attend to.
pub enum Target<'a> {
    /// Into the cache, over everything in it.
    Kept(&'a mut LayerCache),
    /// Beside a history that is only read.
    Beside {
        /// Committed rows.
        history: &'a KvCache,
        /// The drafts' own rows so far; the new ones are added.
        side: &'a mut Vec<(Array, Array)>,
    },
}

impl<'a> Rows<'a> {
    /// The positions of the rows of an attention layer.
    ///
    /// # Errors
    /// A recurrent cache, which counts no rows; positions on several axes.
    pub fn positions(&mut self) -> Result<RowPositions<'a>> {
        match (self.positions, &mut self.target) {
            (Positions::Explicit(each), _) if each.shape() == [1, self.count] => Ok(RowPositions::Each(each)),
            (Positions::Explicit(each), _) => {
                let what = format!(
                    "positions {:?}: expected [1, {}]: rotations of several axes are not here",
                    each.shape(),
                    self.count
                );
                Err(crate::Error::unsupported(what))
            }
            (Positions::Sequential, Target::Kept(cache)) => Ok(RowPositions::From(cache.kv()?.len())),
            (Positions::Sequential, Target::Beside { history, side }) => {
                let own = side.iter().map(|(k, _)| k.dim(2) as usize).sum::<usize>();
                Ok(RowPositions::From(history.len() + own))
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
