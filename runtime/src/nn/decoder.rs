//! The trunk: embedding, layers, final norm, head.

use super::{Block, Embedding, LmHead, Output, Residual, Rows};
use crate::artifact::HiddenVariant;
use crate::cache::Cache;
use crate::model::Trunk;
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

    fn verify(&self, tokens: &Array, cache: &mut Cache) -> Result<Array> {
        let caches = cache.append(tokens.dim(0) as usize)?;
        if caches.len() != self.layers.len() {
            return Err(crate::Error::cache(format!("a cache of {} layers for {}", caches.len(), self.layers.len())));
        }
        let mut x = Residual::new(&self.embedding.forward(tokens)?)?;
        for (layer, cache) in self.layers.iter().zip(caches) {
            layer.forward(&mut x, &mut Rows::Kept(cache))?;
        }
        self.output.hidden(x)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.output.logits(hidden)
    }
}
