//! Attention of a few rows over a long history, split over the history (Dao et al. 2023, "Flash-Decoding").
//!
//! MLX hands such shapes to cuDNN, which plans anew for every length of the history. The twin is MLX's
//! `scaled_dot_product_attention`.

use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::{Dtype, random};

use super::{Gate, Once, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch};
use crate::mlx::slice_axis;
use crate::{Array, Result};

/// The most tokens that attend at once.
const MAX_TOKENS: i32 = 16;
/// Query rows of a block.
const ROWS: i32 = 8;
/// Keys that a block takes at once, as the source has it.
const STRETCH: i32 = 128;
/// Blocks that fill a device: two for each of an H100's 132 multiprocessors.
const BLOCKS: i32 = 264;

static GATE: Gate = Gate::new("attention");

struct Kernels {
    part: CudaKernel,
    join: CudaKernel,
}

fn kernels() -> Result<&'static Kernels> {
    static KERNELS: Once<Kernels> = Once::new();
    KERNELS.get(|| {
        let header = include_str!("attention.cuh");
        let part = "attend_part<D, ROWS>(q, q_strides.data(), k, k_strides.data(), v, v_strides.data(), sums, stats, \
                    q_shape[1], k_shape[1], q_shape[2], k_shape[2], __int_as_float(SCALE));";
        let join = "join_parts<D>(sums, stats, out, stats_shape[1]);";
        Ok(Kernels {
            part: CudaKernel::strided(c"mtplx_attend_part", &[c"q", c"k", c"v"], &[c"sums", c"stats"], header, part)?,
            join: CudaKernel::new(c"mtplx_join_parts", &[c"sums", c"stats"], &[c"out"], header, join)?,
        })
    })
}

/// Causal attention: `q` `[1, heads, n, width]`, `k` and `v` `[1, kv_heads, length, width]`, whose last n rows are the
/// queries' own, -> `[1, heads, n, width]`; `None` where MLX's operation is to be used.
pub fn attend(q: &Array, k: &Array, v: &Array, scale: f32) -> Option<Result<Array>> {
    let bf16 = [q, k, v].iter().all(|a| a.dtype() == Dtype::Bfloat16);
    let width = q.dim(3);
    let fits = bf16
        && q.dim(0) == 1
        && (1..=MAX_TOKENS).contains(&q.dim(2))
        && matches!(width, 64 | 128 | 256)
        && k.dim(3) == width
        && v.dim(3) == width;
    (fits && GATE.open(check)).then(|| launch(q, k, v, scale))
}

fn launch(q: &Array, k: &Array, v: &Array, scale: f32) -> Result<Array> {
    let (heads, kv_heads, n, width, length) = (q.dim(1), k.dim(1), q.dim(2), q.dim(3), k.dim(2));
    let rows = heads / kv_heads * n;
    let row_blocks = (rows + ROWS - 1) / ROWS;
    let stretches = (length + STRETCH - 1) / STRETCH;
    let parts = stretches.min((BLOCKS / (kv_heads * row_blocks)).max(1));
    let outputs = [(&[heads * n, parts, width][..], Dtype::Float32), (&[heads * n, parts, 2][..], Dtype::Float32)];
    let width_constant = (c"D", Constant::Int(width));
    let constants = [width_constant, (c"ROWS", Constant::Int(ROWS)), (c"SCALE", Constant::Int(scale.to_bits() as i32))];
    let grid = [kv_heads * STRETCH, row_blocks, parts];
    let part = Launch { outputs: &outputs, grid, block: [STRETCH, 1, 1], constants: &constants };
    let made = kernels()?.part.launch(&[q, k, v], &part)?;
    let outputs = [(q.shape(), q.dtype())];
    let grid = [heads * n * width, 1, 1];
    let join = Launch { outputs: &outputs, grid, block: [width, 1, 1], constants: &[width_constant] };
    Ok(kernels()?.join.launch(&[&made[0], &made[1]], &join)?.remove(0))
}

/// Kernel against twin: in one part and in several, over views into longer buffers.
fn check() -> Result<(f32, f32)> {
    let normal = |shape: &[i32], seed: u64| -> Result<Array> {
        random::normal::<f32>(shape, None, None, &random::key(seed)?)?.as_dtype(Dtype::Bfloat16)
    };
    let mut worst = 0f32;
    for (n, length, width) in [(1, 700, 64), (5, 37, 128), (4, 1500, 256)] {
        let q = normal(&[1, 6, n, width], 1)?;
        let view = |seed: u64| slice_axis(&normal(&[1, 2, length + 9, width], seed)?, 2, 0, length);
        let (k, v) = (view(2)?, view(3)?);
        let mask = (n > 1).then_some(ScaledDotProductAttentionMask::Causal);
        let scale = (width as f32).powf(-0.5);
        let twin = scaled_dot_product_attention(&q, &k, &v, scale, mask, None)?;
        worst = worst.max(relative_difference(&launch(&q, &k, &v, scale)?, &twin)?);
    }
    Ok((worst, 0.02))
}

#[cfg(test)]
mod tests {
    use mlx_rs::ops;

    use super::*;
    use crate::mlx::cuda_default;

    #[test]
    fn attention_is_its_twin() {
        let q = ops::zeros::<f32>(&[1, 4, 2, 64]).unwrap().as_dtype(Dtype::Bfloat16).unwrap();
        assert_eq!(attend(&q, &q, &q, 1.0).is_some(), cuda_default());
        let wide = ops::zeros::<f32>(&[1, 4, 2, 96]).unwrap().as_dtype(Dtype::Bfloat16).unwrap();
        assert!(attend(&wide, &wide, &wide, 1.0).is_none(), "a width it was not written for");
        if cuda_default() {
            let (found, allowed) = check().unwrap();
            assert!(found <= allowed, "{found}");
        }
    }
}
