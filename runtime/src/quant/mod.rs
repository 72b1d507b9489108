//! Quantized weights: what is stated of them, whether the tensors agree, the numbers they stand for, and products with
//! them.

mod dequantize;
pub mod linear;
mod normed;
pub mod scheme;
mod stated;
pub(crate) mod tiled;
mod traffic;

pub(crate) use dequantize::e4m3;
pub use dequantize::{Packed, dequantize};
pub use linear::{Experts, Fused, Linear, Weight};
pub use normed::Normed;
pub use scheme::{Mode, Scheme, SchemeError};
pub use stated::{HeadQuantization, Quantization};
pub use tiled::Tiled;
pub use traffic::Traffic;

#[cfg(test)]
mod tests;
