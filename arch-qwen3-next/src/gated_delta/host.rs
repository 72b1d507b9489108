//! The rows of all sequences in one operation on the processor, and the states after some of them in another.
//!
//! The twin is [`GatedDelta::rows_by_operations`].

use mtplx_runtime::cache::Tape;
use mtplx_runtime::cpu::{DeltaCall, DeltaRows, DeltaSizes, DeltaWeights, Isa, gated_delta};
use mtplx_runtime::kernels::{SelfCheck, relative_difference};
use mtplx_runtime::mlx::{HostFunction, host};
use mtplx_runtime::mlx_rs::Dtype;

use super::*;

static CHECK: SelfCheck = SelfCheck::on_processor("gated_delta_host");

/// Inputs before the states: projections, then weights.
const FIXED: usize = 8;

/// A layer's rows of one pass: of all sequences, one below the other.
#[derive(Clone)]
struct Pass {
    sizes: DeltaSizes,
    eps: f32,
    /// Queries, keys and values; output gates; rates; decays; convolution, decay, bias, norm.
    fixed: [Array; FIXED],
}

/// The states before and after the rows of one sequence, with what computes the states between them.
struct HostTape {
    pass: Pass,
    /// The first of its rows in the pass.
    start: usize,
    rows: usize,
    before: [Array; 2],
    after: [Array; 2],
}

impl Tape for HostTape {
    fn states_after(&self, keep: usize) -> Result<Vec<Array>> {
        if keep >= self.rows {
            return Ok(self.after.to_vec());
        }
        let part = [(self.start, keep)];
        self.pass.call(&part, std::slice::from_ref(&self.before), false)
    }
}

impl Pass {
    /// The rows of sequences, each from a first one and so many of them, from the states before them: gated rows, if they are asked
    /// for, then two states of each sequence.
    fn call(&self, parts: &[(usize, usize)], before: &[[Array; 2]], gated: bool) -> Result<Vec<Array>> {
        let Self { sizes, eps, fixed } = self;
        let inputs: Vec<&Array> = fixed.iter().chain(before.iter().flatten()).collect();
        let rows = [parts.iter().map(|(_, count)| *count as i32).sum::<i32>(), sizes.values() as i32];
        let states = before.iter().flatten().map(Array::shape);
        let outputs: Vec<&[i32]> = gated.then_some(&rows[..]).into_iter().chain(states).collect();
        Ok(host(c"gated_delta", &inputs, &outputs, function(*sizes, *eps, parts.to_vec(), gated))?)
    }
}

/// The computation of [`Pass::call`].
fn function(sizes: DeltaSizes, eps: f32, parts: Vec<(usize, usize)>, gated: bool) -> HostFunction {
    Box::new(move |inputs, outputs| {
        let (fixed, before) = inputs.split_at(FIXED);
        let &[qkv, z, b, a, conv, decay, dt_bias, norm] = fixed else { return };
        let (rows, weights) = (DeltaRows { qkv, z, b, a }, DeltaWeights { conv, decay, dt_bias, norm, eps });
        let (all, states) = outputs.split_at_mut(usize::from(gated));
        let mut done = 0;
        for ((&(start, count), before), states) in parts.iter().zip(before.chunks(2)).zip(states.chunks_mut(2)) {
            let [state, conv_state] = states else { return };
            state.copy_from_slice(before[0]);
            conv_state.copy_from_slice(before[1]);
            let rows = rows.part(&sizes, start, start + count);
            let gated = all.first_mut().map(|all| &mut all[done * sizes.values()..(done + count) * sizes.values()]);
            gated_delta(Isa::best(), DeltaCall { sizes: &sizes, weights: &weights, rows, state, conv_state, gated });
            done += count;
        }
    })
}

/// True where the kernel runs here for rows of this type.
pub(super) fn ready(dtype: Dtype) -> bool {
    dtype == Dtype::Float32 && CHECK.open(check)
}

