//! Why an artifact was not made.

use std::io;
use std::path::Path;

use crate::LoadError;
use crate::artifact::{ArtifactError, Fault, Hint, io_hint, size_shown};

/// Why an artifact was not made. Nothing that loads is left behind, whatever it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgeError {
    /// The checkpoint's files are at fault.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// What was left out when they were opened.
    #[error("{}", .0.what)]
    Fault(Fault),
    /// A tensor is missing or does not fit.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A policy that makes no sense.
    #[error("{file}: {field}: {what}")]
    Policy {
        /// The policy's file or name.
        file: Box<str>,
        /// The field or line.
        field: Box<str>,
        /// What was found and what was expected.
        what: Box<str>,
    },
    /// A checkpoint that this program does not convert.
    #[error("{what}")]
    Unsupported {
        /// What was found.
        what: Box<str>,
        /// The next step.
        hint: Hint,
    },
    /// The draft head is missing or partial.
    #[error("{checkpoint}: {what}")]
    Head {
        /// The checkpoint.
        checkpoint: Box<str>,
        /// Which tensors.
        what: Box<str>,
    },
    /// A head that does not fit the trunk.
    #[error("{other}: {field}: {theirs}: the trunk has {ours}")]
    Graft {
        /// The head's checkpoint.
        other: Box<str>,
        /// The field or tensor.
        field: Box<str>,
        /// Its value there.
        theirs: Box<str>,
        /// The trunk's.
        ours: Box<str>,
    },
    /// Too little room for the artifact.
    #[error("{dir}: {} free, {} needed", size_shown(*free), size_shown(*needed))]
    DiskFull {
        /// The folder that the artifact would be in.
        dir: Box<str>,
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// Something is where the artifact should go.
    #[error("{path}: {what}")]
    Occupied {
        /// The path.
        path: Box<str>,
        /// What is there.
        what: Box<str>,
        /// The next step.
        hint: Hint,
    },
    /// The operating system refused.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: Box<str>,
        /// What it said.
        error: io::Error,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl ForgeError {
    pub(super) fn policy(file: &str, field: String, what: String) -> Self {
        Self::Policy { file: file.into(), field: field.into(), what: what.into() }
    }

    pub(super) fn unsupported(what: impl Into<Box<str>>, hint: impl Into<Hint>) -> Self {
        Self::Unsupported { what: what.into(), hint: hint.into() }
    }

    /// For `map_err`: an I/O error at a path.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::Io { path: path.into(), error }
    }

    /// The next step.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Artifact(error) => error.hint(),
            Self::Fault(fault) => fault.hint.clone(),
            Self::Load(error) => return error.hint(),
            Self::Policy { .. } => Hint::PolicyFile,
            Self::Unsupported { hint, .. } | Self::Occupied { hint, .. } => hint.clone(),
            Self::Head { .. } => Hint::TakeHead,
            Self::Graft { .. } => "take the head of a checkpoint of the same model".into(),
            Self::DiskFull { .. } => "make room, or give a folder on another disk".into(),
            Self::Io { error, .. } => io_hint(error).into(),
            Self::Interrupted => "the same command goes on after the last file that was finished".into(),
        })
    }
}
