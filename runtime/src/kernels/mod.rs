//! Hand-written CUDA kernels, each with an op-by-op twin that computes the same and is used everywhere else.
//!
//! A kernel runs only on a CUDA device, only for the shapes and types it was written for, and only after its self-check: its
//! first use compares it with its twin on random inputs. One that fails is left out with a warning, for good.

pub mod attention;
pub mod dense;
pub mod embed;
pub mod experts;
pub mod norm;
mod normed;
pub mod qmm;
pub mod ranking;
pub mod routing;
mod self_check;
pub mod tiles;
pub mod unpack;

pub use normed::{NormedRows, RmsDivisor, StreamSum};
pub use self_check::{SelfCheck, outcomes, relative_difference};
pub use tiles::PackedTiles;

/// The most rows of a launch that serves a decoding step or a verification.
pub(crate) const MAX_ROWS: i32 = 16;
