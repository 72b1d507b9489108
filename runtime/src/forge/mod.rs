//! Turns a checkpoint into an artifact: MLX's names, MLX's packing, the draft head in a file of its own, and a contract that
//! waits for its evidence.
//!
//! An architecture says what becomes of its tensors ([`Rules`]); a [`Policy`] says in how many bits. Both together are a
//! [`Plan`], made from headers alone: every output tensor with its file, place and size, so that headers come first, any
//! part can be written by anyone at any time, and memory holds a few chunks of rows whatever the size of the model.
//! A [`ForgeJob`] carries a plan out: [`ForgeJob::forge`] converts a checkpoint, [`ForgeJob::synth`]
//! fills a shape with random weights.

mod affine;
mod error;
mod files;
mod graft;
mod job;
mod layout;
mod plan;
mod policy;
mod read;
mod run;
pub mod shapes;
mod source;
mod synth;
mod tokenizer;
mod work;

#[cfg(test)]
mod tests;

pub use crate::artifact::tensor_mapping::Source;
pub use crate::artifact::{Group, Part, Rule, Rules};
pub use affine::quantize_rows;
pub use error::ForgeError;
pub use graft::head_for;
pub use job::ForgeJob;
pub use plan::{Coding, Output, Plan, Row};
pub use policy::{BUILTIN as POLICIES, HeadPolicy, Policy};
pub use run::{Outcome, RunControl};
pub use work::free_space;
