//! Products of up to sixteen rows with dense bf16 weights, which are read once for all rows.
//!
//! MLX's own product would do, but is an operation of MLX's: what follows it could not be sent before MLX was asked for it.

use mlx_rs::{Dtype, random};

use super::{MAX_ROWS, SelfCheck, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar};
use crate::{Array, Result};

/// Weight rows of a block.
const TILE: i32 = 16;
/// Of a block.
const WARPS: i32 = 8;
/// Steps of 32 that a warp has under way.
const AHEAD: i32 = 4;

static CHECK: SelfCheck = SelfCheck::new("dense");

static KERNEL: CudaKernel = CudaKernel::new("dense", include_str!("dense.cuh"));

/// Whether the kernel serves `x` `[m, in]` and `w` `[out, in]`.
fn serves(x: &Array, w: &Array) -> bool {
    let bf16 = |array: &Array| array.dtype() == Dtype::Bfloat16 && array.ndim() == 2;
    bf16(x) && bf16(w) && (1..=MAX_ROWS).contains(&x.dim(0)) && x.dim(1) == w.dim(1) && w.dim(1) % 8 == 0
}

/// `x w^T` `[m, out]`, or `None` where MLX's own product is to be used.
pub fn product(x: &Array, w: &Array) -> Option<Result<Array>> {
    (serves(x, w) && CHECK.open(check)).then(|| launch(x, w))
}

fn launch(x: &Array, w: &Array) -> Result<Array> {
    let (m, n, k) = (x.dim(0), w.dim(0), x.dim(1));
    let launch = Launch {
        outputs: &[(&[m, n], x.dtype())],
        blocks: [(n + TILE - 1) / TILE, 1, 1],
        threads: 32 * WARPS,
        constants: &[
            ("NB", Constant::Int((m + 7) / 8)),
            ("WARPS", Constant::Int(WARPS)),
            ("AHEAD", Constant::Int(AHEAD)),
        ],
        scalars: &[Scalar::Int(m), Scalar::Int(n), Scalar::Int(k)],
        ..Launch::default()
    };
    Ok(KERNEL.launch(&[x, w], &launch)?.remove(0))
}

/// Kernel against twin, with few rows and many.
fn check() -> Result<(f32, f32)> {
    Ok((difference([3, 40, 328])?.max(difference([9, 32, 2048])?), 0.02))
}

/// The largest relative difference between kernel and MLX's own product of `x` `[m, k]` and `w` `[n, k]`, over random numbers.
fn difference([m, n, k]: [i32; 3]) -> Result<f32> {
    let normal = |shape: &[i32], seed: u64| {
        random::normal::<f32>(shape, None, None, &random::key(seed)?)?.as_dtype(Dtype::Bfloat16)
    };
    let (x, w) = (normal(&[m, k], 1)?, normal(&[n, k], 2)?);
    relative_difference(&launch(&x, &w)?, &x.matmul(w.t())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;

    /// On CUDA, every number of rows and ragged edge against the twin; elsewhere nothing is taken over.
    #[test]
    fn dense_products_are_their_twins() {
        for m in [1, 2, 4, 8, 9, 16] {
            for (n, k) in [(1, 8), (40, 328), (64, 2560), (2560, 5120), (100, 1000)] {
                if cuda_default() {
                    assert!(CHECK.open(check), "left out");
                    let found = difference([m, n, k]).unwrap();
                    assert!(found <= 0.02, "{m} x {n} x {k}: {found}");
                } else {
                    let zeros = |rows| Array::zeros::<half::bf16>(&[rows, k]).unwrap();
                    assert!(product(&zeros(m), &zeros(n)).is_none());
                }
            }
        }
    }

    #[test]
    fn what_it_was_not_written_for_is_left_to_mlx() {
        let zeros = |shape: &[i32]| Array::zeros::<half::bf16>(shape).unwrap();
        let w = zeros(&[32, 64]);
        assert!(serves(&zeros(&[4, 64]), &w));
        assert!(!serves(&zeros(&[17, 64]), &w), "seventeen rows");
        assert!(!serves(&zeros(&[4, 32]), &w), "rows of another width");
        assert!(!serves(&zeros(&[4, 60]), &zeros(&[32, 60])), "rows that are not aligned");
        assert!(!serves(&zeros(&[4, 64]).as_dtype(Dtype::Float32).unwrap(), &w), "f32 rows");
    }
}
