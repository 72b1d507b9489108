//! Mixtures of experts of a few rows in two launches: routing with `silu(gate) * up` of the chosen experts and of the shared one,
//! and the weighted sum of their down projections.
//!
//! MLX takes some twenty-five launches, most of which take longer to send than to run. The twin is what
//! [`SparseMoe`](crate::nn::SparseMoe) does with MLX's operations, with the chosen experts unpacked.

use mlx_rs::{Dtype, ops, random};

use super::normed::{NormedRows, StreamSum};
use super::routing::{Groups, RouterParams, Scoring};
use super::{MAX_ROWS, SelfCheck, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar, outputs};
use crate::mlx::{Mode, Packing, QuantizedWeight, dequantize, silu, slice_axis};
use crate::{Array, Result};

/// The most experts, which a warp holds in registers.
const MAX_EXPERTS: i32 = 512;
/// The most experts a row: a warp each in a block.
const MAX_CHOICES: usize = 16;
/// The most groups of experts: a lane each.
const MAX_GROUPS: usize = 32;
/// Columns that a warp makes of `silu(gate) * up`, and half a warp of the sum, as the source has it.
const COLUMNS: i32 = 4;
/// Warps of a block of the first kernel.
const WARPS: i32 = 4;
/// Lanes that share a weight row, sixteen bytes each, as the source has it.
const LANES: i32 = 16;

static CHECK: SelfCheck = SelfCheck::new("experts");

const SOURCE: &str = include_str!("experts.cuh");
static SWIGLU: CudaKernel = CudaKernel::new("experts_swiglu", SOURCE);
static DOWN: CudaKernel = CudaKernel::new("experts_down", SOURCE);

