//! Products of up to sixteen rows with affine-packed weights, which are read once for all rows.
//!
//! MLX's own product reads them again for every row below eight. The twin is a product with the weight unpacked.

use mlx_rs::{Dtype, ops, random};

use super::{Gate, MAX_ROWS, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar};
use crate::mlx::{QuantizedWeight, dequantize, slice_axis};
use crate::nn::mlp::silu;
use crate::quant::{Mode, Scheme};
use crate::{Array, Result};

/// Weight rows of a block.
const TILE: i32 = 16;
/// Bytes of a row that a warp takes at once.
const CHUNK: i32 = 128;
/// Chunks of a warp that are in shared memory: the one at work and those under way.
const STAGES: i32 = 2;

static GATE: Gate = Gate::new("qmm");

static KERNEL: CudaKernel = CudaKernel::new("qmm", include_str!("qmm.cuh"));

/// Whether the kernel serves `x` `[m, in]` and `w` `[out, in]`.
fn serves(x: &Array, w: &QuantizedWeight) -> bool {
    let (bits, group) = (w.scheme.bits(), w.scheme.group_size());
    let floats = |a: &Array| matches!(a.dtype(), Dtype::Bfloat16 | Dtype::Float16 | Dtype::Float32);
    let alike = |biases: &Array| biases.dtype() == w.scales.dtype() && biases.shape() == w.scales.shape();
    w.scheme.mode() == Mode::Affine
        && matches!(bits, 4 | 8)
        && matches!(group, 32 | 64 | 128)
        && x.dtype() == Dtype::Bfloat16
        && x.ndim() == 2
        && w.packed.ndim() == 2
        && (1..=MAX_ROWS).contains(&x.dim(0))
        && w.packed.dim(1) * 32 == x.dim(1) * bits as i32
        && floats(&w.scales)
        && w.biases.as_ref().is_some_and(alike)
}

/// `x w^T` `[m, out]` in `dtype`, bf16 or f32; or `None` where MLX's own product is to be used.
pub fn product(x: &Array, w: &QuantizedWeight, dtype: Dtype) -> Option<Result<Array>> {
    let fits = matches!(dtype, Dtype::Bfloat16 | Dtype::Float32) && serves(x, w);
    (fits && GATE.open(check)).then(|| launch(x, w, false, dtype))
}

/// `silu(gate) * up` `[m, out / 2]` of `x w^T` = `[gate | up]`, or `None` as for [`product`].
pub fn swiglu(x: &Array, w: &QuantizedWeight) -> Option<Result<Array>> {
    (serves(x, w) && GATE.open(check)).then(|| launch(x, w, true, x.dtype()))
}

fn launch(x: &Array, w: &QuantizedWeight, paired: bool, dtype: Dtype) -> Result<Array> {
    let Some(biases) = &w.biases else { return Err("an affine weight without biases".into()) };
    let (m, k, n) = (x.dim(0), x.dim(1), w.packed.dim(0) / if paired { 2 } else { 1 });
    let bits = w.scheme.bits() as i32;
    let blocks = (n + TILE - 1) / TILE;
    let chunk = CHUNK * 8 / bits;
    let chunks = (k + chunk - 1) / chunk;
    // Few blocks need many warps to keep memory busy, many are better off with warps that run for longer (measured on an H100).
    let warps = if blocks < 256 {
        8.min((chunks / 2).max(2))
    } else if chunks < 16 {
        2
    } else {
        4
    };
    let launch = Launch {
        outputs: &[(&[m, n], dtype)],
        blocks: [blocks, 1, 1],
        threads: 32 * warps,
        shared: warps * STAGES * TILE * CHUNK * if paired { 2 } else { 1 },
        constants: &[
            ("BITS", Constant::Int(bits)),
            ("GROUP", Constant::Int(w.scheme.group_size() as i32)),
            ("NB", Constant::Int((m + 7) / 8)),
            ("PAIRED", Constant::Int(paired.into())),
            ("WARPS", Constant::Int(warps)),
            ("STAGES", Constant::Int(STAGES)),
            ("WHOLE", Constant::Int((k % chunk == 0).into())),
            ("S", Constant::Type(w.scales.dtype())),
            ("T", Constant::Type(dtype)),
        ],
        scalars: &[Scalar::Int(m), Scalar::Int(n), Scalar::Int(k)],
        ..Launch::default()
    };
    Ok(KERNEL.launch(&[x, &w.packed, &w.scales, biases], &launch)?.remove(0))
}

