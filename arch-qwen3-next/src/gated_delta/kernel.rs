//! The layer's few rows of a verification in one CUDA launch, and the state after some of them in another.
//!
//! The twin is [`GatedDelta::rows_by_operations`], which also serves longer inputs and every other device.

use std::sync::OnceLock;

use mtplx_runtime::cache::Tape;
use mtplx_runtime::kernels::{Gate, relative_difference};
use mtplx_runtime::mlx::kernel::{Constant, CudaKernel, Launch};
use mtplx_runtime::mlx_rs::{Dtype, random};

use super::*;

/// The most rows that a launch takes: what its shared memory is laid out for.
const MAX_ROWS: i32 = 16;

static GATE: Gate = Gate::new("gated_delta");

/// What a launch leaves behind: the states after all its rows, and what it takes to go back to fewer.
struct KernelTape {
    shape: DeltaShape,
    rows: usize,
    after: [Array; 2],
    before: [Array; 2],
    joined: Array,
    tape: [Array; 3],
}

impl Tape for KernelTape {
    fn states_after(&self, keep: usize) -> Result<Vec<Array>> {
        if keep >= self.rows {
            return Ok(self.after.to_vec());
        }
        let DeltaShape { value_heads, value_dim, .. } = self.shape;
        let outputs = [(self.before[0].shape(), Dtype::Float32), (self.before[1].shape(), self.before[1].dtype())];
        let threads = 4 * value_dim as i32;
        let launch = Launch {
            outputs: &outputs,
            grid: [value_heads as i32 * threads, keep as i32, 1],
            block: [threads, 1, 1],
            constants: &constants(&self.shape),
        };
        let [keys, u, sums] = &self.tape;
        kernels()?.replay.launch(&[&self.joined, &self.before[1], &self.before[0], keys, u, sums], &launch)
    }
}

struct Kernels {
    step: CudaKernel,
    replay: CudaKernel,
}

fn kernels() -> Result<&'static Kernels> {
    static KERNELS: OnceLock<Option<Kernels>> = OnceLock::new();
    let make = || -> Result<Kernels> {
        let header = include_str!("kernel.cuh");
        let step = "delta_step<H, R, DK, DV, TAPS, ROWS>(joined, conv_state, conv, decay, dt_bias, weight, state, y, \
                    state_out, conv_out, keys, u, sums, joined_shape[0], __int_as_float(EPS));";
        let replay = "delta_replay<H, R, DK, DV, TAPS>(joined, conv_state, state, keys, u, sums, state_out, conv_out, \
                      joined_shape[0]);";
        Ok(Kernels {
            step: CudaKernel::new(
                c"mtplx_delta_step",
                &[c"joined", c"conv_state", c"conv", c"decay", c"dt_bias", c"weight", c"state"],
                &[c"y", c"state_out", c"conv_out", c"keys", c"u", c"sums"],
                header,
                step,
            )?,
            replay: CudaKernel::new(
                c"mtplx_delta_replay",
                &[c"joined", c"conv_state", c"state", c"keys", c"u", c"sums"],
                &[c"state_out", c"conv_out"],
                header,
                replay,
            )?,
        })
    };
    KERNELS
        .get_or_init(|| make().ok())
        .as_ref()
        .ok_or_else(|| "the CUDA kernels of Gated DeltaNet cannot be made".into())
}

