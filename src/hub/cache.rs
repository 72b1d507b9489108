//! The cache's folders: which repositories and snapshots there are, and which snapshot a revision means.
//!
//! Reads only. Other programs write here as well, and what they wrote is data: names and hashes are checked before they
//! become paths, and a folder that is a link is not entered. But for a repository's own: people move large models to another
//! disk, and leave a link.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use mtplx_runtime::artifact::io_hint;

use super::id::{RepoId, is_commit};
use crate::error::{Exit, Failure};

/// The revision that is meant where none is named.
pub(super) const MAIN: &str = "main";
/// Fewest digits of a commit that may stand for it.
const SHORTEST_COMMIT: usize = 7;
/// Largest file in `refs`: a commit and a line's end.
const MAX_REF: u64 = 128;

/// A Hugging Face cache.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// A repository's folder in it.
#[derive(Debug, Clone)]
pub struct Repository {
    pub id: RepoId,
    pub dir: PathBuf,
}

/// A commit's folder in a repository's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Snapshot {
    pub commit: String,
    pub dir: PathBuf,
}

impl Cache {
    /// The cache of this user: `HF_HUB_CACHE`, else `$HF_HOME/hub`, else `huggingface/hub` in the user's cache.
    ///
    /// # Errors
    /// There is no home to look in.
    pub fn of_user() -> Result<Self, Failure> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("HF_HUB_CACHE")
            .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| home().map(|home| home.join("hub")))
            .ok_or_else(|| {
                let what = "there is no home folder, and so no Hugging Face cache";
                Failure::usage(what, "set HF_HUB_CACHE to the cache's folder")
            })?;
        Ok(Self::at(root))
    }

    /// The cache in this folder, which need not be there yet.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A repository's part of it, there or not.
    pub fn repository(&self, id: &RepoId) -> Repository {
        Repository { id: id.without_revision(), dir: self.root.join(id.folder()) }
    }

    /// The models' repositories that it holds, in the order of their names.
    ///
    /// # Errors
    /// The folder is there and cannot be read.
    pub fn repositories(&self) -> Result<Vec<Repository>, Failure> {
        let names = folders(&self.root, Path::is_dir).map_err(|error| unreadable(&self.root, &error))?;
        Ok(names.iter().filter_map(|name| RepoId::of_folder(name)).map(|id| self.repository(&id)).collect())
    }
}

impl Repository {
    /// The snapshots that it holds, in the order of their commits.
    ///
    /// # Errors
    /// A folder is there and cannot be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, Failure> {
        let dir = self.dir.join("snapshots");
        let names = folders(&dir, is_folder).map_err(|error| unreadable(&dir, &error))?;
        Ok(names
            .into_iter()
            .filter(|name| is_commit(name))
            .map(|commit| Snapshot { dir: dir.join(&commit), commit })
            .collect())
    }

    /// True if any program left an unfinished content.
    pub fn is_interrupted(&self) -> bool {
        let entries = fs::read_dir(self.dir.join("blobs")).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.path().extension().is_some_and(|end| end == "incomplete"))
    }

    /// The branches and tags that mean this commit.
    pub fn names_of(&self, commit: &str) -> Vec<String> {
        let mut names = Vec::new();
        collect_refs(&self.dir.join("refs"), "", &mut names);
        names.retain(|name| self.commit_of(name).as_deref() == Some(commit));
        names.sort();
        names
    }

    /// The commit that a branch or tag meant when it was last asked for.
    pub fn commit_of(&self, name: &str) -> Option<String> {
        let path = self.dir.join("refs").join(name);
        let metadata = fs::symlink_metadata(&path).ok()?;
        if !metadata.is_file() || metadata.len() > MAX_REF {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// The snapshot that a revision means here; none names [`MAIN`].
    ///
    /// # Errors
    /// `Err(snapshots)`: it is not here, and these are; the outer error is an unreadable folder.
    pub fn find(&self, revision: Option<&str>) -> Result<Result<Snapshot, Vec<Snapshot>>, Failure> {
        let wanted = revision.unwrap_or(MAIN);
        let snapshots = self.snapshots()?;
        let commit = self.commit_of(wanted).unwrap_or_else(|| wanted.to_owned());
        let is_short = commit.len() >= SHORTEST_COMMIT && commit.bytes().all(|b| b.is_ascii_hexdigit());
        let mut fits = snapshots.iter().filter(|s| s.commit == commit || (is_short && s.commit.starts_with(&commit)));
        Ok(match (fits.next(), fits.next()) {
            (Some(snapshot), None) => Ok(snapshot.clone()),
            _ => Err(snapshots),
        })
    }
}

impl Snapshot {
    /// As few digits of the commit as people use.
    pub fn short(&self) -> &str {
        &self.commit[..12]
    }

    /// Every file in it, with the place that its links lead to and the size there; dangling links and links out of the
    /// repository are left out.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn files(&self) -> Result<Vec<(PathBuf, PathBuf, u64)>, Failure> {
        let mut files = Vec::new();
        let Some(repository) = self.dir.parent().and_then(Path::parent) else { return Ok(files) };
        let repository = fs::canonicalize(repository).map_err(|error| unreadable(repository, &error))?;
        let mut pending = vec![self.dir.clone()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).map_err(|error| unreadable(&dir, &error))? {
                let path = entry.map_err(|error| unreadable(&dir, &error))?.path();
                if is_folder(&path) {
                    pending.push(path);
                } else if let Ok(target) = fs::canonicalize(&path)
                    && target.starts_with(&repository)
                    && let Ok(metadata) = fs::metadata(&target)
                    && metadata.is_file()
                {
                    files.push((path, target, metadata.len()));
                }
            }
        }
        Ok(files)
    }

    /// Bytes on the disk: every content once.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn size(&self) -> Result<u64, Failure> {
        let contents: BTreeSet<(PathBuf, u64)> =
            self.files()?.into_iter().map(|(_, target, size)| (target, size)).collect();
        Ok(contents.iter().map(|(_, size)| size).sum())
    }
}

/// The folder of the Hugging Face tools.
pub(super) fn home() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("HF_HOME").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")))?;
        Some(cache.join("huggingface"))
    })
}

/// A folder itself, and no link to one.
pub(super) fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::File, format!("{}: {error}", path.display())).hint(io_hint(error))
}

/// What could not be written: nothing is damaged, and the next try may go better.
pub(super) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
        .hint(format!("{}; HF_HUB_CACHE names another place for the cache", io_hint(error)))
}

/// The names in a folder of what `counts` as one, sorted; none where there is no such folder.
fn folders(dir: &Path, counts: impl Fn(&Path) -> bool) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if counts(&entry.path()) {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// The names of files in `refs`, folders joined with `/` (`refs/pr/1` has two). Not deeper than any honest one.
fn collect_refs(dir: &Path, prefix: &str, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
        let name = format!("{prefix}{name}");
        if kind.is_file() {
            names.push(name);
        } else if kind.is_dir() && name.matches('/').count() < 8 {
            collect_refs(&entry.path(), &format!("{name}/"), names);
        }
    }
}
