//! What a sequence leaves behind: keys and values ([`KvCache`]), recurrent states ([`RecurrentCache`]).
//!
//! Rows are appended *pending*; [`Cache::commit`] keeps the first of them and drops the rest. That is the whole
//! rollback protocol: attention layers move an offset, recurrent layers recompute the state after the last kept row
//! from what they noted while they ran. The loop cannot tell them apart.
//!
//! [`Cache::freeze`] makes the committed rows a [`Prefix`], from which any number of caches go on without a copy of it.

mod kv;
mod recurrent;

pub use kv::{FrozenRows, KvCache, KvView, capacity_after};
pub use recurrent::{RecurrentCache, Tape};

use crate::{Array, Result};

/// One layer's state.
#[derive(Debug)]
pub enum LayerCache {
    /// Keys and values of every kept row.
    Kv(KvCache),
    /// A state of fixed size.
    Recurrent(RecurrentCache),
}

/// One sequence's state in every layer.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
    len: usize,
    pending: usize,
}

impl Cache {
    /// An empty cache of `layers`.
    pub fn new(layers: Vec<LayerCache>) -> Self {
        Self { layers, len: 0, pending: 0 }
    }

    /// Committed rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row was committed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows appended and not committed yet.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// The layers, in order.
    pub fn layers(&self) -> &[LayerCache] {
        &self.layers
    }

    /// The layers, for tests that spoil them.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn layers_mut(&mut self) -> &mut [LayerCache] {
        &mut self.layers
    }

    /// Announces that every layer is about to append `rows`, and hands the layers out for it.
    ///
    /// # Errors
    /// When rows are pending already: they must be committed first.
    pub fn append(&mut self, rows: usize) -> Result<&mut [LayerCache]> {
        if self.pending != 0 {
            return Err(crate::Error::cache(format!("{} rows of the cache were never committed", self.pending)));
        }
        self.pending = rows;
        Ok(&mut self.layers)
    }

    /// Keeps the first `keep` pending rows and drops the rest; 0 aborts the round.
    ///
    /// # Errors
    /// When fewer rows are pending, or MLX fails.
    pub fn commit(&mut self, keep: usize) -> Result<()> {
        if keep > self.pending {
            return Err(crate::Error::cache(format!("cannot keep {keep} of {} pending rows", self.pending)));
        }
        // All states before any layer changes: an error leaves the rows pending in every layer.
        let after = |layer: &LayerCache| match layer {
            LayerCache::Kv(_) => Ok(None),
            LayerCache::Recurrent(recurrent) => recurrent.after(keep),
        };
        let states = self.layers.iter().map(after).collect::<Result<Vec<_>>>()?;
        for (layer, states) in self.layers.iter_mut().zip(states) {
            match layer {
                LayerCache::Kv(kv) => kv.commit(self.pending - keep),
                LayerCache::Recurrent(recurrent) => recurrent.commit(states),
            }
        }
        self.len += keep;
        self.pending = 0;
        Ok(())
    }

    /// Announces `rows` more, of drafts, behind any that are pending, and hands the layers out for it: the next commit drops them all.
    pub fn extend(&mut self, rows: usize) -> &mut [LayerCache] {
        self.pending += rows;
        &mut self.layers
    }

    /// The committed rows as a prefix; this cache goes on behind it. Keys and values are copied only where the cache stands on a prefix
    /// already and has rows of its own behind it: those two are joined.
    ///
    /// # Errors
    /// While rows are pending: a prefix is taken between rounds. When MLX fails: no rows are lost.
    pub fn freeze(&mut self) -> Result<Prefix> {
        if self.pending != 0 {
            return Err(crate::Error::cache(format!("a prefix of a cache with {} pending rows", self.pending)));
        }
        let layers = self.layers.iter_mut().map(|layer| match layer {
            LayerCache::Kv(kv) => kv.freeze().map(FrozenLayer::Kv),
            LayerCache::Recurrent(recurrent) => Ok(FrozenLayer::Recurrent(recurrent.states().to_vec())),
        });
        Ok(Prefix { layers: layers.collect::<Result<_>>()?, len: self.len })
    }

    /// Every array held, to evaluate together so that lazy graphs do not pile up.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flat_map(|layer| -> Box<dyn Iterator<Item = &Array>> {
            match layer {
                LayerCache::Kv(kv) => Box::new(kv.arrays()),
                LayerCache::Recurrent(recurrent) => Box::new(recurrent.states().iter()),
            }
        })
    }

    /// Bytes held, spare capacity included.
    pub fn nbytes(&self) -> usize {
        self.arrays().map(Array::nbytes).sum()
    }
}

/// Committed rows of a sequence that nobody writes any more, in every layer. A clone shares them.
#[derive(Debug, Clone)]
pub struct Prefix {
    layers: Vec<FrozenLayer>,
    len: usize,
}

/// One layer of a prefix.
#[derive(Debug, Clone)]
enum FrozenLayer {
    /// `None` before the first row.
    Kv(Option<FrozenRows>),
    /// The states after the last row.
    Recurrent(Vec<Array>),
}

impl Prefix {
    /// The rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True where it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A cache that goes on behind these rows, which are not copied.
    pub fn fork(&self) -> Cache {
        let layers = self.layers.iter().map(|layer| match layer {
            FrozenLayer::Kv(rows) => LayerCache::Kv(KvCache::fork(rows.clone())),
            FrozenLayer::Recurrent(states) => LayerCache::Recurrent(RecurrentCache::after_rows(states.clone())),
        });
        Cache { layers: layers.collect(), len: self.len, pending: 0 }
    }

    /// Bytes held, spare capacity included; shared with every cache that stands on it.
    pub fn nbytes(&self) -> usize {
        let of = |layer: &FrozenLayer| match layer {
            FrozenLayer::Kv(rows) => rows.as_ref().map_or(0, FrozenRows::nbytes),
            FrozenLayer::Recurrent(states) => states.iter().map(Array::nbytes).sum(),
        };
        self.layers.iter().map(of).sum()
    }
}

impl LayerCache {
    /// The keys and values of an attention layer.
    ///
    /// # Errors
    /// When the layer is not one: a bug in the architecture.
    pub fn kv(&mut self) -> Result<&mut KvCache> {
        match self {
            Self::Kv(kv) => Ok(kv),
            Self::Recurrent(_) => Err(crate::Error::cache("an attention layer was given a recurrent cache")),
        }
    }

    /// The state of a recurrent layer.
    ///
    /// # Errors
    /// When the layer is not one: a bug in the architecture.
    pub fn recurrent(&mut self) -> Result<&mut RecurrentCache> {
        match self {
            Self::Recurrent(recurrent) => Ok(recurrent),
            Self::Kv(_) => Err(crate::Error::cache("a recurrent layer was given a key-value cache")),
        }
    }
}
