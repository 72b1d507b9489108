//! Quantization as a checkpoint states it: packing schemes, and what configuration and contract say of each module.

pub mod config;
pub mod scheme;

pub use config::{HeadQuantization, Quantization};
pub use scheme::{Mode, Scheme};
