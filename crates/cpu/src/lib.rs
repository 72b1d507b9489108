//! Kernels for processors, over slices of f32: no MLX, no allocation that outlives a call.
//!
//! Each kernel is one generic function that is compiled for every instruction set in [`Isa`] and chosen at run time.

mod gated_delta;
mod isa;

pub use gated_delta::{DeltaCall, DeltaRows, DeltaSizes, DeltaWeights, gated_delta};
pub use isa::Isa;
