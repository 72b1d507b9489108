//! Where a checkpoint's files come from: a folder, or slices compiled into the program.
//!
//! Decides which paths may be opened. A name may point inside the folder only; a link may leave it only where the folder
//! is a snapshot in a Hugging Face cache, and only for a file directly in the `blobs` of that very repository, because that
//! is how the cache is laid out. What counts is where the last of several links ends. Only regular files are opened, so a
//! pipe cannot hang the program and a device cannot feed it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::digest::FileStamp;
use super::error::{ArtifactError, shown};
use super::hint::Hint;
use crate::memory::{Mapped, map_file};

/// Files that are compiled in.
pub(super) type Embedded = [(&'static str, &'static [u8])];

/// Where the files are.
#[derive(Debug)]
pub(super) enum Source {
    Folder {
        /// As the caller gave it, for messages.
        label: String,
        /// Links resolved.
        root: PathBuf,
        /// `blobs` of the repository in a Hugging Face cache that `root` is a snapshot of.
        blobs: Option<PathBuf>,
        /// Small files that were read, by name, `None` where there was none: a file is opened once, so that what was judged is what
        /// is loaded, whatever became of the file meanwhile.
        read: Mutex<BTreeMap<String, Option<Arc<[u8]>>>>,
    },
    Embedded {
        label: String,
        files: Vec<(&'static str, &'static [u8])>,
    },
}

/// A whole file's bytes.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped {
        bytes: Mapped,
        /// Of the file that was mapped, whatever its name leads to by now.
        stamp: Option<FileStamp>,
    },
    Static(&'static [u8]),
}

impl Bytes {
    /// What tells that the file is still the same.
    pub(super) fn stamp(&self) -> Option<FileStamp> {
        match self {
            Self::Mapped { stamp, .. } => *stamp,
            Self::Static(_) => None,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped { bytes, .. } => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}

impl Source {
    /// A folder.
    pub(super) fn folder(dir: &Path) -> Result<Self, ArtifactError> {
        let label = dir.display().to_string();
        let hint = "give the folder that holds config.json and the weights";
        let root = fs::canonicalize(dir).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ArtifactError::missing(&*label, hint),
            _ => ArtifactError::io(&*label, error),
        })?;
        if !root.is_dir() {
            return Err(ArtifactError::damaged_with(label, "not a folder", hint));
        }
        let blobs = cache_blobs(&root);
        Ok(Self::Folder { label, root, blobs, read: Mutex::default() })
    }

    /// Files that are compiled in.
    pub(super) fn embedded(label: &str, files: &Embedded) -> Self {
        Self::Embedded { label: label.to_owned(), files: files.to_vec() }
    }

    /// Has the file read anew when it is asked for again.
    pub(super) fn forget(&self, name: &str) {
        if let Self::Folder { read, .. } = self {
            read.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        }
    }

