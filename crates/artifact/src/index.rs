//! Which files hold the trunk: those of `model.safetensors.index.json`, `model.safetensors`, or whatever safetensors there
//! are. The index is a hint: conversions leave the one of their source behind.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ArtifactError, shown};
use super::header::Unique;
use super::source::{Source, check_name};
use super::{json, sidecar};

/// The index file.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Largest index in bytes.
const MAX_INDEX: usize = 64 << 20;
/// Most shards.
const MAX_SHARDS: usize = 4096;

/// The trunk's files, and what the index claims of them.
#[derive(Default)]
pub struct Shards {
    /// File names, sorted.
    pub files: BTreeSet<String>,
    /// Tensor to file, where there is an index and its files are there.
    pub(super) weight_map: Option<BTreeMap<String, String>>,
    /// How many tensors the index places in a file.
    placed: BTreeMap<String, usize>,
    /// The reason why the index is ignored as one of another build.
    pub(super) stale: Option<String>,
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
        let there = |file: &str| source.is_there(file);
        return chosen(parse(&source.path(INDEX), &bytes), &source.path(INDEX), names, there);
    }
    let files = without_index(names, |name| source.path(name))?;
    Ok(Shards { files, ..Shards::default() })
}

/// The files by an index, or by their names where the index cannot be theirs: it names files that are not there, or is no
/// index, and a whole set of weights is. mlx-lm goes by names alone.
pub(super) fn chosen(
    index: Result<Shards, ArtifactError>,
    path: &str,
    names: &[String],
    there: impl Fn(&str) -> bool,
) -> Result<Shards, ArtifactError> {
    let (none_there, why) = match &index {
        Ok(index) => {
            let absent: Vec<_> = index.files.iter().filter(|file| !there(file) && !index.is_apart(file)).collect();
            let why = absent.first().map(|first| {
                let more = if absent.len() > 1 { format!(" and {} more", absent.len() - 1) } else { String::new() };
                format!("weight_map: \"{}\"{more}: not there", shown(first))
            });
            (absent.len() == index.files.len(), why)
        }
        // A finding names the file itself.
        Err(error) => (true, Some(error.to_string().replacen(&format!("{path}: "), "", 1))),
    };
    let Some(why) = why else { return Ok(index?.with_siblings(names)) };
    match whole_set(names, none_there) {
        Some(files) => Ok(Shards { files, stale: Some(why), ..Shards::default() }),
        None => index,
    }
}

/// Files that are a model's whole weights by their names: `model.safetensors`, shards as many as each of them says, or, with
/// `any`, whatever else begins as mlx-lm wants it.
fn whole_set(names: &[String], any: bool) -> Option<BTreeSet<String>> {
    let of_trunk = |name: &&String| is_model(name) && !sidecar::is_sidecar(name) && !sidecar::is_vision_file(name);
    let candidates: Vec<&String> = names.iter().filter(of_trunk).collect();
    if candidates.iter().any(|name| *name == SINGLE) {
        return Some(BTreeSet::from([SINGLE.to_owned()]));
    }
    let mut sets: BTreeMap<(&str, usize), BTreeSet<String>> = BTreeMap::new();
    for name in &candidates {
        if let Some((stem, _, of)) = numbered(name) {
            sets.entry((stem, of)).or_default().insert((*name).clone());
        }
    }
    let numbers = !sets.is_empty();
    let whole = sets.into_iter().find(|((_, of), files)| files.len() == *of).map(|(_, files)| files);
    let rest = || candidates.into_iter().cloned().collect::<BTreeSet<_>>();
    whole.or_else(|| (any && !numbers).then(rest).filter(|files| !files.is_empty()))
}

/// The one file of a model that has one.
const SINGLE: &str = "model.safetensors";

/// True for the names that mlx-lm reads.
fn is_model(name: &str) -> bool {
    name.starts_with("model") && name.ends_with(".safetensors")
}

