//! A line of the report.

use serde::Serialize;

/// A judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Warning,
    Error,
}

/// A line of the report.
#[derive(Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub status: Status,
    /// The finding.
    pub value: String,
    /// The next step; `None` where all is well.
    pub hint: Option<String>,
}

impl Check {
    pub fn ok(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, value: value.into(), hint: None }
    }

    pub fn warning(name: &'static str, value: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, value: value.into(), hint: Some(hint.into()) }
    }

    pub fn error(name: &'static str, value: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: Status::Error, ..Self::warning(name, value, hint) }
    }
}
