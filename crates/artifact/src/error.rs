//! Errors of files, in one line each: file, field or tensor, value, expectation. The next step is in the hint; how a program ends is its
//! own to say, by the kind.

use std::fmt::Write as _;
use std::io;

use safetensors::Dtype;
use serde_json::Value;

use crate::hint::Hint;
use crate::quant::scheme::SchemeError;

/// What an error means for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    /// A file is not there.
    Missing,
    /// A file is there and is not what it should be.
    Damaged,
    /// The files are sound, and this program does not run what they describe.
    Incompatible,
    /// The draft head that the files announce is missing or partial.
    Incomplete,
}

/// Why a checkpoint could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// A file or folder is not there.
    #[error("{file}: not found")]
    Missing {
        /// The path.
        file: Box<str>,
        /// The next step.
        hint: Hint,
    },
    /// The operating system refused.
    #[error("{file}: {error}")]
    Io {
        /// The path.
        file: Box<str>,
        /// What it said.
        error: io::Error,
    },
    /// A file breaks its own format, or is not where and what it should be.
    #[error("{file}: {what}")]
    Damaged {
        /// The path.
        file: Box<str>,
        /// What was found and what was expected.
        what: Box<str>,
        /// The next step.
        hint: Hint,
    },
    /// A field of a JSON file has a value that cannot be.
    #[error("{file}: {field}: {value}: {what}")]
    Field {
        /// The path.
        file: Box<str>,
        /// The field's path inside the file.
        field: Box<str>,
        /// The value found, or `missing`.
        value: Box<str>,
        /// What was expected.
        what: Box<str>,
        /// [`ErrorKind::Damaged`] for a value that makes no sense, [`ErrorKind::Incompatible`] for one that makes sense and
        /// is not supported.
        kind: ErrorKind,
        /// The next step.
        hint: Hint,
    },
    /// Weights in a format that this program never reads.
    #[error("{file}: {what}")]
    Refused {
        /// The path.
        file: Box<str>,
        /// Why.
        what: Box<str>,
        /// The next step.
        hint: Hint,
    },
    /// A tensor is not there.
    #[error("{searched}: {tensor}: tensor not found")]
    MissingTensor {
        /// Its name.
        tensor: Box<str>,
        /// The checkpoint that was searched.
        searched: Box<str>,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("{file}: {tensor}: shape {found:?}: expected {expected:?} ({basis})")]
    Misshapen {
        /// Its name.
        tensor: Box<str>,
        /// The file that holds it.
        file: Box<str>,
        /// Its shape.
        found: Box<[usize]>,
        /// The shape that would fit.
        expected: Box<[usize]>,
        /// Where the expectation comes from, such as `hidden_size 64`.
        basis: Box<str>,
    },
    /// A tensor has a type that its place cannot use.
    #[error("{file}: {tensor}: type {found}: expected {expected}")]
    WrongDtype {
        /// Its name.
        tensor: Box<str>,
        /// The file that holds it.
        file: Box<str>,
        /// Its type.
        found: Dtype,
        /// The types that would fit.
        expected: &'static str,
    },
    /// A quantized module's tensors do not fit each other.
    #[error("{file}: {module}: {error}")]
    Quantized {
        /// The module's path, without `.weight`.
        module: Box<str>,
        /// The file that holds it.
        file: Box<str>,
        /// What does not fit.
        error: Box<SchemeError>,
    },
}

/// The hint of a file that arrived broken.
const DOWNLOAD_AGAIN: &str = "download the file again; if it stays the same, the published file is broken";

impl ArtifactError {
    /// A file or folder that is not there.
    pub fn missing(file: impl Into<Box<str>>, hint: impl Into<Hint>) -> Self {
        Self::Missing { file: file.into(), hint: hint.into() }
    }

    /// A file that breaks its format, with the advice to download it again.
    pub fn damaged(file: impl Into<Box<str>>, what: impl Into<Box<str>>) -> Self {
        Self::damaged_with(file, what, DOWNLOAD_AGAIN)
    }

