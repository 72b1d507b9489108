//! The core of mtplx: architecture traits, the speculative loop, sampling, artifacts.
//!
//! Nothing here touches the terminal, the network or the environment; the application does.
//! [`artifact`], [`cpu`], [`mlx`] and [`speculation`] are crates of their own, re-exported: an architecture depends on this crate alone.

pub mod architecture;
pub mod cache;
pub mod compatibility;
pub mod error;
pub mod forge;
pub mod inspect;
pub mod kernels;
pub mod model;
pub mod nn;
pub mod parity;
pub mod quant;
pub mod registry;
pub mod sampling;
pub mod speculative;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verify;

pub use error::{Error, LoadError, Result};
pub use inventory;
pub use mlx_rs;
pub use mlx_rs::Array;
pub use mtplx_artifact as artifact;
pub use mtplx_artifact::text;
pub use mtplx_cpu as cpu;
pub use mtplx_mlx as mlx;
pub use mtplx_speculation as speculation;
