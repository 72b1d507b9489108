//! What tests share: here and, with feature `testing`, in architecture crates.
//!
//! Assertions panic, as tests do; helpers that build or read arrays return MLX's errors.

#![allow(clippy::missing_panics_doc, reason = "every function here may fail a test")]

pub mod checks;
pub mod company;
pub mod conformance;
pub mod doubles;
pub mod exactness;
pub mod fixture;
pub mod mutate;
pub mod reference;
pub mod state;
pub mod tiny;

pub use crate::artifact::testing::Rng;
pub use crate::speculation::statistics;
pub use crate::verify::host;
pub use tiny::{Fill, TinyCheckpoint};
