//! Root mean square norm (Zhang, Sennrich 2019): `x / sqrt(mean(x^2) + eps) * w`.

use mlx_rs::{Dtype, fast, ops};

use crate::kernels::norm::{add_norm, join_norms};
use crate::{Array, Result};

/// A norm over the last axis. Zero-centred weights (1 + w) are resolved when they are loaded.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Array,
    eps: f32,
    dtype: Dtype,
}

impl RmsNorm {
    /// `weight` `[features]` f32, as it is applied: 1 + w in bf16 would lose w. Outputs are `dtype`.
    pub fn new(weight: Array, eps: f32, dtype: Dtype) -> Self {
        Self { weight, eps, dtype }
    }

    /// The weight as applied, `[features]` f32.
    pub fn weight(&self) -> &Array {
        &self.weight
    }

    /// What is added to the mean square.
    pub fn eps(&self) -> f32 {
        self.eps
    }

    /// Whether outputs are bf16.
    pub(super) fn makes_bf16(&self) -> bool {
        self.dtype == Dtype::Bfloat16
    }

    /// The same with f32 outputs.
    pub fn in_f32(self) -> Self {
        Self { dtype: Dtype::Float32, ..self }
    }

    /// `[.., features]` of any floating type -> the same shape, computed in f32.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        Ok(fast::rms_norm(x, Some(&self.weight), self.eps)?.as_dtype(self.dtype)?)
    }

    /// `x + y` in f32, with `x` `[n, features]` f32 and `y` of any floating type, or `y` alone in f32, and its norm.
    pub fn add_forward(&self, x: Option<&Array>, y: &Array) -> Result<(Array, Array)> {
        if let Some(both) = add_norm(x, y, &self.weight, self.eps, self.dtype) {
            return both;
        }
        let sum = x.map_or_else(|| y.as_dtype(Dtype::Float32), |x| x.add(y))?;
        let normed = self.forward(&sum)?;
        Ok((sum, normed))
    }

    /// The norms of two arrays `[n, features]`, this one's and another's, side by side.
    pub fn join(&self, x: &Array, other: &Self, y: &Array) -> Result<Array> {
        let rows = [(x, &self.weight, self.eps), (y, &other.weight, other.eps)];
        let joined = if self.dtype == other.dtype { join_norms(rows, self.dtype) } else { None };
        joined.unwrap_or_else(|| Ok(ops::concatenate(&[self.forward(x)?, other.forward(y)?], 1)?))
    }
}
