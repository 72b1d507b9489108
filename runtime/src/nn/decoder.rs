//! The trunk: embedding, layers, final norm, head.

use super::{Block, Embedding, LmHead, Output, Residual, Rows};
use crate::artifact::HiddenVariant;
use crate::cache::Cache;
use crate::model::{Batch, Input, SequenceRows, Trunk};
use crate::{Array, Result};

/// A loaded trunk.
pub struct Decoder {
    embedding: Embedding,
    layers: Vec<Block>,
    output: Output,
}

impl Decoder {
    /// A trunk of these parts.
    pub fn new(embedding: Embedding, layers: Vec<Block>, output: Output) -> Self {
        Self { embedding, layers, output }
    }

    /// The token embeddings, which draft heads share.
    pub fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    /// The head, which draft heads share.
    pub fn lm_head(&self) -> &LmHead {
        self.output.lm_head()
    }

    /// Which hidden states it puts out.
    pub fn hidden_variant(&self) -> HiddenVariant {
        self.output.variant()
    }
}

impl Trunk for Decoder {
    fn new_cache(&self) -> Cache {
        Cache::new(self.layers.iter().map(Block::new_cache).collect())
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.embedding.forward(tokens)
    }

    fn forward(&self, batch: &mut Batch<'_>) -> Result<Array> {
        let embedded;
        let input = match batch.input {
            Input::Tokens(tokens) => {
                embedded = self.embedding.forward(tokens)?;
                &embedded
            }
            Input::Embeddings(rows) => rows,
        };
        let mut x = Residual::new(input)?;
        let mut sequences = Vec::with_capacity(batch.sequences.len());
        for SequenceRows { cache, count, positions } in &mut batch.sequences {
            let caches = cache.append(*count)?;
            if caches.len() != self.layers.len() {
                let what = format!("a cache of {} layers for {}", caches.len(), self.layers.len());
                return Err(crate::Error::cache(what));
            }
            sequences.push((caches, *count as i32, &*positions));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let rows = sequences.iter_mut().map(|(caches, count, positions)| Rows {
                count: *count,
                positions,
                cache: &mut caches[index],
            });
            layer.forward(&mut x, &mut rows.collect::<Vec<_>>())?;
        }
        self.output.hidden(x)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.output.logits(hidden)
    }
}
