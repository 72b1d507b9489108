//! Next steps after an error.

/// A next step after an error.
///
/// A step that takes a command is a variant without words: only the program knows its commands and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Advice that names no command.
    Text(Box<str>),
    /// Fetch the missing files of a download.
    Download {
        /// Why files are missing.
        reason: Box<str>,
        /// `OWNER/NAME`, with `@COMMIT` where `main` means another; `None` where the folder does not tell.
        repository: Option<Box<str>>,
    },
    /// Correct the chat template, or prompt without it.
    Template,
    /// Convert block-scaled fp8 weights.
    ConvertFp8,
    /// Put the draft head beside a trunk, or convert both together.
    JoinHead,
    /// Look at the list of linked architectures.
    Architectures,
    /// Correct or replace the runtime contract, or decode without drafts.
    Contract,
    /// Convert from unquantized weights, or keep the packing as it is.
    KeepPacking,
    /// Read what a conversion's policy file looks like.
    PolicyFile,
    /// Take the draft head of another checkpoint.
    TakeHead,
}

impl Hint {
    /// Advice in words; `None` for a step that the program words.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}
