//! What the hub says a revision holds, checked before anything believes it, and which of it a checkpoint needs.

use std::collections::BTreeSet;

use mtplx_runtime::artifact::check_name;
use serde::Deserialize;

use super::id::{RepoId, is_commit};
use crate::error::{Exit, Failure};

/// Most files of a repository.
const MAX_FILES: usize = 100_000;
/// Largest file: beyond any that exists.
const MAX_SIZE: u64 = 1 << 44;

/// Small files that say how the weights are to be used, here or by the Python tools that share the cache. Never code,
/// never pickle.
const SMALL: [&str; 14] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "mtplx_runtime.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
];
/// Largest of them.
const MAX_SMALL: u64 = 128 << 20;

/// A revision: its commit and its files.
#[derive(Debug)]
pub(super) struct Listing {
    pub commit: String,
    pub files: Vec<Remote>,
}

/// A file on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// Its path in the repository.
    pub name: String,
    pub size: u64,
    pub hash: Hash,
}

/// The hash that the hub states; it names the content in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    /// Of the content, for files in large-file storage.
    Sha256(String),
    /// Of a git blob with that content, for the others.
    GitSha1(String),
}

impl Hash {
    /// In hexadecimal.
    pub(super) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitSha1(hex) => hex,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Reads the hub's answer.
    ///
    /// # Errors
    /// It is none, or names files that could not be stored safely.
    pub(super) fn parse(id: &RepoId, bytes: &[u8]) -> Result<Self, Failure> {
        let fault = |what: String| {
            Failure::new(Exit::File, format!("{id}: the hub's list of files: {what}"))
                .hint("check HF_ENDPOINT: this is no answer of a sound hub")
        };
        let answer: Answer = serde_json::from_slice(bytes).map_err(|error| fault(error.to_string()))?;
        if !is_commit(&answer.sha) {
            return Err(fault(format!("{:?} is no commit", shortened(&answer.sha))));
        }
        if answer.siblings.len() > MAX_FILES {
            return Err(fault(format!("{} files: at most {MAX_FILES} were expected", answer.siblings.len())));
        }
        let mut seen = BTreeSet::new();
        let mut files = Vec::new();
        for Sibling { rfilename: name, size, blob_id, lfs } in answer.siblings {
            // One such name is enough to trust nothing of the answer.
            check_name(&name).map_err(|what| fault(format!("{:?}: {what}", shortened(&name))))?;
            if !seen.insert(name.clone()) {
                return Err(fault(format!("{name} occurs twice")));
            }
            let (size, hash) = match (lfs, size, blob_id) {
                (Some(lfs), ..) => (lfs.size, Hash::Sha256(lfs.sha256)),
                (None, Some(size), Some(blob)) => (size, Hash::GitSha1(blob)),
                _ => return Err(fault(format!("{name}: size or hash missing"))),
            };
            let digits = if matches!(hash, Hash::Sha256(_)) { 64 } else { 40 };
            if hash.hex().len() != digits || !hash.hex().bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(fault(format!("{name}: {:?} is no hash", shortened(hash.hex()))));
            }
            if size > MAX_SIZE {
                return Err(fault(format!("{name}: {size} bytes: at most {MAX_SIZE} were expected")));
            }
            files.push(Remote { name, size, hash });
        }
        Ok(Self { commit: answer.sha, files })
    }

    /// A file by its name.
    pub(super) fn get(&self, name: &str) -> Option<&Remote> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Every name.
    pub(super) fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }

    /// The small files that a checkpoint is used with.
    ///
    /// # Errors
    /// There is no `config.json`; one is too large to be what its name says.
    pub(super) fn small(&self, id: &RepoId) -> Result<Vec<&Remote>, Failure> {
        let files: Vec<&Remote> = SMALL.iter().filter_map(|name| self.get(name)).collect();
        if !files.iter().any(|file| file.name == "config.json") {
            let what = format!("{id}: the repository has no config.json: not a model that could run here");
            return Err(Failure::new(Exit::Incompatible, what)
                .hint("use the checkpoint in safetensors that it was made from, or that was made from it"));
        }
        match files.iter().find(|file| file.size > MAX_SMALL) {
            None => Ok(files),
            Some(file) => {
                let what = format!("{id}: {}: {} bytes: at most {MAX_SMALL} were expected", file.name, file.size);
                Err(Failure::new(Exit::File, what).hint("the published file is broken, or the hub is"))
            }
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(files: Value) -> Result<Listing, String> {
        let answer = json!({"sha": "a".repeat(40), "siblings": files, "gated": false});
        Listing::parse(&"o/n".parse().unwrap(), answer.to_string().as_bytes()).map_err(|failure| failure.to_string())
    }

    fn file(name: &str, size: Value) -> Value {
        json!({"rfilename": name, "size": size, "blobId": "b".repeat(40)})
    }

    #[test]
    fn sizes_and_hashes() {
        let lfs = json!({"rfilename": "m", "size": 9, "blobId": "b".repeat(40), "lfs": {"sha256": "c".repeat(64), "size": 7, "pointerSize": 1}});
        let listing = parse(json!([file("config.json", json!(3)), lfs])).unwrap();
        assert_eq!(listing.get("config.json").unwrap().hash, Hash::GitSha1("b".repeat(40)));
        assert_eq!((listing.get("m").unwrap().size, listing.get("m").unwrap().hash.hex().len()), (7, 64));
    }

    #[test]
    fn lists_that_lie() {
        for name in ["../../x", "/etc/x", "a/../../x", "a\\b", "a\u{0}", "", "a//b", "./a", "x\u{1b}[2J"] {
            let error = parse(json!([file("config.json", json!(3)), file(name, json!(1))])).unwrap_err();
            assert!(error.starts_with("o/n: the hub's list of files: \""), "{error}");
        }
        for (files, what) in [
            (json!([file("a", json!(1)), file("a", json!(1))]), "a occurs twice"),
            (json!([file("a", json!(-1))]), "invalid value"),
            (json!([file("a", json!(1_u64 << 60))]), "a: 1152921504606846976 bytes: at most"),
            (json!([file("a", json!(1e40))]), "invalid type"),
            (json!([file("a", Value::Null)]), "a: size or hash missing"),
            (json!([{"rfilename": "a", "size": 1, "blobId": "../x"}]), "is no hash"),
            (json!([{"rfilename": "a", "size": 1, "blobId": "B".repeat(40)}]), "is no hash"),
            (json!([{"rfilename": "a", "lfs": {"sha256": "c".repeat(63), "size": 1}}]), "is no hash"),
            (json!({}), "invalid type"),
        ] {
            let error = parse(files).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        let id = "o/n".parse().unwrap();
        let error = Listing::parse(&id, br#"{"sha": "../..", "siblings": []}"#).unwrap_err();
        assert!(error.to_string().ends_with("\"../..\" is no commit"), "{error}");
        let large = parse(json!([file("config.json", json!(1)), file("tokenizer.json", json!(1_u64 << 40))])).unwrap();
        assert!(large.small(&id).unwrap_err().to_string().contains("tokenizer.json: 1099511627776 bytes"));
        assert!(parse(json!([])).unwrap().small(&id).is_err());
    }
}
