//! The core of mtplx: architecture traits, the speculative loop, sampling, artifacts.
//!
//! Nothing here touches the terminal, the network or the environment; the application does.
//! Unsafe code lives in [`mlx`] alone.

pub mod architecture;
pub mod artifact;
pub mod cache;
pub mod forge;
pub mod inspect;
pub mod kernels;
pub mod mlx;
pub mod model;
pub mod nn;
pub mod parity;
pub mod quant;
pub mod registry;
pub mod sampling;
pub mod speculative;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod verify;

pub use inventory;
pub use mlx_rs;
pub use mlx_rs::Array;

/// The result of building or evaluating MLX operations.
pub type Result<T, E = mlx_rs::error::Exception> = std::result::Result<T, E>;
