//! Attention of a few rows over a long history, split over the history (Dao et al. 2023, "Flash-Decoding"), and what comes before
//! and after it: heads out of the joined projections, normed and rotated; the output gate.
//!
//! MLX hands such shapes to cuDNN, which plans anew for every length of the history, and takes a dozen launches more. The twin is
//! what [`crate::nn::Attention`] does with MLX's operations.

use std::sync::OnceLock;

use mlx_rs::fast::{self, ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::{Dtype, ops, random};

use super::{MAX_ROWS, SelfCheck, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar, outputs};
use crate::mlx::{DeviceInfo, slice_axis};
use crate::{Array, Result};

/// Query rows of a block, as the source has it.
const ROWS: i32 = 16;
/// Keys that a warp takes at once, as the source has it.
const TILE: i32 = 16;
/// Blocks that fill a device: one for each of an H100's 132 multiprocessors.
const BLOCKS: i32 = 132;

static CHECK: SelfCheck = SelfCheck::new("attention");

const SOURCE: &str = include_str!("attention.cuh");
static PREPARE: CudaKernel = CudaKernel::new("prepare", SOURCE);
static PART: CudaKernel = CudaKernel::new("attend_part", SOURCE);
static JOIN: CudaKernel = CudaKernel::new("join_parts", SOURCE);

/// A layer as the kernels take it.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Query heads.
    pub heads: i32,
    /// Key and value heads.
    pub kv_heads: i32,
    /// Features a head.
    pub width: i32,
    /// Whether each query head is followed by its output gate.
    pub gated: bool,
    /// Weights `[width]` f32 of the norms of queries and keys, and what is added to the mean square.
    pub norms: Option<([&'a Array; 2], f32)>,
    /// Features rotated, in halves, and the base of their periods.
    pub rope: (i32, f32),
}

/// Queries `[1, heads, n, width]`, keys and values `[1, kv_heads, n, width]`.
pub struct Prepared {
    /// Queries.
    pub q: Array,
    /// Keys.
    pub k: Array,
    /// Values.
    pub v: Array,
}

/// Keys and values to attend to: the first rows of two buffers `[1, kv_heads, capacity, width]`, and then the first of two more.
pub struct History<'a> {
    /// Buffers of keys and values, and the rows of them that count.
    pub past: (&'a Array, &'a Array, i32),
    /// The same of the rows behind those.
    pub own: Option<(&'a Array, &'a Array, i32)>,
}

impl Layer<'_> {
    /// Whether the kernels serve the layer's joined projections `[n, ..]`.
    pub fn served(&self, joined: &Array) -> bool {
        let (dims, _) = self.rope;
        joined.dtype() == Dtype::Bfloat16
            && (1..=MAX_ROWS).contains(&joined.dim(0))
            && joined.dim(1) == self.width * (self.heads * if self.gated { 2 } else { 1 } + 2 * self.kv_heads)
            && matches!(self.width, 64 | 128 | 256)
            && (2..=self.width).contains(&dims)
            && dims % 2 == 0
            && CHECK.open(check)
    }

    fn constants(&self) -> [(&'static str, Constant); 2] {
        [("D", Constant::Int(self.width)), ("GATED", Constant::Int(self.gated.into()))]
    }

    /// Joined projections `[n, ..]`, whose first row is at `position`, as heads. Keys and values go into rows `first` and on of
    /// `buffers` `[1, kv_heads, capacity, width]`, whose other rows stay.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn prepare(&self, joined: &Array, position: usize, [k, v]: [&Array; 2], first: usize) -> Result<Prepared> {
        let (n, (dims, theta)) = (joined.dim(0), self.rope);
        let [d, gated] = self.constants();
        let norms = ("NORMS", Constant::Int(self.norms.is_some().into()));
        let heads = |count: i32, rows: i32| [1, count, rows, self.width];
        let capacity = k.dim(2);
        let (of_q, of_k) = (heads(self.heads, n), heads(self.kv_heads, capacity));
        let bf16 = Dtype::Bfloat16;
        // Without norms, any array stands in for their weights.
        let ([q_norm, k_norm], eps) = self.norms.unwrap_or(([joined, joined], 0.0));
        let launch = Launch {
            outputs: &[(&of_k, bf16), (&of_k, bf16), (&of_q, bf16)],
            blocks: [self.heads + 2 * self.kv_heads, n, 1],
            threads: self.width,
            constants: &[d, gated, norms, ("DIMS", Constant::Int(dims))],
            scalars: &[
                Scalar::Int(n),
                Scalar::Int(self.heads),
                Scalar::Int(self.kv_heads),
                Scalar::Int(position as i32),
                Scalar::Int(capacity),
                Scalar::Int(first as i32),
                Scalar::Float(theta.log2()),
                Scalar::Float(eps),
            ],
            in_place: &[3, 4],
            ..Launch::default()
        };
        let [k, v, q] = outputs(PREPARE.launch(&[joined, q_norm, k_norm, k, v], &launch)?)?;
        Ok(Prepared { q, k, v })
    }

    /// Causal attention of `q` `[1, heads, n, width]`, the last n rows of the history being their own, times the gates in
    /// `joined` -> `[n, heads * width]`.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn attend(&self, q: &Array, joined: &Array, history: &History<'_>) -> Result<Array> {
        let Self { heads, kv_heads, width, .. } = *self;
        let n = q.dim(2);
        let (past_k, past_v, past_rows) = history.past;
        // Where there are no rows behind it, the first pair of buffers stands in for the second.
        let (own_k, own_v, own_rows) = history.own.unwrap_or((past_k, past_v, 0));
        let group_rows = heads / kv_heads * n;
        let row_blocks = (group_rows + ROWS - 1) / ROWS;
        let warps = warps(width, shared_memory());
        let stretch = warps * TILE;
        let stretches = (past_rows + own_rows + stretch - 1) / stretch;
        let parts = stretches.min((BLOCKS / (kv_heads * row_blocks)).max(1));
        let rows = heads * n;
        let [d, gated] = self.constants();
        let part = Launch {
            outputs: &[(&[rows, parts, width], Dtype::Float32), (&[rows, parts, 2], Dtype::Float32)],
            blocks: [kv_heads, row_blocks, parts],
            threads: 32 * warps,
            shared: shared(width, warps),
            constants: &[d, ("WARPS", Constant::Int(warps))],
            scalars: &[
                Scalar::Int(heads),
                Scalar::Int(kv_heads),
                Scalar::Int(n),
                Scalar::Int(past_rows),
                Scalar::Int(past_k.dim(2)),
                Scalar::Int(own_rows),
                Scalar::Int(own_k.dim(2)),
                Scalar::Float((width as f32).powf(-0.5)),
            ],
            ..Launch::default()
        };
        let made = PART.launch(&[q, past_k, past_v, own_k, own_v], &part)?;
        let join = Launch {
            outputs: &[(&[n, heads * width], q.dtype())],
            blocks: [heads, n, 1],
            threads: width,
            constants: &[d, gated],
            scalars: &[Scalar::Int(n), Scalar::Int(heads), Scalar::Int(kv_heads), Scalar::Int(parts)],
            ..Launch::default()
        };
        Ok(JOIN.launch(&[&made[0], &made[1], joined], &join)?.remove(0))
    }
}

