//! Rows behind a norm, as products are fed them.

use mlx_rs::Dtype;

use crate::kernels::qmm::{Added, Divisor};
use crate::{Array, Result};

/// Normed rows `[n, features]`, perhaps still to be divided by their root mean square: a packed product does that at its end, in
/// the launch that it takes anyway.
#[derive(Debug, Clone)]
pub struct Normed {
    rows: Array,
    divisor: Option<Divisor>,
}

impl From<Array> for Normed {
    fn from(rows: Array) -> Self {
        Self { rows, divisor: None }
    }
}

impl Normed {
    /// What an addition left of the stream, behind a norm with this `eps`.
    pub fn undivided(added: Added, eps: f32) -> (Array, Self) {
        (added.sum, Self { rows: added.rows, divisor: Some(Divisor { squares: added.squares, eps }) })
    }

    /// How many rows.
    pub fn count(&self) -> i32 {
        self.rows.dim(0)
    }

    /// The rows, and what they are still to be divided by.
    pub fn parts(&self) -> (&Array, Option<&Divisor>) {
        (&self.rows, self.divisor.as_ref())
    }

    /// The rows, divided.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn rows(&self) -> Result<Array> {
        let Some(divisor) = &self.divisor else { return Ok(self.rows.clone()) };
        divisor.divide(&self.rows.as_dtype(Dtype::Float32)?, self.rows.dim(1))?.as_dtype(self.rows.dtype())
    }
}