/// The gated rows `[n, values]` of all sequences; the tapes stay in their caches.
pub(super) fn rows(layer: &GatedDelta, projections: &[Array; 4], rows: &mut [Rows<'_>]) -> Result<Array> {
    let pass = pass(layer, projections);
    let mut start = 0;
    let mut parts = Vec::with_capacity(rows.len());
    let mut before = Vec::with_capacity(rows.len());
    for sequence in rows.iter_mut() {
        let count = sequence.count as usize;
        parts.push((start, count));
        start += count;
        before.push(layer.states(sequence, Dtype::Float32)?.1);
    }
    let mut made = pass.call(&parts, &before, true)?.into_iter();
    let gated = made.next();
    for ((sequence, (start, rows)), before) in rows.iter_mut().zip(parts).zip(before) {
        let (Some(state), Some(conv)) = (made.next(), made.next()) else { break };
        let tape = HostTape { pass: pass.clone(), start, rows, before, after: [state, conv] };
        sequence.cache.recurrent()?.record(tape);
    }
    gated.ok_or_else(|| mtplx_runtime::Error::unsupported("an operation made no array"))
}

fn pass(layer: &GatedDelta, [qkv, z, b, a]: &[Array; 4]) -> Pass {
    let DeltaShape { key_heads, value_heads, key_dim, value_dim, taps } = layer.shape;
    let weights = [&layer.conv, &layer.decay, &layer.dt_bias, layer.norm.weight()].map(Array::clone);
    let [conv, decay, dt_bias, norm] = weights;
    Pass {
        sizes: DeltaSizes { key_heads, value_heads, key_dim, value_dim, taps },
        eps: layer.norm.eps(),
        fixed: [qkv.clone(), z.clone(), b.clone(), a.clone(), conv, decay, dt_bias, norm],
    }
}

/// Kernel against twin: rows of two sequences, and states after each number of them.
fn check() -> Result<(f32, f32)> {
    let layer = example()?;
    let width = (layer.shape.channels() + layer.shape.values() + 2 * layer.shape.value_heads) as i32;
    let mut worst = 0f32;
    for counts in [[1, 1], [5, 2], [3, 70]] {
        let joined = normal(&[counts[0] + counts[1], width], 1.0, 6)?;
        let before = [states(&layer, 7, Dtype::Float32)?, states(&layer, 9, Dtype::Float32)?];
        let pass = pass(&layer, &layer.split(&joined)?);
        let parts = [(0, counts[0] as usize), (counts[0] as usize, counts[1] as usize)];
        let made = pass.call(&parts, &before, true)?;
        for (place, (&(start, rows), before)) in parts.iter().zip(&before).enumerate() {
            let own = |a: &Array| slice_axis(a, 0, start as i32, (start + rows) as i32);
            let (theirs, twin) = layer.rows_by_operations(&layer.split(&own(&joined)?)?, before)?;
            worst = worst.max(relative_difference(&own(&made[0])?, &theirs)?);
            let after = [made[1 + 2 * place].clone(), made[2 + 2 * place].clone()];
            let tape = HostTape { pass: pass.clone(), start, rows, before: before.clone(), after };
            for keep in [1, 2, 4, 69, 70].into_iter().filter(|&keep| keep <= rows) {
                for (ours, theirs) in tape.states_after(keep)?.iter().zip(&twin.states_after(keep)?) {
                    worst = worst.max(relative_difference(ours, theirs)?);
                }
            }
        }
    }
    Ok((worst, 1e-4))
}

#[cfg(test)]
mod tests {
    use mtplx_runtime::mlx::host_available;

    use super::*;

    #[test]
    fn rows_and_tape_are_their_twins() {
        if host_available() {
            let (found, allowed) = check().unwrap();
            assert!(found <= allowed, "{found}");
        }
        assert_eq!(ready(Dtype::Float32), host_available());
        assert!(!ready(Dtype::Bfloat16));
    }
}