/// Kernel against twin, on the smallest shapes that touch every branch.
fn check() -> Result<(f32, f32)> {
    let mut worst = 0f32;
    for (seed, (bits, group, m)) in [(4, 64, 1), (4, 32, 5), (8, 64, 4), (8, 128, 9)].into_iter().enumerate() {
        let (x, w) = sample(seed as u64, bits, group, [m, 64, 512])?;
        worst = worst.max(relative_difference(&launch(&x, &w, false, x.dtype())?, &twin(&x, &w)?)?);
        worst = worst.max(relative_difference(&launch(&x, &w, true, x.dtype())?, &swiglu_twin(&x, &w)?)?);
    }
    Ok((worst, 0.02))
}

/// The product with the weight unpacked. MLX's own packed product would do, but takes it minutes to compile for every shape.
fn twin(x: &Array, w: &QuantizedWeight) -> Result<Array> {
    x.matmul(dequantize(w, x.dtype())?.t())
}

fn swiglu_twin(x: &Array, w: &QuantizedWeight) -> Result<Array> {
    let both = twin(x, w)?;
    let half = both.dim(1) / 2;
    silu(&slice_axis(&both, 1, 0, half)?)?.multiply(slice_axis(&both, 1, half, 2 * half)?)
}

/// Random rows `[m, k]` and a random packed weight `[n, k]`.
fn sample(seed: u64, bits: usize, group: usize, [m, n, k]: [i32; 3]) -> Result<(Array, QuantizedWeight)> {
    let x = random::normal::<f32>(&[m, k], None, None, &random::key(2 * seed)?)?.as_dtype(Dtype::Bfloat16)?;
    let w = random::normal::<f32>(&[n, k], None, None, &random::key(2 * seed + 1)?)?.as_dtype(Dtype::Bfloat16)?;
    let (packed, scales, biases) = ops::quantize(&w, group as i32, bits as i32)?;
    let scheme =
        Scheme::new(Mode::Affine, bits, group).map_err(|error| mlx_rs::error::Exception::custom(error.to_string()))?;
    Ok((x, QuantizedWeight { packed, scales, biases: Some(biases), scheme }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;

    /// On CUDA, every width, group, number of rows and ragged edge against the twin; elsewhere nothing is taken over.
    #[test]
    fn packed_products_are_their_twins() {
        for (bits, group) in [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)] {
            for (m, n, k) in [(1, 40, 128), (2, 48, 1280), (4, 64, 9216), (8, 100, 640), (9, 64, 2560), (16, 72, 512)] {
                let (x, w) = sample(m as u64, bits, group, [m, n, k]).unwrap();
                let Some(ours) = product(&x, &w, Dtype::Float32) else {
                    assert!(!cuda_default(), "{bits} bits in groups of {group} are left out");
                    return;
                };
                let found = relative_difference(&ours.unwrap(), &twin(&x, &w).unwrap()).unwrap();
                assert!(found <= 0.02, "{bits} bits, groups of {group}, {m} x {n} x {k}: {found}");
                let ours = swiglu(&x, &w).unwrap().unwrap();
                let found = relative_difference(&ours, &swiglu_twin(&x, &w).unwrap()).unwrap();
                assert!(found <= 0.02, "silu * up, {bits} bits, groups of {group}, {m} x {n} x {k}: {found}");
            }
        }
    }

    #[test]
    fn what_it_was_not_written_for_is_left_to_mlx() {
        let (x, w) = sample(0, 4, 64, [16, 32, 128]).unwrap();
        assert!(serves(&x, &w));
        assert!(!serves(&slice_axis(&x, 1, 0, 64).unwrap(), &w), "rows of another width");
        let (x, w) = sample(0, 4, 64, [17, 32, 128]).unwrap();
        assert!(product(&x, &w, x.dtype()).is_none(), "seventeen rows");
        let (x, w) = sample(0, 4, 64, [4, 32, 128]).unwrap();
        assert!(product(&x.as_dtype(Dtype::Float32).unwrap(), &w, x.dtype()).is_none(), "f32 rows");
        let (x, w) = sample(0, 6, 64, [4, 32, 128]).unwrap();
        assert!(product(&x, &w, x.dtype()).is_none(), "six bits");
    }
}
