//! Token embeddings, and the head that reads logits off a hidden state, tied to them or not.

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};

use crate::Result;
use crate::kernels::embed::{by_operations, embed, embed_tiled};
use crate::mlx::dequantize;
use crate::quant::{Linear, Weight};

/// Rows `[vocab, hidden]`, packed or not.
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Weight,
    dtype: Dtype,
}

impl Embedding {
    /// Looks rows up in `weight` and returns them in `dtype`.
    pub fn new(weight: Weight, dtype: Dtype) -> Self {
        Self { weight, dtype }
    }

    /// `[n]` int32 -> `[n, hidden]`.
    pub fn forward(&self, tokens: &Array) -> Result<Array> {
        match &self.weight {
            Weight::Dense(w) => Ok(w.try_index(tokens)?.as_dtype(self.dtype)?),
            Weight::Quantized(w) => {
                let rows = embed(tokens, w, self.dtype);
                rows.unwrap_or_else(|| by_operations(tokens, w, self.dtype))
            }
            Weight::PackedTiles(w) => {
                let rows = embed_tiled(tokens, w, self.dtype);
                rows.unwrap_or_else(|| Ok(dequantize(&w.unpack_rows(tokens)?, self.dtype)?))
            }
        }
    }

    /// The head that is tied to these rows, which are laid out for it.
    pub fn tied_head(&mut self) -> Result<LmHead> {
        let head = Linear::new(self.weight.clone(), None)?;
        self.weight = head.weight().clone();
        Ok(LmHead(head))
    }

    /// The rows.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }
}

/// Hidden states to logits.
#[derive(Debug, Clone)]
pub struct LmHead(pub Linear);

impl LmHead {
    /// `[n, hidden]` -> `[n, vocab]`, f32.
    pub fn forward(&self, hidden: &Array) -> Result<Array> {
        self.0.forward_f32(hidden)
    }
}
