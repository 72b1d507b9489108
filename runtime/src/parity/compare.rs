//! Two tensors, row by row.

use std::fmt;

use super::error::ParityError;
use super::reference::{Reference, ReferenceError, Tensor};
use crate::{Array, Result, mlx};

/// How far a tensor is from its reference.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Comparison {
    /// The tensor.
    pub name: String,
    /// Rows compared, from the first on.
    pub rows: usize,
    /// Rows that the reference has.
    pub reference_rows: usize,
    /// Values in a row.
    pub width: usize,
    /// The largest absolute difference.
    pub max_abs_diff: f64,
    /// Row and column of the largest difference.
    pub worst: [usize; 2],
    /// The mean absolute difference.
    pub mean_abs_diff: f64,
    /// The largest absolute value of the reference.
    pub max_abs_reference: f64,
    /// The largest difference over the largest value.
    pub relative_diff: f64,
    /// Values, of either side, that are infinite or not numbers; they count in no difference.
    pub not_finite: usize,
    /// For logits, whether the same token would be chosen.
    pub argmax: Option<Argmax>,
}

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// No value is further from the reference's than this: for arithmetic in f32.
    Largest(f64),
    /// Values are no further from the reference's than this on average, and the same token would be chosen in 95 % of the
    /// rows, those aside where the reference prefers its own choice by less than this: for arithmetic in 16 bits, where a
    /// router may choose another expert in some row.
    Mean(f64),
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Largest(largest) => write!(f, "{largest:e}"),
            Self::Mean(mean) => write!(f, "a mean of {mean:e}, or fewer than 95 % of rows agree"),
        }
    }
}

/// Agreement on the most probable token.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Argmax {
    /// Rows in which both choose the same.
    pub agree: usize,
    /// Rows.
    pub rows: usize,
    /// By how much the reference prefers its own choice, in the row where they disagree most: below the tolerance it
    /// is a tie.
    pub largest_margin: f64,
    /// The same for every row in which they disagree.
    #[serde(skip)]
    pub(super) margins: Vec<f64>,
}

impl Comparison {
    /// Whether every value is finite and the differences pass.
    pub fn within(&self, tolerance: Tolerance) -> bool {
        self.not_finite == 0
            && match tolerance {
                Tolerance::Largest(largest) => self.max_abs_diff <= largest,
                Tolerance::Mean(mean) => {
                    let strays = |argmax: &Argmax| argmax.margins.iter().filter(|&&margin| margin >= mean).count();
                    self.mean_abs_diff <= mean
                        && self.argmax.as_ref().is_none_or(|argmax| 20 * strays(argmax) <= argmax.rows)
                }
            }
    }

    /// Compares the first rows of `reference` with `ours`, both row-major with rows of `width`.
    pub(super) fn new(name: &str, reference: &[f32], ours: &[f32], width: usize, logits: bool) -> Self {
        let width = width.max(1);
        let mut this = Self {
            name: name.to_owned(),
            rows: ours.len() / width,
            reference_rows: reference.len() / width,
            width,
            max_abs_diff: 0.0,
            worst: [0, 0],
            mean_abs_diff: 0.0,
            max_abs_reference: 0.0,
            relative_diff: 0.0,
            not_finite: 0,
            argmax: logits.then(|| Argmax { agree: 0, rows: 0, largest_margin: 0.0, margins: Vec::new() }),
        };
        let mut sum = 0.0;
        for (row, (expected, found)) in reference.chunks_exact(width).zip(ours.chunks_exact(width)).enumerate() {
            for (column, (&expected, &found)) in expected.iter().zip(found).enumerate() {
                if !expected.is_finite() || !found.is_finite() {
                    this.not_finite += 1;
                    continue;
                }
                let (expected, found) = (f64::from(expected), f64::from(found));
                let diff = (expected - found).abs();
                sum += diff;
                this.max_abs_reference = this.max_abs_reference.max(expected.abs());
                if diff > this.max_abs_diff {
                    (this.max_abs_diff, this.worst) = (diff, [row, column]);
                }
            }
            if let Some(argmax) = &mut this.argmax {
                let (theirs, mine) = (largest(expected), largest(found));
                argmax.rows += 1;
                if theirs == mine {
                    argmax.agree += 1;
                } else {
                    let margin = f64::from(expected[theirs]) - f64::from(expected[mine]);
                    argmax.largest_margin = argmax.largest_margin.max(margin);
                    argmax.margins.push(margin);
                }
            }
        }
        this.mean_abs_diff = sum / (this.rows * width).max(1) as f64;
        this.relative_diff = this.max_abs_diff / this.max_abs_reference.max(f64::MIN_POSITIVE);
        this
    }
}

/// Compares tensor `name` of the reference, if it is there, with `ours` `[n, width]`, which may have fewer rows.
pub(super) fn rows(
    name: &str,
    reference: &Reference,
    ours: &Array,
    logits: bool,
) -> Result<Option<Comparison>, ParityError> {
    let Some(Tensor { shape, values }) = reference.floats(name)? else {
        return Ok(None);
    };
    let found: Vec<usize> = ours.shape().iter().map(|&n| n as usize).collect();
    let fits = matches!((&shape[..], &found[..]), ([n, width], [m, w]) if width == w && m <= n && *m > 0);
    if !fits {
        let what = format!("shape {shape:?}, the model computes {found:?}");
        return Err(ReferenceError::Malformed { name: name.to_owned(), what }.into());
    }
    Ok(Some(Comparison::new(name, &values, &mlx::values(ours)?, found[1], logits)))
}

/// The place of the largest value, the first of equals; values that are no numbers never win.
fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[best] || row[best].is_nan() {
            best = i;
        }
    }
    best
}
