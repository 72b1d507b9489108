//! Quantized weights as f32, in plain Rust: the reference that MLX's own arithmetic is compared with.
//!
//! MLX packs a row as one stream of bits, lowest first, whatever the width: 8 weights always fill `bits` bytes
//! (`mlx/backend/cpu/quantized.cpp`, `extract_bits`; `mlx/ops.cpp`, `affine_dequantize`). Products and sums are rounded
//! separately in f32, as MLX does with f32 scales; with bf16 scales MLX rounds to bf16 in between.

use half::f16;
use safetensors::Dtype;

use super::scheme::{Mode, Scheme, SchemeError};
use crate::artifact::to_f32;

/// The parts of a quantized matrix, as stored.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// The codes: u32, little end first.
    pub weight: &'a [u8],
    /// A scale a group.
    pub scales: &'a [u8],
    /// F32, F16 or BF16 for affine, else U8.
    pub scales_dtype: Dtype,
    /// Affine: a bias a group, with its type.
    pub biases: Option<(&'a [u8], Dtype)>,
}

/// The matrix `[rows, width]`, row-major; experts, where there are some, count as rows.
///
/// # Errors
/// A part whose size or type does not fit.
pub fn dequantize(scheme: Scheme, packed: Packed<'_>, rows: usize, width: usize) -> Result<Vec<f32>, SchemeError> {
    let group = scheme.group_size();
    if !width.is_multiple_of(group) {
        return Err(SchemeError::Width { width, scheme });
    }
    // A product that overflows is larger than any slice, and so is its stand-in.
    let groups = rows.saturating_mul(width / group);
    let group_bytes = group / 8 * scheme.bits();
    size("weight", packed.weight, groups.saturating_mul(group_bytes))?;
    let codes = packed.weight.chunks_exact(group_bytes);

    let mut out = Vec::with_capacity(groups * group);
    match scheme.mode() {
        Mode::Affine => {
            let (biases, dtype) = packed.biases.ok_or(SchemeError::Biases { expected: true })?;
            let scales = floats("scales", packed.scales, packed.scales_dtype, groups)?;
            let biases = floats("biases", biases, dtype, groups)?;
            for ((codes, scale), bias) in codes.zip(scales).zip(biases) {
                unpack(codes, scheme.bits(), &mut out, |code| f32::from(code) * scale + bias);
            }
        }
        mode => {
            if packed.biases.is_some() {
                return Err(SchemeError::Biases { expected: false });
            }
            if packed.scales_dtype != Dtype::U8 {
                return Err(SchemeError::Dtype { part: "scales", found: packed.scales_dtype, expected: "U8" });
            }
            size("scales", packed.scales, groups)?;
            let scale = if mode == Mode::Nvfp4 { e4m3 } else { e8m0 };
            let value = if mode == Mode::Mxfp8 { e4m3 } else { e2m1 };
            let values: Vec<f32> = (0..=u8::MAX).map(value).collect();
            for (codes, &byte) in codes.zip(packed.scales) {
                let scale = scale(byte);
                unpack(codes, scheme.bits(), &mut out, |code| values.get(usize::from(code)).map_or(0.0, |v| v * scale));
            }
        }
    }
    Ok(out)
}

/// Calls `value` with each code of a group.
fn unpack(bytes: &[u8], bits: usize, out: &mut Vec<f32>, value: impl Fn(u8) -> f32) {
    let mask = (1_u64 << bits) - 1;
    for eight in bytes.chunks_exact(bits) {
        let stream = eight.iter().rev().fold(0_u64, |stream, &byte| stream << 8 | u64::from(byte));
        out.extend((0..8).map(|i| value((stream >> (i * bits) & mask) as u8)));
    }
}

/// A 4-bit value of the OCP formats: 1 sign, 2 exponent, 1 mantissa.
fn e2m1(code: u8) -> f32 {
    const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let value = VALUES[usize::from(code & 7)];
    if code & 8 == 0 { value } else { -value }
}

/// An 8-bit value: 1 sign, 4 exponent (bias 7), 3 mantissa. Like MLX, and unlike the format's text, the two codes of NaN
/// read as ±480.
pub(crate) fn e4m3(code: u8) -> f32 {
    // E4M3 is f16 with a shorter mantissa and another bias: 2^8 apart, subnormals included.
    let value = f16::from_bits(u16::from(code & 0x7f) << 7).to_f32() * 256.0;
    if code & 0x80 == 0 { value } else { -value }
}

/// A scale: 2^(code - 127). Like MLX's, 255 is infinite rather than NaN.
fn e8m0(code: u8) -> f32 {
    // An exponent of zero means a subnormal in f32: 2^-127 is half the smallest normal number.
    f32::from_bits(if code == 0 { 1 << 22 } else { u32::from(code) << 23 })
}

fn size(part: &'static str, bytes: &[u8], expected: usize) -> Result<(), SchemeError> {
    if bytes.len() == expected { Ok(()) } else { Err(SchemeError::Bytes { part, found: bytes.len(), expected }) }
}

/// A plane of `count` scales or biases.
fn floats(part: &'static str, bytes: &[u8], dtype: Dtype, count: usize) -> Result<Vec<f32>, SchemeError> {
    size(part, bytes, count.saturating_mul(dtype.bitsize() / 8))?;
    to_f32(bytes, dtype).ok_or(SchemeError::Dtype { part, found: dtype, expected: "F32, F16 or BF16" })
}
