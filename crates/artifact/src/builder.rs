//! A checkpoint in the making: weight files opened one after the other, their tensors in one map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::config::Config;
use super::error::{ArtifactError, shown};
use super::header;
use super::sidecar::{self, Bare, HeadSource, SIDECARS};
use super::source::{Bytes, Source};
use super::tensor_info::TensorInfo;

/// A weight file with its header parsed.
pub(super) struct WeightFile {
    file: Arc<str>,
    bytes: Bytes,
    tensors: Vec<(String, TensorInfo)>,
}

/// The maps that a checkpoint is put together in.
pub(super) struct CheckpointBuilder<'a> {
    source: &'a Source,
    pub(super) files: BTreeMap<Arc<str>, Bytes>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    pub(super) vision: BTreeMap<String, TensorInfo>,
    /// Files that should hold a head and do not.
    pub(super) foreign: Vec<String>,
    pub(super) refusals: Vec<ArtifactError>,
    /// Files that are missing, damaged or never read, as the refusals say.
    left_out: BTreeSet<Arc<str>>,
}

impl<'a> CheckpointBuilder<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self {
            source,
            files: BTreeMap::new(),
            tensors: BTreeMap::new(),
            vision: BTreeMap::new(),
            foreign: Vec::new(),
            refusals: Vec::new(),
            left_out: BTreeSet::new(),
        }
    }

    /// What was read; an error is one of the refusals.
    pub(super) fn noted<T>(&mut self, result: Result<T, ArtifactError>) -> Option<T> {
        result.map_err(|error| self.refusals.push(error)).ok()
    }

    /// Leaves a file out.
    pub(super) fn leave_out(&mut self, file: &str, why: ArtifactError) {
        self.refusals.push(why);
        self.left_out.insert(file.into());
    }

    /// Whether a file was left out.
    pub(super) fn is_left_out(&self, file: &str) -> bool {
        self.left_out.contains(file)
    }

    /// Whether any file was left out.
    pub(super) fn has_left_out(&self) -> bool {
        !self.left_out.is_empty()
    }

    /// Whether a file was found, be it to be left out.
    pub(super) fn is_there(&self, file: &str) -> bool {
        self.files.contains_key(file) || self.is_left_out(file)
    }

    /// Opens a weight file; `None` when it is not there, was opened before, or is left out.
    fn open(&mut self, file: &str) -> Option<WeightFile> {
        if self.is_there(file) {
            return None;
        }
        self.read(file).unwrap_or_else(|error| {
            self.leave_out(file, error);
            None
        })
    }

    /// Adds a weight file, or leaves it out; whether it was there.
    pub(super) fn take(&mut self, file: &str) -> bool {
        let opened = self.open(file);
        opened.map(|opened| self.add(opened)).is_some() || self.is_there(file)
    }

    /// Adds a weight file whose tensors are all new; any other is nobody's.
    pub(super) fn take_new(&mut self, file: &str) {
        if let Ok(Some(opened)) = self.read(file)
            && opened.tensors.iter().all(|(name, _)| !self.tensors.contains_key(name))
        {
            self.add(opened);
        }
    }

    /// A weight file with its header parsed; `None` when it is not there.
    fn read(&self, file: &str) -> Result<Option<WeightFile>, ArtifactError> {
        let Some(bytes) = self.source.map(file)? else { return Ok(None) };
        let file: Arc<str> = file.into();
        let tensors = header::parse(&self.source.path(&file), &file, &bytes)?;
        Ok(Some(WeightFile { tensors, file, bytes }))
    }

    /// Adds a file's tensors, but for those of a name that another file has.
    fn add(&mut self, opened: WeightFile) {
        let WeightFile { file, bytes, tensors } = opened;
        let mut twice = None;
        for (name, info) in tensors {
            if sidecar::is_vision(&name) || sidecar::is_vision_file(&file) {
                self.vision.insert(name, info);
            } else if let Some(other) = self.tensors.get(&name) {
                twice.get_or_insert_with(|| format!("tensor {}: also in {}", shown(&name), shown(&other.file)));
            } else {
                self.tensors.insert(name, info);
            }
        }
        self.refusals.extend(twice.map(|what| ArtifactError::damaged(self.source.path(&file), what)));
        self.files.insert(file, bytes);
    }

    /// Finds the draft head and adds its file.
    pub(super) fn add_head(&mut self, announced: Option<&str>, config: &Config) -> HeadSource {
        let layers = config.text().size("num_hidden_layers", usize::MAX).ok();
        for file in announced.into_iter().chain(SIDECARS) {
            let Some(mut opened) = self.open(file) else { continue };
            sidecar::rename_to_known(&mut opened.tensors, layers);
            if opened.tensors.iter().any(|(name, _)| sidecar::is_head(name, layers)) {
                self.tensors.retain(|name, _| !sidecar::is_head(name, layers));
                self.add(opened);
                return HeadSource::File(file.to_owned());
            }
            if !self.foreign.iter().any(|known| known == file) {
                self.foreign.push(file.to_owned());
            }
        }
        let in_shards = self.tensors.keys().any(|name| sidecar::is_head(name, layers));
        if in_shards { HeadSource::Shards } else { HeadSource::None }
    }

    /// Takes the weights as a draft head that is published by itself, if they are one; the file that holds it.
    pub(super) fn head_alone(&mut self, config: &Config) -> Option<HeadSource> {
        let layers = config.text().size("num_hidden_layers", usize::MAX).ok();
        let bare = Bare::of(self.tensors.keys().map(String::as_str))?;
        let tensors = std::mem::take(&mut self.tensors);
        self.tensors = tensors.into_iter().map(|(name, info)| (bare.known(&name, layers), info)).collect();
        self.tensors.values().next().map(|info| HeadSource::File(info.file.to_string()))
    }
}
