//! `OWNER/NAME[@REVISION]`.

use std::fmt;
use std::str::FromStr;

use mtplx_runtime::artifact::check_name;

/// The longest `OWNER/NAME` that the hub gives out.
const MAX_ID: usize = 96;

/// A repository on the hub, perhaps at a revision: a branch, a tag, or a commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepoId {
    owner: String,
    name: String,
    /// As it was typed.
    pub revision: Option<String>,
}

impl RepoId {
    /// `OWNER/NAME`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The repository at no revision in particular.
    pub fn without_revision(&self) -> Self {
        Self { revision: None, ..self.clone() }
    }

    /// The repository's folder in a cache.
    pub fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }

    /// The repository of a cache's folder, if it is one's.
    pub fn of_folder(folder: &str) -> Option<Self> {
        let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
        (is_part(owner) && is_part(name)).then(|| Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: None,
        })
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

impl FromStr for RepoId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "OWNER/NAME or OWNER/NAME@REVISION was expected".to_owned();
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        let (owner, name) = id.split_once('/').ok_or_else(expected)?;
        if id.len() > MAX_ID || !is_part(owner) || !is_part(name) {
            return Err(expected());
        }
        if let Some(revision) = revision
            && (check_name(revision).is_err() || revision.starts_with('-') || revision.len() > 255)
        {
            return Err("a branch, a tag or a commit was expected after the @".to_owned());
        }
        Ok(Self { owner: owner.to_owned(), name: name.to_owned(), revision: revision.map(str::to_owned) })
    }
}

/// The hub's own rule for names; it leaves nothing that could climb out of a folder or split a cache folder's name.
fn is_part(part: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    edge(part.chars().next())
        && edge(part.chars().next_back())
        && part.chars().all(inner)
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether a revision is a commit's full hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let id: RepoId = "Qwen/Qwen3.5-4B@refs/pr/1".parse().unwrap();
        assert_eq!((id.repository().as_str(), id.folder().as_str()), ("Qwen/Qwen3.5-4B", "models--Qwen--Qwen3.5-4B"));
        assert_eq!((id.revision.as_deref(), id.to_string().as_str()), (Some("refs/pr/1"), "Qwen/Qwen3.5-4B@refs/pr/1"));
        assert_eq!(RepoId::of_folder("models--Qwen--Qwen3.5-4B").unwrap().to_string(), "Qwen/Qwen3.5-4B");
        for text in [
            "",
            "a",
            "a/b/c",
            "../b",
            "a/..",
            "a/.b",
            "a/b-",
            "a--b/c",
            "/a",
            "a/",
            "./a",
            "a b/c",
            "a\\b/c",
            "a/b@",
            "a/b@../c",
            "a/b@/c",
            "a/b@-c",
            "a/b\u{1b}",
            &format!("a/{}", "b".repeat(100)),
        ] {
            assert!(text.parse::<RepoId>().is_err(), "{text}");
        }
        for folder in ["models--a", "models--a--b--c", "datasets--a--b", "models--..--b", "models--a--"] {
            assert_eq!(RepoId::of_folder(folder), None, "{folder}");
        }
    }
}
