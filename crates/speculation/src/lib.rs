//! The decisions of exact speculative decoding, on the host and in f64: no model, no device, no clock.
//!
//! [`accept`] holds the acceptance rules, [`depth`] the policy of how many tokens to draft, [`filter`] and [`noise`] the
//! reference that sampling on a device is tested against, [`params`] what a user may ask of the sampler, [`stats`] the counts of
//! what became of drafts.

pub mod accept;
pub mod depth;
pub mod filter;
pub mod noise;
pub mod params;
pub mod statistics;
pub mod stats;

pub use accept::{Acceptance, Rule};
pub use depth::DepthPolicy;
pub use noise::{Noise, Role};
pub use params::{ParamsError, REPETITION_PENALTIES, SamplingParams, TEMPERATURES, TokenCounts};
pub use stats::SpeculationStats;
