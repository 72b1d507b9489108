//! The layer's rows in one CUDA launch, a verification's or a prompt's, and the state after some of them in another.
//!
//! The twin is [`GatedDelta::rows_by_operations`], which serves every other device.

use mtplx_runtime::cache::Tape;
use mtplx_runtime::kernels::{SelfCheck, relative_difference};
use mtplx_runtime::mlx::kernel::{Constant, CudaKernel, Launch, Scalar, outputs};
use mtplx_runtime::mlx_rs::Dtype;

use super::*;

static CHECK: SelfCheck = SelfCheck::new("gated_delta");

const SOURCE: &str = include_str!("kernel.cuh");
static STEP: CudaKernel = CudaKernel::new("delta_step", SOURCE);
static REPLAY: CudaKernel = CudaKernel::new("delta_replay", SOURCE);

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
        let launch = Launch {
            outputs: &[(self.before[0].shape(), Dtype::Float32), (self.before[1].shape(), self.before[1].dtype())],
            blocks: [value_heads as i32, 1, 1],
            threads: 4 * value_dim as i32,
            constants: &constants(&self.shape),
            scalars: &[Scalar::Int(self.rows as i32), Scalar::Int(keep as i32)],
            ..Launch::default()
        };
        let [keys, u, sums] = &self.tape;
        Ok(REPLAY.launch(&[&self.joined, &self.before[1], &self.before[0], keys, u, sums], &launch)?)
    }
}

fn constants(shape: &DeltaShape) -> [(&'static str, Constant); 5] {
    let int = |value: usize| Constant::Int(value as i32);
    [
        ("H", int(shape.key_heads)),
        ("R", int(shape.value_heads / shape.key_heads)),
        ("DK", int(shape.key_dim)),
        ("DV", int(shape.value_dim)),
        ("TAPS", int(shape.taps)),
    ]
}

/// Whether the kernel is laid out for such heads.
fn serves(shape: &DeltaShape, dtype: Dtype) -> bool {
    let DeltaShape { key_dim, value_dim, taps, .. } = *shape;
    dtype == Dtype::Bfloat16
        && key_dim % 16 == 0
        && key_dim <= 128
        && value_dim % 8 == 0
        && value_dim <= 128
        && taps >= 2
}

/// Whether the kernel runs here for such heads.
pub(super) fn ready(shape: &DeltaShape, dtype: Dtype) -> bool {
    serves(shape, dtype) && CHECK.open(check)
}

/// The gated rows `[n, values]` and the layer's tape; `None` where the operations are to be used.
pub(super) fn rows(
    layer: &GatedDelta,
    joined: &Array,
    states: &[Array; 2],
) -> Option<Result<(Array, impl Tape + 'static)>> {
    let shape = &layer.shape;
    let width = shape.channels() + shape.values() + 2 * shape.value_heads;
    let fits = states[1].dtype() == joined.dtype() && joined.dim(1) as usize == width;
    (fits && ready(shape, joined.dtype())).then(|| launch(layer, joined, states))
}

fn launch(layer: &GatedDelta, joined: &Array, states: &[Array; 2]) -> Result<(Array, KernelTape)> {
    let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = layer.shape;
    let [h, hv, dk, dv] = [key_heads, value_heads, key_dim, value_dim].map(|n| n as i32);
    let n = joined.dim(0);
    let f32 = Dtype::Float32;
    let launch = Launch {
        outputs: &[
            (&[n, hv * dv], joined.dtype()),
            (states[0].shape(), f32),
            (states[1].shape(), states[1].dtype()),
            (&[h, n, dk], f32),
            (&[hv, n, dv], f32),
            (&[hv, n], f32),
        ],
        blocks: [hv, 1, 1],
        threads: 4 * dv,
        constants: &constants(&layer.shape),
        scalars: &[Scalar::Int(n), Scalar::Float(layer.norm.eps())],
        ..Launch::default()
    };
    let [state, conv_state] = states;
    let inputs = [joined, conv_state, &layer.conv, &layer.decay, &layer.dt_bias, layer.norm.weight(), state];
    let made = STEP.launch(&inputs, &launch)?;
    let [y, state_out, conv_out, keys, u, sums] = outputs(made)?;
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
    let (layer, bf16) = (example()?, Dtype::Bfloat16);
    let width = (layer.shape.channels() + layer.shape.values() + 2 * layer.shape.value_heads) as i32;
    let mut worst = 0f32;
    for n in [1, 5, 40] {
        let joined = normal(&[n, width], 1.0, 6)?.as_dtype(bf16)?;
        let states = states(&layer, 7, bf16)?;
        let (ours, tape) = launch(&layer, &joined, &states)?;
        let (theirs, twin) = layer.rows_by_operations(&layer.split(&joined)?, &states)?;
        worst = worst.max(relative_difference(&ours, &theirs)?);
        for keep in [1, 2, 4, 17, 39, 40].into_iter().filter(|&keep| keep <= n as usize) {
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
            assert!(!CHECK.open(check), "only a CUDA device runs it");
        }
    }

    #[test]
    fn heads_it_is_not_laid_out_for_are_left_to_operations() {
        let shape = DeltaShape { key_heads: 2, value_heads: 4, key_dim: 128, value_dim: 128, taps: 4 };
        let bf16 = Dtype::Bfloat16;
        assert!(serves(&shape, bf16) && !serves(&shape, Dtype::Float32));
        assert!(!serves(&DeltaShape { key_dim: 24, ..shape }, bf16));
        assert!(!serves(&DeltaShape { value_dim: 256, ..shape }, bf16));
    }
}
