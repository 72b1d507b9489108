//! The unfinished artifact: a hidden folder beside the place where it will be, that nothing loads and that one process at
//! a time works in.
//!
//! The folder holds weight files and a journal of those that are done, with their hashes; `config.json` comes last, and a
//! folder without it is no checkpoint. The artifact appears by one rename.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ForgeError;

/// The journal's name in the work folder.
const JOURNAL: &str = ".mtplx-forge.json";
/// The lock's.
const LOCK: &str = ".mtplx-forge.lock";

/// How often a lock is asked for, every 10 ms.
const PATIENCE: usize = 50;

/// What has been done.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Journal {
    /// What is being made: sources, rules, policy and program in one hash.
    plan: String,
    /// Finished files, with SHA-256 in lower-case hexadecimal.
    done: BTreeMap<String, String>,
}

/// A work folder, locked.
pub(super) struct WorkDir {
    out: PathBuf,
    dir: PathBuf,
    journal: Journal,
    /// The folders that were made for it, if they were not there: this one last.
    made: Vec<PathBuf>,
    _lock: File,
}

impl WorkDir {
    /// Opens the work folder of `out`, or makes it. What another plan left there is thrown away.
    ///
    /// # Errors
    /// `out` exists; another process works on it; the work folder is somebody else's; nothing can be made there. Folders
    /// that were made are gone again.
    pub(super) fn open(out: &Path, plan: String) -> Result<Self, ForgeError> {
        if fs::symlink_metadata(out).is_ok() {
            return Err(occupied("exists already", "give a new folder, or remove this one", out));
        }
        let Some(name) = out.file_name() else {
            return Err(occupied("not a folder's name", "give a new folder", out));
        };
        let parent = parent(out);
        let absent = parent.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
        let mut made: Vec<PathBuf> = absent.map(Path::to_owned).collect();
        made.reverse();
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".forging");
        let dir = parent.join(hidden);
        made.push(dir.clone());
        let locked = fs::create_dir_all(&parent).map_err(ForgeError::io(&parent)).and_then(|()| lock(&dir, out));
        let lock = locked.inspect_err(|_| remove_empty(&made))?;
        let mut work = Self { out: out.to_owned(), dir, journal: Journal::default(), made, _lock: lock };
        work.journal = work.read_journal().filter(|journal| journal.plan == plan).unwrap_or_default();
        if work.journal.plan != plan {
            work.clear()?;
            work.journal.plan = plan;
            work.write_journal()?;
        }
        Ok(work)
    }

    /// Removes everything but the lock.
    fn clear(&self) -> Result<(), ForgeError> {
        for entry in fs::read_dir(&self.dir).map_err(ForgeError::io(&self.dir))? {
            let path = entry.map_err(ForgeError::io(&self.dir))?.path();
            if path.file_name().is_some_and(|name| name != LOCK) {
                fs::remove_file(&path).map_err(ForgeError::io(&path))?;
            }
        }
        Ok(())
    }

    /// A file's path in the work folder.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Whether a file is there as an earlier run finished it.
    pub(super) fn is_done(&self, file: &str, size: u64) -> bool {
        let path = self.path(file);
        let Some(hash) = self.journal.done.get(file) else { return false };
        fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size)
            && sha256(&path).is_ok_and(|found| found == *hash)
    }

    /// Removes an unfinished file, if there is one.
    pub(super) fn discard(&self, file: &str) -> Result<(), ForgeError> {
        let path = self.path(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ForgeError::io(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Notes that a file is finished and on the disk.
    pub(super) fn finish(&mut self, file: &str) -> Result<(), ForgeError> {
        let path = self.path(file);
        let hash = sha256(&path).map_err(ForgeError::io(&path))?;
        self.journal.done.insert(file.to_owned(), hash);
        self.write_journal()
    }

    /// Writes a small file.
    pub(super) fn write(&self, file: &str, bytes: &[u8]) -> Result<(), ForgeError> {
        let path = self.path(file);
        write_synced(&path, bytes).map_err(ForgeError::io(&path))
    }

    fn read_journal(&self) -> Option<Journal> {
        serde_json::from_slice(&fs::read(self.path(JOURNAL)).ok()?).ok()
    }

    /// The new journal takes the old one's place at once.
    fn write_journal(&self) -> Result<(), ForgeError> {
        let (path, new) = (self.path(JOURNAL), self.path(".mtplx-forge.json.new"));
        let text = serde_json::to_vec_pretty(&self.journal).unwrap_or_default();
        write_synced(&new, &text).and_then(|()| fs::rename(&new, &path)).map_err(ForgeError::io(&path))
    }

    /// Ends the work without an artifact. What is finished stays for the next run; with nothing finished, nothing stays.
    pub(super) fn abandon(self) {
        if !self.journal.done.is_empty() {
            return;
        }
        // What cannot be removed is in nobody's way: it does not load, and the next run takes it over.
        let _ = fs::remove_dir_all(&self.dir);
        remove_empty(&self.made);
    }

    /// Makes the work folder the artifact.
    pub(super) fn publish(self) -> Result<(), ForgeError> {
        let sync = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all());
        sync(&self.dir).map_err(ForgeError::io(&self.dir))?;
        fs::rename(&self.dir, &self.out).map_err(ForgeError::io(&self.out))?;
        // Only now: until the rename, the lock says whose folder that is.
        for name in [JOURNAL, LOCK] {
            let path = self.out.join(name);
            fs::remove_file(&path).map_err(ForgeError::io(&path))?;
        }
        let parent = parent(&self.out);
        sync(&parent).map_err(ForgeError::io(&parent))
    }
}

/// Makes the work folder, if it is not there, and locks it.
fn lock(dir: &Path, out: &Path) -> Result<File, ForgeError> {
    let is_forges = dir.join(LOCK).is_file();
    if dir.is_symlink() || !is_forges && fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(occupied("is where the work would go, and is not a forge's", "remove or rename it", dir));
    }
    fs::create_dir_all(dir).map_err(ForgeError::io(dir))?;
    let lock = dir.join(LOCK);
    let file = File::create(&lock).map_err(ForgeError::io(&lock))?;
    let mut patience = PATIENCE;
    while let Err(error) = file.try_lock() {
        match error {
            // A process that was just started may still hold its parent's lock.
            fs::TryLockError::WouldBlock if patience > 0 => thread::sleep(Duration::from_millis(10)),
            fs::TryLockError::WouldBlock => {
                return Err(occupied("another process is making this artifact", "wait for it", out));
            }
            fs::TryLockError::Error(error) => return Err(ForgeError::io(&lock)(error)),
        }
        patience -= 1;
    }
    Ok(file)
}

/// Removes folders as far as they are empty, the last first.
fn remove_empty(dirs: &[PathBuf]) {
    for dir in dirs.iter().rev() {
        let _ = fs::remove_dir(dir);
    }
}

fn occupied(what: &str, hint: &str, path: &Path) -> ForgeError {
    ForgeError::Occupied { path: path.display().to_string().into(), what: what.into(), hint: hint.into() }
}

/// The folder that `out` is in.
pub(super) fn parent(out: &Path) -> PathBuf {
    out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Bytes that this user may write to the disk that `dir`, or the nearest folder above it that exists, is on. (`rustix`,
/// which `tempfile` brings along anyway, has the call without unsafe code.)
///
/// # Errors
/// What the operating system says.
pub fn free_space(dir: &Path) -> io::Result<u64> {
    let existing = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(existing)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A file's SHA-256 in lower-case hexadecimal.
fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
