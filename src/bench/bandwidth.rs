//! The memory bandwidth that this device reaches with MLX: what a decode step's bytes are held against.

use std::time::Instant;

use mtplx_runtime::mlx::{self, Device};
use mtplx_runtime::mlx_rs::{ops, transforms};
use mtplx_runtime::{Array, Result};

use super::summary::Summary;

/// Measurements, the first of them forgotten.
const REPEATS: usize = 6;

/// Bytes read and written a second, in GB/s (1e9): a chain of element-wise passes over a buffer that fits no cache, each of
/// which reads all of it and writes as much. On a CPU this is what one thread reaches, since MLX uses one.
///
/// # Errors
/// When MLX fails, for lack of memory for instance.
pub fn copy_gb_s() -> Result<Option<Summary>> {
    let (elements, passes) = match mlx::default_device() {
        Device::Gpu => (1 << 27, 16), // 512 MiB
        Device::Cpu => (1 << 24, 2),  // 64 MiB
    };
    let source = ops::zeros_dtype(&[elements], mtplx_runtime::mlx_rs::Dtype::Float32)?;
    transforms::eval([&source])?;
    let one = Array::from_f32(1.0);
    let mut measured = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let started = Instant::now();
        let mut copy = source.add(&one)?;
        for _ in 1..passes {
            copy = copy.add(&one)?;
        }
        transforms::eval([&copy])?;
        let bytes = 2.0 * passes as f64 * source.nbytes() as f64;
        measured.push(bytes / started.elapsed().as_secs_f64() / 1e9);
    }
    Ok(Summary::of(measured.into_iter().skip(1)))
}
