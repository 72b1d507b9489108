//! A repository's files into the cache: checked, resumable, and visible only once all are there.
//!
//! A content is written to `blobs/HASH.incomplete`, checked against its hash, and renamed. Links in `snapshots` come last,
//! and the revision's name after them: an interrupted download leaves nothing that looks like a model, and the next one goes
//! on where it stopped. One process at a time writes a content, by the lock files that the Python tools use too.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mtplx_runtime::artifact::weight_files;
use mtplx_runtime::forge::free_space;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::cache::{Cache, MAIN, unreadable, unwritable};
use super::client::{Cancelled, Hub, RequestError, RetryPolicy, header};
use super::id::RepoId;
use super::listing::{Hash, Listing, Remote};
use super::snapshot::{Placed, made, name, place};
use crate::error::{Exit, Failure};
use mtplx_runtime::artifact::size_shown;

const INDEX: &str = "model.safetensors.index.json";
/// Files that are downloaded side by side.
const WORKERS: usize = 4;
/// Room to leave on the disk.
const SPARE: u64 = 64 << 20;
const BUFFER: usize = 1 << 20;

/// What happens during a download.
pub enum Event<'a> {
    /// So many more bytes belong to it.
    Planned(u64),
    /// Bytes that are in the cache now.
    Got(u64),
    /// Bytes that have to be fetched once more.
    Lost(u64),
    /// A content was in the cache, and is not what it was: it is fetched again.
    Damaged { name: &'a str },
    /// A file is whole; whether it had to be fetched.
    Finished { name: &'a str, size: u64, fetched: bool },
}

/// What a download came to.
#[derive(Debug)]
pub struct Pull {
    /// The snapshot's folder.
    pub dir: PathBuf,
    pub commit: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Whether a tokenizer is among them.
    pub has_tokenizer: bool,
    /// Files that are not the hub's, because this machine's own were there: a contract that `mtplx verify` wrote.
    pub kept: Vec<String>,
}

/// What every file's download needs.
struct Job<'a> {
    hub: &'a Hub,
    id: &'a RepoId,
    commit: &'a str,
    blobs: PathBuf,
    locks: PathBuf,
    report: &'a (dyn Fn(Event<'_>) + Sync),
    user: &'a AtomicBool,
}

