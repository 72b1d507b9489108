//! SHA-256 as contracts spell it, and the stamp by which a file is known to be unchanged.

use std::fmt::Write as _;
use std::fs::Metadata;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How long a file must have been left alone before its hash is remembered: file systems' clocks are coarser than their
/// nanoseconds, and two writes within one tick look alike.
const SETTLED: Duration = Duration::from_secs(2);

/// The identity of a file: size, times and place, as the system states them. An equal one means the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    size: u64,
    /// Nanoseconds since 1970 of the last change of the bytes.
    modified: i128,
    /// Of the last change of bytes or attributes, which no ordinary call can set.
    changed: i128,
    inode: u64,
    device: u64,
}

impl FileStamp {
    /// Of a file on a system that states all of it; `None` elsewhere, where nothing is remembered.
    pub(crate) fn of(metadata: &Metadata) -> Option<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
            Some(Self {
                size: metadata.size(),
                modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
                changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
                inode: metadata.ino(),
                device: metadata.dev(),
            })
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            None
        }
    }

    /// True where nothing but the time of the last change of attributes may differ.
    pub(crate) fn has_same_bytes(&self, other: &Self) -> bool {
        (Self { changed: other.changed, ..*self }) == *other
    }

    /// True once the file was left alone for [`SETTLED`].
    pub(crate) fn settled(&self) -> bool {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let last = self.modified.max(self.changed);
        i128::try_from(now.as_nanos()).is_ok_and(|now| now - last > SETTLED.as_nanos() as i128)
    }
}

/// The stamp of the file that is at `path` now.
pub(crate) fn stamp_at(path: &Path) -> Option<FileStamp> {
    FileStamp::of(&path.metadata().ok()?)
}

/// True for a hash as contracts spell it: 64 lower-case hexadecimal digits.
pub(crate) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hash of `bytes`, 64 lower-case hexadecimal digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    spelled(Sha256::digest(bytes).as_slice())
}

pub(crate) fn spelled(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
