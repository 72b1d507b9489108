//! Hand-written CUDA kernels, each with an op-by-op twin that computes the same and is used everywhere else.
//!
//! A kernel runs only on a CUDA device, only for the shapes and types it was written for, and only after its self-check: its
//! first use compares it with its twin on random inputs. One that fails is left out with a warning, for good.

pub mod norm;
pub mod qmm;

use std::sync::OnceLock;

use crate::Result;
use crate::mlx::cuda_default;

/// Whether a kernel may run: a CUDA device, and a self-check that passed.
pub struct Gate {
    name: &'static str,
    passed: OnceLock<bool>,
}

impl Gate {
    /// Closed until its kernel is first asked for.
    pub const fn new(name: &'static str) -> Self {
        Self { name, passed: OnceLock::new() }
    }

    /// Runs `check` at the first call: the largest relative difference between kernel and twin, and what it may be.
    pub fn open(&self, check: impl FnOnce() -> Result<(f32, f32)>) -> bool {
        *self.passed.get_or_init(|| {
            if !cuda_default() {
                return false;
            }
            let fault = match check() {
                Ok((found, allowed)) if found <= allowed => return true,
                Ok((found, allowed)) => {
                    format!("differs by {found:e} from the same in MLX's operations, {allowed:e} allowed")
                }
                Err(error) => error.to_string(),
            };
            tracing::warn!("the CUDA kernel {} is left out: {fault}", self.name);
            false
        })
    }
}

/// The largest absolute difference over the largest absolute value of `twin`.
pub fn relative_difference(ours: &crate::Array, twin: &crate::Array) -> Result<f32> {
    use mlx_rs::Dtype;
    let (ours, twin) = (ours.as_dtype(Dtype::Float32)?, twin.as_dtype(Dtype::Float32)?);
    let difference = ours.subtract(&twin)?.abs()?.max(None)?.divide(twin.abs()?.max(None)?)?;
    difference.try_item_exact::<f32>().map_err(|error| mlx_rs::error::Exception::custom(error.to_string()))
}
