//! What mlx-rs does not wrap (yet), behind safe functions: operations, CUDA kernels of our own, limits of memory, how a process ends.
//!
//! Every crate above goes through mlx-rs or through this one. MLX never parses a file: [`from_bytes`] copies buffers whose type,
//! shape and length were checked before.

mod backend;
mod blas;
mod device;
mod host;
pub mod kernel;
mod memory;
mod nvrtc;
mod ops;
mod packed;
mod process;

pub use backend::{
    Device, NEEDED_VERSION, configure_cuda, cuda_default, default_device, gpu_available, message, set_default_device,
    version,
};
pub use blas::OpenBlas;
pub use device::{DeviceInfo, clear_cache, memory_use, peak_memory, reset_peak_memory};
pub use host::{HostFunction, host, host_available};
pub use memory::MemoryBudget;
pub use ops::{
    async_eval, dequantize, finite_rows, from_bytes, gather_qmm, quantized_matmul, silu, slice_axis, update_axis,
    values, wait,
};
pub use packed::{Mode, Packing, QuantizedWeight};
pub use process::exit;

/// The result of building or evaluating MLX operations.
pub type Result<T, E = mlx_rs::error::Exception> = std::result::Result<T, E>;
