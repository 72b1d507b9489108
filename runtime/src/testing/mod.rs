//! What tests share: here and, with feature `testing`, in architecture crates.
//!
//! Assertions panic, as tests do; helpers that build or read arrays return MLX's errors.

#![allow(clippy::missing_panics_doc, reason = "every function here may fail a test")]

pub mod checks;
pub mod conformance;
pub mod doubles;
pub mod evidence;
pub mod exactness;
pub mod fixture;
pub mod fuzz;
pub mod mutate;
pub mod reference;
mod rng;
pub mod state;
pub mod statistics;
pub mod tiny;

pub use crate::verify::host;
pub use rng::Rng;
pub use tiny::{Fill, TinyCheckpoint};
