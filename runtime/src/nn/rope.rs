//! Rotary positions (Su et al. 2021, arXiv 2104.09864), and YaRN's way to stretch them (Peng et al. 2023, arXiv
//! 2309.00071).

use std::f64::consts::TAU;

use mlx_rs::{Dtype, fast, ops};

use crate::mlx::slice_axis;
use crate::{Array, Result};

/// The positions of a sequence's new rows.
#[derive(Debug, Clone, Copy)]
pub enum RowPositions<'a> {
    /// Consecutive ones, from this.
    From(usize),
    /// One a row, `[1, n]` int32.
    Each(&'a Array),
}

/// Rotates the first `dims` features of every head.
#[derive(Debug, Clone)]
pub struct Rope {
    dims: i32,
    frequencies: Frequencies,
    interleaved: bool,
}

#[derive(Debug, Clone)]
enum Frequencies {
    /// Powers of this base (`rope_theta`).
    Base(f32),
    /// The reciprocal of each, `[dims / 2]` f32, and a factor on what is rotated.
    Stretched { periods: Array, scale: f32 },
}

/// YaRN, as `rope_scaling` states it: features that turn fast keep their frequencies, slow ones are stretched by `factor`.
///
/// Source: transformers `modeling_rope_utils.py`, `_compute_yarn_parameters`; DeepSeek-V3 `model.py`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// How many times longer the context became.
    pub factor: f64,
    /// The context before (`original_max_position_embeddings`).
    pub original_context: f64,
    /// Turns within the original context above which a feature keeps its frequency.
    pub beta_fast: f64,
    /// Turns below which it is stretched wholly.
    pub beta_slow: f64,
    /// Weight of the logarithm in the factor on rotated features ...
    pub mscale: f64,
    /// ... divided by the one with this weight. A family may scale its softmax by it too.
    pub mscale_all_dim: f64,
}

impl Yarn {
    /// `0.1 * weight * ln(factor) + 1`: how much sharper attention becomes over a longer context.
    pub fn sharpening(&self, weight: f64) -> f64 {
        if self.factor <= 1.0 { 1.0 } else { 0.1 * weight * self.factor.ln() + 1.0 }
    }

    /// The reciprocal of each pair's frequency.
    fn periods(&self, dims: usize, theta: f64) -> Vec<f32> {
        // The pair, counted with a fraction, that turns so often within the original context.
        let pair = |turns: f64| dims as f64 * (self.original_context / (turns * TAU)).ln() / (2.0 * theta.ln());
        let low = pair(self.beta_fast).floor().max(0.0);
        let high = pair(self.beta_slow).ceil().min(dims as f64 - 1.0);
        let span = if high == low { 0.001 } else { high - low };
        (0..dims / 2)
            .map(|i| {
                let period = theta.powf(2.0 * i as f64 / dims as f64);
                let stretched = ((i as f64 - low) / span).clamp(0.0, 1.0);
                (1.0 / (stretched / (period * self.factor) + (1.0 - stretched) / period)) as f32
            })
            .collect()
    }
}

impl Rope {
    /// Rotates the first `dims` features, by powers of `theta`; neighbouring pairs (`interleaved`, as MLA does) or the two
    /// halves (NeoX).
    pub fn new(dims: usize, theta: f32, interleaved: bool) -> Self {
        Self { dims: dims as i32, frequencies: Frequencies::Base(theta), interleaved }
    }

    /// The same, stretched.
    pub fn yarn(dims: usize, theta: f32, interleaved: bool, yarn: &Yarn) -> Self {
        let periods = yarn.periods(dims, f64::from(theta));
        let scale = (yarn.sharpening(yarn.mscale) / yarn.sharpening(yarn.mscale_all_dim)) as f32;
        let periods = Array::from_slice(&periods, &[periods.len() as i32]);
        Self { dims: dims as i32, frequencies: Frequencies::Stretched { periods, scale }, interleaved }
    }

    /// How many features are rotated, and the base of their periods, where they are rotated in halves and not stretched.
    pub fn halves(&self) -> Option<(i32, f32)> {
        match self.frequencies {
            Frequencies::Base(theta) if !self.interleaved => Some((self.dims, theta)),
            _ => None,
        }
    }

    /// `[1, heads, n, width]` at `positions` -> the same.
    pub fn forward(&self, x: &Array, positions: RowPositions<'_>) -> Result<Array> {
        let (dims, position) = match positions {
            RowPositions::From(position) => (self.dims, position as i32),
            RowPositions::Each(each) => return self.at_each(x, each),
        };
        match &self.frequencies {
            Frequencies::Base(theta) => Ok(fast::rope(x, dims, self.interleaved, *theta, 1.0, position, None)?),
            Frequencies::Stretched { periods, scale } => {
                let rotated = fast::rope(x, dims, self.interleaved, None, 1.0, position, periods)?;
                if *scale == 1.0 {
                    return Ok(rotated);
                }
                let scale = Array::from_f32(*scale).as_dtype(x.dtype())?;
                let width = x.dim(-1);
                if dims == width {
                    return Ok(rotated.multiply(scale)?);
                }
                let axis = x.ndim() - 1;
                let scaled = slice_axis(&rotated, axis, 0, dims)?.multiply(scale)?;
                Ok(ops::concatenate(&[scaled, slice_axis(&rotated, axis, dims, width)?], -1)?)
            }
        }
    }
}

