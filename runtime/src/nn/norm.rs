//! Root mean square norm (Zhang, Sennrich 2019): `x / sqrt(mean(x^2) + eps) * w`.

use mlx_rs::{Dtype, fast};

use crate::kernels::norm::add_norm;
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
        fast::rms_norm(x, Some(&self.weight), self.eps)?.as_dtype(self.dtype)
    }

    /// `x + y` in f32, with `x` `[n, features]` f32 and `y` of any floating type, and its norm.
    pub fn add_forward(&self, x: &Array, y: &Array) -> Result<(Array, Array)> {
        if let Some(both) = add_norm(x, y, &self.weight, self.eps, self.dtype) {
            return both;
        }
        let sum = x.add(y)?;
        let normed = self.forward(&sum)?;
        Ok((sum, normed))
    }
}
