//! What can go wrong between text and tokens: always the file, and the field or line in it.

use crate::{ArtifactError, ErrorKind, Hint};

/// Why text could not become tokens, or tokens text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] ArtifactError),
    /// A file that is needed is not there.
    #[error("{file}: not found")]
    Missing {
        /// The file's name.
        file: &'static str,
    },
    /// A file is larger than any honest one.
    #[error("{file}: {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The file's name.
        file: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest size that is read.
        limit: usize,
    },
    /// A file is not what its name says.
    #[error("{file}: {what}")]
    Malformed {
        /// The file's name.
        file: &'static str,
        /// The parser's words.
        what: String,
    },
    /// A field holds something unusable.
    #[error("{file}: {field}: {value}: {what}")]
    Field {
        /// The file's name.
        file: &'static str,
        /// The field's path in it.
        field: &'static str,
        /// The value found, shortened.
        value: String,
        /// What was expected instead.
        what: &'static str,
    },
    /// The chat template does not compile, does not end, or refused the messages.
    #[error("{file}: {}{what}", line.map(|n| format!("line {n}: ")).unwrap_or_default())]
    Template {
        /// The file that holds the template.
        file: &'static str,
        /// The template's own line.
        line: Option<usize>,
        /// What happened there.
        what: String,
    },
    /// The tokenizer failed on an input.
    #[error("tokenizer.json: {what}")]
    Tokenizer {
        /// The tokenizer's words.
        what: String,
    },
}

impl TextError {
    /// What the error means for the user.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Missing { .. } => ErrorKind::Missing,
            _ => ErrorKind::Damaged,
        }
    }

    /// The next step.
    pub fn hint(&self) -> Hint {
        match self {
            Self::File(error) => error.hint(),
            Self::Missing { .. } => {
                "a model's folder needs its tokenizer; download the file from where the model came".into()
            }
            Self::Template { .. } => Hint::Template,
            _ => "download the file again; if it stays the same, the published file is broken".into(),
        }
    }
}

/// A JSON value as part of a message: never longer than a line.
pub(super) fn shorten(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
