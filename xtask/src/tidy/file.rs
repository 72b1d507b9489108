//! Files of the repository, and complaints about them.

/// One file, with its text if it is one.
pub struct File {
    /// From the root, with `/`.
    pub path: String,
    pub bytes: u64,
    pub text: Option<String>,
}

/// A breach of a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    pub path: String,
    pub line: Option<usize>,
    pub message: String,
}

impl Complaint {
    pub fn new(file: &File, line: impl Into<Option<usize>>, message: impl Into<String>) -> Self {
        Complaint { path: file.path.clone(), line: line.into(), message: message.into() }
    }
}

/// Recorded data rather than writing of ours: only its size is looked at.
pub fn is_data(path: &str) -> bool {
    is_fixture(path)
        || ["models/", "fuzz/seeds/", "fuzz/found/", "crates/server/page/vendor/"]
            .iter()
            .any(|data| path.starts_with(data))
}

/// A file that tests compare with.
pub fn is_fixture(path: &str) -> bool {
    path.split('/').any(|part| part == "fixtures" || part == "snapshots")
}

#[cfg(test)]
pub fn sample(path: &str, text: &str) -> File {
    File { path: path.to_owned(), bytes: text.len() as u64, text: Some(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixtures_and_models_are_data() {
        assert!(is_data("tests/fixtures/tiny/config.json"));
        assert!(is_data("models/builtin/tokenizer.json"));
        assert!(!is_data("runtime/src/model.rs"));
        assert!(!is_data("docs/fixtures.md"));
    }
}
