//! Takes a repository, or one revision of it, out of the cache.
//!
//! Deletes only below the repository's own folder, and follows no link: a content goes if the revision's links lead to it
//! and no other revision's do. Names go first and contents last, so that an interruption leaves nothing half there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::cache::{Cache, Repository, Snapshot, is_folder, unreadable, unwritable};
use super::id::RepoId;
use crate::error::{Exit, Failure};

/// What is to go.
#[derive(Debug)]
pub struct Removal {
    repository: Repository,
    locks: PathBuf,
    /// The revisions.
    pub snapshots: Vec<Snapshot>,
    /// Branches and tags that mean them.
    pub names: Vec<String>,
    contents: Vec<PathBuf>,
    /// Whether nothing of the repository is left.
    pub whole: bool,
    /// Bytes that this frees.
    pub bytes: u64,
}

impl Removal {
    /// Finds what belongs to a revision, or to the repository where the id names none; deletes nothing.
    ///
    /// # Errors
    /// It is not in the cache, or its folder is a link.
    pub fn plan(cache: &Cache, id: &RepoId) -> Result<Self, Failure> {
        let repository = cache.repository(id);
        let place = cache.root().display();
        let missing =
            |what: String| Failure::new(Exit::File, what).hint("`mtplx models --all` lists what the cache holds");
        if fs::symlink_metadata(&repository.dir).is_ok_and(|metadata| metadata.is_symlink()) {
            let what = format!("{}: a link, which is not followed", repository.dir.display());
            return Err(Failure::new(Exit::File, what).hint("remove the link, and what it leads to, by hand"));
        }
        if !is_folder(&repository.dir) {
            return Err(missing(format!("{id}: not in the cache ({place})")));
        }
        let snapshots = match &id.revision {
            None => repository.snapshots()?,
            Some(revision) => match repository.find(Some(revision))? {
                Ok(snapshot) => vec![snapshot],
                Err(_) => return Err(missing(format!("{id}: the cache ({place}) has no such revision of it"))),
            },
        };
        let others = repository.others(&snapshots)?;
        let whole = id.revision.is_none() || others.is_empty();
        let names = snapshots.iter().flat_map(|snapshot| repository.names_of(&snapshot.commit)).collect();
        let (contents, bytes) = match whole {
            true => (Vec::new(), size_below(&repository.dir)?),
            false => only_theirs(&repository, &snapshots, &others)?,
        };
        let locks = cache.root().join(".locks").join(id.folder());
        Ok(Self { repository, locks, snapshots, names, contents, whole, bytes })
    }
}

/// Deletes what was planned. Returns the bytes freed.
///
/// # Errors
/// A download of the repository is under way; the operating system refuses.
pub fn remove(removal: &Removal) -> Result<u64, Failure> {
    let Removal { repository, locks, snapshots, names, contents, whole, bytes } = removal;
    let _held = hold(locks, &repository.id)?;
    let gone = |path: &Path, result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(path, &error)),
        _ => Ok(()),
    };
    for name in names {
        let path = repository.dir.join("refs").join(name);
        gone(&path, fs::remove_file(&path))?;
    }
    for snapshot in snapshots {
        gone(&snapshot.dir, fs::remove_dir_all(&snapshot.dir))?;
    }
    if *whole {
        gone(&repository.dir, fs::remove_dir_all(&repository.dir))?;
        gone(locks, fs::remove_dir_all(locks))?;
        return Ok(*bytes);
    }
    for content in contents {
        gone(content, fs::remove_file(content))?;
    }
    Ok(*bytes)
}

impl Repository {
    /// Every folder in `snapshots` but these, whatever its name.
    fn others(&self, these: &[Snapshot]) -> Result<Vec<Snapshot>, Failure> {
        let dir = self.dir.join("snapshots");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&dir, &error)),
        };
        let mut others = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| unreadable(&dir, &error))?.path();
            if is_folder(&path) && !these.iter().any(|snapshot| snapshot.dir == path) {
                others.push(Snapshot { commit: String::new(), dir: path });
            }
        }
        Ok(others)
    }
}

/// The contents that only these snapshots use, and the bytes that they and the snapshots' own files take.
fn only_theirs(
    repository: &Repository,
    these: &[Snapshot],
    others: &[Snapshot],
) -> Result<(Vec<PathBuf>, u64), Failure> {
    let blobs =
        fs::canonicalize(repository.dir.join("blobs")).ok().filter(|_| is_folder(&repository.dir.join("blobs")));
    let mut used = BTreeSet::new();
    for other in others {
        used.extend(other.files()?.into_iter().map(|(_, target, _)| target));
    }
    let mut contents = BTreeSet::new();
    let mut bytes = 0;
    for (path, target, size) in these.iter().map(Snapshot::files).collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
    {
        let is_blob = blobs.as_deref().is_some_and(|blobs| target.parent() == Some(blobs));
        let goes = is_blob && !used.contains(&target) && contents.insert(target);
        let is_own = || fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if goes || is_own() {
            bytes += size;
        }
    }
    Ok((contents.into_iter().collect(), bytes))
}

/// Bytes of all regular files below a folder; links are not followed.
fn size_below(dir: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).map_err(|error| unreadable(&dir, &error))? {
            let path = entry.map_err(|error| unreadable(&dir, &error))?.path();
            let metadata = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
            if metadata.is_dir() {
                pending.push(path);
            } else if metadata.is_file() {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}

/// The locks on all of a repository's contents that were ever downloaded.
fn hold(locks: &Path, id: &RepoId) -> Result<Vec<File>, Failure> {
    let entries = match fs::read_dir(locks) {
        Ok(entries) if is_folder(locks) => entries,
        _ => return Ok(Vec::new()),
    };
    let mut held = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_lock = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        let Some(file) = is_lock.then(|| File::options().write(true).open(&path).ok()).flatten() else { continue };
        if matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) {
            return Err(Failure::new(Exit::Failed, format!("{id}: a download of it is under way"))
                .hint("end it, or let it end, and try again"));
        }
        held.push(file);
    }
    Ok(held)
}
