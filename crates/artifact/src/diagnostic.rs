//! Diagnostics of a checkpoint: findings, which weigh differently, and faults, which keep it from running.

use std::fmt;

use super::error::{ArtifactError, ErrorKind};
use super::hint::Hint;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a line where a checkpoint is described, and nowhere else.
    Remark,
    /// Worth a line whenever it is used; changes nothing.
    Warning,
    /// The contract is not valid.
    Error,
    /// The contract is no contract: it cannot be read, or a field is of another type.
    Damage,
}

/// Something to say about a field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// The file, relative to the artifact.
    pub file: &'static str,
    /// The field's path inside the file; empty for the file as a whole.
    pub field: String,
    /// The value found and what was expected.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.field.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}: {}", self.file, self.field, self.what)
    }
}

/// The part of an artifact that a fault is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Configuration or weights: nothing works without them.
    Model,
    /// The contract, which plain decoding does without.
    Contract,
    /// The tokenizer and the tokens that end a text.
    Text,
    /// The chat template, which raw text does without.
    Template,
}

/// Something that keeps a checkpoint from running.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// Where it is.
    pub area: Area,
    /// Its meaning for the user.
    pub kind: ErrorKind,
    /// File, field or tensor, value, expectation.
    pub what: String,
    /// The next step.
    #[serde(skip)]
    pub hint: Hint,
}

impl Fault {
    /// A fault of configuration or weights.
    pub fn model(kind: ErrorKind, what: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self { area: Area::Model, kind, what: what.into(), hint: hint.into() }
    }
}

impl From<&ArtifactError> for Fault {
    fn from(error: &ArtifactError) -> Self {
        Self::model(error.kind(), error.to_string(), error.hint())
    }
}