/// Downloads what a checkpoint needs of a revision, as far as the cache does not have it; what it has is checked.
///
/// # Errors
/// No such repository, or not for this user; nothing in it that could run here; no room; a file that is not what the hub's
/// list says, even at a second try; no connection; `user` was set.
pub fn pull(
    hub: &Hub,
    cache: &Cache,
    id: &RepoId,
    user: &AtomicBool,
    report: &(dyn Fn(Event<'_>) + Sync),
) -> anyhow::Result<Pull> {
    let halted = || user.load(Ordering::Relaxed);
    let bytes = hub.listing(id, &halted).map_err(|failure| if halted() { interrupted(id) } else { failure })?;
    let listing = Listing::parse(id, &bytes)?;
    let names = listing.names();
    let named = |name: &str| format!("{}/{name}", id.repository());
    let small = listing.small(id)?;
    // Without an index the names alone tell whether there are weights to run: nothing needs downloading for that.
    if listing.get(INDEX).is_none() {
        weight_files(&names, b"{}", None, named)?;
    }

    let repository = cache.repository(id);
    let job = Job {
        hub,
        id,
        commit: &listing.commit,
        blobs: made(repository.dir.join("blobs"))?,
        locks: made(cache.root().join(".locks").join(id.folder()))?,
        report,
        user,
    };
    job.fetch_all(&small)?;
    let read = |name| listing.get(name).map(|file| fs::read(job.blobs.join(file.hash.hex()))).transpose();
    let config = read("config.json")?.unwrap_or_default();
    let weights = weight_files(&names, &config, read(INDEX)?.as_deref(), named)?;
    let weights: Vec<&Remote> = weights.iter().filter_map(|name| listing.get(name)).collect();
    job.fetch_all(&weights)?;

    let dir = made(repository.dir.join("snapshots").join(&listing.commit))?;
    // `config.json` is small and so linked last: without it nothing takes the folder for a checkpoint.
    let last = |file: &&&Remote| file.name == "config.json";
    let files = || weights.iter().chain(&small);
    let mut kept = Vec::new();
    for file in files().filter(|file| !last(file)).chain(files().filter(last)) {
        match place(&dir, &job.blobs, file).map_err(|error| unwritable(&dir.join(&file.name), &error))? {
            Placed::Linked => {}
            Placed::Kept => kept.push(file.name.clone()),
        }
    }
    name(&repository, id.revision.as_deref().unwrap_or(MAIN), &listing.commit)?;
    let bytes = files().map(|file| (file.hash.hex(), file.size)).collect::<BTreeSet<_>>();
    let has_tokenizer = listing.get("tokenizer.json").is_some();
    Ok(Pull { dir, bytes: bytes.iter().map(|(_, size)| size).sum(), commit: listing.commit, has_tokenizer, kept })
}

impl Job<'_> {
    /// Fetches files, a few side by side; ends at the first failure.
    fn fetch_all(&self, files: &[&Remote]) -> Result<(), Failure> {
        // Two names may share a content.
        let mut hashes = BTreeSet::new();
        let files: Vec<&Remote> = files.iter().copied().filter(|file| hashes.insert(file.hash.hex())).collect();
        (self.report)(Event::Planned(files.iter().map(|file| file.size).sum()));
        self.need_room(&files)?;
        let queue = Mutex::new(files.into_iter());
        let failed = AtomicBool::new(false);
        let failure = Mutex::new(None);
        let halted = || failed.load(Ordering::Relaxed) || self.user.load(Ordering::Relaxed);
        let next = || queue.lock().ok()?.next();
        let work = || {
            while let Some(file) = if halted() { None } else { next() } {
                if let Err(error) = self.fetch(file, &halted)
                    && !failed.swap(true, Ordering::Relaxed)
                    && let Ok(mut first) = failure.lock()
                {
                    *first = Some(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(work);
            }
        });
        if self.user.load(Ordering::Relaxed) {
            return Err(interrupted(self.id));
        }
        failure.into_inner().ok().flatten().map_or(Ok(()), Err)
    }

    /// Refuses before anything is fetched what the disk could not hold.
    fn need_room(&self, files: &[&Remote]) -> Result<(), Failure> {
        let here = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let missing = |file: &&Remote| {
            let blob = self.blobs.join(file.hash.hex());
            if here(&blob) == file.size { 0 } else { file.size.saturating_sub(here(&incomplete(&blob))) }
        };
        let needed: u64 = files.iter().map(missing).sum();
        let free = free_space(&self.blobs).map_err(|error| unreadable(&self.blobs, &error))?;
        if needed == 0 || needed.saturating_add(SPARE) <= free {
            return Ok(());
        }
        let (needed, free) = (size_shown(needed), size_shown(free));
        let what = format!("{}: {needed} to download, and {} has room for {free}", self.id, self.blobs.display());
        Err(Failure::new(Exit::Failed, what)
            .hint("`mtplx remove OWNER/NAME` frees what a model takes; HF_HUB_CACHE names another place for the cache"))
    }

    /// Brings one content into the cache.
    fn fetch(&self, file: &Remote, halted: Cancelled<'_>) -> Result<(), Failure> {
        let blob = self.blobs.join(file.hash.hex());
        let finished = |fetched| (self.report)(Event::Finished { name: &file.name, size: file.size, fetched });
        if !self.is_here(file, &blob, halted)? {
            let _lock = self.lock(file, halted)?;
            // Somebody else may have fetched it while this waited.
            if !self.is_here(file, &blob, halted)? {
                if is_content(&blob, file) {
                    (self.report)(Event::Damaged { name: &file.name });
                }
                self.fetch_locked(file, &blob, halted)?;
                finished(true);
                return Ok(());
            }
        }
        finished(false);
        Ok(())
    }

    /// Whether a content is in the cache, and is still what its name says: disks forget, and other programs write here.
    fn is_here(&self, file: &Remote, blob: &Path, halted: Cancelled<'_>) -> Result<bool, Failure> {
        if !is_content(blob, file) {
            return Ok(false);
        }
        let failed = |error: io::Error| unreadable(blob, &error);
        let (mut content, mut hasher) = (File::open(blob).map_err(failed)?, Hasher::new(file));
        let mut buffer = vec![0; BUFFER];
        let mut have = 0;
        loop {
            if halted() {
                return Err(interrupted(self.id));
            }
            match content.read(&mut buffer).map_err(failed)? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    have += count as u64;
                    (self.report)(Event::Got(count as u64));
                }
            }
        }
        let right = hasher.hex() == file.hash.hex();
        if !right {
            (self.report)(Event::Lost(have));
        }
        Ok(right)
    }

    /// The lock on a content; freed when dropped.
    fn lock(&self, file: &Remote, halted: Cancelled<'_>) -> Result<File, Failure> {
        let path = self.locks.join(format!("{}.lock", file.hash.hex()));
        let failed = |error: &io::Error| unwritable(&path, error);
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| failed(&e))?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(fs::TryLockError::WouldBlock) if halted() => return Err(interrupted(self.id)),
                Err(fs::TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(100)),
                // A file system without locks: what is written is checked all the same.
                Err(fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(lock),
                Err(fs::TryLockError::Error(error)) => return Err(failed(&error)),
            }
        }
    }

    fn fetch_locked(&self, file: &Remote, blob: &Path, halted: Cancelled<'_>) -> Result<(), Failure> {
        let path = incomplete(blob);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull => Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
                .hint("make room and run the same command again: it goes on where it stopped"),
            _ => unwritable(&path, &error),
        };
        let mut partial = Partial::open(&path, file).map_err(failed)?;
        (self.report)(Event::Got(partial.have));
        let mut resumed = partial.have > 0;
        let mut patience = RetryPolicy::new();
        loop {
            while partial.have < file.size {
                let before = partial.have;
                match self.receive(file, &mut partial, halted) {
                    Ok(()) => {}
                    Err(Stopped::Disk(error)) => return Err(failed(error)),
                    Err(Stopped::Cancelled) => return Err(interrupted(self.id)),
                    Err(Stopped::RequestError(trouble)) => {
                        if partial.have > before {
                            patience.renew();
                        }
                        patience.wait(trouble, halted)?;
                    }
                }
            }
            if partial.is_right() {
                break;
            }
            // What an earlier run left may have been wrong already: once more from nothing.
            (self.report)(Event::Lost(partial.have));
            partial.restart().map_err(failed)?;
            if !std::mem::take(&mut resumed) {
                drop(partial);
                let _ = fs::remove_file(&path);
                let kind = if matches!(file.hash, Hash::Sha256(_)) { "SHA-256" } else { "git's hash" };
                let what = format!(
                    "{}: {}: the bytes that came have another {kind} than the hub's list says",
                    self.id, file.name
                );
                return Err(Failure::new(Exit::File, what)
                    .hint("try again; if it stays so, the hub or something on the way to it changes files"));
            }
        }
        partial.file.sync_all().and_then(|()| fs::rename(&path, blob)).map_err(failed)
    }

    /// One request: what comes of the missing bytes goes to the disk and into the hash.
    fn receive(&self, file: &Remote, partial: &mut Partial<'_>, halted: Cancelled<'_>) -> Result<(), Stopped> {
        let named = || format!("{}: {}", self.id, file.name);
        let mut response = self.hub.file(self.id, self.commit, &file.name, partial.have)?;
        let length = header(&response, "content-length").and_then(|text| text.parse::<u64>().ok());
        let goes_on = match response.status().as_u16() {
            206 => {
                let range = header(&response, "content-range").unwrap_or_default();
                range == format!("bytes {}-{}/{}", partial.have, file.size - 1, file.size)
            }
            _ => false,
        };
        if partial.have > 0 && !goes_on {
            // The server does not resume, or not at this place: from nothing, with the whole answer if that is what came.
            (self.report)(Event::Lost(partial.have));
            partial.restart().map_err(Stopped::Disk)?;
            if response.status().as_u16() != 200 {
                return Err(
                    RequestError::passing(format!("{}: the hub did not go on at the byte asked for", named())).into()
                );
            }
        }
        let missing = file.size - partial.have;
        if length.is_some_and(|length| length != missing) {
            let length = length.unwrap_or_default();
            let what = format!("{}: {length} bytes come, and the hub's list says {missing}", named());
            return Err(RequestError::last(Exit::File, what).into());
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; BUFFER.min(usize::try_from(missing).unwrap_or(BUFFER))];
        while partial.have < file.size {
            if halted() {
                // Kept for the next time.
                let _ = partial.file.flush();
                return Err(Stopped::Cancelled);
            }
            let want = buffer.len().min(usize::try_from(file.size - partial.have).unwrap_or(BUFFER));
            match body.read(&mut buffer[..want]) {
                Ok(0) => return Err(RequestError::passing(format!("{}: the connection ended early", named())).into()),
                Ok(count) => {
                    partial.push(&buffer[..count]).map_err(Stopped::Disk)?;
                    (self.report)(Event::Got(count as u64));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RequestError::passing(format!("{}: {error}", named())).into()),
            }
        }
        Ok(())
    }
}

