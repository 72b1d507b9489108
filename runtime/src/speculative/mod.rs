//! Drafting with the model's own head, verifying with the trunk, exactly.
//!
//! [`sequence`] is the state of a text, [`round`] the loop's step around the decisions of [`crate::speculation`]. [`simulate`] is for
//! benchmarks: the same loop with a decision that is not exact.

pub mod logprobs;
mod release;
pub mod round;
pub mod sequence;
pub mod simulate;

pub use crate::speculation::{Acceptance, DepthPolicy, Rule, SpeculationStats};
pub use crate::speculation::{accept, depth, stats};
pub use logprobs::TokenLogprobs;
pub use release::Released;
pub use round::{Origin, Round, step};
pub use sequence::{
    DraftOptions, FirstToken, PromptChunk, Sequence, SequenceError, SequenceOptions, Snapshot, prefill_chunk,
};
pub use simulate::{Simulation, SimulationError};
