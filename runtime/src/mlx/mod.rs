//! The only unsafe code: what mlx-rs does not wrap (yet), behind safe functions.
//!
//! Everything else in the project goes through mlx-rs or through this module. MLX never parses a file: [`from_bytes`]
//! copies buffers whose type, shape and length were checked before.

mod backend;
mod device;
pub mod kernel;
pub mod mapped;
mod ops;

pub use backend::{Device, cuda_default, default_device, forbid_tf32, gpu_available, set_default_device, version};
pub use device::{DeviceInfo, peak_memory, reset_peak_memory};
pub use ops::{QuantizedWeight, dequantize, from_bytes, gather_qmm, quantized_matmul, slice_axis, update_axis};
