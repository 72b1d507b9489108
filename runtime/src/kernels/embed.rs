//! Rows of a packed embedding table, unpacked, in one launch.
//!
//! The twin takes the rows of each of the table's arrays and unpacks them, some eight launches.

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Dtype, ops, random};

use super::{Gate, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar};
use crate::mlx::{QuantizedWeight, dequantize};
use crate::quant::{Mode, Scheme};
use crate::{Array, Result};

/// Threads of a token.
const THREADS: i32 = 256;

static GATE: Gate = Gate::new("embed");

static KERNEL: CudaKernel = CudaKernel::new("embed", include_str!("embed.cuh"));

/// Rows `tokens` `[n]` int32 of `table` `[vocab, width]` in `dtype`, or `None` where MLX's operations are to be used.
pub fn embed(tokens: &Array, table: &QuantizedWeight, dtype: Dtype) -> Option<Result<Array>> {
    let (bits, floats) = (table.scheme.bits(), [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32]);
    let fits = table.scheme.mode() == Mode::Affine
        && matches!(bits, 4 | 8)
        && tokens.dtype() == Dtype::Int32
        && tokens.ndim() == 1
        && table.packed.ndim() == 2
        && floats.contains(&dtype)
        && floats.contains(&table.scales.dtype());
    (fits && GATE.open(check)).then(|| launch(tokens, table, dtype))
}

fn launch(tokens: &Array, table: &QuantizedWeight, dtype: Dtype) -> Result<Array> {
    let Some(biases) = &table.biases else { return Err("an affine weight without biases".into()) };
    let bits = table.scheme.bits() as i32;
    let (n, width) = (tokens.dim(0), table.packed.dim(1) * (32 / bits));
    let launch = Launch {
        outputs: &[(&[n, width], dtype)],
        blocks: [n, 1, 1],
        threads: THREADS,
        constants: &[
            ("BITS", Constant::Int(bits)),
            ("GROUP", Constant::Int(table.scheme.group_size() as i32)),
            ("S", Constant::Type(table.scales.dtype())),
            ("T", Constant::Type(dtype)),
        ],
        scalars: &[Scalar::Int(width)],
        ..Launch::default()
    };
    Ok(KERNEL.launch(&[tokens, &table.packed, &table.scales, biases], &launch)?.remove(0))
}

/// The twin.
pub fn by_operations(tokens: &Array, table: &QuantizedWeight, dtype: Dtype) -> Result<Array> {
    let rows = QuantizedWeight {
        packed: table.packed.try_index(tokens)?,
        scales: table.scales.try_index(tokens)?,
        biases: table.biases.as_ref().map(|biases| biases.try_index(tokens)).transpose()?,
        scheme: table.scheme,
    };
    dequantize(&rows, dtype)
}

/// Kernel against twin.
fn check() -> Result<(f32, f32)> {
    let mut worst = 0f32;
    let tokens = Array::from_slice(&[6i32, 0, 39], &[3]);
    for (bits, group) in [(4, 64), (8, 32)] {
        let w = random::normal::<f32>(&[40, 320], None, None, &random::key(bits)?)?.as_dtype(Dtype::Bfloat16)?;
        let (packed, scales, biases) = ops::quantize(&w, group, bits as i32)?;
        let scheme = Scheme::new(Mode::Affine, bits as usize, group as usize)
            .map_err(|error| mlx_rs::error::Exception::custom(error.to_string()))?;
        let table = QuantizedWeight { packed, scales, biases: Some(biases), scheme };
        for dtype in [Dtype::Bfloat16, Dtype::Float32] {
            let (ours, twin) = (launch(&tokens, &table, dtype)?, by_operations(&tokens, &table, dtype)?);
            worst = worst.max(relative_difference(&ours, &twin)?);
        }
    }
    // The operations round the product before the sum where they work in bf16.
    Ok((worst, 0.01))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;

    #[test]
    fn rows_of_a_table_are_their_twins() {
        let zeros = |dtype| ops::zeros_dtype(&[4, 8], dtype).unwrap();
        let scheme = Scheme::new(Mode::Affine, 4, 32).unwrap();
        let [packed, scales] = [zeros(Dtype::Uint32), zeros(Dtype::Float32)];
        let scales = crate::mlx::slice_axis(&scales, 1, 0, 2).unwrap();
        let table = QuantizedWeight { packed, biases: Some(scales.clone()), scales, scheme };
        let tokens = Array::from_slice(&[1i32], &[1]);
        assert_eq!(embed(&tokens, &table, Dtype::Float32).is_some(), cuda_default());
        assert!(embed(&tokens, &table, Dtype::Int32).is_none(), "no floats");
        if cuda_default() {
            let (found, allowed) = check().unwrap();
            assert!(found <= allowed, "{found}");
        }
    }
}
