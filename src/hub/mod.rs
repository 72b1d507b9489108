//! Models from the Hugging Face hub, in the cache on this machine that the Python tools use as well.
//!
//! Layout: `models--OWNER--NAME/` with `blobs/` (contents, named by their hash), `snapshots/COMMIT/` (links into `blobs`)
//! and `refs/` (branch or tag to commit). Only `mtplx pull` touches the network; everything else reads the cache.
//!
//! Not built on the `hf-hub` crate: 1.0 begins interrupted files anew, compares no hash, asks for no room on the disk, and
//! brings 280 crates with an asynchronous runtime and a second storage protocol; what is needed here are two kinds of GET.
//! `ureq`, which its blocking versions use, makes them.

mod cache;
mod client;
mod download;
mod id;
mod listing;
mod locate;
mod remove;
mod snapshot;

pub use cache::{Cache, Repository, Snapshot};
pub use client::Hub;
pub use download::{Event, interrupted, pull};
pub use id::RepoId;
pub use locate::folder_of;
pub use remove::{Removal, remove};