/// Bytes of a block's queries, and of two stages of keys and values for each warp, two a number.
fn shared(width: i32, warps: i32) -> i32 {
    2 * width * (ROWS + warps * 2 * 2 * TILE)
}

/// Warps of a block that may take so much shared memory.
fn warps(width: i32, limit: usize) -> i32 {
    if shared(width, 4) as usize <= limit { 4 } else { 2 }
}

/// What the device lets a block take.
fn shared_memory() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| DeviceInfo::of_default().shared_memory())
}

/// Kernels against twins: in one part and in several, in one buffer and in two, gated or not.
fn check() -> Result<(f32, f32)> {
    let normal = |shape: &[i32], seed: u64| random::normal::<f32>(shape, None, None, &random::key(seed)?);
    let bf16 = |shape: &[i32], seed: u64| normal(shape, seed)?.as_dtype(Dtype::Bfloat16);
    let mut worst = 0f32;
    for (n, past, width, gated) in [(1, 700, 64, false), (5, 37, 128, true), (8, 90, 128, false), (4, 1500, 256, true)]
    {
        let norms = [normal(&[width], 1)?, normal(&[width], 2)?];
        // Some families have none.
        let norms = (past != 90).then_some(([&norms[0], &norms[1]], 1e-6));
        let layer = Layer { heads: 6, kv_heads: 2, width, gated, norms, rope: (width / 2, 1e6) };
        let joined = bf16(&[n, (if gated { 12 } else { 6 } + 4) * width], 3)?;
        let theirs = layer.prepare_by_operations(&joined, past)?;
        // Into buffers of their own, behind two rows and before three.
        let own = [bf16(&[1, 2, n + 5, width], 6)?, bf16(&[1, 2, n + 5, width], 7)?];
        let ours = layer.prepare(&joined, past as usize, [&own[0], &own[1]], 2)?;
        let rows = |a: &Array, first: i32| slice_axis(a, 2, first, first + n);
        for (ours, theirs) in [(&ours.q, &theirs.q), (&rows(&ours.k, 2)?, &theirs.k), (&rows(&ours.v, 2)?, &theirs.v)] {
            worst = worst.max(relative_difference(ours, theirs)?);
        }
        let buffers = [bf16(&[1, 2, past + 9, width], 4)?, bf16(&[1, 2, past + 9, width], 5)?];
        let mut twin = Vec::new();
        for (buffer, new) in buffers.iter().zip([&theirs.k, &theirs.v]) {
            twin.push(ops::concatenate(&[&slice_axis(buffer, 2, 0, past)?, new], 2)?);
        }
        let twin_out = layer.attend_by_operations(&theirs.q, &joined, &twin[0], &twin[1])?;
        // The same rows behind the others.
        let into = layer.prepare(&joined, past as usize, [&buffers[0], &buffers[1]], past as usize)?;
        for (buffer, own) in [(&into.k, &ours.k), (&into.v, &ours.v)] {
            worst = worst.max(relative_difference(&rows(buffer, past)?, &rows(own, 2)?)?);
        }
        let tail = [&ours.k, &ours.v].map(|a| slice_axis(a, 2, 2, n + 5)?.contiguous());
        let [tail_k, tail_v] = tail;
        let (tail_k, tail_v) = (tail_k?, tail_v?);
        let two = History { past: (&buffers[0], &buffers[1], past), own: Some((&tail_k, &tail_v, n)) };
        let one = History { past: (&twin[0], &twin[1], past + n), own: None };
        for history in [two, one] {
            worst = worst.max(relative_difference(&layer.attend(&ours.q, &joined, &history)?, &twin_out)?);
        }
    }
    Ok((worst, 0.02))
}

