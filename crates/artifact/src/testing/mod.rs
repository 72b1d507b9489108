//! Test support for the crates above: folders that tests write, fuzzing bodies, seeded random numbers.

#![allow(clippy::missing_panics_doc, reason = "every function here may fail a test")]

pub mod folder;
pub mod fuzz;
mod rng;

pub use folder::Folder;
pub use rng::Rng;
