//! Rows behind a norm, as products are fed them.

use mlx_rs::Dtype;

use crate::{Array, Result};

/// The RMS divisor that a later kernel applies: the root of the mean square and an epsilon.
#[derive(Debug, Clone)]
pub struct RmsDivisor {
    /// `[m, parts]` f32, which add up to the sum of squares over `[m, in]`.
    pub squares: Array,
    /// Added to the mean square.
    pub eps: f32,
}

impl RmsDivisor {
    /// Divides rows `[m, features]`, or a product of such rows with `width` features; f32.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn divide(&self, rows: &Array, width: i32) -> Result<Array> {
        let mean = self.squares.sum_axis(1, true)?.divide(Array::from_f32(width as f32))?;
        Ok(rows.multiply(mean.add(Array::from_f32(self.eps))?.rsqrt()?)?)
    }
}

/// A residual stream after an addition, on its way through a norm.
#[derive(Debug)]
pub struct StreamSum {
    /// The stream `[m, width]` f32.
    pub sum: Array,
    /// The stream times the norm's weight `[m, width]` bf16, not divided yet.
    pub rows: Array,
    /// Of the stream, `[m, parts]` f32: see [`RmsDivisor`].
    pub squares: Array,
}

/// Normed rows `[n, features]`, perhaps still to be divided by their root mean square: a packed product does that at its end, in
/// the launch that it takes anyway.
#[derive(Debug, Clone)]
pub struct NormedRows {
    rows: Array,
    divisor: Option<RmsDivisor>,
}

impl From<Array> for NormedRows {
    fn from(rows: Array) -> Self {
        Self { rows, divisor: None }
    }
}

impl NormedRows {
    /// The stream after an addition, and its rows behind a norm with this `eps`, not divided yet.
    pub fn undivided(added: StreamSum, eps: f32) -> (Array, Self) {
        (added.sum, Self { rows: added.rows, divisor: Some(RmsDivisor { squares: added.squares, eps }) })
    }

    /// How many rows.
    pub fn count(&self) -> i32 {
        self.rows.dim(0)
    }

    /// The rows, and what they are still to be divided by.
    pub fn parts(&self) -> (&Array, Option<&RmsDivisor>) {
        (&self.rows, self.divisor.as_ref())
    }

    /// The rows, divided.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn rows(&self) -> Result<Array> {
        let Some(divisor) = &self.divisor else { return Ok(self.rows.clone()) };
        Ok(divisor.divide(&self.rows.as_dtype(Dtype::Float32)?, self.rows.dim(1))?.as_dtype(self.rows.dtype())?)
    }
}