impl Layer<'_> {
    /// The twin of [`Layer::prepare`].
    fn prepare_by_operations(&self, joined: &Array, position: i32) -> Result<Prepared> {
        let Self { heads, kv_heads, width, gated, norms, rope: (dims, theta) } = *self;
        let n = joined.dim(0);
        let queries = if gated { 2 * heads * width } else { heads * width };
        let [keys, values] = [queries, queries + kv_heads * width];
        let part = |start: i32, stop: i32, heads: i32| -> Result<Array> {
            let part = slice_axis(joined, 1, start, stop)?.reshape(&[1, n, heads, -1])?;
            Ok(slice_axis(&part, 3, 0, width)?.swap_axes(1, 2)?)
        };
        let rotated = |x: Array, norm: usize| -> Result<Array> {
            let x = match norms {
                Some((weights, eps)) => fast::rms_norm(&x, Some(weights[norm]), eps)?.as_dtype(joined.dtype())?,
                None => x,
            };
            Ok(fast::rope(&x, dims, false, theta, 1.0, position, None)?)
        };
        Ok(Prepared {
            q: rotated(part(0, keys, heads)?, 0)?,
            k: rotated(part(keys, values, kv_heads)?, 1)?,
            v: part(values, values + kv_heads * width, kv_heads)?,
        })
    }

    /// The twin of [`Layer::attend`].
    fn attend_by_operations(&self, q: &Array, joined: &Array, k: &Array, v: &Array) -> Result<Array> {
        let Self { heads, width, gated, .. } = *self;
        let n = q.dim(2);
        let mask = (n > 1).then_some(ScaledDotProductAttentionMask::Causal);
        let attended = scaled_dot_product_attention(q, k, v, (width as f32).powf(-0.5), mask, None)?;
        let attended = attended.swap_axes(1, 2)?.reshape(&[n, heads * width])?;
        if !gated {
            return Ok(attended);
        }
        let both = slice_axis(joined, 1, 0, 2 * heads * width)?.reshape(&[n, heads, 2 * width])?;
        let gates = slice_axis(&both, 2, width, 2 * width)?.reshape(&[n, heads * width])?;
        Ok(attended.multiply(ops::sigmoid(gates)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;

    #[test]
    fn blocks_fit_smaller_devices() {
        let consumer = 99 << 10;
        for width in [64, 128, 256] {
            assert!(shared(width, warps(width, consumer)) as usize <= consumer, "{width}");
            assert_eq!(warps(width, 227 << 10), 4);
        }
    }

    #[test]
    fn attention_is_its_twin() {
        let layer = Layer { heads: 4, kv_heads: 2, width: 64, gated: false, norms: None, rope: (32, 1e4) };
        let joined = ops::zeros::<f32>(&[2, 8 * 64]).unwrap().as_dtype(Dtype::Bfloat16).unwrap();
        assert_eq!(layer.served(&joined), cuda_default());
        assert!(!Layer { width: 96, ..layer }.served(&joined), "a width it was not written for");
        assert!(!Layer { rope: (0, 1e4), ..layer }.served(&joined), "nothing to rotate");
        if cuda_default() {
            let (found, allowed) = check().unwrap();
            assert!(found <= allowed, "{found}");
        }
    }

    /// A row that is not finite is in what attends to it, and in nothing before.
    #[test]
    fn faults_reach_no_row_before() {
        if !cuda_default() {
            return;
        }
        let (n, past, width) = (5, 40, 64);
        let layer = Layer { heads: 4, kv_heads: 2, width, gated: false, norms: None, rope: (width, 1e4) };
        let bf16 = |shape: &[i32], seed: u64| {
            random::normal::<f32>(shape, None, None, &random::key(seed).unwrap()).unwrap().as_dtype(Dtype::Bfloat16)
        };
        let joined = bf16(&[n, 8 * width], 1).unwrap();
        let attend = |joined: &Array| {
            let buffers = [bf16(&[1, 2, past + n, width], 2).unwrap(), bf16(&[1, 2, past + n, width], 3).unwrap()];
            let p = layer.prepare(joined, past as usize, [&buffers[0], &buffers[1]], past as usize).unwrap();
            let history = History { past: (&p.k, &p.v, past + n), own: None };
            layer.attend(&p.q, joined, &history).unwrap()
        };
        let clean = attend(&joined);
        // Queries, keys and values of two heads each: the second head's key or value, in the fourth row.
        for (column, fault) in [(5 * width + 3, f32::NAN), (7 * width, f32::INFINITY), (7 * width + 9, f32::NAN)] {
            let place =
                |index: i32, of: i32| ops::arange::<i32, i32>(0, of, None).unwrap().eq(Array::from_int(index)).unwrap();
            let there = place(3, n).expand_dims(1).unwrap().logical_and(place(column, 8 * width)).unwrap();
            let fault = Array::from_f32(fault).as_dtype(Dtype::Bfloat16).unwrap();
            let found = attend(&ops::select(there, fault, &joined).unwrap());
            let rows = |a: &Array, start, stop| slice_axis(a, 0, start, stop).unwrap();
            assert_eq!(relative_difference(&rows(&found, 0, 3), &rows(&clean, 0, 3)).unwrap(), 0.0, "column {column}");
            // The heads of the second key head, in the row itself and those behind it.
            for row in 3..n {
                let heads = slice_axis(&rows(&found, row, row + 1), 1, 2 * width, 4 * width).unwrap();
                let heads = heads.as_dtype(Dtype::Float32).unwrap();
                assert!(heads.as_slice::<f32>().iter().all(|x| x.is_nan()), "column {column}, row {row}");
            }
        }
    }
}
