//! Artifacts on disk: configuration, tensor headers, the contract, and what they are worth.
//!
//! A checkpoint is downloaded data, so everything here distrusts it: names stay inside the folder, sizes are bounded
//! before anything is allocated, arithmetic is checked, and no file can make the program panic. Headers are parsed here;
//! MLX's own file readers are never used. Turning bytes into arrays is left to the architectures, and so is the meaning of
//! tensor names; nothing here touches a device.

mod checkpoint;
mod config;
mod contract;
mod error;
pub mod expected;
mod families;
mod fault;
mod finite;
mod floats;
pub mod hashes;
mod header;
mod index;
pub mod json;
mod listing;
mod norms;
mod opening;
mod sidecar;
mod size;
mod source;
mod unread;
mod verdict;

#[cfg(test)]
mod tests;

pub use checkpoint::Checkpoint;
pub use config::Config;
pub use contract::{
    CONTRACT, ConcatOrder, Contract, DraftSampler, Finding, GenerationMode, HiddenVariant, MtpContract, Severity,
    SpeedEvidence,
};
pub use error::{ArtifactError, ErrorKind, LoadError, io_hint};
pub(crate) use error::{shown, shown_value};
pub use families::known_family;
pub use fault::{Fault, Subject};
pub(crate) use fault::{compare, refuse_endless};
pub use finite::require_finite;
pub(crate) use floats::to_f32;
pub use hashes::KnownHashes;
pub use header::TensorInfo;
#[cfg(any(test, feature = "testing"))]
pub(crate) use header::parse as parse_header;
#[cfg(any(test, feature = "testing"))]
pub(crate) use index::parse as parse_index;
pub use listing::weight_files;
pub use norms::{NormEncoding, NormRule, norm_encoding};
pub use sidecar::HeadSource;
pub(crate) use sidecar::is_head as is_head_tensor;
pub use size::size_shown;
pub use source::check_name;
pub use verdict::{Assessment, Verdict, Witness, assess, assess_with};
