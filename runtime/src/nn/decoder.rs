//! The trunk of families whose layers all attend: embedding, layers, final norm, head.

use mlx_rs::error::Exception;

use super::plan::config::Common;
use super::plan::{DecoderPlan, MixerPlan};
use super::{Block, Embedding, LmHead, Mixer, Output, Residual, Rows, Weights};
use crate::artifact::{HiddenVariant, LoadError, MtpContract};
use crate::cache::{Cache, KvCache, LayerCache};
use crate::model::Trunk;
use crate::{Array, Result};

/// A loaded trunk.
pub struct Decoder<M> {
    embedding: Embedding,
    layers: Vec<Block<M>>,
    output: Output,
}

impl<M: Mixer> Decoder<M> {
    /// Reads the trunk under Hugging Face's names, which MLX keeps: `model.*` and `lm_head`.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    pub fn load<P: MixerPlan<Mixer = M>>(weights: &Weights<'_>, plan: &DecoderPlan<P>) -> Result<Self, LoadError> {
        let Common { vocab, hidden, eps, tied, .. } = plan.common;
        let mut embedding = weights.embedding("model.embed_tokens", vocab, hidden)?;
        let lm_head =
            if tied { embedding.tied_head()? } else { LmHead(weights.linear("lm_head", vocab, hidden, false)?) };
        let layers = plan.layers.iter().enumerate();
        let variant = MtpContract::stated(weights.checkpoint()).base_hidden_variant;
        Ok(Self {
            embedding,
            layers: layers
                .map(|(index, layer)| layer.load(weights, &format!("model.layers.{index}.")))
                .collect::<Result<_, _>>()?,
            output: Output::new(weights.norm("model.norm.weight", hidden, eps, false)?, lm_head, variant),
        })
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

impl<M: Mixer> Trunk for Decoder<M> {
    fn new_cache(&self) -> Cache {
        Cache::new(self.layers.iter().map(|_| LayerCache::Kv(KvCache::default())).collect())
    }

    fn verify(&mut self, tokens: &Array, cache: &mut Cache) -> Result<Array> {
        let caches = cache.append(tokens.dim(0) as usize)?;
        if caches.len() != self.layers.len() {
            return Err(Exception::custom(format!("a cache of {} layers for {}", caches.len(), self.layers.len())));
        }
        let mut x = Residual::new(&self.embedding.forward(tokens)?)?;
        for (layer, cache) in self.layers.iter().zip(caches) {
            layer.forward(&mut x, &mut Rows::Kept(cache.kv()?))?;
        }
        self.output.hidden(x)
    }

    fn logits(&mut self, hidden: &Array) -> Result<Array> {
        self.output.logits(hidden)
    }
}
