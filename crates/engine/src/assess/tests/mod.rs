//! Folders on disk, written by the tests, and what they are worth.

mod compared;
mod hashes;
mod stamped;
mod verdict;

use mtplx_runtime::artifact::testing::folder::{Folder, safetensors};
