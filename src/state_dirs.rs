//! What the program keeps for its user between runs: what files hashed to, kernels compiled for a GPU, this machine's name for
//! itself, the depths that were tuned here, and the lines of chats.
//!
//! Two folders, as the system has them: `cache` for what may go at any time, `state` for what should stay. `MTPLX_HOME`
//! names one folder for both. Where there is no such folder, or it cannot be written, nothing is kept and nothing fails:
//! files are hashed again, evidence for recognized architectures cannot count as this machine's, and nothing is tuned.

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use etcetera::base_strategy::{BaseStrategy as _, Xdg, choose_native_strategy};
use mtplx_runtime::artifact::KnownHashes;

/// Largest file that is read from here.
const MAX_FILE: u64 = 64 << 20;

/// The folder of the user's settings; `None` without a home.
pub fn config_folder() -> Option<PathBuf> {
    folder(Kind::Config)
}

/// What is kept.
pub struct StateDirs {
    hashes: Option<PathBuf>,
    machine: Option<PathBuf>,
    tuned: Option<PathBuf>,
    kernels: Option<PathBuf>,
    history: Option<PathBuf>,
}

impl StateDirs {
    /// The user's, by the environment.
    pub fn of_user() -> Self {
        let file = |base: Option<PathBuf>, name: &str| base.map(|base| base.join(name));
        Self {
            hashes: file(folder(Kind::Cache), "hashes.json"),
            machine: file(folder(Kind::State), "machine"),
            tuned: file(folder(Kind::State), "tuned.json"),
            kernels: file(folder(Kind::Cache), "kernels"),
            history: file(folder(Kind::State), "chat_history"),
        }
    }

    /// What files hashed to, as far as it is known.
    pub fn known_hashes(&self) -> KnownHashes {
        let text = self.hashes.as_deref().and_then(read);
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Keeps it, without the files that are gone. That it could not be kept is no one's trouble.
    pub fn keep_hashes(&self, known: &KnownHashes) {
        let mut known = known.clone();
        known.prune();
        if let (Some(path), Ok(text)) = (&self.hashes, serde_json::to_string(&known)) {
            let _ = write(path, &text);
        }
    }

    /// Where compiled kernels are; `None` without a home.
    pub fn kernels(&self) -> Option<&Path> {
        self.kernels.as_deref()
    }

    /// Where tuned depths are; `None` without a home.
    pub fn tuned(&self) -> Option<&Path> {
        self.tuned.as_deref()
    }

    /// Where the lines of chats are; `None` without a home.
    pub fn history(&self) -> Option<&Path> {
        self.history.as_deref()
    }

    /// This machine's name for itself: random digits that say nothing else about it.
    pub fn machine(&self) -> Option<String> {
        let text = read(self.machine.as_deref()?)?;
        let name = text.trim();
        let sound = name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit());
        sound.then(|| name.to_owned())
    }

    /// [`StateDirs::machine`], made up now if there is none yet.
    ///
    /// # Errors
    /// It cannot be kept, so it would be another one the next time.
    pub fn make_machine(&self) -> io::Result<String> {
        if let Some(name) = self.machine() {
            return Ok(name);
        }
        let path = self.machine.as_deref().ok_or_else(|| io::Error::other("there is no home folder"))?;
        // The standard library's hash keys are the operating system's randomness.
        let digits = || RandomState::new().hash_one(0u64);
        let name = format!("{:016x}{:016x}", digits(), digits());
        write(path, &format!("{name}\n"))?;
        Ok(name)
    }
}

enum Kind {
    Cache,
    State,
    Config,
}

/// The folder of a kind; `None` without a home.
fn folder(kind: Kind) -> Option<PathBuf> {
    if let Some(home) = env::var_os("MTPLX_HOME").filter(|home| !home.is_empty()) {
        return Some(home.into());
    }
    let (xdg, native) = (Xdg::new().ok()?, choose_native_strategy().ok()?);
    let (variable, xdg, native) = match kind {
        Kind::Config => ("XDG_CONFIG_HOME", xdg.config_dir(), native.config_dir()),
        Kind::Cache => ("XDG_CACHE_HOME", xdg.cache_dir(), native.cache_dir()),
        // Macs have no folder of their own for state.
        Kind::State => ("XDG_STATE_HOME", xdg.state_dir()?, native.state_dir().unwrap_or_else(|| native.data_dir())),
    };
    // Who sets a variable of XDG's on a Mac means it.
    let named = env::var_os(variable).is_some_and(|path| Path::new(&path).is_absolute());
    let base = if named { xdg } else { native };
    // A relative home folder would be another one for each working folder.
    base.is_absolute().then(|| base.join("mtplx"))
}

fn read(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_FILE).then(|| fs::read_to_string(path).ok())?
}

/// Writes a file whole or not at all: another run may be reading or writing it.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("no folder"))?;
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl StateDirs {
        fn nowhere() -> Self {
            Self { hashes: None, machine: None, tuned: None, kernels: None, history: None }
        }
    }

    #[test]
    fn a_machine_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let home = || StateDirs { machine: Some(dir.path().join("deeper/machine")), ..StateDirs::nowhere() };
        assert_eq!(home().machine(), None);
        let name = home().make_machine().unwrap();
        assert_eq!((home().make_machine().unwrap(), home().machine()), (name.clone(), Some(name)));
        fs::write(dir.path().join("deeper/machine"), "somebody").unwrap();
        assert_eq!(home().machine(), None);
        assert!(StateDirs::nowhere().make_machine().is_err());
    }

    #[test]
    fn hashes_that_cannot_be_read_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let home = StateDirs { hashes: Some(dir.path().join("hashes.json")), ..StateDirs::nowhere() };
        home.keep_hashes(&KnownHashes::default());
        assert_eq!(fs::read_to_string(dir.path().join("hashes.json")).unwrap(), "{}");
        fs::write(dir.path().join("hashes.json"), "[1").unwrap();
        assert_eq!(home.known_hashes(), KnownHashes::default());
    }
}
