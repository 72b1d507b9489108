//! Checkpoints with something changed.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use tempfile::TempDir;

use crate::artifact::{Checkpoint, HeadSource, TensorInfo};

/// A tensor on its way into a changed copy.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major, little-endian.
    pub bytes: Vec<u8>,
}

/// A copy of `checkpoint`, its configuration changed by `config` and its tensors by `tensor`, which is told each name and
/// returns `None` for one that is to be left out. The trunk is in one file, the head in its own where it was.
#[must_use]
pub fn rewritten(
    checkpoint: &Checkpoint,
    config: impl FnOnce(&mut Value),
    mut tensor: impl FnMut(&str, Tensor) -> Option<Tensor>,
) -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    let text = checkpoint.text_file("config.json").expect("config.json").expect("config.json");
    let mut json = serde_json::from_str(&text).expect("config.json");
    config(&mut json);
    std::fs::write(dir.path().join("config.json"), json.to_string()).expect("config.json");
    let sidecar = match checkpoint.head_source() {
        HeadSource::File(file) => Some(file.as_str()),
        _ => None,
    };
    let belongs = |info: &TensorInfo, head: bool| (Some(&*info.file) == sidecar) == head;
    write(checkpoint, &dir.path().join("model.safetensors"), |info| belongs(info, false), &mut tensor);
    if let Some(file) = sidecar {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        write(checkpoint, &path, |info| belongs(info, true), &mut tensor);
    }
    dir
}

/// A copy of `checkpoint` with more tensors, each one f32 zero, in the trunk's file, or in the head's where they are named
/// as its own.
#[must_use]
pub fn with_zeros(checkpoint: &Checkpoint, names: &[String]) -> TempDir {
    let dir = rewritten(checkpoint, |_| {}, |_, tensor| Some(tensor));
    let (head, trunk): (Vec<&String>, Vec<&String>) = match checkpoint.head_source() {
        HeadSource::File(_) => names.iter().partition(|name| name.contains("mtp.")),
        _ => (Vec::new(), names.iter().collect()),
    };
    let sidecar = match checkpoint.head_source() {
        HeadSource::File(file) => file.as_str(),
        _ => "mtp.safetensors",
    };
    for (file, names) in [("model.safetensors", trunk), (sidecar, head)] {
        if names.is_empty() {
            continue;
        }
        let path = dir.path().join(file);
        let bytes = std::fs::read(&path).expect("a weight file");
        let stored = safetensors::SafeTensors::deserialize(&bytes).expect("a weight file");
        let zero = |name: &String| (name.clone(), TensorView::new(Dtype::F32, vec![1], &[0; 4]).expect("a number"));
        let views = stored.iter().map(|(name, view)| (name.to_owned(), view)).chain(names.into_iter().map(zero));
        safetensors::serialize_to_file(views, None, &path).expect("a weight file");
    }
    dir
}

fn write(
    checkpoint: &Checkpoint,
    path: &Path,
    here: impl Fn(&TensorInfo) -> bool,
    change: &mut impl FnMut(&str, Tensor) -> Option<Tensor>,
) {
    let tensors: Vec<(&str, Tensor)> = checkpoint
        .tensors()
        .filter(|(_, info)| here(info))
        .filter_map(|(name, info)| {
            let bytes = checkpoint.bytes(name).expect("bytes").to_vec();
            Some((name, change(name, Tensor { dtype: info.dtype, shape: info.shape.clone(), bytes })?))
        })
        .collect();
    let views = tensors.iter().map(|(name, Tensor { dtype, shape, bytes })| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape says"))
    });
    safetensors::serialize_to_file(views, None, path).expect("a weight file");
}