/// A mixture of packed experts.
#[derive(Debug, Clone, Copy)]
pub struct Mixture<'a> {
    /// Makes choices and weights of logits.
    pub router: &'a RouterParams,
    /// Gate, up `[experts, width, hidden]` and down `[experts, hidden, width]`.
    pub experts: [&'a QuantizedWeight; 3],
    /// The gate above the up projection `[2 * width, hidden]` and the down projection `[hidden, width]` of an expert for every
    /// row; its width may be another.
    pub shared: Option<[&'a QuantizedWeight; 2]>,
}

impl Mixture<'_> {
    /// Whether the kernels serve rows `x` `[n, hidden]`.
    pub fn served(&self, x: &Array) -> bool {
        self.fits(x) && CHECK.open(check)
    }

    fn fits(&self, x: &Array) -> bool {
        let Self { router, experts: [gate, up, down], shared } = self;
        let alike = gate.packing == up.packing && gate.scales.dtype() == up.scales.dtype();
        let stacked = [gate, up, down].iter().all(|w| readable(w) && w.packed.ndim() == 3);
        let (experts, hidden) = (gate.packed.dim(0), x.dim(-1));
        let shape = |w: &QuantizedWeight| [w.packed.dim(0), w.packed.dim(-2), unpacked_width(w)];
        let width = gate.packed.dim(-2);
        let stacks = [gate, up, down].map(|w| shape(w))
            == [[experts, width, hidden], [experts, width, hidden], [experts, hidden, width]];
        let matches = |[gate_up, down]: [&QuantizedWeight; 2]| {
            let width = unpacked_width(down);
            (gate_up.packed.dim(0), unpacked_width(gate_up), down.packed.dim(0)) == (2 * width, hidden, hidden)
        };
        let chosen = (1..=MAX_CHOICES).contains(&router.top_k) && router.top_k as i32 <= experts;
        x.dtype() == Dtype::Bfloat16
            && x.ndim() == 2
            && (1..=MAX_ROWS).contains(&x.dim(0))
            && (alike && stacked && stacks && experts <= MAX_EXPERTS && chosen)
            && shared.iter().flatten().all(|w| readable(w) && w.packed.ndim() == 2)
            && shared.is_none_or(matches)
            && limit(&router.scoring).is_none_or(|groups| {
                (1..=MAX_GROUPS).contains(&groups.count) && (experts as usize).is_multiple_of(groups.count)
            })
    }

    /// `x` `[n, hidden]` bf16 and the router's logits `[n, at least experts]` of it -> what makes the sum. The last column of
    /// `shared_gate` holds the logits of the gate on the shared expert, where it has one.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn forward(&self, x: &NormedRows, logits: &Array, shared_gate: Option<&Array>) -> Result<Down> {
        let Self { router, experts: [gate, up, down], shared } = self;
        let (x, divisor) = x.parts();
        let (squares_parts, eps) = divisor.map_or((0, 0.0), |divisor| (divisor.squares.dim(1), divisor.eps));
        let (n, hidden, width, top_k) = (x.dim(0), x.dim(1), gate.packed.dim(1), router.top_k as i32);
        // Without an expert for every row, the others' weights stand in for its own.
        let [shared_up, shared_down] = shared.unwrap_or([gate, down]);
        let (kind, shared_width) = match (shared, shared_gate) {
            (None, _) => (0, 0),
            (Some(_), None) => (1, shared_up.packed.dim(0) / 2),
            (Some(_), Some(_)) => (2, shared_up.packed.dim(0) / 2),
        };
        let (sigmoid, factor, correction) = match &router.scoring {
            Scoring::Softmax => (false, 1.0, logits),
            Scoring::Sigmoid { correction, scale, .. } => (true, *scale, correction),
        };
        let (groups, kept) = limit(&router.scoring).map_or((1, 1), |groups| (groups.count, groups.kept));
        let shared_gate = shared_gate.unwrap_or(logits);
        let slots = top_k + i32::from(shared.is_some());
        let tile = WARPS * COLUMNS;
        let common = [("K", Constant::Int(top_k)), ("SHARED", Constant::Int(kind))];
        let routing = [
            ("EXPERTS", Constant::Int(gate.packed.dim(0))),
            ("SIGMOID", Constant::Int(sigmoid.into())),
            ("NORMALIZE", Constant::Int(router.normalize.into())),
            ("GROUPS", Constant::Int(groups as i32)),
            ("KEPT", Constant::Int(kept as i32)),
            ("L", Constant::Type(logits.dtype())),
            ("G", Constant::Type(shared_gate.dtype())),
            ("WARPS", Constant::Int(WARPS)),
            ("DIVIDES", Constant::Int(divisor.is_some().into())),
        ];
        let swiglu = Launch {
            outputs: &[
                (&[n, top_k * width + shared_width], x.dtype()),
                (&[n, top_k], Dtype::Uint32),
                (&[n, slots], Dtype::Float32),
            ],
            // Rows first: those that chose the same expert find it in the cache.
            blocks: [n, slots, (width.max(shared_width) + tile - 1) / tile],
            threads: 32 * WARPS,
            constants: &[&common[..], &routing[..], &packing(gate, shared_up, hidden)[..]].concat(),
            scalars: &[
                Scalar::Int(hidden),
                Scalar::Int(width),
                Scalar::Int(shared_width),
                Scalar::Int(logits.dim(1)),
                Scalar::Int(shared_gate.dim(1)),
                Scalar::Float(factor),
                Scalar::Int(squares_parts),
                Scalar::Float(eps),
            ],
            ..Launch::default()
        };
        let rows = [x, logits, shared_gate, correction];
        let weights = [parts(gate)?, parts(up)?, parts(shared_up)?].concat();
        let squares = divisor.map(|divisor| &divisor.squares);
        let inputs = rows.into_iter().chain(weights).chain(squares).collect::<Vec<_>>();
        let made = SWIGLU.launch(&inputs, &swiglu)?;
        let weights = parts(down)?.into_iter().chain(parts(shared_down)?).cloned();
        Ok(Down {
            inputs: made.into_iter().chain(weights).collect(),
            constants: [&common[..], &packing(down, shared_down, width)[..]].concat(),
            blocks: [n, hidden / (2 * COLUMNS), 1],
            slots,
            scalars: [hidden, width, shared_width].map(Scalar::Int),
        })
    }
}