/// Why a request ended early.
enum Stopped {
    RequestError(RequestError),
    Disk(io::Error),
    Cancelled,
}

impl From<RequestError> for Stopped {
    fn from(trouble: RequestError) -> Self {
        Self::RequestError(trouble)
    }
}

/// A content that is not whole yet, with the hash of what there is.
struct Partial<'a> {
    file: File,
    have: u64,
    hasher: Hasher,
    remote: &'a Remote,
}

enum Hasher {
    Sha256(Sha256),
    Sha1(Sha1),
}

impl Hasher {
    fn new(remote: &Remote) -> Self {
        match remote.hash {
            Hash::Sha256(_) => Self::Sha256(Sha256::new()),
            // What git hashes: kind and size, then the content.
            Hash::GitSha1(_) => Self::Sha1(Sha1::new_with_prefix(format!("blob {}\0", remote.size))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
        }
    }

    fn hex(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hasher) => hex(&hasher.clone().finalize()),
            Self::Sha1(hasher) => hex(&hasher.clone().finalize()),
        }
    }
}

impl<'a> Partial<'a> {
    /// Opens or creates the file and hashes what it holds.
    fn open(path: &Path, remote: &'a Remote) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("not a regular file: remove it"));
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut partial = Self { file, have: 0, hasher: Hasher::new(remote), remote };
        if partial.file.metadata()?.len() > remote.size {
            partial.restart()?;
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            match partial.file.read(&mut buffer)? {
                0 => return Ok(partial),
                count => {
                    partial.hasher.update(&buffer[..count]);
                    partial.have += count as u64;
                }
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.have = 0;
        self.hasher = Hasher::new(self.remote);
        Ok(())
    }

    fn is_right(&self) -> bool {
        self.hasher.hex() == self.remote.hash.hex()
    }
}

/// Whether something is there that could be the content, by its size.
fn is_content(blob: &Path, file: &Remote) -> bool {
    fs::symlink_metadata(blob).is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.size)
}

fn incomplete(blob: &Path) -> PathBuf {
    blob.with_extension("incomplete")
}

/// The user's wish, as an ending.
pub fn interrupted(id: impl Display) -> Failure {
    Failure::new(Exit::Interrupted, format!("{id}: interrupted"))
        .hint(format!("`mtplx pull {id}` goes on where this stopped"))
}
