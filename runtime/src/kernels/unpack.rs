//! Packed weights in records as dense rows, for products of many rows.
//!
//! The twin puts the records back in order and unpacks those, some ten launches that copy the weight several times.

use mlx_rs::{Dtype, random};

use super::tiles::{self, PackedTiles};
use super::{SelfCheck, relative_difference};
use crate::mlx::dequantize;
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar};
use crate::{Array, Result};

static CHECK: SelfCheck = SelfCheck::new("unpack");

static KERNEL: CudaKernel = CudaKernel::new("unpack", include_str!("unpack.cuh"));

/// `w` `[out, in]` in `dtype`.
///
/// # Errors
/// When MLX fails.
pub fn unpack(w: &PackedTiles, dtype: Dtype) -> Result<Array> {
    let floats = matches!(dtype, Dtype::Bfloat16 | Dtype::Float16 | Dtype::Float32);
    if floats && CHECK.open(check) { launch(w, dtype) } else { twin(w, dtype) }
}

fn launch(w: &PackedTiles, dtype: Dtype) -> Result<Array> {
    let [out, input] = w.shape;
    let (tiles, chunks) = (w.tiles.dim(0), w.tiles.dim(1));
    let launch = Launch {
        outputs: &[(&[out, input], dtype)],
        blocks: [tiles * chunks, 1, 1],
        threads: 128,
        constants: &[
            ("BITS", Constant::Int(w.packing.bits() as i32)),
            ("GROUP", Constant::Int(w.packing.group_size() as i32)),
            ("RECORD", Constant::Int(w.record())),
            ("S", Constant::Type(w.dtype)),
            ("T", Constant::Type(dtype)),
        ],
        scalars: &[Scalar::Int(out), Scalar::Int(input), Scalar::Int(chunks)],
        deferred: true,
        ..Launch::default()
    };
    Ok(KERNEL.launch(&[&w.tiles], &launch)?.remove(0))
}

fn twin(w: &PackedTiles, dtype: Dtype) -> Result<Array> {
    Ok(dequantize(&w.unpack()?, dtype)?)
}

/// Kernel against twin.
fn check() -> Result<(f32, f32)> {
    let mut worst = 0f32;
    for (bits, group) in [(4, 32), (4, 64), (8, 128)] {
        let w = random::normal::<f32>(&[40, 640], None, None, &random::key(bits as u64)?)?;
        let w = PackedTiles::new(&tiles::pack(&w.as_dtype(Dtype::Bfloat16)?, bits, group)?)?;
        for dtype in [Dtype::Bfloat16, Dtype::Float32] {
            worst = worst.max(relative_difference(&launch(&w, dtype)?, &twin(&w, dtype)?)?);
        }
    }
    // The twin rounds the product before the sum where it works in bf16.
    Ok((worst, 0.01))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;

    #[test]
    fn unpacked_records_are_their_twin() {
        let w = random::normal::<f32>(&[40, 640], None, None, &random::key(1).unwrap()).unwrap();
        let packed = tiles::pack(&w, 4, 64).unwrap();
        let w = PackedTiles::new(&packed).unwrap();
        let unpacked = unpack(&w, Dtype::Float32).unwrap();
        let expected = dequantize(&packed, Dtype::Float32).unwrap();
        assert!(relative_difference(&unpacked, &expected).unwrap() <= 1e-6);
        if cuda_default() {
            let (found, allowed) = check().unwrap();
            assert!(found <= allowed, "{found}");
        }
    }
}
