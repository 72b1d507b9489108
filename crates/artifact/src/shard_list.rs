//! Which weight files a checkpoint is read from, told by names alone: for whoever downloads one.
//!
//! The same rules as [`super::Checkpoint::open`] follows, over a list instead of a folder.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::ArtifactError;
use super::index::{self, INDEX};
use super::json;
use super::sidecar::{self, SIDECARS};

/// The weight files that a checkpoint with files of these `names` is read from: the trunk's shards, the draft head's
/// sidecar, vision parts.
///
/// `config` and `index` are the bytes of `config.json` and, where there is one, `model.safetensors.index.json`; `path` turns a
/// name into what errors call it. A file that the index or the configuration names is listed only if `names` has it: what
/// its absence means is for [`super::Checkpoint::open`] to say.
///
/// # Errors
/// No weights, or only in formats that are never read; an index that is none.
pub fn weight_files(
    names: &[String],
    config: &[u8],
    index: Option<&[u8]>,
    path: impl Fn(&str) -> String,
) -> Result<BTreeSet<String>, ArtifactError> {
    let top: Vec<String> = names.iter().filter(|name| !name.contains('/')).cloned().collect();
    let mut files = match index {
        Some(bytes) => {
            let there = |file: &str| names.iter().any(|name| name == file);
            index::chosen(index::parse(&path(INDEX), bytes), &path(INDEX), &top, there)?.files
        }
        None => index::without_index(&top, &path)?,
    };
    // Only this one field: whether the rest describes a model is not asked here.
    let config: Value = json::from_slice(config).unwrap_or_default();
    let announced = config.pointer("/mlx_lm_extra_tensors/mtp_file").and_then(Value::as_str);
    files.extend(announced.filter(|name| name.ends_with(".safetensors")).map(str::to_owned));
    files.extend(SIDECARS.map(str::to_owned));
    files.extend(top.into_iter().filter(|name| sidecar::is_vision_file(name)));
    files.retain(|file| names.contains(file));
    Ok(files)
}
