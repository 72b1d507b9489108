//! Between MLX's arrays and a test's own numbers.

use crate::mlx::slice_axis;
pub use crate::model::token_array;
use crate::{Array, Result};

/// Rows `start..stop`.
///
/// # Errors
/// When MLX fails.
pub fn rows(a: &Array, start: i32, stop: i32) -> Result<Array> {
    Ok(slice_axis(a, 0, start, stop)?)
}

/// Every value, in f32.
///
/// # Errors
/// When MLX fails.
pub fn values(a: &Array) -> Result<Vec<f32>> {
    Ok(crate::mlx::values(a)?)
}

/// The rows of a matrix.
///
/// # Errors
/// When MLX fails.
pub fn table(a: &Array) -> Result<Vec<Vec<f32>>> {
    let width = a.dim(-1).max(1) as usize;
    Ok(values(a)?.chunks_exact(width).map(<[f32]>::to_vec).collect())
}

/// The place of the largest value, the first of equals.
#[must_use]
pub fn argmax<T: PartialOrd + Copy>(row: &[T]) -> usize {
    (1..row.len()).fold(0, |best, place| if row[place] > row[best] { place } else { best })
}

/// The places of the `count` largest values, the largest first, the first of equals first. Fewer where there are fewer.
#[must_use]
pub fn top(row: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    let falling = |&a: &u32, &b: &u32| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b));
    if count < order.len() {
        order.select_nth_unstable_by(count, falling);
        order.truncate(count);
    }
    order.sort_unstable_by(falling);
    order
}

/// By how much the largest value leads the second.
#[must_use]
pub fn margin(row: &[f32]) -> f32 {
    let best = argmax(row);
    let others = row.iter().enumerate().filter(|&(place, _)| place != best);
    row[best] - others.map(|(_, &value)| value).fold(f32::NEG_INFINITY, f32::max)
}
