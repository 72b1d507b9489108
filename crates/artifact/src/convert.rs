//! Stored floating-point numbers as f32.

use half::{bf16, f16};
use safetensors::Dtype;

/// Little-endian F32, F16 or BF16 numbers as f32; `None` for another type. Bytes past the last whole number are left out.
pub fn to_f32(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|&two| bf16::from_le_bytes(two).to_f32()).collect(),
        _ => return None,
    })
}
