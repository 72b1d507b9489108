//! Rows of a packed embedding table, unpacked, in one launch.
//!
//! The twin takes the rows of each of the table's arrays and unpacks them, some eight launches.

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Dtype, random};

use super::tiles::{self, PackedTiles};
use super::{SelfCheck, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar};
use crate::mlx::{Mode, Packing, QuantizedWeight, dequantize};
use crate::{Array, Result};

/// Threads of a token.
const THREADS: i32 = 256;

static CHECK: SelfCheck = SelfCheck::new("embed");

static KERNEL: CudaKernel = CudaKernel::new("embed", include_str!("embed.cuh"));

/// Rows `tokens` `[n]` int32 of `table` `[vocab, width]` in `dtype`, or `None` where MLX's operations are to be used.
pub fn embed(tokens: &Array, table: &QuantizedWeight, dtype: Dtype) -> Option<Result<Array>> {
    let (bits, floats) = (table.packing.bits(), [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32]);
    let fits = table.packing.mode() == Mode::Affine
        && matches!(bits, 4 | 8)
        && tokens.dtype() == Dtype::Int32
        && tokens.ndim() == 1
        && table.packed.ndim() == 2
        && floats.contains(&dtype)
        && floats.contains(&table.scales.dtype());
    (fits && CHECK.open(check)).then(|| launch(tokens, table, dtype))
}

/// The same of a table in records.
pub fn embed_tiled(tokens: &Array, table: &PackedTiles, dtype: Dtype) -> Option<Result<Array>> {
    let floats = matches!(dtype, Dtype::Bfloat16 | Dtype::Float16 | Dtype::Float32);
    let fits = floats && tokens.dtype() == Dtype::Int32 && tokens.ndim() == 1;
    (fits && CHECK.open(check)).then(|| launch_tiled(tokens, table, dtype))
}

fn launch_tiled(tokens: &Array, table: &PackedTiles, dtype: Dtype) -> Result<Array> {
    let table_of = Table { packing: table.packing, scales: table.dtype, width: table.shape[1], record: table.record() };
    table_of.launch(tokens, &[&table.tiles], dtype)
}

fn launch(tokens: &Array, table: &QuantizedWeight, dtype: Dtype) -> Result<Array> {
    let Some(biases) = &table.biases else { return Err(crate::Error::unsupported("an affine weight without biases")) };
    let width = table.packed.dim(1) * 32 / table.packing.bits() as i32;
    let table_of = Table { packing: table.packing, scales: table.scales.dtype(), width, record: 0 };
    table_of.launch(tokens, &[&table.packed, &table.scales, biases], dtype)
}

/// What the kernel is told of a table.
struct Table {
    packing: Packing,
    /// The type of scales and biases.
    scales: Dtype,
    width: i32,
    /// Pieces of a record, 0 where there are none.
    record: i32,
}

impl Table {
    fn launch(&self, tokens: &Array, table: &[&Array], dtype: Dtype) -> Result<Array> {
        let (n, width) = (tokens.dim(0), self.width);
        let launch = Launch {
            outputs: &[(&[n, width], dtype)],
            blocks: [n, 1, 1],
            threads: THREADS,
            constants: &[
                ("BITS", Constant::Int(self.packing.bits() as i32)),
                ("GROUP", Constant::Int(self.packing.group_size() as i32)),
                ("RECORD", Constant::Int(self.record)),
                ("S", Constant::Type(self.scales)),
                ("T", Constant::Type(dtype)),
            ],
            scalars: &[Scalar::Int(width)],
            ..Launch::default()
        };
        Ok(KERNEL.launch(&[&[tokens], table].concat(), &launch)?.remove(0))
    }
}

/// The twin.
pub fn by_operations(tokens: &Array, table: &QuantizedWeight, dtype: Dtype) -> Result<Array> {
    let rows = QuantizedWeight {
        packed: table.packed.try_index(tokens)?,
        scales: table.scales.try_index(tokens)?,
        biases: table.biases.as_ref().map(|biases| biases.try_index(tokens)).transpose()?,
        packing: table.packing,
    };
    Ok(dequantize(&rows, dtype)?)
}

/// Kernel against twin.
fn check() -> Result<(f32, f32)> {
    let mut worst = 0f32;
    let tokens = Array::from_slice(&[6i32, 0, 39], &[3]);
    for (bits, group) in [(4, 64), (8, 32)] {
        let w =
            random::normal::<f32>(&[40, 2304], None, None, &random::key(bits as u64)?)?.as_dtype(Dtype::Bfloat16)?;
        let table = tiles::pack(&w, bits, group)?;
        let in_records = PackedTiles::new(&table)?;
        for dtype in [Dtype::Bfloat16, Dtype::Float32] {
            let twin = by_operations(&tokens, &table, dtype)?;
            worst = worst.max(relative_difference(&launch(&tokens, &table, dtype)?, &twin)?);
            worst = worst.max(relative_difference(&launch_tiled(&tokens, &in_records, dtype)?, &twin)?);
        }
    }
    // The operations round the product before the sum where they work in bf16.
    Ok((worst, 0.01))
}

#[cfg(test)]
mod tests {
    use mlx_rs::ops;

    use super::*;
    use crate::mlx::cuda_default;

    #[test]
    fn rows_of_a_table_are_their_twins() {
        let zeros = |dtype| ops::zeros_dtype(&[4, 8], dtype).unwrap();
        let packing = Packing::new(Mode::Affine, 4, 32);
        let [packed, scales] = [zeros(Dtype::Uint32), zeros(Dtype::Float32)];
        let scales = crate::mlx::slice_axis(&scales, 1, 0, 2).unwrap();
        let table = QuantizedWeight { packed, biases: Some(scales.clone()), scales, packing };
        let tokens = Array::from_slice(&[1i32], &[1]);
        assert_eq!(embed(&tokens, &table, Dtype::Float32).is_some(), cuda_default());
        assert!(embed(&tokens, &table, Dtype::Int32).is_none(), "no floats");
        if cuda_default() {
            let (found, allowed) = check().unwrap();
            assert!(found <= allowed, "{found}");
        }
    }
}
