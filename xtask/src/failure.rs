//! The one error type: what went wrong, what was tried or seen, and what to do about it.

use std::{fmt, io, path::Path};

/// An error for a person. `Display` is what the terminal shows.
#[derive(Debug)]
pub struct Failure {
    message: String,
    details: Vec<String>,
    hint: Option<String>,
}

/// The result of everything that can fail here.
pub type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure described in one line.
    pub fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), details: Vec::new(), hint: None }
    }

    /// Adds what was tried, or what a tool said; may have several lines.
    pub fn detail(mut self, text: impl AsRef<str>) -> Self {
        let lines = text.as_ref().lines().map(str::trim_end).filter(|line| !line.is_empty());
        self.details.extend(lines.map(str::to_owned));
        self
    }

    /// Says what to do: best a command to type.
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// A hint for want of a better one.
    pub fn or_hint(mut self, text: &str) -> Self {
        self.hint.get_or_insert_with(|| text.to_owned());
        self
    }

    /// A failed file operation, with the hint that its kind calls for.
    pub fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        let failure = Failure::new(format!("cannot {action} {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => failure.hint(DISK_HINT),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => failure.hint(CACHE_HINT),
            _ => failure,
        }
    }
}

/// What to do when the disk is full.
pub const DISK_HINT: &str = "free 700 MB, or set MTPLX_CACHE=DIR to a folder on another disk; what is done is kept";

/// What to do when the cache folder cannot be used.
pub const CACHE_HINT: &str = "MTPLX_CACHE=DIR keeps the set-up in a folder that you can write to";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Turns an `io::Result` into ours, naming the file.
pub trait IoContext<T> {
    /// `action` completes "cannot … PATH".
    fn context(self, action: &str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &str, path: &Path) -> Result<T> {
        self.map_err(|error| Failure::io(action, path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_message_then_details_then_hint() {
        let failure = Failure::new("no compiler").detail("tried c++\n\ntried g++\n").hint("apt-get install g++");
        assert_eq!(failure.to_string(), "no compiler\n  tried c++\n  tried g++\nhint: apt-get install g++");
    }

    #[test]
    fn a_full_disk_says_so() {
        let error = io::Error::from(io::ErrorKind::StorageFull);
        let failure = Failure::io("write", Path::new("/cache/x"), &error);
        assert!(failure.to_string().contains("hint: free"), "{failure}");
    }
}
