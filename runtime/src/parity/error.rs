//! Why a model and a reference could not be compared.

use mlx_rs::error::Exception;

use super::reference::ReferenceError;

/// Why a model and a reference could not be compared at all.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// The reference is at fault.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// MLX failed.
    #[error(transparent)]
    Mlx(#[from] crate::Error),
}

impl From<Exception> for ParityError {
    fn from(error: Exception) -> Self {
        Self::Mlx(error.into())
    }
}
