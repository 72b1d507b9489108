//! Products of up to sixteen rows with affine-packed weights, which are read once for all rows.
//!
//! MLX's own product reads them again for every row below eight. The twin is a product with the weight unpacked.
//!
//! The norm between a product that is added to the residual stream and those that read it takes no launch of its own: the first
//! leaves rows times the norm's weight and sums of their squares, the others divide by the root mean square at their ends.

use mlx_rs::{Dtype, random};

use super::normed::{RmsDivisor, StreamSum};
use super::tiles::{self, PackedTiles};
use super::{MAX_ROWS, SelfCheck, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar, outputs};
use crate::mlx::{QuantizedWeight, dequantize, silu, slice_axis};
use crate::{Array, Result};

/// Weight rows of a block.
const TILE: i32 = 16;
/// Bytes of a row that a warp takes at once.
const CHUNK: i32 = 128;
/// Multiprocessors of the card that launches are laid out for: an H100's. Others run them as well.
const PROCESSORS: i32 = 132;

static CHECK: SelfCheck = SelfCheck::new("qmm");

static KERNEL: CudaKernel = CudaKernel::new("qmm", include_str!("qmm.cuh"));

/// `w` in the form that the kernel reads, where it runs and bf16 rows are to be multiplied, as bf16 scales say.
///
/// # Errors
/// When MLX fails.
pub fn repack(w: &QuantizedWeight) -> Result<Option<PackedTiles>> {
    let wanted = PackedTiles::can(w) && w.scales.dtype() == Dtype::Bfloat16 && CHECK.open(check);
    wanted.then(|| PackedTiles::new(w)).transpose()
}

/// Whether the kernel serves `x` `[m, in]` and `w` `[out, in]`.
fn serves(x: &Array, w: &PackedTiles) -> bool {
    x.dtype() == Dtype::Bfloat16 && x.ndim() == 2 && (1..=MAX_ROWS).contains(&x.dim(0)) && x.dim(1) == w.shape[1]
}

/// `x w^T` `[m, out]` in `dtype`, bf16 or f32, divided where a divisor is given; or `None` where MLX's own product is to be used.
pub fn product(x: &Array, divisor: Option<&RmsDivisor>, w: &PackedTiles, dtype: Dtype) -> Option<Result<Array>> {
    let fits = matches!(dtype, Dtype::Bfloat16 | Dtype::Float32) && holds(divisor, x.dim(0)) && ready(x, w);
    fits.then(|| Ok(launch(x, w, &Form { divisor, dtype, end: End::Plain }, None)?.remove(0)))
}

/// `silu(gate) * up` `[m, out / 2]` of `x w^T` = `[gate | up]`, or `None` as for [`product`].
pub fn swiglu(x: &Array, divisor: Option<&RmsDivisor>, w: &PackedTiles) -> Option<Result<Array>> {
    let fits = w.shape[0] % (2 * TILE) == 0 && holds(divisor, x.dim(0)) && ready(x, w);
    fits.then(|| Ok(launch(x, w, &Form { divisor, dtype: x.dtype(), end: End::SwiGlu }, None)?.remove(0)))
}

/// `stream + x w^T`, `[m, out]` f32, on its way through a norm of weight `gain` `[out]` f32. [`ready`] says whether it can be had.
///
/// # Errors
/// When MLX fails.
pub fn add_product(x: &Array, w: &PackedTiles, stream: &Array, gain: &Array) -> Result<StreamSum> {
    add(x, w, stream, gain, None)
}

fn add(x: &Array, w: &PackedTiles, stream: &Array, gain: &Array, plan: Option<Plan>) -> Result<StreamSum> {
    let form = Form { divisor: None, dtype: Dtype::Bfloat16, end: End::Add { stream, gain } };
    let made = launch(x, w, &form, plan)?;
    let [sum, rows, squares] = outputs(made)?;
    Ok(StreamSum { sum, rows, squares })
}

/// Whether a block has room for what `m` rows are divided by: static shared memory ends at 48 KB.
fn holds(divisor: Option<&RmsDivisor>, m: i32) -> bool {
    divisor.is_none_or(|divisor| (m + 7) / 8 * 8 * (divisor.squares.dim(1) + 1) * 4 <= 48 << 10)
}

