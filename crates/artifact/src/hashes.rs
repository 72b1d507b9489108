//! SHA-256 of the files that evidence speaks of: `config.json` and every weight file, over the very bytes that were
//! opened.
//!
//! Hashing 15 GB takes seconds that a start does not have, so [`KnownHashes`] remembers what a file hashed to while its
//! path, size, times and inode stay as they were. The caller keeps the memory where it likes. It can only save time: a
//! file that changed in any of these is hashed again, one that changed within two seconds of being hashed is not
//! remembered, and measuring evidence never asks it. What is left is a file whose bytes change while the system keeps
//! both its times (writing to the disk behind the file system, a clock that was set back to the very nanosecond), and
//! whoever may write the memory itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::checkpoint::Checkpoint;
use super::digest::{FileStamp, is_hash, sha256, spelled, stamp_at};

/// Bytes hashed between two reports of progress.
const CHUNK: usize = 16 << 20;
/// Files that are remembered at most, of those that are still there; beyond it everything is forgotten.
const MAX_KNOWN: usize = 10_000;

/// What files hashed to, by path. Reads and writes as a JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KnownHashes(BTreeMap<String, Known>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    stamp: FileStamp,
    sha256: String,
}

impl KnownHashes {
    /// Adds what `other` knows.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Forgets files that are gone or have become others: nobody will ask for what they hashed to.
    pub fn prune(&mut self) {
        self.0.retain(|path, known| stamp_at(Path::new(path)) == Some(known.stamp));
    }

    fn recall(&self, path: &str, stamp: &FileStamp) -> Option<&str> {
        let known = self.0.get(path).filter(|known| known.stamp == *stamp)?;
        is_hash(&known.sha256).then_some(&known.sha256)
    }

    fn remember(&mut self, path: String, stamp: FileStamp, sha256: String) {
        if self.0.len() >= MAX_KNOWN {
            self.prune();
        }
        if self.0.len() >= MAX_KNOWN {
            self.0.clear();
        }
        self.0.insert(path, Known { stamp, sha256 });
    }
}

impl Checkpoint {
    /// The hashes of `config.json` and of every weight file, by name. `known` saves hashing again what did not change;
    /// without it every byte is read. `progress` is told the bytes hashed so far and all of them.
    pub fn hashes(
        &self,
        mut known: Option<&mut KnownHashes>,
        mut progress: impl FnMut(u64, u64),
    ) -> BTreeMap<String, String> {
        let all = self.files().map(|(_, size)| size as u64).sum();
        let mut done = 0;
        let mut hashes = BTreeMap::from([("config.json".to_owned(), self.config_sha256().to_owned())]);
        for (file, size) in self.files() {
            let place = self.dir().map(|dir| dir.join(file));
            let path = || place.as_ref().map(|place| place.display().to_string());
            let stamp = self.stamp(file);
            let recalled = match (&known, stamp, path()) {
                (Some(known), Some(stamp), Some(path)) => known.recall(&path, &stamp).map(str::to_owned),
                _ => None,
            };
            let hash = recalled.unwrap_or_else(|| {
                let mut hasher = Sha256::new();
                let mut here = 0;
                for chunk in self.file_bytes(file).unwrap_or_default().chunks(CHUNK) {
                    hasher.update(chunk);
                    here += chunk.len() as u64;
                    progress(done + here, all);
                }
                let hash = spelled(hasher.finalize().as_slice());
                if let (Some(known), Some(stamp), Some(path)) = (&mut known, stamp, path())
                    && stamp.settled()
                    && place.as_deref().and_then(stamp_at) == Some(stamp)
                {
                    known.remember(path, stamp, hash.clone());
                }
                hash
            });
            done += size as u64;
            progress(done, all);
            hashes.insert(file.to_owned(), hash);
        }
        hashes
    }

    /// The first weight file that is no longer the one that was opened and hashed to what `hashes` says; `None` where all
    /// are, or where the system cannot tell.
    ///
    /// A link to a file, or other permissions, change the time of its attributes and not one of its bytes: where nothing
    /// but that time differs, the bytes are hashed again.
    pub fn changed_file(&self, hashes: &BTreeMap<String, String>) -> Option<&str> {
        let dir = self.dir()?;
        let changed = |file: &str| {
            let Some(stamp) = self.stamp(file) else { return false };
            match stamp_at(&dir.join(file)) {
                Some(now) if now == stamp => false,
                Some(now) if now.has_same_bytes(&stamp) => {
                    let bytes = self.file_bytes(file).unwrap_or_default();
                    hashes.get(file).is_none_or(|hash| *hash != sha256(bytes))
                }
                _ => true,
            }
        };
        self.files().map(|(file, _)| file).find(|file| changed(file))
    }
}