/// The second launch, which is yet to be made: the sum of the down projections.
#[derive(Debug)]
pub struct Down {
    /// What the first launch made, then the weights.
    inputs: Vec<Array>,
    constants: Vec<(&'static str, Constant)>,
    blocks: [i32; 3],
    slots: i32,
    scalars: [Scalar; 3],
}

impl Down {
    /// What it starts from.
    pub fn input(&self) -> &Array {
        &self.inputs[0]
    }

    /// `[n, hidden]` f32.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn rows(&self) -> Result<Array> {
        let [n, tiles, _] = self.blocks;
        Ok(self.launch(&[(&[n, tiles * 2 * COLUMNS], Dtype::Float32)], None)?.remove(0))
    }

    /// `stream` `[n, hidden]` f32 and it, on their way through a norm of weight `gain` `[hidden]` f32.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn add(&self, stream: &Array, gain: &Array) -> Result<StreamSum> {
        let [n, tiles, _] = self.blocks;
        let shapes: [(&[i32], Dtype); 3] =
            [(stream.shape(), Dtype::Float32), (stream.shape(), Dtype::Bfloat16), (&[n, tiles], Dtype::Float32)];
        let made = self.launch(&shapes, Some([stream, gain]))?;
        let [sum, rows, squares] = outputs(made)?;
        Ok(StreamSum { sum, rows, squares })
    }

    fn launch(&self, outputs: &[(&[i32], Dtype)], added: Option<[&Array; 2]>) -> Result<Vec<Array>> {
        let inputs: Vec<&Array> = self.inputs.iter().chain(added.into_iter().flatten()).collect();
        let adds = ("ADDS", Constant::Int(added.is_some().into()));
        let launch = Launch {
            outputs,
            blocks: self.blocks,
            threads: 32 * self.slots,
            constants: &[&self.constants[..], &[adds]].concat(),
            scalars: &self.scalars,
            ..Launch::default()
        };
        Ok(DOWN.launch(&inputs, &launch)?)
    }
}

/// Whether the kernels read a weight packed like this one.
fn readable(w: &QuantizedWeight) -> bool {
    let float = matches!(w.scales.dtype(), Dtype::Bfloat16 | Dtype::Float16 | Dtype::Float32);
    w.packing.mode() == Mode::Affine
        && matches!(w.packing.bits(), 4 | 8)
        && matches!(w.packing.group_size(), 32 | 64 | 128)
        && float
}

/// The width of a packed weight's rows.
fn unpacked_width(w: &QuantizedWeight) -> i32 {
    w.packed.dim(-1) * 32 / w.packing.bits() as i32
}

/// The groups that choices are limited to.
fn limit(scoring: &Scoring) -> Option<Groups> {
    match scoring {
        Scoring::Sigmoid { groups, .. } => groups.filter(|groups| groups.kept < groups.count),
        Scoring::Softmax => None,
    }
}

