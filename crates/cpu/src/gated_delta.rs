//! Gated DeltaNet (arXiv 2412.06464): convolution, recurrence and gated norm of one sequence's rows.
//!
//! For each row, with x the convolved and activated projections, `qkv` in the order queries, keys, values:
//!
//! ```text
//! x_t = silu(sum over j of conv_j qkv_{t - taps + 1 + j})
//! q = x_q / |x_q| / sqrt(key_dim)      k = x_k / |x_k|      |x| = sqrt(sum x^2 + 1e-6)
//! g = decay softplus(a + dt_bias)      r = sigmoid(b)
//! u = r (v - e^g S k)                  S = e^g S + u k^T    o = S q
//! y = norm o / sqrt(mean o^2 + eps) silu(z)
//! ```
//!
//! Rows are computed one after another: the result of a row does not depend on how many are computed in one call.

use crate::Isa;
use crate::isa::{LANES, Set, dot, multiply_add, total};

/// Added to the sum of squares of queries and keys.
const L2_EPS: f32 = 1e-6;
/// Rows whose convolution is computed at once: then the state of a head stays in the nearest cache for as many rows.
const BLOCK: usize = 64;

/// Sizes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaSizes {
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values, a multiple of `key_heads`.
    pub value_heads: usize,
    /// Width of a query or a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Rows that the convolution spans.
    pub taps: usize,
}

impl DeltaSizes {
    /// Width of queries, keys and values side by side.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.values()
    }

    /// Width of all values.
    pub fn values(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Length of a state `[value_heads, value_dim, key_dim]`.
    pub fn state(&self) -> usize {
        self.values() * self.key_dim
    }

    /// Length of the convolution's state `[taps - 1, channels]`.
    pub fn conv_state(&self) -> usize {
        (self.taps - 1) * self.channels()
    }
}

/// Weights of a layer.
#[derive(Debug, Clone, Copy)]
pub struct DeltaWeights<'a> {
    /// `[taps, channels]`.
    pub conv: &'a [f32],
    /// `-exp(A_log)`, `[value_heads]`.
    pub decay: &'a [f32],
    /// `[value_heads]`.
    pub dt_bias: &'a [f32],
    /// `[value_dim]`.
    pub norm: &'a [f32],
    /// Added to the mean of squares of an output.
    pub eps: f32,
}

/// Projections of the new rows.
#[derive(Debug, Clone, Copy)]
pub struct DeltaRows<'a> {
    /// `[n, channels]`.
    pub qkv: &'a [f32],
    /// `[n, values]`.
    pub z: &'a [f32],
    /// `[n, value_heads]`.
    pub b: &'a [f32],
    /// `[n, value_heads]`.
    pub a: &'a [f32],
}

impl<'a> DeltaRows<'a> {
    /// Rows `start` to `stop`.
    pub fn part(&self, sizes: &DeltaSizes, start: usize, stop: usize) -> Self {
        let part = |x: &'a [f32], width: usize| &x[start * width..stop * width];
        Self {
            qkv: part(self.qkv, sizes.channels()),
            z: part(self.z, sizes.values()),
            b: part(self.b, sizes.value_heads),
            a: part(self.a, sizes.value_heads),
        }
    }
}

/// The rows of one sequence in a layer.
#[derive(Debug)]
pub struct DeltaCall<'a> {
    /// Sizes of the layer.
    pub sizes: &'a DeltaSizes,
    /// Weights of the layer.
    pub weights: &'a DeltaWeights<'a>,
    /// Projections of the rows.
    pub rows: DeltaRows<'a>,
    /// The state `[value_heads, value_dim, key_dim]`; behind the rows after the call.
    pub state: &'a mut [f32],
    /// The convolution's state `[taps - 1, channels]`; behind the rows after the call.
    pub conv_state: &'a mut [f32],
    /// Gated outputs `[n, values]`, to be filled; `None` where only the states are wanted.
    pub gated: Option<&'a mut [f32]>,
}

