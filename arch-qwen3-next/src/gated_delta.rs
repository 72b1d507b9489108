//! Gated DeltaNet (Yang, Kautz, Hatamizadeh 2024, arXiv 2412.06464), in chunks.
//!
//! A head keeps a matrix S `[value_dim, key_dim]`. For each row t with query q, key k, value v, log decay g and rate b:
//!
//! ```text
//! u_t = b_t (v_t - e^{g_t} S_{t-1} k_t)      S_t = e^{g_t} S_{t-1} + u_t k_t^T      o_t = S_t q_t
//! ```
//!
//! Over a chunk that starts at S_0, with G the running sum of g, the same rows in matrix form are
//!
//! ```text
//! (I + A) U = b (V - e^G K S_0^T)        A_ti = b_t e^{G_t - G_i} k_t . k_i   for i < t
//! O = e^G Q S_0^T + M U                  M_ti = e^{G_t - G_i} q_t . k_i       for i <= t
//! S_n = e^{G_n} S_0 + (e^{G_n - G} U)^T K
//! ```
//!
//! So a prompt costs a few products a chunk, a verification is one chunk, and (K, U, G) is the tape from which the
//! state after any of its rows follows. Every exponent is at most 0. States and all of this are f32.

use mtplx_runtime::cache::{LayerCache, RecurrentCache, Tape};
use mtplx_runtime::mlx::{finite_rows, silu, slice_axis};
use mtplx_runtime::mlx_rs::{Dtype, fast, ops, random};
use mtplx_runtime::nn::{BlockInput, BlockOutput, FusedMixer, Mixer, RmsNorm, Rows, each_sequence};
use mtplx_runtime::quant::{Fused, Linear, NormedRows};
use mtplx_runtime::{Array, Result};

use crate::config::DeltaShape;

mod host;
mod kernel;

/// Rows of a chunk.
const CHUNK: i32 = 64;
/// The largest block that is inverted by a power series; larger ones are put together from these.
const BLOCK: i32 = 8;
/// Added to the sum of squares of queries and keys (not to the mean), as the reference does.
const L2_EPS: f32 = 1e-6;

/// A Gated DeltaNet layer.
pub(crate) struct GatedDelta {
    pub shape: DeltaShape,
    /// Queries, keys and values in one, output gate, rates, decays.
    pub inputs: Fused,
    /// `[taps, channels]` f32.
    pub conv: Array,
    /// `-exp(A_log)`, `[value_heads]` f32.
    pub decay: Array,
    /// `[value_heads]` f32.
    pub dt_bias: Array,
    /// What unit queries and keys are scaled by, `[2, 1, 1]`: see [`qk_scale`].
    pub qk_scale: Array,
    pub norm: RmsNorm,
    pub output: Linear,
}

/// What the rows of one verification need for a state after any of them.
struct DeltaTape {
    chunks: Vec<Chunk>,
    /// Rows of all chunks.
    rows: usize,
    /// The convolution's input: the taps before the rows, then the rows. `[taps - 1 + n, channels]`.
    conv_input: Array,
    taps: usize,
}

/// One chunk's share of the tape. Heads are `[key_heads, value_heads / key_heads]`, abbreviated `[h, r]`.
struct Chunk {
    state: Array, // [h, r, value_dim, key_dim], before the chunk
    keys: Array,  // [h, 1, rows, key_dim]
    u: Array,     // [h, r, rows, value_dim]
    sums: Array,  // [h, r, rows], running sums of log decays
}

impl Chunk {
    /// The state after the chunk's first `keep` rows.
    fn state_after(&self, keep: i32) -> Result<Array> {
        let sums = slice_axis(&self.sums, 2, 0, keep)?;
        let total = slice_axis(&sums, 2, keep - 1, keep)?; // [h, r, 1]
        let weights = total.subtract(&sums)?.exp()?.expand_dims(-1)?;
        let u = slice_axis(&self.u, 2, 0, keep)?.multiply(weights)?;
        let update = u.swap_axes(2, 3)?.matmul(slice_axis(&self.keys, 2, 0, keep)?)?;
        Ok(self.state.multiply(total.exp()?.expand_dims(-1)?)?.add(update)?)
    }
}

