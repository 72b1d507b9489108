//! Names in a snapshot, and names of snapshots.
//!
//! Links to contents, relative, as the Python tools lay them. One file may be this machine's own: the contract, into which
//! `mtplx verify` writes what it measured here. It takes the link's place as a file, and no download takes it back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mtplx_runtime::artifact::CONTRACT;

use super::cache::{Repository, is_folder, unwritable};
use super::id::is_commit;
use super::listing::Remote;
use crate::error::{Exit, Failure};

/// What is at a name now.
pub(super) enum Placed {
    /// A link to the hub's content.
    Linked,
    /// A file of this machine's own.
    Kept,
}

/// A folder, made where it is not there; never a link to one.
pub(super) fn made(dir: PathBuf) -> Result<PathBuf, Failure> {
    fs::create_dir_all(&dir).map_err(|error| unwritable(&dir, &error))?;
    match is_folder(&dir) {
        true => Ok(dir),
        false => Err(Failure::new(Exit::File, format!("{}: a link, where the cache has a folder", dir.display()))
            .hint("remove the link, or name another cache with HF_HUB_CACHE")),
    }
}

/// Puts a file's name into the snapshot: a relative link to its content in `blobs`.
pub(super) fn place(snapshot: &Path, blobs: &Path, file: &Remote) -> io::Result<Placed> {
    let place = snapshot.join(&file.name);
    let parent = place.parent().unwrap_or(snapshot);
    fs::create_dir_all(parent)?;
    if !fs::canonicalize(parent)?.starts_with(fs::canonicalize(snapshot)?) {
        return Err(io::Error::other("a link out of the snapshot is in the way: remove it"));
    }
    let up = "../".repeat(file.name.matches('/').count() + 2);
    let target = PathBuf::from(format!("{up}blobs/{}", file.hash.hex()));
    if fs::read_link(&place).is_ok_and(|present| present == target) {
        return Ok(Placed::Linked);
    }
    if file.name == CONTRACT && is_own(&place, &blobs.join(file.hash.hex()))? {
        return Ok(Placed::Kept);
    }
    let fresh = parent.join(format!(".{}.{}", file.hash.hex(), std::process::id()));
    let _ = fs::remove_file(&fresh);
    #[cfg(unix)]
    std::os::unix::fs::symlink(&target, &fresh)?;
    #[cfg(not(unix))]
    fs::hard_link(parent.join(&target), &fresh)?;
    fs::rename(&fresh, &place)?;
    Ok(Placed::Linked)
}

/// Whether a file, and no link, is at `place`, with another content than the hub's. (Where there are no links, the Python
/// tools lay copies.)
fn is_own(place: &Path, blob: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_file() => {
            Ok(metadata.len() != fs::metadata(blob)?.len() || fs::read(place)? != fs::read(blob)?)
        }
        _ => Ok(false),
    }
}

/// Notes which commit a branch or tag means.
pub(super) fn name(repository: &Repository, revision: &str, commit: &str) -> Result<(), Failure> {
    if is_commit(revision) || repository.commit_of(revision).as_deref() == Some(commit) {
        return Ok(());
    }
    let refs = made(repository.dir.join("refs"))?;
    let place = refs.join(revision);
    let failed = |error: &io::Error| unwritable(&place, error);
    let fresh = refs.join(format!(".{commit}.{}", std::process::id()));
    fs::create_dir_all(place.parent().unwrap_or(&refs)).map_err(|error| failed(&error))?;
    fs::write(&fresh, commit).and_then(|()| fs::rename(&fresh, &place)).map_err(|error| failed(&error))
}
