//! Mixers: the part of a layer that sees other rows.

use super::residual::{BlockInput, BlockOutput};
use crate::cache::{KvCache, LayerCache};
use crate::{Array, Result};

/// The part of a layer that mixes rows: attention in all its forms, or a recurrence.
pub trait Mixer: Send {
    /// An empty cache of one sequence.
    fn new_cache(&self) -> LayerCache {
        LayerCache::Kv(KvCache::default())
    }

    /// `[n, hidden]` -> `[n, hidden]`, over the rows before them and, causally, over one another.
    ///
    /// # Errors
    /// A cache of another kind of layer; when MLX fails.
    fn forward(&self, x: BlockInput<'_>, rows: &mut Rows<'_>) -> Result<BlockOutput>;
}

/// The destination of a block's new keys and values, and the rows that it attends to.
pub enum Rows<'a> {
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

impl Rows<'_> {
    /// The position of the first new row of an attention layer.
    ///
    /// # Errors
    /// A recurrent cache, which counts no rows.
    pub fn position(&mut self) -> Result<usize> {
        match self {
            Self::Kept(cache) => Ok(cache.kv()?.len()),
            Self::Beside { history, side } => {
                Ok(history.len() + side.iter().map(|(k, _)| k.dim(2) as usize).sum::<usize>())
            }
        }
    }
}
