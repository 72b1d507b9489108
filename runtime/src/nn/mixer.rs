//! Mixers: the part of a layer that sees other rows.

use super::residual::{BlockInput, BlockOutput};
use crate::cache::KvCache;
use crate::{Array, Result};

/// The part of a layer that mixes rows and keeps two arrays a row: attention in all its forms.
pub trait Mixer: Send {
    /// `[n, hidden]` -> `[n, hidden]`, over the rows before them and, causally, over one another.
    fn forward(&self, x: BlockInput<'_>, rows: &mut Rows<'_>) -> Result<BlockOutput>;
}

/// The destination of a block's new keys and values, and the rows that it attends to.
pub enum Rows<'a> {
    /// Into the cache, over everything in it.
    Kept(&'a mut KvCache),
    /// Beside a history that is only read.
    Beside {
        /// Committed rows.
        history: &'a KvCache,
        /// The drafts' own rows so far; the new ones are added.
        side: &'a mut Vec<(Array, Array)>,
    },
}

impl Rows<'_> {
    /// The position of the first new row.
    pub fn position(&self) -> usize {
        match self {
            Self::Kept(cache) => cache.len(),
            Self::Beside { history, side } => {
                history.len() + side.iter().map(|(k, _)| k.dim(2) as usize).sum::<usize>()
            }
        }
    }
}