/// `model-00002-of-00003.safetensors` as its stem, number and count.
fn numbered(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, of) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let (number, of) = (number.parse().ok()?, of.parse().ok()?);
    (1..=of).contains(&number).then_some((stem, number, of))
}

/// Files beside the chosen ones that mlx-lm reads as well: read where none of their tensors is in the others.
pub(super) fn beside<'a>(shards: &Shards, names: &'a [String]) -> impl Iterator<Item = &'a String> {
    let plain = |name: &&String| is_model(name) && numbered(name).is_none() && !sidecar::is_sidecar(name);
    let plain = names.iter().filter(plain);
    plain.filter(|name| !sidecar::is_vision_file(name) && !shards.files.contains(*name))
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
    let files: BTreeSet<String> = if names.iter().any(|name| name == SINGLE) {
        BTreeSet::from([SINGLE.to_owned()])
    } else {
        safetensors.filter(|name| !sidecar::is_sidecar(name) && !sidecar::is_vision_file(name)).cloned().collect()
    };
    // A draft head may be published by itself, under a sidecar's name.
    let has_sidecar = names.iter().any(|name| sidecar::is_sidecar(name));
    match files.is_empty().then(|| no_weights(path, names)) {
        None => Ok(files),
        Some(ArtifactError::Missing { .. }) if has_sidecar => Ok(files),
        Some(error) => Err(error),
    }
}

/// Parses and checks the index; `path` names it in errors.
pub fn parse(path: &str, bytes: &[u8]) -> Result<Shards, ArtifactError> {
    let Index { weight_map: Unique(weight_map) } =
        json::from_slice(bytes).map_err(|error| ArtifactError::damaged(path, format!("not an index: {error}")))?;
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
    Ok(Shards { files, weight_map: Some(weight_map), placed, stale: None })
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
    pub fn tensors_of<'a>(&'a self, file: &'a str) -> impl Iterator<Item = &'a str> {
        self.weight_map.iter().flatten().filter(move |(_, shard)| *shard == file).map(|(tensor, _)| tensor.as_str())
    }

    /// True for a file that the trunk does without: a draft head alone, or vision parts alone.
    fn is_apart(&self, file: &str) -> bool {
        self.tensors_of(file).all(sidecar::is_mtp) || self.is_of_vision(file)
    }

    /// True for a file of vision parts alone.
    pub(super) fn is_of_vision(&self, file: &str) -> bool {
        let placed = self.placed.contains_key(file);
        placed && (sidecar::is_vision_file(file) || self.tensors_of(file).all(sidecar::is_vision))
    }

    /// With shards that the index leaves out and that carry the same count as those that it names.
    fn with_siblings(mut self, names: &[String]) -> Self {
        let sets: BTreeSet<(String, usize)> =
            self.files.iter().filter_map(|file| numbered(file)).map(|(stem, _, of)| (stem.to_owned(), of)).collect();
        let same = |name: &&String| numbered(name).is_some_and(|(stem, _, of)| sets.contains(&(stem.to_owned(), of)));
        self.files.extend(names.iter().filter(same).cloned());
        self
    }

    /// The error of a shard that is not there.
    pub(super) fn missing(&self, source: &Source, file: &str) -> ArtifactError {
        let hint = match self.placed.get(file).copied().unwrap_or(0) {
            0 => "the file went away while the folder was read".into(),
            count => source.incomplete_since(&format!("{INDEX} places {count} tensors there: ")),
        };
        ArtifactError::missing(source.path(file), hint)
    }

    /// The tensors of the index that are not in the shard that it names.
    ///
    /// `has(tensor, file)`: whether that file's header has that tensor.
    pub(super) fn misplaced<'a>(&'a self, has: impl Fn(&str, &str) -> bool + 'a) -> impl Iterator<Item = &'a str> {
        self.weight_map.iter().flatten().filter(move |(tensor, file)| !has(tensor, file)).map(|(tensor, _)| &**tensor)
    }
}