/// Computes the rows of `call`.
///
/// A row that is not finite makes the state, and so the outputs of itself and of all rows behind it, not a number.
///
/// # Panics
/// Slices are shorter than the sizes say.
pub fn gated_delta(isa: Isa, call: DeltaCall<'_>) {
    match isa.0 {
        // FMA is part of aarch64.
        Set::Baseline => compute::<{ cfg!(target_arch = "aarch64") }>(call),
        // SAFETY: an `Isa` is made by `Isa::available` alone, from what the processor has.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2(call) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 => unsafe { avx512(call) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(call: DeltaCall<'_>) {
    compute::<true>(call);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
fn avx512(call: DeltaCall<'_>) {
    compute::<true>(call);
}

#[inline(always)]
fn compute<const FMA: bool>(call: DeltaCall<'_>) {
    let DeltaCall { sizes, weights, rows, state, conv_state, mut gated } = call;
    let n = rows.b.len() / sizes.value_heads;
    let mut mixed = vec![0.0; n.min(BLOCK) * sizes.channels()];
    let mut scratch = Scratch::new(sizes);
    for start in (0..n).step_by(BLOCK) {
        let stop = (start + BLOCK).min(n);
        let part = rows.part(sizes, start, stop);
        let mixed = &mut mixed[..(stop - start) * sizes.channels()];
        convolve::<FMA>(sizes, weights.conv, part.qkv, conv_state, mixed);
        let gated = gated.as_mut().map(|gated| &mut gated[start * sizes.values()..stop * sizes.values()]);
        recur::<FMA>(sizes, weights, &part, mixed, state, gated, &mut scratch);
    }
}

/// Convolved and activated rows `[n, channels]`; the convolution's state moves behind them.
#[inline(always)]
fn convolve<const FMA: bool>(sizes: &DeltaSizes, conv: &[f32], qkv: &[f32], conv_state: &mut [f32], mixed: &mut [f32]) {
    let channels = sizes.channels();
    let before = sizes.taps - 1;
    for (row, mixed) in mixed.chunks_exact_mut(channels).enumerate() {
        mixed.fill(0.0);
        for (tap, weights) in conv.chunks_exact(channels).enumerate() {
            // The input's rows are those of the state, then the new ones.
            let input = match (row + tap).checked_sub(before) {
                Some(new) => &qkv[new * channels..][..channels],
                None => &conv_state[(row + tap) * channels..][..channels],
            };
            for ((sum, &weight), &value) in mixed.iter_mut().zip(weights).zip(input) {
                *sum = multiply_add::<FMA>(weight, value, *sum);
            }
        }
        mixed.iter_mut().for_each(|x| *x = silu(*x));
    }
    let kept = qkv.len().min(conv_state.len());
    conv_state.copy_within(kept.., 0);
    let rest = conv_state.len() - kept;
    conv_state[rest..].copy_from_slice(&qkv[qkv.len() - kept..]);
}

/// Values of one row of a head, and facts about rows.
struct Scratch {
    query: Vec<f32>,
    key: Vec<f32>,
    output: Vec<f32>,
    /// By row of a block.
    finite: Vec<bool>,
}

impl Scratch {
    fn new(sizes: &DeltaSizes) -> Self {
        let zeros = |width| vec![0.0; width];
        Self {
            query: zeros(sizes.key_dim),
            key: zeros(sizes.key_dim),
            output: zeros(sizes.value_dim),
            finite: Vec::new(),
        }
    }
}

/// The recurrence and the gated norm, head by head.
#[inline(always)]
fn recur<const FMA: bool>(
    sizes: &DeltaSizes,
    weights: &DeltaWeights<'_>,
    rows: &DeltaRows<'_>,
    mixed: &[f32],
    state: &mut [f32],
    mut gated: Option<&mut [f32]>,
    scratch: &mut Scratch,
) {
    let DeltaSizes { key_heads, value_heads, key_dim, value_dim, .. } = *sizes;
    let Scratch { query, key, output, finite } = scratch;
    finite.clear();
    finite.extend(mixed.chunks_exact(sizes.channels()).map(|row| row.iter().all(|x| x.is_finite())));
    let keys = key_heads * key_dim;
    let scale = (key_dim as f32).sqrt().recip();
    for (head, state) in state.chunks_exact_mut(value_dim * key_dim).enumerate() {
        let of_key = head / (value_heads / key_heads) * key_dim;
        for (row, mixed) in mixed.chunks_exact(sizes.channels()).enumerate() {
            unit::<FMA>(&mixed[of_key..][..key_dim], scale, query);
            unit::<FMA>(&mixed[keys + of_key..][..key_dim], 1.0, key);
            let value = &mixed[2 * keys + head * value_dim..][..value_dim];
            let (a, b) = (rows.a[row * value_heads + head], rows.b[row * value_heads + head]);
            let decay = (weights.decay[head] * softplus(a + weights.dt_bias[head])).exp();
            let rate = sigmoid(b);
            if !(a.is_finite() && b.is_finite() && finite[row]) {
                state.fill(f32::NAN);
            }
            for ((state, &value), output) in state.chunks_exact_mut(key_dim).zip(value).zip(output.iter_mut()) {
                let expected = decay * dot::<FMA>(state, key);
                *output = update::<FMA>(state, decay, rate * (value - expected), key, query);
            }
            let Some(gated) = &mut gated else { continue };
            let place = row * sizes.values() + head * value_dim;
            let (gates, gated) = (&rows.z[place..][..value_dim], &mut gated[place..][..value_dim]);
            let mean = dot::<FMA>(output, output) / value_dim as f32;
            let norm = (mean + weights.eps).sqrt().recip();
            for (((gated, &gate), &output), &weight) in gated.iter_mut().zip(gates).zip(&*output).zip(weights.norm) {
                *gated = output * norm * weight * silu(gate);
            }
        }
    }
}

/// `state = decay state + u key`; its dot product with `query`.
#[inline(always)]
fn update<const FMA: bool>(state: &mut [f32], decay: f32, u: f32, key: &[f32], query: &[f32]) -> f32 {
    let (state_lanes, state_rest) = state.as_chunks_mut::<LANES>();
    let (key_lanes, key_rest) = key.as_chunks::<LANES>();
    let (query_lanes, query_rest) = query.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for ((state, key), query) in state_lanes.iter_mut().zip(key_lanes).zip(query_lanes) {
        for lane in 0..LANES {
            state[lane] = multiply_add::<FMA>(u, key[lane], decay * state[lane]);
            sums[lane] = multiply_add::<FMA>(state[lane], query[lane], sums[lane]);
        }
    }
    let mut rest = 0.0;
    for ((state, &key), &query) in state_rest.iter_mut().zip(key_rest).zip(query_rest) {
        *state = multiply_add::<FMA>(u, key, decay * *state);
        rest = multiply_add::<FMA>(*state, query, rest);
    }
    total(sums) + rest
}

/// `x` brought to length `scale`.
#[inline(always)]
fn unit<const FMA: bool>(x: &[f32], scale: f32, unit: &mut [f32]) {
    let factor = scale / (dot::<FMA>(x, x) + L2_EPS).sqrt();
    unit.iter_mut().zip(x).for_each(|(unit, x)| *unit = x * factor);
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    (1.0 + (-x).exp()).recip()
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: DeltaSizes = DeltaSizes { key_heads: 2, value_heads: 6, key_dim: 20, value_dim: 33, taps: 4 };

    /// Values of a fixed sequence in -1 to 1.
    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    struct Layer {
        conv: Vec<f32>,
        decay: Vec<f32>,
        dt_bias: Vec<f32>,
        norm: Vec<f32>,
        inputs: [Vec<f32>; 4],
        state: Vec<f32>,
        conv_state: Vec<f32>,
    }

    impl Layer {
        fn new(n: usize) -> Self {
            let widths = [SIZES.channels(), SIZES.values(), SIZES.value_heads, SIZES.value_heads];
            let mut inputs = widths.map(|width| noise(n * width, width as u32));
            inputs[3] = noise(n * SIZES.value_heads, 77);
            Self {
                conv: noise(SIZES.taps * SIZES.channels(), 1),
                decay: noise(SIZES.value_heads, 2).iter().map(|x| -x.abs()).collect(),
                dt_bias: noise(SIZES.value_heads, 3),
                norm: noise(SIZES.value_dim, 4),
                inputs,
                state: noise(SIZES.state(), 5),
                conv_state: noise(SIZES.conv_state(), 6),
            }
        }

        fn rows(&self) -> DeltaRows<'_> {
            let [qkv, z, b, a] = &self.inputs;
            DeltaRows { qkv, z, b, a }
        }

        /// Outputs and both states after the rows, computed in calls of so many rows.
        fn run(&self, isa: Isa, calls: &[usize]) -> Vec<f32> {
            let Self { conv, decay, dt_bias, norm, .. } = self;
            let weights = DeltaWeights { conv, decay, dt_bias, norm, eps: 1e-6 };
            let (mut state, mut conv_state) = (self.state.clone(), self.conv_state.clone());
            let mut outputs = Vec::new();
            let mut start = 0;
            for &count in calls {
                let rows = self.rows().part(&SIZES, start, start + count);
                let mut gated = vec![0.0; count * SIZES.values()];
                let (state, conv_state, gated_rows) = (&mut state[..], &mut conv_state[..], Some(&mut gated[..]));
                let call = DeltaCall { sizes: &SIZES, weights: &weights, rows, state, conv_state, gated: gated_rows };
                gated_delta(isa, call);
                outputs.extend(gated);
                start += count;
            }
            [outputs, state, conv_state].concat()
        }

        /// The formulas of the module, in f64.
        fn reference(&self, n: usize) -> Vec<f32> {
            let DeltaSizes { key_heads, value_heads, key_dim, value_dim, taps } = SIZES;
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let input = [wide(&self.conv_state), wide(&self.inputs[0])].concat();
            let channels = SIZES.channels();
            let silu = |x: f64| x / (1.0 + (-x).exp());
            let mut state = wide(&self.state);
            let mut outputs = Vec::new();
            for row in 0..n {
                let x: Vec<f64> = (0..channels)
                    .map(|channel| {
                        let tap = |tap: usize| {
                            f64::from(self.conv[tap * channels + channel]) * input[(row + tap) * channels + channel]
                        };
                        silu((0..taps).map(tap).sum())
                    })
                    .collect();
                for head in 0..value_heads {
                    let of_key = head / (value_heads / key_heads) * key_dim;
                    let length = |x: &[f64]| (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
                    let q: &[f64] = &x[of_key..of_key + key_dim];
                    let k: &[f64] = &x[key_heads * key_dim + of_key..][..key_dim];
                    let v = &x[2 * key_heads * key_dim + head * value_dim..][..value_dim];
                    let at = row * value_heads + head;
                    let (a, b) = (f64::from(self.inputs[3][at]), f64::from(self.inputs[2][at]));
                    let g = f64::from(self.decay[head]) * (a + f64::from(self.dt_bias[head])).exp().ln_1p();
                    let rate = 1.0 / (1.0 + (-b).exp());
                    let s = &mut state[head * value_dim * key_dim..][..value_dim * key_dim];
                    let mut o = Vec::with_capacity(value_dim);
                    for (s, v) in s.chunks_exact_mut(key_dim).zip(v) {
                        let seen: f64 = s.iter().zip(k).map(|(s, k_j)| s * k_j / length(k)).sum();
                        let u = rate * (v - g.exp() * seen);
                        s.iter_mut().zip(k).for_each(|(s, k_j)| *s = g.exp() * *s + u * k_j / length(k));
                        let out: f64 = s.iter().zip(q).map(|(s, q_j)| s * q_j / length(q)).sum();
                        o.push(out / (key_dim as f64).sqrt());
                    }
                    let mean = o.iter().map(|o| o * o).sum::<f64>() / value_dim as f64;
                    let z = &self.inputs[1][row * SIZES.values() + head * value_dim..][..value_dim];
                    outputs.extend(o.iter().zip(&self.norm).zip(z).map(|((o, &norm), &z)| {
                        (o / (mean + 1e-6).sqrt() * f64::from(norm) * silu(f64::from(z))) as f32
                    }));
                }
            }
            let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
            [outputs, narrow(&state), narrow(&input[n * channels..])].concat()
        }
    }

    #[test]
    fn every_instruction_set_computes_the_formulas() {
        for n in [1, 2, 5, 70] {
            let layer = Layer::new(n);
            let expected = layer.reference(n);
            for isa in Isa::available() {
                for (place, (found, expected)) in layer.run(isa, &[n]).iter().zip(&expected).enumerate() {
                    assert!((found - expected).abs() < 2e-5, "{isa:?}, {n} rows, {place}: {found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn rows_have_the_same_bits_in_one_call_and_in_several() {
        let layer = Layer::new(130);
        for isa in Isa::available() {
            let bits = |calls: &[usize]| -> Vec<u32> { layer.run(isa, calls).iter().map(|x| x.to_bits()).collect() };
            let whole = bits(&[130]);
            let [outputs, states] = [130 * SIZES.values(), SIZES.state() + SIZES.conv_state()];
            assert_eq!(whole.len(), outputs + states);
            for calls in [&[1, 129][..], &[64, 64, 2], &[2, 3, 1, 4, 100, 20]] {
                assert!(bits(calls) == whole, "{isa:?}, {calls:?}");
            }
            assert!(bits(&[1; 130]) == whole, "{isa:?}, row by row");
        }
    }

    #[test]
    fn a_row_that_is_not_finite_spoils_itself_and_those_behind_it() {
        for (input, broken) in [(0, f32::NAN), (0, f32::INFINITY), (2, f32::NEG_INFINITY), (3, f32::NAN)] {
            let (clean, mut layer) = (Layer::new(6), Layer::new(6));
            let width = layer.inputs[input].len() / 6;
            layer.inputs[input][3 * width + 1] = broken;
            for isa in Isa::available() {
                let (whole, spoiled) = (clean.run(isa, &[6]), layer.run(isa, &[6]));
                let before = 3 * SIZES.values();
                assert!(whole[..before] == spoiled[..before], "{isa:?}, input {input}");
                // Of the rates and decays, those of one head.
                let head = SIZES.value_dim..2 * SIZES.value_dim;
                for row in 3..6 {
                    let row = &spoiled[row * SIZES.values()..][..SIZES.values()];
                    assert!(row[head.clone()].iter().all(|x| x.is_nan()), "{isa:?}, input {input}");
                }
            }
        }
    }
}