    /// A file that breaks its format.
    pub fn damaged_with(file: impl Into<Box<str>>, what: impl Into<Box<str>>, hint: impl Into<Hint>) -> Self {
        Self::Damaged { file: file.into(), what: what.into(), hint: hint.into() }
    }

    /// A sound file in a format that is never read.
    pub fn refused(file: impl Into<Box<str>>, what: impl Into<Box<str>>, hint: impl Into<Hint>) -> Self {
        Self::Refused { file: file.into(), what: what.into(), hint: hint.into() }
    }

    /// A refusal of the operating system; [`ArtifactError::Missing`] where nothing is at the path.
    pub fn io(file: impl Into<Box<str>>, error: io::Error) -> Self {
        let file = file.into();
        match error.kind() {
            io::ErrorKind::NotFound => Self::missing(file, "check the path"),
            _ => Self::Io { file, error },
        }
    }

    /// What the error means for the user.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } => ErrorKind::Missing,
            Self::Io { .. } | Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Field { kind, .. } => *kind,
            Self::Refused { .. } | Self::WrongDtype { .. } => ErrorKind::Incompatible,
            Self::MissingTensor { .. } | Self::Misshapen { .. } | Self::Quantized { .. } => ErrorKind::Damaged,
        }
    }

    /// Whether a file is missing or damaged, as against sound and not supported.
    pub fn is_missing_or_damaged(&self) -> bool {
        matches!(self.kind(), ErrorKind::Missing | ErrorKind::Damaged)
    }

    /// The next step.
    pub fn hint(&self) -> Hint {
        match self {
            Self::Missing { hint, .. }
            | Self::Damaged { hint, .. }
            | Self::Field { hint, .. }
            | Self::Refused { hint, .. } => hint.clone(),
            Self::Io { error, .. } => io_hint(error).into(),
            Self::MissingTensor { .. } => {
                "the checkpoint is partial, or its config.json belongs to another model".into()
            }
            Self::Misshapen { .. } => {
                "config.json and weights belong to different models, or the file is damaged".into()
            }
            Self::WrongDtype { .. } => "convert the checkpoint to bf16, or to MLX's quantization".into(),
            Self::Quantized { .. } => "the quantization stated in config.json is not the one the weights have".into(),
        }
    }
}

/// What to do about a refusal of the operating system.
pub fn io_hint(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => "check the path: it, or a folder above it, is not there or takes no new files",
        Kind::AlreadyExists => "check the path: something else is there",
        Kind::PermissionDenied => "check who may use the file and the folders above it",
        Kind::NotADirectory => "check the path: a part of it is a file, not a folder",
        Kind::IsADirectory => "check the path: it is a folder, not a file",
        Kind::ReadOnlyFilesystem => "give a folder on a disk that may be written",
        Kind::StorageFull | Kind::QuotaExceeded => "make room, or give a folder on another disk",
        Kind::InvalidData => "expected text in UTF-8",
        Kind::InvalidFilename => "give a shorter name",
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            "check the path: its links lead in a circle"
        }
        _ => "check the path and the disk that it is on",
    }
}

/// Longest piece of a file's own text that an error repeats.
const SHOWN: usize = 120;

/// A file's own text, fit for one line of an error: no control characters, no endless length.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN {
            out.push('…');
            break;
        }
        // Control characters could move a terminal's cursor; the bidirectional ones could reorder the line.
        if c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A JSON value as an error repeats it.
pub fn shown_value(value: Option<&Value>) -> String {
    match value {
        None => "missing".to_owned(),
        Some(Value::Array(items)) if items.len() > 16 => format!("an array of {}", items.len()),
        Some(Value::Object(fields)) if fields.len() > 4 => format!("an object of {} fields", fields.len()),
        Some(value) => shown(&value.to_string()),
    }
}