impl Tape for DeltaTape {
    fn states_after(&self, keep: usize) -> Result<Vec<Array>> {
        let keep = keep.min(self.rows);
        let (chunk, within) = ((keep - 1) / CHUNK as usize, (keep - 1) % CHUNK as usize + 1);
        // Contiguous, or the few rows would keep the whole chunk's buffer alive.
        let conv = slice_axis(&self.conv_input, 0, keep as i32, (keep + self.taps - 1) as i32)?.contiguous()?;
        Ok(vec![self.chunks[chunk].state_after(within as i32)?, conv])
    }
}

/// The root mean square norm leaves vectors of length `sqrt(key_dim)`: both are brought to length 1, and queries are
/// scaled by `key_dim^-1/2` besides.
pub(crate) fn qk_scale(shape: &DeltaShape) -> Array {
    let unit = (shape.key_dim as f32).powf(-0.5);
    Array::from_slice(&[unit * unit, unit], &[2, 1, 1])
}

impl Mixer for GatedDelta {
    fn new_cache(&self) -> LayerCache {
        LayerCache::Recurrent(RecurrentCache::default())
    }

    fn forward(&self, x: &Array, rows: &mut [Rows<'_>]) -> Result<Array> {
        self.forward_fused(x.clone().into(), rows)?.rows()
    }

    fn fused(&self) -> Option<&dyn FusedMixer> {
        Some(self)
    }
}

impl FusedMixer for GatedDelta {
    fn forward_fused(&self, x: BlockInput<'_>, rows: &mut [Rows<'_>]) -> Result<BlockOutput> {
        let x = x.normed(&self.inputs)?;
        let dtype = x.parts().0.dtype();
        if host::ready(dtype) {
            let gated = host::rows(self, &self.projections(&x)?, rows)?;
            return BlockOutput::product(&self.output, gated);
        }
        let joined = match self.inputs.joined(&x).transpose()? {
            // The kernel reads them side by side, however they are packed.
            None if kernel::ready(&self.shape, dtype) => Some(ops::concatenate(&self.inputs.forward(&x)?, 1)?),
            joined => joined,
        };
        let gated = match joined {
            Some(joined) => each_sequence(rows, &[joined], |joined, rows| self.run_joined(&joined[0], rows, dtype))?,
            None => {
                let parts = self.projections(&x)?;
                each_sequence(rows, &parts, |parts, rows| self.run_parts(parts, rows, dtype))?
            }
        };
        BlockOutput::product(&self.output, gated)
    }
}

impl GatedDelta {
    /// Queries, keys and values in one; output gates; rates; decays.
    fn projections(&self, x: &NormedRows) -> Result<[Array; 4]> {
        let parts = self.inputs.forward(x)?;
        parts.try_into().map_err(|_| mtplx_runtime::Error::unsupported("four projections were joined"))
    }