/// Whether the kernel runs here and serves `x` `[m, in]` and `w` `[out, in]`.
pub fn ready(x: &Array, w: &PackedTiles) -> bool {
    serves(x, w) && CHECK.open(check)
}

/// What a launch does besides multiplying.
struct Form<'a> {
    divisor: Option<&'a RmsDivisor>,
    /// Of what is written.
    dtype: Dtype,
    end: End<'a>,
}

/// What becomes of the product.
enum End<'a> {
    Plain,
    SwiGlu,
    Add { stream: &'a Array, gain: &'a Array },
}

fn launch(x: &Array, w: &PackedTiles, form: &Form<'_>, plan: Option<Plan>) -> Result<Vec<Array>> {
    let paired = matches!(form.end, End::SwiGlu);
    let (m, k, n) = (x.dim(0), x.dim(1), w.shape[0] / if paired { 2 } else { 1 });
    let bits = w.packing.bits() as i32;
    let blocks = (n + TILE - 1) / TILE;
    let chunks = w.tiles.dim(1);
    let plan = plan.unwrap_or_else(|| Plan::new(blocks, chunks, m, paired));
    let mut inputs = vec![x, &w.tiles];
    let (parts, eps) = form.divisor.map_or((0, 0.0), |divisor| (divisor.squares.dim(1), divisor.eps));
    inputs.extend(form.divisor.map(|divisor| &divisor.squares));
    let (sum, rows, squares) = ([m, n], [m, n], [m, blocks]);
    let outputs = [(&sum[..], Dtype::Float32), (&rows[..], form.dtype), (&squares[..], Dtype::Float32)];
    let adds = if let End::Add { stream, gain } = form.end {
        inputs.extend([stream, gain]);
        true
    } else {
        false
    };
    let launch = Launch {
        outputs: if adds { &outputs } else { &outputs[1..2] },
        blocks: [plan.grid, 1, 1],
        threads: 32 * plan.warps,
        shared: plan.shared(w.record(), m, paired),
        constants: &[
            ("BITS", Constant::Int(bits)),
            ("GROUP", Constant::Int(w.packing.group_size() as i32)),
            ("NB", Constant::Int((m + 7) / 8)),
            ("PAIRED", Constant::Int(paired.into())),
            ("ADDS", Constant::Int(adds.into())),
            ("DIVIDES", Constant::Int(form.divisor.is_some().into())),
            ("PARTS", Constant::Int(parts)),
            ("WARPS", Constant::Int(plan.warps)),
            ("STAGES", Constant::Int(plan.stages)),
            ("RESIDENT", Constant::Int(plan.resident)),
            ("MANY", Constant::Int(plan.many.into())),
            ("RECORD", Constant::Int(w.record())),
            ("WHOLE", Constant::Int((k % (CHUNK * 8 / bits) == 0).into())),
            ("S", Constant::Type(w.dtype)),
            ("T", Constant::Type(form.dtype)),
        ],
        scalars: &[Scalar::Int(m), Scalar::Int(n), Scalar::Int(k), Scalar::Float(eps)],
        ..Launch::default()
    };
    Ok(KERNEL.launch(&inputs, &launch)?)
}

/// How a product is spread over the card.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Blocks.
    grid: i32,
    /// Of a block.
    warps: i32,
    /// Chunks of a warp that are in shared memory: the one at work and those under way.
    stages: i32,
    /// Blocks that a multiprocessor's registers are to hold.
    resident: i32,
    /// Whether a block takes several tiles.
    many: bool,
}

impl Plan {
    /// For `tiles` of `chunks` each, by `m` rows; `paired` tiles take twice the memory and more registers.
    ///
    /// A launch should be one wave: a block that starts behind another one has nothing under way yet. So the more tiles fall to a
    /// multiprocessor, the fewer warps take each, and beyond that blocks stay and take several. On an H100 the numbers were among the
    /// best of some thirty for each product of the 4B and 27B shapes, at one row and at four, behind and ahead of each other; those
    /// shapes have no pairs of fewer than five tiles a multiprocessor, and no four plain ones.
    fn new(tiles: i32, chunks: i32, m: i32, paired: bool) -> Self {
        let each = (tiles + PROCESSORS - 1) / PROCESSORS;
        let (warps, resident, stages, many) = match each {
            // Registers for sixteen rows leave no choice.
            _ if m > 8 && (paired || (tiles >= 256 && chunks < 16)) => (4, 4, 2, false),
            _ if m > 8 => (8, 2, 2, false),
            ..=2 if paired => (6, 2, 2, false),
            ..=2 => (8, 2, 3, false),
            3 if paired => (5, 3, 2, false),
            3 => (5, 3, 3, false),
            4 if !paired => (4, 4, 2, false),
            5..=6 if !paired => (3, 6, 2, false),
            7..=8 if !paired => (2, 8, 2, false),
            _ => (4, 3, 3, true),
        };
        let grid = if many { tiles.min(resident * PROCESSORS) } else { tiles };
        Self { grid, warps: warps.min(chunks), stages, resident, many }
    }

