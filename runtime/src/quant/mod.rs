//! Quantized weights: what is stated of them, whether the tensors agree, the numbers they stand for, and products with
//! them.

mod dequantize;
pub mod linear;
mod traffic;

pub use crate::artifact::quant::scheme::{self, SchemeError};
pub use crate::artifact::quant::{HeadQuantization, Mode, Quantization, Scheme};
pub use crate::kernels::{NormedRows, PackedTiles};
pub(crate) use dequantize::e4m3;
pub use dequantize::{Packed, dequantize};
pub use linear::{Experts, Fused, Linear, Weight};
pub use traffic::Traffic;

#[cfg(test)]
mod tests;
