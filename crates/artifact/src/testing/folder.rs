//! Folders on disk, written by tests.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ArtifactError, Checkpoint, Hint};

/// A checkpoint's folder.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// With nothing in it.
    pub fn empty() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// With a minimal `config.json` and the smallest tokenizer.
    pub fn new() -> Self {
        Self::empty().config(json!({"model_type": "toy"})).tokenizer()
    }

    /// With the smallest `tokenizer.json`.
    pub fn tokenizer(self) -> Self {
        let empty = json!({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}});
        self.file("tokenizer.json", empty.to_string())
    }

    /// With this `config.json`.
    pub fn config(self, config: Value) -> Self {
        self.file("config.json", config.to_string())
    }

    /// With a file of these bytes.
    pub fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// With one-element f32 tensors of these names; the bytes of the element tell the files apart.
    pub fn tensors(self, file: &str, names: &[&str], element: u8) -> Self {
        let tensors: Vec<_> = names.iter().map(|name| (*name, "F32", vec![1], vec![element; 4])).collect();
        self.file(file, safetensors(&tensors))
    }

    /// With an index of this weight map.
    pub fn index(self, map: Value) -> Self {
        self.file("model.safetensors.index.json", json!({"weight_map": map}).to_string())
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Opens the folder as a checkpoint.
    pub fn open(&self) -> Result<Checkpoint, ArtifactError> {
        Checkpoint::open(self.path())
    }

    /// The error of opening it, as [`Folder::describe`] puts it.
    #[track_caller]
    pub fn fault(&self) -> String {
        self.describe(&self.open().expect_err("opened"))
    }

    /// `broken: message (hint)` or `incompatible: ...`, with the folder's path as `DIR`.
    pub fn describe(&self, error: &ArtifactError) -> String {
        let hint = match error.hint() {
            Hint::Text(text) => text.into(),
            Hint::Download { reason, repository } => {
                format!("{reason}: fetch {}", repository.as_deref().unwrap_or("what is missing"))
            }
            other => format!("{other:?}"),
        };
        let kind = if error.is_missing_or_damaged() { "broken" } else { "incompatible" };
        let text = format!("{kind}: {error} ({hint})");
        assert!(!text.contains('\n'), "more than one line: {text}");
        text.replace(self.path().to_str().unwrap(), "DIR")
    }
}

/// A well-formed safetensors file.
pub fn safetensors(tensors: &[(&str, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend(bytes);
        header.insert((*name).into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}));
    }
    raw(&Value::Object(header).to_string(), &data)
}

/// A file of this header and this data, whatever they are.
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}