    /// The cache of a sequence, and its states before the new rows.
    fn states<'a>(&self, rows: &'a mut Rows<'_>, dtype: Dtype) -> Result<(&'a mut RecurrentCache, [Array; 2])> {
        let cache = rows.cache.recurrent()?;
        let states = match cache.states() {
            [state, conv] => [state.clone(), conv.clone()],
            _ => [self.zero_state()?, self.zero_taps(dtype)?],
        };
        Ok((cache, states))
    }

    /// The rows of one sequence, from their projections side by side: gated rows `[n, values]`. The tape stays in the cache.
    fn run_joined(&self, joined: &Array, rows: &mut Rows<'_>, dtype: Dtype) -> Result<Array> {
        let (cache, states) = self.states(rows, dtype)?;
        match kernel::rows(self, joined, &states) {
            Some(done) => {
                let (gated, tape) = done?;
                cache.record(tape);
                Ok(gated)
            }
            None => self.by_operations(&self.split(joined)?, &states, cache),
        }
    }

    /// The same from the four projections.
    fn run_parts(&self, parts: &[Array], rows: &mut Rows<'_>, dtype: Dtype) -> Result<Array> {
        let (cache, states) = self.states(rows, dtype)?;
        let parts = <&[Array; 4]>::try_from(parts);
        let parts = parts.map_err(|_| mtplx_runtime::Error::unsupported("four projections were joined"))?;
        self.by_operations(parts, &states, cache)
    }

    fn by_operations(&self, parts: &[Array; 4], states: &[Array; 2], cache: &mut RecurrentCache) -> Result<Array> {
        let (gated, tape) = self.rows_by_operations(parts, states)?;
        cache.record(tape);
        Ok(gated)
    }

    /// Queries, keys and values in one; output gates; rates; decays.
    fn split(&self, joined: &Array) -> Result<[Array; 4]> {
        let [channels, values, heads] =
            [self.shape.channels(), self.shape.values(), self.shape.value_heads].map(|n| n as i32);
        let [z, b, a] = [channels, channels + values, channels + values + heads];
        let part = |start, stop| slice_axis(joined, 1, start, stop);
        Ok([part(0, z)?, part(z, b)?, part(b, a)?, part(a, a + heads)?])
    }

    /// Everything between the projections: gated rows `[n, values]` in the type of the parts, and the tape.
    fn rows_by_operations(&self, [qkv, z, b, a]: &[Array; 4], states: &[Array; 2]) -> Result<(Array, DeltaTape)> {
        let DeltaShape { value_heads, value_dim, taps, .. } = self.shape;
        let n = qkv.dim(0);
        let conv_input = ops::concatenate(&[&states[1], qkv], 0)?;
        let mixed = silu(&self.convolve(&conv_input, n)?)?;
        let (mixed, a, b, spoiled) = contain_faults(mixed, a, b)?;
        let rows = self.rows(&mixed, &a, &b)?;
        let (outputs, chunks) = run(states[0].clone(), rows)?;
        // [h, r, n, value_dim] -> [n, value_heads, value_dim]
        let heads = [n, value_heads as i32, value_dim as i32];
        let outputs = outputs.reshape(&[value_heads as i32, n, value_dim as i32])?.swap_axes(0, 1)?;
        let outputs = match spoiled {
            Some(spoiled) => ops::select(spoiled, Array::from_f32(f32::NAN), outputs)?,
            None => outputs,
        };
        let gate = silu(&z.reshape(&heads)?.as_dtype(Dtype::Float32)?)?;
        let gated = self.norm.forward(&outputs)?.multiply(gate)?.as_dtype(qkv.dtype())?;
        let gated = gated.reshape(&[n, self.shape.values() as i32])?;
        Ok((gated, DeltaTape { chunks, rows: n as usize, conv_input, taps }))
    }

    fn zero_taps(&self, dtype: Dtype) -> Result<Array> {
        Ok(ops::zeros_dtype(&[self.shape.taps as i32 - 1, self.shape.channels() as i32], dtype)?)
    }

    fn zero_state(&self) -> Result<Array> {
        let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = self.shape;
        let shape = [key_heads, value_heads / key_heads, value_dim, key_dim].map(|n| n as i32);
        Ok(ops::zeros::<f32>(&shape)?)
    }

    /// A causal convolution of each channel by itself: `[taps - 1 + n, channels]` -> `[n, channels]` f32.
    fn convolve(&self, input: &Array, n: i32) -> Result<Array> {
        let (taps, channels) = (self.shape.taps as i32, input.dim(1));
        let line = i64::from(channels);
        // Every row's window, as a view: [n, taps, channels].
        let input = input.as_dtype(Dtype::Float32)?;
        let windows = ops::as_strided(&input, &[n, taps, channels][..], &[line, line, 1][..], None)?;
        Ok(windows.multiply(&self.conv)?.sum_axis(1, false)?)
    }

    /// Splits the convolved rows, f32, into heads.
    fn rows(&self, mixed: &Array, a: &Array, b: &Array) -> Result<DeltaRows> {
        let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = self.shape;
        let [h, r, dk, dv] = [key_heads, value_heads / key_heads, key_dim, value_dim].map(|n| n as i32);
        let n = mixed.dim(0);
        let (keys, f32) = (h * dk, Dtype::Float32);
        // x / sqrt(sum x^2 + eps) = x / sqrt(mean x^2 + eps / width) / sqrt(width)
        let heads = slice_axis(mixed, 1, 0, 2 * keys)?.reshape(&[n, 2, h, dk])?;
        let unit = fast::rms_norm(&heads, None, L2_EPS / dk as f32)?.multiply(&self.qk_scale)?;
        let qk = unit.transpose_axes(&[2, 1, 0, 3])?; // [h, 2, n, dk]
        let v = slice_axis(mixed, 1, 2 * keys, mixed.dim(1))?.reshape(&[n, h, r, dv])?.transpose_axes(&[1, 2, 0, 3])?;
        let per_head = |x: &Array| x.reshape(&[n, h, r])?.transpose_axes(&[1, 2, 0]); // [h, r, n]
        let rate = per_head(&ops::sigmoid(b.as_dtype(f32)?)?)?;
        let step = ops::logaddexp(a.as_dtype(f32)?.add(&self.dt_bias)?, Array::from_f32(0.0))?; // softplus
        let log_decay = per_head(&step.multiply(&self.decay)?)?;
        Ok(DeltaRows { qk, v, rate, log_decay })
    }
}