fn constants(shape: &DeltaShape) -> [(&'static std::ffi::CStr, Constant); 5] {
    let int = |value: usize| Constant::Int(value as i32);
    [
        (c"H", int(shape.key_heads)),
        (c"R", int(shape.value_heads / shape.key_heads)),
        (c"DK", int(shape.key_dim)),
        (c"DV", int(shape.value_dim)),
        (c"TAPS", int(shape.taps)),
    ]
}

/// Whether the kernel is laid out for such heads and so many rows.
fn serves(shape: &DeltaShape, rows: i32, dtype: Dtype) -> bool {
    let DeltaShape { key_dim, value_dim, taps, .. } = *shape;
    dtype == Dtype::Bfloat16
        && (1..=MAX_ROWS).contains(&rows)
        && key_dim % 16 == 0
        && key_dim <= 128
        && value_dim % 8 == 0
        && value_dim <= 128
        && taps >= 2
}

/// The gated rows `[n, values]` and the layer's tape; `None` where the operations are to be used.
pub(super) fn rows(
    layer: &GatedDelta,
    joined: &Array,
    states: &[Array; 2],
) -> Option<Result<(Array, impl Tape + 'static)>> {
    let fits = serves(&layer.shape, joined.dim(0), joined.dtype()) && states[1].dtype() == joined.dtype();
    (fits && GATE.open(check)).then(|| launch(layer, joined, states))
}

fn launch(layer: &GatedDelta, joined: &Array, states: &[Array; 2]) -> Result<(Array, KernelTape)> {
    let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = layer.shape;
    let [h, hv, dk, dv] = [key_heads, value_heads, key_dim, value_dim].map(|n| n as i32);
    let n = joined.dim(0);
    let f32 = Dtype::Float32;
    let outputs = [
        (&[n, hv * dv][..], joined.dtype()),
        (states[0].shape(), f32),
        (states[1].shape(), states[1].dtype()),
        (&[h, n, dk][..], f32),
        (&[hv, n, dv][..], f32),
        (&[hv, n][..], f32),
    ];
    let mut fixed = constants(&layer.shape).to_vec();
    fixed.extend([(c"ROWS", Constant::Int(MAX_ROWS)), (c"EPS", Constant::Int(layer.norm.eps().to_bits() as i32))]);
    let launch = Launch { outputs: &outputs, grid: [hv * 4 * dv, 1, 1], block: [4 * dv, 1, 1], constants: &fixed };
    let [state, conv_state] = states;
    let inputs = [joined, conv_state, &layer.conv, &layer.decay, &layer.dt_bias, layer.norm.weight(), state];
    let made = kernels()?.step.launch(&inputs, &launch)?;
    let [y, state_out, conv_out, keys, u, sums] =
        <[Array; 6]>::try_from(made).map_err(|_| "delta_step makes six arrays")?;
    let tape = KernelTape {
        shape: layer.shape,
        rows: n as usize,
        after: [state_out, conv_out],
        before: states.clone(),
        joined: joined.clone(),
        tape: [keys, u, sums],
    };
    Ok((y, tape))
}

/// Kernel against twin: rows, and states after each number of them.
fn check() -> Result<(f32, f32)> {
    let shape = DeltaShape { key_heads: 2, value_heads: 6, key_dim: 32, value_dim: 64, taps: 4 };
    let normal = |dims: &[i32], scale: f32, seed: u64| random::normal::<f32>(dims, None, scale, &random::key(seed)?);
    let channels = shape.channels() as i32;
    let layer = GatedDelta {
        shape,
        inputs: Fused::new(Vec::new())?,
        conv: normal(&[4, channels], 0.5, 1)?,
        decay: normal(&[6], 1.0, 2)?.abs()?.negative()?,
        dt_bias: normal(&[6], 1.0, 3)?,
        qk_scale: qk_scale(&shape),
        norm: RmsNorm::new(normal(&[64], 1.0, 4)?, 1e-6, Dtype::Float32),
        output: Linear::new(mtplx_runtime::quant::Weight::Dense(normal(&[1, 1], 1.0, 5)?), None)?,
    };
    let width = channels + shape.values() as i32 + 12;
    let mut worst = 0f32;
    for n in [1, 5] {
        let joined = normal(&[n, width], 1.0, 6)?.as_dtype(Dtype::Bfloat16)?;
        let states = [normal(&[2, 3, 64, 32], 0.3, 7)?, normal(&[3, channels], 1.0, 8)?.as_dtype(Dtype::Bfloat16)?];
        let (ours, tape) = launch(&layer, &joined, &states)?;
        let (theirs, twin) = layer.rows_by_operations(&layer.split(&joined)?, &states)?;
        worst = worst.max(relative_difference(&ours, &theirs)?);
        for keep in 1..=n as usize {
            for (ours, theirs) in tape.states_after(keep)?.iter().zip(&twin.states_after(keep)?) {
                worst = worst.max(relative_difference(ours, theirs)?);
            }
        }
    }
    Ok((worst, 0.01))
}

#[cfg(test)]
mod tests {
    use mtplx_runtime::mlx::cuda_default;

    use super::*;

    #[test]
    fn the_step_and_its_tape_are_their_twins() {
        if cuda_default() {
            let (found, allowed) = check().unwrap();
            assert!(found <= allowed, "{found}");
        } else {
            assert!(!GATE.open(check), "only a CUDA device runs it");
        }
    }

    #[test]
    fn heads_it_is_not_laid_out_for_are_left_to_operations() {
        let shape = DeltaShape { key_heads: 2, value_heads: 4, key_dim: 128, value_dim: 128, taps: 4 };
        let bf16 = Dtype::Bfloat16;
        assert!(serves(&shape, 1, bf16) && serves(&shape, 16, bf16));
        assert!(!serves(&shape, 17, bf16) && !serves(&shape, 4, Dtype::Float32));
        assert!(!serves(&DeltaShape { key_dim: 24, ..shape }, 4, bf16));
        assert!(!serves(&DeltaShape { value_dim: 256, ..shape }, 4, bf16));
    }
}
