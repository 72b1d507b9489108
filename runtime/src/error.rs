//! Errors of running and of loading a model.

use mlx_rs::error::Exception;

use crate::artifact::{ArtifactError, ErrorKind, Hint};

/// Why a model did not compute what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// MLX failed, or its device did.
    // Not its source as well: a chain of causes would say the same twice.
    #[error("{}", crate::mlx::message(.0))]
    Mlx(Exception),
    /// A cache was used out of turn: rows that were never committed, or of another kind of layer.
    #[error("{0}")]
    CacheState(Box<str>),
    /// The model has no such operation: a depth, a restriction, a packing, nothing to work on.
    #[error("{0}")]
    Unsupported(Box<str>),
}

impl From<Exception> for Error {
    fn from(error: Exception) -> Self {
        Self::Mlx(error)
    }
}

impl Error {
    /// A cache that was used out of turn.
    pub fn cache(what: impl Into<Box<str>>) -> Self {
        Self::CacheState(what.into())
    }

    /// An operation that the model does not have.
    pub fn unsupported(what: impl Into<Box<str>>) -> Self {
        Self::Unsupported(what.into())
    }
}

/// The result of running a part of a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be loaded from an opened checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The files are at fault.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// MLX failed.
    #[error("MLX: {0}")]
    Mlx(Error),
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::Mlx(error)
    }
}

impl From<Exception> for LoadError {
    fn from(error: Exception) -> Self {
        Self::Mlx(error.into())
    }
}

impl LoadError {
    /// Its meaning for the user; `None` when the files are not at fault.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Artifact(error) => Some(error.kind()),
            Self::Mlx(_) => None,
        }
    }

    /// The next step.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Artifact(error) => Some(error.hint()),
            Self::Mlx(_) => None,
        }
    }
}
