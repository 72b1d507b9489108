//! The choice of experts, row by row.

use mlx_rs::ops::indexing::topk_axis;
use mlx_rs::{Dtype, ops};

use crate::mlx::slice_axis;
use crate::{Array, Result};

/// How a router turns its logits into choices.
#[derive(Debug, Clone)]
pub enum Scoring {
    /// The softmax over all experts; the largest are chosen.
    Softmax,
    /// A sigmoid of each logit. A correction decides who is chosen and takes no part in the weights (DeepSeek-V3, arXiv
    /// 2412.19437, section 2.1.2: balancing without an auxiliary loss).
    Sigmoid {
        /// `e_score_correction_bias`, `[experts]` f32: in fewer bits it would change choices.
        correction: Array,
        /// Experts are chosen within the best groups only.
        groups: Option<Groups>,
        /// A factor on the weights, applied last.
        scale: f32,
    },
}

/// Group-limited routing: experts form `count` groups in order; a group is worth the sum of its two best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Groups of as many experts each.
    pub count: usize,
    /// Groups a row may use.
    pub kept: usize,
}

/// A router's choice among experts, in f32.
#[derive(Debug, Clone)]
pub struct RouterParams {
    /// Scores and choices.
    pub scoring: Scoring,
    /// Experts a row.
    pub top_k: usize,
    /// True where the chosen weights are made to sum to one.
    pub normalize: bool,
}

impl RouterParams {
    /// Logits `[n, experts]` -> chosen experts `[n, k]` uint32, in no order, and their weights `[n, k]` f32.
    pub fn choose(&self, logits: &Array) -> Result<(Array, Array)> {
        let logits = logits.as_dtype(Dtype::Float32)?;
        match &self.scoring {
            Scoring::Softmax => {
                let scores = ops::softmax_axis(&logits, -1, true)?;
                let chosen = largest(&scores, self.top_k)?;
                let weights = scores.take_along_axis(&chosen, -1)?;
                let weights = if self.normalize { weights.divide(weights.sum_axis(-1, true)?)? } else { weights };
                Ok((chosen, weights))
            }
            Scoring::Sigmoid { correction, groups, scale } => {
                let scores = ops::sigmoid(&logits)?;
                let corrected = scores.add(correction)?;
                let corrected = groups.map_or(Ok(corrected.clone()), |groups| groups.limit(&corrected))?;
                let chosen = largest(&corrected, self.top_k)?;
                let weights = scores.take_along_axis(&chosen, -1)?;
                let weights = if self.normalize {
                    // The sum of sigmoids may be nothing; the references add the same.
                    weights.divide(weights.sum_axis(-1, true)?.add(Array::from_f32(1e-20))?)?
                } else {
                    weights
                };
                let weights = if *scale == 1.0 { weights } else { weights.multiply(Array::from_f32(*scale))? };
                Ok((chosen, weights))
            }
        }
    }
}

/// The indices of the `k` largest along the last axis, in no order.
fn largest(scores: &Array, k: usize) -> Result<Array> {
    let chosen = ops::argpartition_axis(scores.negative()?, k as i32 - 1, -1)?;
    Ok(slice_axis(&chosen, scores.ndim() - 1, 0, k as i32)?)
}

impl Groups {
    /// `[n, experts]` -> the same, with -inf outside the best groups: a corrected score may well be below zero.
    fn limit(self, scores: &Array) -> Result<Array> {
        if self.kept >= self.count {
            return Ok(scores.clone());
        }
        let shape = scores.shape();
        let grouped = scores.reshape(&[shape[0], self.count as i32, -1])?;
        let best = topk_axis(&grouped, grouped.dim(2).min(2), -1)?.sum_axis(-1, false)?; // [n, groups]
        let dropped = largest(&best.negative()?, self.count - self.kept)?.expand_dims(-1)?;
        Ok(grouped.put_along_axis(dropped, Array::from_f32(f32::NEG_INFINITY), 1)?.reshape(shape)?)
    }
}