    /// As large products are spread, on few blocks: for checks.
    fn in_turns(chunks: i32) -> Self {
        Self { grid: 2, warps: 2.min(chunks), stages: 3, resident: 1, many: true }
    }

    /// Dynamic shared memory in bytes: records of `record` 16-byte pieces, and each warp's share of a tile.
    fn shared(&self, record: i32, m: i32, paired: bool) -> i32 {
        let shares = (1 + i32::from(self.many)) * ((m + 7) / 8) * 512;
        self.warps * if paired { 2 } else { 1 } * (self.stages * record * 16 + shares)
    }
}

/// Kernel against twin, on the smallest shapes that touch every branch.
fn check() -> Result<(f32, f32)> {
    let mut worst = 0f32;
    // The last one has ragged ends, and warps with several records each.
    let shapes = [(4, 64, [1, 64, 512]), (4, 32, [5, 64, 512]), (8, 128, [9, 64, 512]), (8, 64, [4, 72, 2496])];
    for (seed, (bits, group, shape)) in shapes.into_iter().enumerate() {
        worst = worst.max(difference(seed as u64, bits, group, shape, false)?);
    }
    worst = worst.max(difference(4, 4, 64, [3, 96, 832], true)?);
    Ok((worst, 0.02))
}

/// The largest relative difference of any form from its twin, over random numbers; spread over the card as they would be, or `in_turns`.
fn difference(seed: u64, bits: usize, group: usize, shape: [i32; 3], in_turns: bool) -> Result<f32> {
    let [m, n, k] = shape;
    let (x, packed) = sample(seed, bits, group, shape)?;
    let w = PackedTiles::new(&packed)?;
    let plan = in_turns.then(|| Plan::in_turns(w.tiles.dim(1)));
    let normal = |shape: &[i32], seed: u64| random::normal::<f32>(shape, None, None, &random::key(seed)?);
    let squares = normal(&[m, 37], seed + 100)?.square()?.multiply(Array::from_f32(k as f32))?;
    let divisor = RmsDivisor { squares, eps: 1e-6 };
    let mut worst = 0f32;
    for divisor in [None, Some(&divisor)] {
        let twin = twin(&x, divisor, &packed)?;
        let plain = launch(&x, &w, &Form { divisor, dtype: Dtype::Float32, end: End::Plain }, plan)?.remove(0);
        worst = worst.max(relative_difference(&plain, &twin)?);
        if n % (2 * TILE) == 0 {
            let paired = launch(&x, &w, &Form { divisor, dtype: x.dtype(), end: End::SwiGlu }, plan)?.remove(0);
            worst = worst.max(relative_difference(&paired, &swiglu_twin(&twin)?)?);
        }
    }
    let (stream, gain) = (normal(&[m, n], seed + 200)?, normal(&[n], seed + 300)?);
    let added = add(&x, &w, &stream, &gain, plan)?;
    let sum = stream.add(twin(&x, None, &packed)?)?;
    worst = worst.max(relative_difference(&added.sum, &sum)?);
    worst = worst.max(relative_difference(&added.rows, &sum.multiply(&gain)?)?);
    let squares = added.squares.sum_axis(1, false)?;
    Ok(worst.max(relative_difference(&squares, &sum.square()?.sum_axis(1, false)?)?))
}