impl Rope {
    /// The same op by op, for positions `[1, n]` int32 that need not be consecutive.
    fn at_each(&self, x: &Array, positions: &Array) -> Result<Array> {
        let (dims, pairs) = (self.dims, self.dims / 2);
        let (periods, scale) = match &self.frequencies {
            Frequencies::Stretched { periods, scale } => (periods.clone(), *scale),
            Frequencies::Base(theta) => {
                let period = |pair: i32| f64::from(*theta).powf(f64::from(2 * pair) / f64::from(dims)) as f32;
                (Array::from_slice(&(0..pairs).map(period).collect::<Vec<_>>(), &[pairs]), 1.0)
            }
        };
        let angles = positions.as_dtype(Dtype::Float32)?.t().divide(periods)?; // [n, pairs]
        let scale = Array::from_f32(scale);
        let (cos, sin) = (angles.cos()?.multiply(&scale)?, angles.sin()?.multiply(&scale)?);
        let (heads, n, width) = (x.dim(1), x.dim(2), x.dim(3));
        let rotated = slice_axis(x, 3, 0, dims)?.as_dtype(Dtype::Float32)?;
        // Members of a pair: neighbours, or the same feature of either half.
        let (shape, axis) = if self.interleaved { ([1, heads, n, pairs, 2], 4) } else { ([1, heads, n, 2, pairs], 3) };
        let halves = rotated.reshape(&shape)?;
        let member = |i: i32| slice_axis(&halves, axis, i, i + 1)?.squeeze_axes(&[axis as i32]);
        let (a, b) = (member(0)?, member(1)?);
        let first = a.multiply(&cos)?.subtract(b.multiply(&sin)?)?;
        let second = b.multiply(&cos)?.add(a.multiply(&sin)?)?;
        let rotated = ops::stack(&[first, second], axis as i32)?.reshape(&[1, heads, n, dims])?.as_dtype(x.dtype())?;
        if dims == width {
            return Ok(rotated);
        }
        Ok(ops::concatenate(&[rotated, slice_axis(x, 3, dims, width)?], -1)?)
    }
}

#[cfg(test)]
mod tests {
    use mlx_rs::random;

    use super::*;

    /// Consecutive positions, stated one by one, rotate as from the first.
    #[test]
    fn stated_positions_are_positions() {
        let x = random::normal::<f32>(&[1, 2, 5, 16], None, None, &random::key(3).unwrap()).unwrap();
        let yarn = Yarn {
            factor: 4.0,
            original_context: 64.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            mscale: 1.0,
            mscale_all_dim: 0.5,
        };
        let each = Array::from_slice(&[7, 8, 9, 10, 11], &[1, 5]);
        for interleaved in [false, true] {
            for rope in [
                Rope::new(16, 1e4, interleaved),
                Rope::new(8, 1e6, interleaved),
                Rope::yarn(16, 1e4, interleaved, &yarn),
                Rope::yarn(8, 1e4, interleaved, &yarn),
            ] {
                let from = rope.forward(&x, RowPositions::From(7)).unwrap();
                let stated = rope.forward(&x, RowPositions::Each(&each)).unwrap();
                let (from, stated) =
                    (crate::mlx::values::<f32>(&from).unwrap(), crate::mlx::values::<f32>(&stated).unwrap());
                let largest = from.iter().zip(&stated).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest < 1e-5, "{rope:?}: {largest}");
            }
        }
    }

    /// The released DeepSeek-V3: of 32 pairs, those that turn 32 times within 4096 tokens, and those that do not turn once.
    #[test]
    fn yarn_keeps_fast_pairs_and_stretches_slow_ones() {
        let yarn = Yarn {
            factor: 40.0,
            original_context: 4096.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            mscale: 1.0,
            mscale_all_dim: 1.0,
        };
        let periods = yarn.periods(64, 10000.0);
        let plain = |i: usize| 10000f64.powf(i as f64 / 32.0);
        // Pairs up to 10 turn 32 times and more; from 23 on, less than once.
        for (i, &period) in periods.iter().enumerate() {
            let stretch = f64::from(period) / plain(i);
            match i {
                0..=10 => assert!((stretch - 1.0).abs() < 1e-6, "pair {i}: {stretch}"),
                23.. => assert!((stretch - 40.0).abs() < 1e-4, "pair {i}: {stretch}"),
                _ => assert!((1.0..=40.0).contains(&stretch), "pair {i}: {stretch}"),
            }
        }
        assert!(periods.is_sorted());
        assert!((yarn.sharpening(1.0) - 1.368_887_945).abs() < 1e-8);
    }
}