/// Rows `[n, ..]` with those that are not finite made zero, and true for each row that such a one reaches, itself and all after it:
/// `[n, 1, 1]`. The products of a chunk would carry them to the rows before, as 0 times what is not a number.
fn contain_faults(mixed: Array, a: &Array, b: &Array) -> Result<(Array, Array, Array, Option<Array>)> {
    if mixed.dim(0) == 1 {
        return Ok((mixed, a.clone(), b.clone(), None));
    }
    let finite = finite_rows(&mixed)?.logical_and(finite_rows(a)?)?.logical_and(finite_rows(b)?)?;
    let or_zero = |rows: &Array| ops::select(&finite, rows, Array::from_f32(0.0).as_dtype(rows.dtype())?);
    let before = finite.logical_not()?.as_dtype(Dtype::Int32)?.cumsum(0, None, None)?;
    let spoiled = before.gt(Array::from_int(0))?.expand_dims(-1)?;
    Ok((or_zero(&mixed)?, or_zero(a)?, or_zero(b)?, Some(spoiled)))
}

/// Rows in heads: queries and keys `[h, 2, n, key_dim]`, v `[h, r, n, value_dim]`, the rest `[h, r, n]`.
#[derive(Clone)]
struct DeltaRows {
    qk: Array,
    v: Array,
    rate: Array,
    log_decay: Array,
}

impl DeltaRows {
    fn slice(&self, start: i32, stop: i32) -> Result<Self> {
        let part = |a: &Array| slice_axis(a, 2, start, stop);
        Ok(Self { qk: part(&self.qk)?, v: part(&self.v)?, rate: part(&self.rate)?, log_decay: part(&self.log_decay)? })
    }
}