/// How a stack and the shared expert's part are read, of rows of `width` in the stack.
fn packing(w: &QuantizedWeight, shared: &QuantizedWeight, width: i32) -> [(&'static str, Constant); 7] {
    let (bits, group) =
        (|w: &QuantizedWeight| w.packing.bits() as i32, |w: &QuantizedWeight| w.packing.group_size() as i32);
    let chunks = width * bits(w) / 128;
    [
        ("BITS", Constant::Int(bits(w))),
        ("GROUP", Constant::Int(group(w))),
        ("SHARED_BITS", Constant::Int(bits(shared))),
        ("SHARED_GROUP", Constant::Int(group(shared))),
        ("S", Constant::Type(w.scales.dtype())),
        ("SHARED_S", Constant::Type(shared.scales.dtype())),
        // Steps whose weights are under way at once.
        ("AHEAD", Constant::Int(if chunks > LANES { 2 } else { 1 })),
    ]
}

/// Packed numbers, scales and biases.
fn parts(w: &QuantizedWeight) -> Result<[&Array; 3]> {
    let biases = w.biases.as_ref().ok_or_else(|| crate::Error::unsupported("an affine weight without biases"))?;
    Ok([&w.packed, &w.scales, biases])
}

/// The twin of [`Mixture::forward`], a shared gate being `[n, 1]`.
fn twin(mixture: &Mixture<'_>, x: &Array, logits: &Array, shared_gate: Option<&Array>) -> Result<Array> {
    let Mixture { router, experts: [gate, up, down], shared } = mixture;
    let (chosen, weights) = router.choose(logits)?;
    let product =
        |x: &Array, w: &QuantizedWeight| x.matmul(dequantize(w, x.dtype())?.take_axis(&chosen, 0)?.swap_axes(-1, -2)?);
    let each = x.expand_dims_axes(&[1, 2])?; // [n, 1, 1, hidden]
    let act = silu(&product(&each, gate)?)?.multiply(product(&each, up)?)?;
    let outputs = product(&act, down)?.squeeze_axes(&[2])?;
    let routed = outputs.multiply(weights.expand_dims(-1)?)?.sum_axis(1, false)?;
    let Some([gate_up, down]) = shared else { return Ok(routed) };
    let both = x.matmul(dequantize(gate_up, x.dtype())?.t())?;
    let width = both.dim(1) / 2;
    let act = silu(&slice_axis(&both, 1, 0, width)?)?.multiply(slice_axis(&both, 1, width, 2 * width)?)?;
    let shared = act.matmul(dequantize(down, x.dtype())?.t())?;
    Ok(routed.add(match shared_gate {
        Some(gate) => ops::sigmoid(gate)?.multiply(shared)?,
        None => shared,
    })?)
}

/// Shapes of a random mixture.
struct Sample {
    rows: i32,
    hidden: i32,
    /// Width of an expert, and of the one for every row: none where that is 0.
    widths: [i32; 2],
    experts: i32,
    top_k: usize,
    /// Bits and group size, of the experts and of the one for every row.
    packing: [(usize, usize); 2],
    /// In f32, with a correction; a softmax otherwise, with a gate on the expert for every row.
    sigmoid: Option<Option<Groups>>,
    normalize: bool,
}

/// The smallest mixtures that touch every branch.
const SAMPLES: [Sample; 3] = [
    Sample {
        rows: 1,
        hidden: 640,
        widths: [64, 128],
        experts: 40,
        top_k: 4,
        packing: [(4, 64), (4, 64)],
        sigmoid: None,
        normalize: true,
    },
    Sample {
        rows: 3,
        hidden: 320,
        widths: [96, 64],
        experts: 48,
        top_k: 6,
        packing: [(8, 32), (4, 64)],
        sigmoid: Some(Some(Groups { count: 6, kept: 3 })),
        normalize: true,
    },
    Sample {
        rows: 2,
        hidden: 256,
        widths: [128, 0],
        experts: 16,
        top_k: 3,
        packing: [(4, 128), (4, 64)],
        sigmoid: Some(None),
        normalize: false,
    },
];

impl Sample {
    /// Kernels and twin on it.
    fn compare(&self, seed: u64, ours: impl FnOnce(&Mixture<'_>, &Array, [&Array; 2]) -> Result<Array>) -> Result<f32> {
        let &Self { rows, hidden, widths: [width, shared_width], experts, top_k, packing, sigmoid, normalize } = self;
        let normal =
            |shape: &[i32], part: u64| random::normal::<f32>(shape, None, None, &random::key(16 * seed + part)?);
        let weight = |shape: &[i32], part: u64, (bits, group): (usize, usize)| {
            let scale = Array::from_f32((shape[shape.len() - 1] as f32).powf(-0.5));
            let dense = normal(shape, part)?.multiply(scale)?.as_dtype(Dtype::Bfloat16)?;
            let (packed, scales, biases) = ops::quantize(&dense, group as i32, bits as i32)?;
            let packing = Packing::new(Mode::Affine, bits, group);
            Ok::<_, crate::Error>(QuantizedWeight { packed, scales, biases: Some(biases), packing })
        };
        let [up_shape, down_shape] = [[experts, width, hidden], [experts, hidden, width]];
        let [of_experts, of_shared] = packing;
        let gate = weight(&up_shape, 0, of_experts)?;
        let up = weight(&up_shape, 1, of_experts)?;
        let down = weight(&down_shape, 2, of_experts)?;
        let shared_weights = match shared_width {
            0 => None,
            width => Some([weight(&[2 * width, hidden], 3, of_shared)?, weight(&[hidden, width], 4, of_shared)?]),
        };
        let scoring = match sigmoid {
            None => Scoring::Softmax,
            Some(groups) => Scoring::Sigmoid {
                correction: normal(&[experts], 5)?.multiply(Array::from_f32(0.1))?,
                groups,
                scale: 2.5,
            },
        };
        let router = RouterParams { scoring, top_k, normalize };
        let shared = shared_weights.as_ref().map(|[gate_up, down]| [gate_up, down]);
        let mixture = Mixture { router: &router, experts: [&gate, &up, &down], shared };
        let x = normal(&[rows, hidden], 6)?.as_dtype(Dtype::Bfloat16)?;
        // No two alike, even in bf16: which of equals is chosen is nobody's promise.
        let logits: Vec<f32> = (0..rows * experts)
            .map(|i| ((i % experts * 7 + i / experts * 5) % experts) as f32 * 8.0 / experts as f32 - 4.0)
            .collect();
        let logits = Array::from_slice(&logits, &[rows, experts]);
        let logits = if sigmoid.is_some() { logits } else { logits.as_dtype(Dtype::Bfloat16)? };
        let shared_gate = normal(&[rows, 1], 7)?.as_dtype(Dtype::Bfloat16)?;
        let gated = sigmoid.is_none().then_some(&shared_gate);
        relative_difference(&ours(&mixture, &x, [&logits, &shared_gate])?, &twin(&mixture, &x, &logits, gated)?)
    }
}

/// Kernels against twin.
fn check() -> Result<(f32, f32)> {
    let mut worst = 0f32;
    for (seed, sample) in SAMPLES.iter().enumerate() {
        // The gate in an array of its own, and beside the logits.
        let apart = sample.compare(seed as u64, |mixture, x, [logits, gate]| {
            mixture.forward(&x.clone().into(), logits, sample.sigmoid.is_none().then_some(gate))?.rows()
        })?;
        worst = worst.max(apart);
        // Rows that are yet to be divided, and a sum that is added.
        let mut after = 0f32;
        let between = sample.compare(seed as u64, |mixture, x, [logits, gate]| {
            let down = mixture.forward(&doubled(x)?, logits, sample.sigmoid.is_none().then_some(gate))?;
            let stream = x.as_dtype(Dtype::Float32)?;
            let gain = slice_axis(&stream, 0, 0, 1)?.reshape(&[-1])?;
            let added = down.add(&stream, &gain)?;
            after = after.max(relative_difference(&added.rows, &added.sum.multiply(&gain)?)?);
            let squares = added.sum.square()?.sum_axis(1, false)?;
            after = after.max(relative_difference(&added.squares.sum_axis(1, false)?, &squares)?);
            Ok(added.sum.subtract(stream)?)
        })?;
        worst = worst.max(between).max(after);
        if sample.sigmoid.is_none() {
            let together = sample.compare(seed as u64, |mixture, x, [logits, gate]| {
                let both = ops::concatenate(&[logits, gate], 1)?;
                mixture.forward(&x.clone().into(), &both, Some(&both))?.rows()
            })?;
            worst = worst.max(together);
        }
    }
    Ok((worst, 0.02))
}

/// `x` times two, yet to be divided by two.
fn doubled(x: &Array) -> Result<NormedRows> {
    let rows = x.add(x)?;
    let squares = ops::full::<f32>(&[x.dim(0), 4], Array::from_f32(x.dim(1) as f32))?;
    Ok(NormedRows::undivided(StreamSum { sum: x.clone(), rows, squares }, 0.0).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;
    use crate::nn::Router;
    use crate::nn::{SparseMoe, SwiGlu, SwitchGlu};
    use crate::quant::{Experts, Linear, Weight};

    /// On CUDA, the shapes that models have against the twin; elsewhere nothing is taken over.
    #[test]
    fn mixtures_are_their_twins() {
        for (seed, sample) in SAMPLES.iter().enumerate() {
            let twin = sample.compare(seed as u64, |mixture, x, [logits, gate]| {
                assert!(mixture.fits(x));
                assert_eq!(mixture.served(x), cuda_default());
                assert!(!mixture.fits(&slice_axis(x, 1, 32, x.dim(1))?), "rows of another width");
                twin(mixture, x, logits, sample.sigmoid.is_none().then_some(gate))
            });
            twin.unwrap();
        }
        if !cuda_default() {
            return;
        }
        let (found, allowed) = check().unwrap();
        assert!(found <= allowed, "{found}");
        let groups = Groups { count: 8, kept: 4 };
        let shapes = [
            ([2048, 512, 512], 256, 8, None),
            ([3072, 1536, 0], 64, 8, Some(None)),
            ([7168, 2048, 2048], 32, 8, Some(Some(groups))),
        ];
        for ([hidden, width, shared], experts, top_k, sigmoid) in shapes {
            for (rows, packing) in [(1, (4, 64)), (4, (8, 64)), (16, (4, 32))] {
                let (widths, packing) = ([width, shared], [packing; 2]);
                let sample = Sample { rows, hidden, widths, experts, top_k, packing, sigmoid, normalize: true };
                let found = sample.compare(rows as u64, |mixture, x, [logits, gate]| {
                    mixture.forward(&x.clone().into(), logits, sigmoid.is_none().then_some(gate))?.rows()
                });
                let found = found.unwrap();
                assert!(found <= 0.02, "{rows} rows, {hidden} x {width}, {packing:?}: {found}");
            }
        }
    }

    /// The twin against the layer that it stands for.
    #[test]
    fn the_twin_is_what_the_layer_does_with_operations() {
        if cuda_default() {
            return;
        }
        for (seed, sample) in SAMPLES.iter().enumerate() {
            let found = sample.compare(seed as u64, |mixture, x, [logits, gate]| {
                let dense = |w: &QuantizedWeight| dequantize(w, Dtype::Bfloat16).map(Weight::Dense);
                let [gates, ups, downs] = mixture.experts.map(|w| Experts(dense(w).unwrap()));
                let experts = SwitchGlu { gate: gates, up: ups, down: downs };
                let linear = |w: Array| Linear::new(Weight::Dense(w), None).unwrap();
                let shared = mixture.shared.map(|[gate_up, down]| {
                    let both = dequantize(gate_up, Dtype::Bfloat16).unwrap();
                    let half = both.dim(0) / 2;
                    let part = |start| linear(slice_axis(&both, 0, start, start + half).unwrap());
                    SwiGlu::new(part(0), part(half), linear(dequantize(down, Dtype::Bfloat16).unwrap())).unwrap()
                });
                let gate = sample.sigmoid.is_none().then_some(gate);
                let unused = linear(ops::zeros::<f32>(&[1, x.dim(1)])?);
                // Routing starts from logits, so any gate will do.
                let router = Router { gate: unused, params: mixture.router.clone() };
                SparseMoe::new(router, experts, shared, None)?.by_operations(x, logits, gate)
            });
            assert!(found.unwrap() <= 0.02);
        }
    }
}
