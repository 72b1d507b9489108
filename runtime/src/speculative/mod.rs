//! Drafting with the model's own head, verifying with the trunk, exactly.
//!
//! [`session`] is the loop around the decisions of [`crate::speculation`]. [`simulate`] is for benchmarks: the same loop with a
//! decision that is not exact.

pub mod session;
pub mod simulate;

pub use crate::speculation::{Acceptance, DepthPolicy, Rule, SpeculationStats};
pub use crate::speculation::{accept, depth, stats};
pub use session::{DraftOptions, Round, Session, SessionError, SessionOptions, Snapshot};
pub use simulate::{Simulation, SimulationError};