/// All rows, chunk by chunk: outputs `[h, r, n, value_dim]` and the tape.
fn run(mut state: Array, rows: DeltaRows) -> Result<(Array, Vec<Chunk>)> {
    let n = rows.v.dim(2);
    let mut outputs = Vec::new();
    let mut chunks: Vec<Chunk> = Vec::new();
    for start in (0..n).step_by(CHUNK as usize) {
        let part = if n <= CHUNK { rows.clone() } else { rows.slice(start, (start + CHUNK).min(n))? };
        if let Some(before) = chunks.last() {
            state = before.state_after(CHUNK)?;
        }
        let (output, chunk) = run_chunk(state.clone(), part)?;
        outputs.push(output);
        chunks.push(chunk);
    }
    let joined = if outputs.len() == 1 { outputs.remove(0) } else { ops::concatenate(&outputs, 2)? };
    Ok((joined, chunks))
}

fn run_chunk(state: Array, rows: DeltaRows) -> Result<(Array, Chunk)> {
    let DeltaRows { qk, v, rate, log_decay } = rows;
    let [h, r, n, dv] = [v.dim(0), v.dim(1), v.dim(2), v.dim(3)];
    let sums = if n == 1 { log_decay } else { log_decay.cumsum(2, None, None)? };
    let rate = rate.expand_dims(-1)?; // [h, r, n, 1]
    let keys = slice_axis(&qk, 1, 1, 2)?; // [h, 1, n, dk]
    let both = qk.reshape(&[h, 1, 2 * n, qk.dim(3)])?;
    let halves = |a: &Array| -> Result<[Array; 2]> {
        let half = |i: i32| slice_axis(a, 2, i, i + 1)?.squeeze_axes(&[2]);
        Ok([half(0)?, half(1)?])
    };
    // What the state says to queries and to keys.
    let seen = both.matmul(state.swap_axes(2, 3)?)?.reshape(&[h, r, 2, n, dv])?;
    let [from_state, expected] = halves(&seen.multiply(sums.exp()?.reshape(&[h, r, 1, n, 1])?)?)?;
    let surprise = v.subtract(expected)?.multiply(&rate)?;
    // Queries with keys, and keys with keys.
    let products = both.matmul(keys.swap_axes(2, 3)?)?.reshape(&[h, 1, 2, n, n])?;
    if n == 1 {
        let output = from_state.add(slice_axis(&products, 2, 0, 1)?.squeeze_axes(&[2])?.multiply(&surprise)?)?;
        return Ok((output, Chunk { state, keys, u: surprise, sums }));
    }
    // e^{G_t - G_i} for i <= t, 0 above: masked before the exponential, where the difference may be large.
    let differences = sums.expand_dims(-1)?.subtract(sums.expand_dims(-2)?)?;
    let causal = differences.add(constant(n, |t, i| if i <= t { 0.0 } else { f32::NEG_INFINITY }))?.exp()?;
    let [m, kk] = halves(&products.multiply(causal.expand_dims(2)?)?)?;
    let a = ops::tril(kk.multiply(&rate)?, -1)?;
    let u = inverse(&a)?.matmul(&surprise)?;
    let output = from_state.add(m.matmul(&u)?)?;
    Ok((output, Chunk { state, keys, u, sums }))
}

/// The constant matrix `[n, n]` of f(row, column).
fn constant(n: i32, f: impl Fn(i32, i32) -> f32) -> Array {
    let values: Vec<f32> = (0..n * n).map(|at| f(at / n, at % n)).collect();
    Array::from_slice(&values, &[n, n])
}

