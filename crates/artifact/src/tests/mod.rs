//! Folders on disk, written by the tests, and what is said of them.

mod config;
mod contract;
mod folder;
mod header;
mod memory;
mod norms;

use crate::testing::folder::{Folder, raw, safetensors};
