//! The depths that `mtplx tune` found best, one for each model, device and machine: a small file of the user's.
//!
//! [`StateDirs`] knows where. `run` reads it and goes on without it whatever is wrong with it; nothing but `tune` writes it.

use std::fs::{self, File};
use std::hash::Hasher as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use fnv::FnvHasher;
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::mlx::Device;
use serde::{Deserialize, Serialize};

use crate::bench::Machine;
use crate::error::{Exit, Failure};
use crate::state_dirs::{self, StateDirs};

/// The version of the file's form.
const SCHEMA: u32 = 1;
/// More than any number of models takes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Tensors that a model is told by.
const SAMPLES: usize = 128;
/// Bytes of each that are looked at.
const SAMPLE: usize = 64;

/// Everything that was tuned.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tuned {
    schema: u32,
    pub entries: Vec<Entry>,
}

/// What was found best for one model on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The model as it was asked for.
    pub model: String,
    #[serde(flatten)]
    pub key: Key,
    /// Drafts a round; 0 is plain decoding.
    pub depth: usize,
    /// Tokens a second at that depth and without drafting, in the contexts that were measured.
    pub tok_s: f64,
    pub plain_tok_s: f64,
    pub contexts: Vec<usize>,
    pub mtplx_version: String,
    pub commit: Option<String>,
}

/// What a tuned depth is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Tells models apart: configuration, and a sample of the weights.
    pub fingerprint: String,
    pub device: Device,
    pub device_name: Option<String>,
    /// This machine's name for itself.
    pub machine: String,
}

impl Key {
    /// Of a model on the machine of that name, on the device that was chosen.
    fn new(checkpoint: &Checkpoint, machine: String) -> Self {
        let Machine { device, device_name, .. } = Machine::this();
        Self { fingerprint: fingerprint(checkpoint), device, device_name, machine }
    }

    /// Of a model on this machine, which is given a name if it has none.
    ///
    /// # Errors
    /// The name cannot be kept.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, Failure> {
        let machine = StateDirs::of_user().make_machine().map_err(|error| not_kept("this machine's name", &error))?;
        Ok(Self::new(checkpoint, machine))
    }
}

impl Tuned {
    /// The user's; nothing where there is no file yet.
    ///
    /// # Errors
    /// There is no home folder; the file cannot be read or is damaged.
    pub fn load() -> Result<Self, Failure> {
        Self::read(&path()?)
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let fault = |what: String| {
            let failure = Failure::new(Exit::File, format!("{}: {what}", path.display()));
            failure.hint("`mtplx tune --clear` removes it; `mtplx tune MODEL` finds the depth again")
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file.map_err(|error| fault(error.to_string()))?,
        };
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
        let tuned: Self = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
        if tuned.schema == SCHEMA {
            Ok(tuned)
        } else {
            Err(fault(format!("schema: {}: this version reads {SCHEMA}", tuned.schema)))
        }
    }

    /// What was found for `key`.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == *key)
    }

    /// Adds an entry, in the place of the one with its key.
    pub fn put(&mut self, entry: Entry) {
        self.entries.retain(|other| other.key != entry.key);
        self.entries.push(entry);
    }

    /// Writes the user's file, whole or not at all, and says where it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn store(mut self) -> Result<PathBuf, Failure> {
        self.schema = SCHEMA;
        let path = path()?;
        write(&path, &self).map_err(|error| not_kept(&path.display().to_string(), &error))?;
        Ok(path)
    }

    /// Removes the user's file, and says where it was; `None` where there was none.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clear() -> Result<Option<PathBuf>, Failure> {
        let path = path()?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(Some(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::new(Exit::Failed, format!("{}: {error}", path.display()))),
        }
    }
}

/// The depth that was tuned for this model here. A file that cannot be read is worth a warning, no more.
pub fn depth_for(checkpoint: &Checkpoint, warnings: &mut Vec<String>) -> Option<usize> {
    // Most users never tune, or on no such machine: then nothing of the model is looked at.
    let home = StateDirs::of_user();
    let (path, machine) = (home.tuned()?, home.machine()?);
    match Tuned::read(path) {
        Ok(tuned) if tuned.entries.is_empty() => None,
        Ok(tuned) => tuned.get(&Key::new(checkpoint, machine)).map(|entry| entry.depth),
        Err(failure) => {
            warnings.push(format!("tuned depths: {failure}"));
            None
        }
    }
}

fn path() -> Result<PathBuf, Failure> {
    let what = "there is no home folder to keep tuned depths in";
    let missing = || Failure::usage(what, "MTPLX_HOME names a folder");
    StateDirs::of_user().tuned().map(Path::to_owned).ok_or_else(missing)
}

fn not_kept(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{what}: {error}")).hint("MTPLX_HOME names a folder to keep it in")
}

fn write(path: &Path, tuned: &Tuned) -> io::Result<()> {
    state_dirs::write(path, &(serde_json::to_string_pretty(tuned)? + "\n"))
}

/// Names, types and shapes of all tensors and the first bytes of some: equal for copies of a model, and different for
/// another training of the same architecture. No protection against forgery, which here would gain nothing.
fn fingerprint(checkpoint: &Checkpoint) -> String {
    // The standard library's hash may differ in its next version.
    let mut hash = FnvHasher::default();
    let count = checkpoint.tensors().count();
    let step = count.div_ceil(SAMPLES).max(1);
    for (place, (name, info)) in checkpoint.tensors().enumerate() {
        hash.write(name.as_bytes());
        hash.write(format!("{:?}{:?}", info.dtype, info.shape).as_bytes());
        if place % step == 0
            && let Ok(bytes) = checkpoint.bytes(name)
        {
            hash.write(&bytes[..bytes.len().min(SAMPLE)]);
        }
    }
    format!("{:016x}", hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fingerprint: &str, depth: usize) -> Entry {
        let key =
            Key { fingerprint: fingerprint.into(), device: Device::Cpu, device_name: None, machine: "here".into() };
        let (tok_s, plain_tok_s) = (20.0, 10.0);
        let mtplx_version = "0.1.0".to_owned();
        Entry { model: "m".into(), key, depth, tok_s, plain_tok_s, contexts: vec![512], mtplx_version, commit: None }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/tuned.json");
        assert!(Tuned::read(&path).unwrap().entries.is_empty());
        let mut tuned = Tuned { schema: SCHEMA, entries: Vec::new() };
        tuned.put(entry("one", 1));
        tuned.put(entry("two", 2));
        tuned.put(entry("one", 3));
        write(&path, &tuned).unwrap();
        let read = Tuned::read(&path).unwrap();
        assert_eq!(read.entries.len(), 2);
        assert_eq!(read.get(&entry("one", 0).key), Some(&entry("one", 3)));
        let elsewhere = Key { machine: "there".into(), ..entry("one", 0).key };
        assert_eq!(read.get(&elsewhere), None);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left over");

        for (text, named) in [("{", "EOF"), (r#"{"schema": 9, "entries": []}"#, "schema: 9")] {
            fs::write(&path, text).unwrap();
            let failure = Tuned::read(&path).unwrap_err().to_string();
            assert!(failure.contains("tuned.json: ") && failure.contains(named), "{failure}");
        }
    }
}