/// `(I + a)^-1` of strictly lower triangular matrices `[h, r, n, n]`.
///
/// Blocks of [`BLOCK`] rows by the power series, which ends because a is nilpotent; pairs of inverted blocks P and R,
/// with C below the diagonal between them, join as `[[P, 0], [-R C P, R]]`. A power series over all rows would lose
/// every digit on texts that repeat themselves: its terms grow like binomial coefficients.
fn inverse(a: &Array) -> Result<Array> {
    let n = a.dim(2);
    if n <= BLOCK {
        return series(a);
    }
    let (h, r) = (a.dim(0), a.dim(1));
    let mut size = BLOCK;
    while size < n {
        size *= 2;
    }
    let pad = size - n;
    let a = if pad == 0 { a.clone() } else { ops::pad(a, &[(0, 0), (0, 0), (0, pad), (0, pad)], None, None)? };
    let flat = a.reshape(&[h * r, size, size])?.contiguous()?;
    // The blocks [rows, columns] of width `width` at (first, first + below) and then every `stride`-th on the diagonal.
    let blocks = |width: i32, stride: i32, below: i32| -> Result<Array> {
        let line = i64::from(size);
        let strides = [line * line, i64::from(stride) * (line + 1), line, 1];
        Ok(ops::as_strided(&flat, &[h * r, size / stride, width, width][..], &strides[..], (below * size) as usize)?)
    };
    let mut width = BLOCK;
    let mut inverted = series(&blocks(width, width, 0)?)?; // [h r, size / width, width, width]
    while width < size {
        let pairs = inverted.reshape(&[h * r, size / width / 2, 2, width, width])?;
        let one = |i: i32| slice_axis(&pairs, 2, i, i + 1)?.squeeze_axes(&[2]);
        let (first, second) = (one(0)?, one(1)?);
        let corner = second.matmul(blocks(width, 2 * width, width)?)?.matmul(&first)?.negative()?;
        let top = ops::concatenate(&[&first, &ops::zeros_like(&first)?], 3)?;
        inverted = ops::concatenate(&[top, ops::concatenate(&[corner, second], 3)?], 2)?;
        width *= 2;
    }
    let whole = inverted.reshape(&[h, r, size, size])?;
    if pad == 0 { Ok(whole) } else { Ok(slice_axis(&slice_axis(&whole, 2, 0, n)?, 3, 0, n)?) }
}

/// `(I + a)^-1 = (I - a)(I + a^2)(I + a^4) ...` for strictly lower triangular a of at most [`BLOCK`] rows.
fn series(a: &Array) -> Result<Array> {
    let n = a.dim(-1);
    let identity = constant(n, |t, i| f32::from(u8::from(t == i)));
    let mut inverse = identity.subtract(a)?;
    let (mut power, mut reach) = (a.clone(), 2);
    while reach < n {
        power = power.matmul(&power)?;
        inverse = inverse.add(inverse.matmul(&power)?)?;
        reach *= 2;
    }
    Ok(inverse)
}

/// Values of the self-checks of kernels.
fn normal(dims: &[i32], scale: f32, seed: u64) -> Result<Array> {
    Ok(random::normal::<f32>(dims, None, scale, &random::key(seed)?)?)
}

/// A small layer for the self-checks of kernels; its products are not used.
fn example() -> Result<GatedDelta> {
    let shape = DeltaShape { key_heads: 2, value_heads: 6, key_dim: 32, value_dim: 64, taps: 4 };
    Ok(GatedDelta {
        shape,
        inputs: Fused::new(Vec::new())?,
        conv: normal(&[4, shape.channels() as i32], 0.5, 1)?,
        decay: normal(&[6], 1.0, 2)?.abs()?.negative()?,
        dt_bias: normal(&[6], 1.0, 3)?,
        qk_scale: qk_scale(&shape),
        norm: RmsNorm::new(normal(&[64], 1.0, 4)?, 1e-6, Dtype::Float32),
        output: Linear::new(mtplx_runtime::quant::Weight::Dense(normal(&[1, 1], 1.0, 5)?), None)?,
    })
}

/// States before the rows of a self-check, the convolution's in `dtype`.
fn states(layer: &GatedDelta, seed: u64, dtype: Dtype) -> Result<[Array; 2]> {
    let channels = layer.shape.channels() as i32;
    Ok([normal(&[2, 3, 64, 32], 0.3, seed)?, normal(&[3, channels], 1.0, seed + 1)?.as_dtype(dtype)?])
}

#[cfg(test)]
mod tests;
