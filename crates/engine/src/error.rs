//! Errors on the way from files to generated text.

use mtplx_runtime::LoadError;
use mtplx_runtime::artifact::{ArtifactError, Fault};
use mtplx_runtime::registry::ResolveError;
use mtplx_runtime::speculative::SequenceError;
use mtplx_runtime::text::TextError;

use crate::assess::Verdict;
use crate::memory::Shortage;
use crate::settings::SettingsError;

/// An error before any text.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file cannot be opened or read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The verdict on the files forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A file of tokenizer, template or generation settings is at fault.
    #[error("{label}: {}", fault.what)]
    Text {
        /// The model as it was asked for.
        label: String,
        /// The fault.
        fault: Fault,
    },
    /// A setting of a file is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No architecture, or several, claim the checkpoint.
    #[error(transparent)]
    Unclaimed(#[from] ResolveError),
    /// The weights do not fit into memory.
    #[error("{label}: {shortage}")]
    Memory {
        /// The model as it was asked for.
        label: String,
        /// The shortage.
        shortage: Shortage,
    },
    /// The weights do not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The prompt does not become tokens.
    #[error(transparent)]
    Prompt(#[from] TextError),
    /// MLX failed.
    #[error("MLX: {0}")]
    Mlx(#[from] mtplx_runtime::Error),
    /// The system starts no thread.
    #[error("a thread for the model: {0}")]
    Thread(#[from] std::io::Error),
    /// A model could not be opened again.
    #[error("{0}")]
    Reopen(String),
    /// The engine's thread ended.
    #[error("the engine has ended")]
    Ended,
}

/// A verdict that keeps a model from running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{label}: {verdict}{remarks}")]
pub struct Refusal {
    /// The model as it was asked for.
    pub label: String,
    /// The verdict.
    pub verdict: Box<Verdict>,
    /// Remarks of config.json on a head that it says is none.
    pub remarks: String,
    /// True where evidence was required.
    pub required: bool,
}

/// An error of one request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A prompt that leaves no room in the context.
    #[error("the prompt has {prompt} tokens, and the model's context holds {context}")]
    ContextExceeded {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// As many requests wait as may wait.
    #[error("{waiting} requests are waiting already")]
    Busy {
        /// Requests that wait.
        waiting: usize,
    },
    /// The sequence cannot begin or go on.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The tokens have no text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A defect of the program: this request's work panicked.
    #[error("the work on this request failed unexpectedly")]
    Panicked,
    /// The engine's thread ended.
    #[error("the engine has ended")]
    Ended,
}
