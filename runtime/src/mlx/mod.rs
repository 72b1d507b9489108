//! The only unsafe code: what mlx-rs does not wrap (yet), behind safe functions.
//!
//! Everything else in the project goes through mlx-rs or through this module. MLX never parses a file: [`from_bytes`]
//! copies buffers whose type, shape and length were checked before.

mod backend;
mod budget;
mod device;
pub mod kernel;
pub mod mapped;
mod memory;
mod nvrtc;
mod ops;

pub use backend::{
    Device, configure_cuda, cuda_default, default_device, exit, gpu_available, message, set_default_device, version,
};
pub use budget::{Budget, BudgetAllocator, Exceeded, within};
pub use device::{DeviceInfo, peak_memory, reset_peak_memory};
pub use memory::MemoryBudget;
pub use ops::{
    QuantizedWeight, await_array, begin, dequantize, finite_rows, from_bytes, gather_qmm, quantized_matmul, slice_axis,
    update_axis,
};
