//! Model artifacts on disk: configuration, tensor headers, the contract, quantization, tokenizer and chat template, and the
//! rules by which checkpoints are converted.
//!
//! A checkpoint is downloaded data, so everything here distrusts it: names stay inside the folder, sizes are bounded
//! before anything is allocated, arithmetic is checked, and no file can make the program panic. Headers are parsed here;
//! MLX's own file readers are never used. Nothing here touches a device: turning bytes into arrays is left to the crates
//! above, and so is the meaning of tensor names.

mod builder;
mod checkpoint;
mod config;
mod contract;
mod convert;
mod diagnostic;
mod digest;
mod error;
pub mod expected;
mod families;
pub mod group;
pub mod hashes;
mod header;
mod hint;
mod index;
pub mod json;
#[allow(unsafe_code)]
pub mod memory;
mod norms;
pub mod quant;
mod shard_list;
mod sidecar;
mod size;
mod source;
mod tensor_info;
pub mod tensor_mapping;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
mod unused_tensors;

#[cfg(test)]
mod tests;

/// The unit tests hold hostile files to the same budgets as the program does.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: memory::BudgetAllocator = memory::BudgetAllocator;

pub use checkpoint::{Checkpoint, Whole};
pub use config::{Config, ConfigNotes};
pub use contract::{
    CONTRACT, ConcatOrder, Contract, DraftSampler, GenerationMode, HiddenVariant, MtpContract, SpeedEvidence,
};
pub use convert::to_f32;
pub use diagnostic::{Area, Fault, Finding, Severity};
pub use digest::sha256;
pub use error::{ArtifactError, ErrorKind, io_hint, shown, shown_value};
pub use families::known_family;
pub use group::{Group, Part};
pub use hashes::KnownHashes;
pub use header::parse as parse_header;
pub use hint::Hint;
pub use index::parse as parse_index;
pub use norms::{NormEncoding, NormRule, norm_encoding};
pub use shard_list::weight_files;
pub use sidecar::HeadSource;
pub use sidecar::is_head as is_head_tensor;
pub use size::size_shown;
pub use source::check_name;
pub use tensor_info::TensorInfo;
pub use tensor_mapping::{Rule, Rules};
