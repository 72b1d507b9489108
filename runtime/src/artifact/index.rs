//! Which files hold the trunk: `model.safetensors.index.json`, `model.safetensors`, or whatever safetensors there are.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ArtifactError, shown};
use super::header::Unique;
use super::sidecar;
use super::source::{Source, check_name};

/// The index file.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Largest index in bytes.
const MAX_INDEX: usize = 64 << 20;
/// Most shards.
const MAX_SHARDS: usize = 4096;

/// The trunk's files, and what the index claims of them.
#[derive(Default)]
pub(crate) struct Shards {
    /// File names, sorted.
    pub(crate) files: BTreeSet<String>,
    /// Tensor to file, where there is an index.
    pub(super) weight_map: Option<BTreeMap<String, String>>,
    /// How many tensors the index places in a file.
    placed: BTreeMap<String, usize>,
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: Unique<String>,
}

/// Finds the trunk's files; `names` are those at the folder's top.
///
/// # Errors
/// A shard name that leaves the folder; weights in formats that are not read; no weights at all.
pub(super) fn find(source: &Source, names: &[String]) -> Result<Shards, ArtifactError> {
    if let Some(bytes) = source.read(INDEX, MAX_INDEX)? {
        return parse(&source.path(INDEX), &bytes);
    }
    let files = without_index(names, |name| source.path(name))?;
    Ok(Shards { files, ..Shards::default() })
}

/// The trunk's files among `names`, those at the folder's top, where no index names them.
///
/// # Errors
/// Weights in formats that are not read; no weights at all.
pub(super) fn without_index(
    names: &[String],
    path: impl Fn(&str) -> String,
) -> Result<BTreeSet<String>, ArtifactError> {
    let safetensors = names.iter().filter(|name| name.ends_with(".safetensors"));
    let files: BTreeSet<String> = if names.iter().any(|name| name == "model.safetensors") {
        BTreeSet::from(["model.safetensors".to_owned()])
    } else {
        safetensors.filter(|name| !sidecar::is_sidecar(name) && !sidecar::is_vision_file(name)).cloned().collect()
    };
    if files.is_empty() { Err(no_weights(path, names)) } else { Ok(files) }
}

/// Parses and checks the index; `path` names it in errors.
pub(crate) fn parse(path: &str, bytes: &[u8]) -> Result<Shards, ArtifactError> {
    let Index { weight_map: Unique(weight_map) } = serde_json::from_slice(bytes)
        .map_err(|error| ArtifactError::damaged(path, format!("not an index: {error}")))?;
    let files: BTreeSet<String> = weight_map.values().cloned().collect();
    for file in &files {
        let fault = check_name(file)
            .err()
            .or_else(|| (!file.ends_with(".safetensors")).then_some("a shard that is not safetensors"));
        if let Some(fault) = fault {
            return Err(ArtifactError::damaged(path, format!("weight_map: \"{}\": {fault}", shown(file))));
        }
    }
    if files.is_empty() || files.len() > MAX_SHARDS {
        let what = format!("weight_map: {} shards: expected 1 to {MAX_SHARDS}", files.len());
        return Err(ArtifactError::damaged(path, what));
    }
    let mut placed = BTreeMap::new();
    for file in weight_map.values() {
        *placed.entry(file.clone()).or_insert(0) += 1;
    }
    Ok(Shards { files, weight_map: Some(weight_map), placed })
}

/// The error of a folder without safetensors, by what it has instead.
fn no_weights(path: impl Fn(&str) -> String, names: &[String]) -> ArtifactError {
    let find = |endings: &[&str]| {
        names.iter().find(|name| endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending)))
    };
    if let Some(name) = find(&[".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"]) {
        return ArtifactError::refused(
            path(name),
            "the only weights are pickled, and pickle can run code when read",
            "convert the checkpoint to safetensors with the tools of whoever published it",
        );
    }
    if let Some(name) = find(&[".gguf", ".npz", ".h5", ".msgpack"]) {
        return ArtifactError::refused(
            path(name),
            "the only weights are not safetensors",
            "use the checkpoint that the file was converted from",
        );
    }
    ArtifactError::missing(
        path("model.safetensors"),
        "the folder has no weights (model.safetensors, or shards with model.safetensors.index.json)",
    )
}

impl Shards {
    /// The tensors that the index places in a file.
    pub(crate) fn tensors_of<'a>(&'a self, file: &'a str) -> impl Iterator<Item = &'a str> {
        self.weight_map.iter().flatten().filter(move |(_, shard)| *shard == file).map(|(tensor, _)| tensor.as_str())
    }

    /// The error of a shard that is not there.
    pub(super) fn missing(&self, source: &Source, file: &str) -> ArtifactError {
        let hint = match self.placed.get(file).copied().unwrap_or(0) {
            0 => "the file went away while the folder was read".to_owned(),
            count => format!("{INDEX} places {count} tensors there: the download is incomplete"),
        };
        ArtifactError::missing(source.path(file), hint)
    }

    /// Checks that every tensor of the index is in the shard that it names.
    ///
    /// `has(tensor, file)`: whether that file's header has that tensor.
    pub(super) fn check(&self, source: &Source, has: impl Fn(&str, &str) -> bool) -> Result<(), ArtifactError> {
        let fault = self.weight_map.iter().flatten().find(|(tensor, file)| !has(tensor, file));
        fault.map_or(Ok(()), |(tensor, file)| {
            let what = format!("weight_map.{}: \"{}\": that shard has no such tensor", shown(tensor), shown(file));
            Err(ArtifactError::damaged(source.path(INDEX), what))
        })
    }
}
