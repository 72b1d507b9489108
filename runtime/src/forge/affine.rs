//! Affine packing, the same bits as MLX's own `quantize` on a CPU (`mlx/backend/cpu/quantized.cpp`; MLX 0.32.2).
//!
//! A group's largest magnitude lands on a code exactly: `scale = edge / round(edge / scale)`, `bias = edge`. Codes are
//! chosen with scale and bias in f32, whatever type these are stored in. Rows are independent of one another, so that a
//! matrix may be packed in parts and by many threads.

use half::{bf16, f16};
use safetensors::Dtype;

use crate::quant::Scheme;

/// Smallest scale that is tried.
const EPS: f32 = 1e-7;
/// Weights in the largest group.
const MAX_GROUP: usize = 128;

/// Packs rows of affine `scheme`: `values` holds whole rows, whose width is a multiple of the group size. Appends to
/// `codes` (u32, little end first), `scales` and `biases` (of `dtype`: F32, F16 or BF16).
pub fn quantize_rows(
    values: &[f32],
    scheme: Scheme,
    dtype: Dtype,
    codes: &mut Vec<u8>,
    scales: &mut Vec<u8>,
    biases: &mut Vec<u8>,
) {
    let (bits, bins) = (scheme.bits(), ((1_u32 << scheme.bits()) - 1) as f32);
    let mut buffer = [0_u8; MAX_GROUP];
    for group in values.chunks_exact(scheme.group_size()) {
        let (scale, bias) = parameters(group, bins);
        let chosen = &mut buffer[..group.len()];
        for (code, &value) in chosen.iter_mut().zip(group) {
            *code = round((((value - bias) / scale).max(0.0)).min(bins));
        }
        pack(chosen, bits, codes);
        push(scales, scale, dtype);
        push(biases, bias, dtype);
    }
}

/// Scale and bias of a group.
fn parameters(group: &[f32], bins: f32) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    // Eight at a time, so that it becomes vector code.
    for eight in group.as_chunks::<8>().0 {
        for lane in 0..8 {
            low[lane] = if eight[lane] < low[lane] { eight[lane] } else { low[lane] };
            high[lane] = if eight[lane] > high[lane] { eight[lane] } else { high[lane] };
        }
    }
    let low = low.into_iter().fold(f32::INFINITY, f32::min);
    let high = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let below = low.abs() > high.abs();
    let magnitude = ((high - low) / bins).max(EPS);
    let scale = if below { magnitude } else { -magnitude };
    let edge = if below { low } else { high };
    let steps = (edge / scale).round_ties_even();
    if steps == 0.0 { (scale, 0.0) } else { (edge / steps, edge) }
}

/// The nearest integer of a number from 0 to 255, ties to even: adding 1.5 * 2^23 leaves no room for a fraction, and needs no
/// instruction that a plain x86-64 lacks.
fn round(value: f32) -> u8 {
    const SHIFT: f32 = 12_582_912.0;
    ((value + SHIFT).to_bits() & 0xff) as u8
}

/// Appends codes as one stream of bits, lowest first: 8 codes fill `bits` bytes.
fn pack(codes: &[u8], bits: usize, out: &mut Vec<u8>) {
    match bits {
        8 => out.extend_from_slice(codes),
        4 => out.extend(codes.as_chunks::<2>().0.iter().map(|[a, b]| a | b << 4)),
        _ => {
            for eight in codes.as_chunks::<8>().0 {
                let stream = eight.iter().rev().fold(0_u64, |stream, &code| stream << bits | u64::from(code));
                out.extend_from_slice(&stream.to_le_bytes()[..bits]);
            }
        }
    }
}

/// Appends a number in `dtype`.
pub(super) fn push(out: &mut Vec<u8>, value: f32, dtype: Dtype) {
    match dtype {
        Dtype::BF16 => out.extend_from_slice(&bf16::from_f32(value).to_le_bytes()),
        Dtype::F16 => out.extend_from_slice(&f16::from_f32(value).to_le_bytes()),
        _ => out.extend_from_slice(&value.to_le_bytes()),
    }
}
