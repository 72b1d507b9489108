//! Why nothing could be measured.

use mlx_rs::error::Exception;

use crate::speculative::SequenceError;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Nothing drafts.
    #[error("the model was loaded without its draft head: there is nothing to verify")]
    NoDraftHead,
    /// No prompt of at least two tokens.
    #[error("no prompt has two tokens or more")]
    NoPrompt,
    /// The caller broke off.
    #[error("interrupted")]
    Interrupted,
    /// The loop failed.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// MLX failed.
    #[error("MLX: {0}")]
    Mlx(crate::Error),
}

impl From<crate::Error> for VerifyError {
    fn from(error: crate::Error) -> Self {
        Self::Mlx(error)
    }
}

impl From<Exception> for VerifyError {
    fn from(error: Exception) -> Self {
        Self::Mlx(error.into())
    }
}
