//! Root mean square norm (Zhang, Sennrich 2019): `x / sqrt(mean(x^2) + eps) * w`.

use mlx_rs::fast;

use crate::{Array, Result};

/// A norm over the last axis. Zero-centred weights (1 + w) are resolved when they are loaded.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Array,
    eps: f32,
}

impl RmsNorm {
    /// `weight` `[features]`, as it is applied.
    pub fn new(weight: Array, eps: f32) -> Self {
        Self { weight, eps }
    }

    /// `[.., features]` -> the same.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        fast::rms_norm(x, Some(&self.weight), self.eps)
    }
}