    /// The folder as the caller gave it, or the label.
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Folder { label, .. } | Self::Embedded { label, .. } => label,
        }
    }

    /// The folder, links resolved.
    pub(super) fn root(&self) -> Option<&Path> {
        match self {
            Self::Folder { root, .. } => Some(root),
            Self::Embedded { .. } => None,
        }
    }

    /// A file's path for messages.
    pub(super) fn path(&self, name: &str) -> String {
        let label = self.label();
        format!("{label}{}{}", if label.ends_with('/') { "" } else { "/" }, shown(name))
    }

    /// True if anything has that name, a link that leads nowhere included.
    pub(super) fn is_there(&self, name: &str) -> bool {
        match self {
            Self::Embedded { .. } => self.slice(name).is_some(),
            Self::Folder { root, .. } => check_name(name).is_ok() && fs::symlink_metadata(root.join(name)).is_ok(),
        }
    }

    /// `OWNER/NAME`, for a snapshot in a Hugging Face cache; `@COMMIT` behind it where `main` means another.
    pub(super) fn repository(&self) -> Option<String> {
        let root = self.root()?;
        let repository = snapshots_of(root)?;
        let (owner, name) = repository.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
        let commit = root.file_name()?.to_str()?;
        let main = fs::read_to_string(repository.join("refs/main")).ok();
        let other = main.is_some_and(|main| main.trim() != commit);
        Some(format!("{owner}/{name}{}", if other { format!("@{commit}") } else { String::new() }))
    }

    /// True for an unfinished download by this program or the Hugging Face tools, into a cache or a plain folder.
    pub(super) fn is_interrupted(&self) -> bool {
        let Self::Folder { root, blobs, .. } = self else { return false };
        let beside = root.join(".cache/huggingface/download");
        let unfinished = |dir: &Path| {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.into_iter().any(|entry| entry.path().extension().is_some_and(|end| end == "incomplete"))
        };
        blobs.as_deref().is_some_and(unfinished) || unfinished(&beside)
    }

    /// The hint of a download that lacks files.
    pub(super) fn incomplete(&self) -> Hint {
        self.incomplete_since("")
    }

    /// The same with what tells so in front.
    pub(super) fn incomplete_since(&self, sign: &str) -> Hint {
        let repository = self.repository().map(String::into_boxed_str);
        Hint::Download { reason: format!("{sign}the download is incomplete").into(), repository }
    }

    /// The names at the folder's top, sorted. Not checked yet: opening does that.
    pub(super) fn names(&self) -> Result<Vec<String>, ArtifactError> {
        let mut names: Vec<String> = match self {
            Self::Embedded { files, .. } => files.iter().map(|(name, _)| (*name).to_owned()).collect(),
            Self::Folder { label, root, .. } => fs::read_dir(root)
                .and_then(|entries| {
                    // A name that is not UTF-8 is nobody's: no file here has one.
                    entries.filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose()).collect()
                })
                .map_err(|error| ArtifactError::io(label.as_str(), error))?,
        };
        names.sort_unstable();
        Ok(names)
    }

    /// The whole of a small file, if it is there: at most `cap` bytes.
    pub(super) fn read(&self, name: &str, cap: usize) -> Result<Option<Cow<'static, [u8]>>, ArtifactError> {
        let too_large = || ArtifactError::damaged(self.path(name), format!("more than {cap} bytes"));
        match self {
            Self::Embedded { .. } => match self.slice(name) {
                Some(bytes) if bytes.len() > cap => Err(too_large()),
                bytes => Ok(bytes.map(Cow::Borrowed)),
            },
            Self::Folder { read, .. } => {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(known) = read.get(name) {
                    return match known {
                        Some(bytes) if bytes.len() > cap => Err(too_large()),
                        known => Ok(known.as_ref().map(|bytes| Cow::Owned(bytes.to_vec()))),
                    };
                }
                let Some(file) = self.file(name)? else {
                    read.insert(name.to_owned(), None);
                    return Ok(None);
                };
                let mut bytes = Vec::new();
                // One byte more than allowed, so that a file of just `cap` bytes passes.
                file.take(cap as u64 + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| ArtifactError::io(self.path(name), error))?;
                if bytes.len() > cap {
                    return Err(too_large());
                }
                read.insert(name.to_owned(), Some(Arc::from(&bytes[..])));
                Ok(Some(Cow::Owned(bytes)))
            }
        }
    }

    /// The whole of a large file, mapped, if it is there.
    pub(super) fn map(&self, name: &str) -> Result<Option<Bytes>, ArtifactError> {
        match self {
            Self::Embedded { .. } => Ok(self.slice(name).map(Bytes::Static)),
            Self::Folder { .. } => {
                let Some(file) = self.file(name)? else { return Ok(None) };
                let io = |error| ArtifactError::io(self.path(name), error);
                let metadata = file.metadata().map_err(io)?;
                // An empty file cannot be mapped everywhere.
                if metadata.len() == 0 {
                    return Ok(Some(Bytes::Static(&[])));
                }
                let stamp = FileStamp::of(&metadata);
                map_file(&file).map(|bytes| Some(Bytes::Mapped { bytes, stamp })).map_err(io)
            }
        }
    }

    fn slice(&self, name: &str) -> Option<&'static [u8]> {
        match self {
            Self::Embedded { files, .. } => files.iter().find(|(n, _)| *n == name).map(|&(_, bytes)| bytes),
            Self::Folder { .. } => None,
        }
    }

    /// Opens a regular file inside the folder; `None` when nothing has that name.
    pub(super) fn file(&self, name: &str) -> Result<Option<File>, ArtifactError> {
        let Self::Folder { root, blobs, .. } = self else { return Ok(None) };
        let path = || self.path(name);
        if let Err(what) = check_name(name) {
            return Err(ArtifactError::damaged(path(), what));
        }
        let joined = root.join(name);
        let target = match fs::canonicalize(&joined) {
            Ok(target) => target,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if fs::symlink_metadata(&joined).is_ok() {
                    return Err(ArtifactError::missing(format!("{}: the link's target", path()), self.incomplete()));
                }
                return Ok(None);
            }
            // A file where the name has a folder.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
            Err(error) => return Err(ArtifactError::io(path(), error)),
        };
        let is_blob = || blobs.as_deref().is_some_and(|blobs| target.parent() == Some(blobs));
        if !target.starts_with(root) && !is_blob() {
            return Err(ArtifactError::damaged_with(
                path(),
                format!("a link out of the folder, to {}", shown(&target.display().to_string())),
                "copy the file into the folder; links may lead only to the blobs of the same repository in a Hugging Face cache",
            ));
        }
        let metadata = fs::metadata(&target).map_err(|error| ArtifactError::io(path(), error))?;
        if !metadata.is_file() {
            return Err(ArtifactError::damaged_with(
                path(),
                "not a regular file",
                "replace it with the file it stands for",
            ));
        }
        File::open(&target).map(Some).map_err(|error| ArtifactError::io(path(), error))
    }
}

/// The repository's folder that holds `models--OWNER--NAME/snapshots/REVISION`; `root` has its links resolved.
fn snapshots_of(root: &Path) -> Option<&Path> {
    let snapshots = root.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))?;
    snapshots
        .parent()
        .filter(|dir| dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("models--")))
}

/// `blobs` of the repository that `root` is a snapshot of. A `blobs` that is itself a link does not count: it could lead
/// anywhere.
fn cache_blobs(root: &Path) -> Option<PathBuf> {
    let blobs = snapshots_of(root)?.join("blobs");
    fs::symlink_metadata(&blobs).is_ok_and(|metadata| metadata.is_dir()).then_some(blobs)
}

/// Whether a name that a file or a server gives may be joined to a folder: relative, with no way out of it, and fit for
/// a terminal.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("an empty file name");
    }
    if name.len() > 512 {
        return Err("a file name of more than 512 bytes");
    }
    if name.contains(['\0', '\\']) || name.chars().any(char::is_control) {
        return Err("a file name with a backslash or a control character");
    }
    let plain = |component| matches!(component, Component::Normal(_));
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) || !Path::new(name).components().all(plain) {
        return Err("a file name that does not stay inside the folder");
    }
    Ok(())
}