/// The product with the weight unpacked, f32. MLX's own packed product would do, but takes it minutes to compile for every shape.
fn twin(x: &Array, divisor: Option<&RmsDivisor>, w: &QuantizedWeight) -> Result<Array> {
    let product = x.matmul(dequantize(w, x.dtype())?.t())?.as_dtype(Dtype::Float32)?;
    divisor.map_or(Ok(product.clone()), |divisor| divisor.divide(&product, x.dim(1)))
}

fn swiglu_twin(both: &Array) -> Result<Array> {
    let half = both.dim(1) / 2;
    Ok(silu(&slice_axis(both, 1, 0, half)?)?.multiply(slice_axis(both, 1, half, 2 * half)?)?)
}

/// Random rows `[m, k]` and a random packed weight `[n, k]`.
fn sample(seed: u64, bits: usize, group: usize, [m, n, k]: [i32; 3]) -> Result<(Array, QuantizedWeight)> {
    let x = random::normal::<f32>(&[m, k], None, None, &random::key(2 * seed)?)?.as_dtype(Dtype::Bfloat16)?;
    let w = random::normal::<f32>(&[n, k], None, None, &random::key(2 * seed + 1)?)?.as_dtype(Dtype::Bfloat16)?;
    Ok((x, tiles::pack(&w, bits, group)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;

    /// On CUDA, every width, group, number of rows and ragged edge against the twin; elsewhere nothing is taken over.
    #[test]
    fn packed_products_are_their_twins() {
        for (bits, group) in [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)] {
            for (m, n, k) in [(1, 40, 128), (2, 96, 1280), (4, 64, 9216), (8, 100, 640), (9, 64, 2560), (16, 96, 512)] {
                if !cuda_default() {
                    assert!(repack(&sample(0, bits, group, [m, n, k]).unwrap().1).unwrap().is_none());
                    continue;
                }
                assert!(CHECK.open(check), "left out");
                for in_turns in [false, true] {
                    let found = difference(m as u64, bits, group, [m, n, k], in_turns).unwrap();
                    assert!(found <= 0.02, "{bits} bits, groups of {group}, {m} x {n} x {k}, {in_turns}: {found}");
                }
            }
        }
    }

    /// A block may have 99 KB on the smallest cards whose tensor cores take bf16 (Ampere and Ada, compute capability 8.6 and 8.9).
    #[test]
    fn launches_cover_all_tiles_and_fit() {
        for tiles in [1, 100, 160, 320, 396, 397, 576, 772, 1030, 1088, 2048, 15520] {
            for (chunks, m) in [(1, 1), (3, 4), (10, 8), (68, 9), (272, 16)] {
                for paired in [false, true] {
                    let plan = Plan::new(tiles, chunks, m, paired);
                    assert!((1..=chunks).contains(&plan.warps), "{plan:?}: a warp without a record");
                    assert!(plan.stages >= 2);
                    assert!(plan.grid == tiles || (plan.many && plan.grid < tiles), "{plan:?} of {tiles}");
                    // Records of 4 bits in groups of 32 are the largest; 448 partial sums a row, those of a 7168 wide model.
                    let fixed = (m + 7) / 8 * 8 * 448 * 4;
                    assert!(plan.shared(160, m, paired) + fixed <= 99 << 10, "{plan:?}, {m} rows, paired: {paired}");
                }
            }
        }
    }

    #[test]
    fn what_it_was_not_written_for_is_left_to_mlx() {
        let sample = |bits, rows| sample(0, bits, 64, [rows, 32, 128]).unwrap();
        let (x, w) = sample(4, 16);
        let w = PackedTiles::new(&w).unwrap();
        assert!(serves(&x, &w));
        assert!(!serves(&slice_axis(&x, 1, 0, 64).unwrap(), &w), "rows of another width");
        assert!(!serves(&x.as_dtype(Dtype::Float32).unwrap(), &w), "f32 rows");
        assert!(!serves(&sample(4, 17).0, &w), "seventeen rows");
        assert!(!PackedTiles::can(&sample(6, 1).1), "six bits");
        let divisor = |parts| RmsDivisor { squares: Array::zeros::<f32>(&[1, parts]).unwrap(), eps: 1e-6 };
        assert!(holds(Some(&divisor(1535)), 8) && holds(Some(&divisor(767)), 9) && holds(None, 16));
        assert!(!holds(Some(&divisor(1536)), 8) && !holds(Some(&divisor(768)), 9), "wider than any model so far");
    }
}
