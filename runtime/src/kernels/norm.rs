//! Root mean square norms in one launch: of a residual sum, with the sum; of two arrays, side by side.
//!
//! The twins are [`crate::nn::RmsNorm`]'s own sums and norms.

use mlx_rs::{Dtype, fast, ops, random};

use super::{SelfCheck, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar, outputs};
use crate::{Array, Result};

/// Threads of a row, and the numbers that each reads at once.
const THREADS: i32 = 512;
const QUAD: i32 = 4;
/// The widest row: what the threads keep in registers.
const WIDEST: i32 = THREADS * QUAD * 8;
/// The most rows.
const ROWS: i32 = 64;

static CHECK: SelfCheck = SelfCheck::new("norms");

const SOURCE: &str = include_str!("norm.cuh");
static ADD: CudaKernel = CudaKernel::new("add_norm", SOURCE);
static JOIN: CudaKernel = CudaKernel::new("join_norms", SOURCE);

/// Whether the kernels norm rows of `x` with `weight`.
fn fits(x: &Array, weight: &Array, dtype: Dtype) -> bool {
    x.ndim() == 2
        && x.dim(0) <= ROWS
        && x.dim(1) % QUAD == 0
        && x.dim(1) <= WIDEST
        && matches!(x.dtype(), Dtype::Bfloat16 | Dtype::Float16 | Dtype::Float32)
        && weight.dtype() == Dtype::Float32
        && weight.shape() == &x.shape()[1..]
        && dtype != Dtype::Float32
}

/// `x + y`, `[m, width]` f32, or `y` alone in f32, and its norm in `dtype`; `None` where MLX's operations are to be used.
pub fn add_norm(
    x: Option<&Array>,
    y: &Array,
    weight: &Array,
    eps: f32,
    dtype: Dtype,
) -> Option<Result<(Array, Array)>> {
    let alike = x.is_none_or(|x| x.dtype() == Dtype::Float32 && x.shape() == y.shape());
    (alike && fits(y, weight, dtype) && CHECK.open(check)).then(|| launch(x, y, weight, eps, dtype))
}

fn launch(x: Option<&Array>, y: &Array, weight: &Array, eps: f32, dtype: Dtype) -> Result<(Array, Array)> {
    let shape = y.shape();
    let launch = Launch {
        outputs: &[(shape, Dtype::Float32), (shape, dtype)],
        blocks: [y.dim(0), 1, 1],
        threads: THREADS,
        constants: &constants(y, dtype, x.is_some()),
        scalars: &[Scalar::Float(eps)],
        ..Launch::default()
    };
    let inputs: Vec<&Array> = x.into_iter().chain([y, weight]).collect();
    let made = ADD.launch(&inputs, &launch)?;
    let [sum, out] = outputs(made)?;
    Ok((sum, out))
}

fn constants(y: &Array, dtype: Dtype, adds: bool) -> [(&'static str, Constant); 5] {
    [
        ("THREADS", Constant::Int(THREADS)),
        ("WIDTH", Constant::Int(y.dim(1))),
        ("ADDS", Constant::Int(adds.into())),
        ("Y", Constant::Type(y.dtype())),
        ("T", Constant::Type(dtype)),
    ]
}

/// Rows with the weight and epsilon of their norm.
pub type Rows<'a> = (&'a Array, &'a Array, f32);

/// The norms of two arrays `[m, width]`, side by side `[m, 2 * width]` in `dtype`; `None` where MLX's operations are to be used.
pub fn join_norms([a, b]: [Rows<'_>; 2], dtype: Dtype) -> Option<Result<Array>> {
    let alike = a.0.shape() == b.0.shape() && a.0.dtype() == b.0.dtype();
    (alike && fits(a.0, a.1, dtype) && fits(b.0, b.1, dtype) && CHECK.open(check)).then(|| launch_join([a, b], dtype))
}

fn launch_join([a, b]: [Rows<'_>; 2], dtype: Dtype) -> Result<Array> {
    let [rows, width] = [a.0.dim(0), a.0.dim(1)];
    let launch = Launch {
        outputs: &[(&[rows, 2 * width], dtype)],
        blocks: [rows, 2, 1],
        threads: THREADS,
        constants: &constants(a.0, dtype, false),
        scalars: &[Scalar::Float(a.2), Scalar::Float(b.2)],
        ..Launch::default()
    };
    Ok(JOIN.launch(&[a.0, b.0, a.1, b.1], &launch)?.remove(0))
}

/// Kernel against twin.
fn check() -> Result<(f32, f32)> {
    let normal = |shape: &[i32], seed: u64| random::normal::<f32>(shape, None, None, &random::key(seed)?);
    let mut worst = 0f32;
    // Rows that one turn of the threads takes, and rows of several turns.
    for width in [1000, 4100] {
        let (x, y) = (normal(&[3, width], 1)?, normal(&[3, width], 2)?.as_dtype(Dtype::Bfloat16)?);
        let w = normal(&[width], 3)?;
        for (x, twin) in [(Some(&x), x.add(&y)?), (None, y.as_dtype(Dtype::Float32)?)] {
            let (sum, out) = launch(x, &y, &w, 1e-6, Dtype::Bfloat16)?;
            let normed = fast::rms_norm(&twin, Some(&w), 1e-6)?;
            worst = worst.max(relative_difference(&sum, &twin)?).max(relative_difference(&out, &normed)?);
        }
        let (a, b, other) = (normal(&[3, width], 4)?, normal(&[3, width], 5)?, normal(&[width], 6)?);
        let joined = launch_join([(&a, &w, 1e-6), (&b, &other, 1e-5)], Dtype::Bfloat16)?;
        let [a, b] = [fast::rms_norm(&a, Some(&w), 1e-6)?, fast::rms_norm(&b, Some(&other), 1e-5)?];
        worst = worst.max(relative_difference(&joined, &ops::concatenate(&[a, b], 1)?)?);
    }
    Ok((worst, 0.01))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;

    #[test]
    fn norms_are_their_twins() {
        let x = random::normal::<f32>(&[2, 64], None, None, &random::key(1).unwrap()).unwrap();
        let w = x.sum_axis(0, false).unwrap();
        for x_or_none in [None, Some(&x)] {
            assert_eq!(add_norm(x_or_none, &x, &w, 1e-6, Dtype::Bfloat16).is_some(), cuda_default());
        }
        let rows = (&x, &w, 1e-6);
        assert_eq!(join_norms([rows, rows], Dtype::Bfloat16).is_some(), cuda_default());
        assert!(join_norms([rows, rows], Dtype::Float32).is_none());
        if cuda_default() {
            let (found, allowed) = check().unwrap();
            assert!(found <= allowed, "{found}");
        }
    }
}
