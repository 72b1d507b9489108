//! How a token is chosen: what the user asked for, the filters that turn logits into a distribution, and the noise.
//!
//! [`filter`] and [`noise`] are pure, on the host and in f64: the reference that [`device`] must agree with.

pub mod device;
pub mod filter;
pub mod noise;
pub mod params;

pub use device::DeviceSampler;
pub use noise::{Noise, Role};
pub use params::{ParamsError, REPETITION_PENALTIES, SamplingParams, TEMPERATURES, TokenCounts};
