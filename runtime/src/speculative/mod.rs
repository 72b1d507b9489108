//! Drafting with the model's own head, verifying with the trunk, exactly.
//!
//! [`accept`], [`depth`] and [`stats`] are pure: no model, no device, no clock. [`session`] is the loop around them.
//! [`simulate`] is for benchmarks: the same loop with a decision that is not exact.

pub mod accept;
pub mod depth;
pub mod session;
pub mod simulate;
pub mod stats;

pub use accept::{Acceptance, Rule};
pub use depth::DepthPolicy;
pub use session::{Round, Session, SessionError, SessionOptions, Snapshot};
pub use simulate::{Simulation, SimulationError};
pub use stats::SpeculationStats;
