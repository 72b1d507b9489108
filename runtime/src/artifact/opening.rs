//! A checkpoint in the making: weight files opened one after the other, their tensors in one map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::config::Config;
use super::error::{ArtifactError, shown};
use super::header::{self, TensorInfo};
use super::sidecar::{self, HeadSource, SIDECARS};
use super::source::{Bytes, Source};

/// A weight file with its header parsed.
pub(super) struct Opened {
    file: Arc<str>,
    bytes: Bytes,
    tensors: Vec<(String, TensorInfo)>,
}

/// The maps that a checkpoint is put together in.
pub(super) struct Opening<'a> {
    source: &'a Source,
    pub(super) files: BTreeMap<Arc<str>, Bytes>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    pub(super) vision: BTreeMap<String, TensorInfo>,
    /// Files that should hold a head and do not.
    pub(super) foreign: Vec<String>,
    pub(super) refusals: Vec<ArtifactError>,
    /// The files among them.
    refused: BTreeSet<Arc<str>>,
}

impl<'a> Opening<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self {
            source,
            files: BTreeMap::new(),
            tensors: BTreeMap::new(),
            vision: BTreeMap::new(),
            foreign: Vec::new(),
            refusals: Vec::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Opens a weight file; `None` when it is not there, was opened before, or is refused.
    pub(super) fn open(&mut self, file: &str) -> Result<Option<Opened>, ArtifactError> {
        if self.files.contains_key(file) || self.is_refused(file) {
            return Ok(None);
        }
        let Some(bytes) = self.source.map(file)? else { return Ok(None) };
        let file: Arc<str> = file.into();
        match header::parse(&self.source.path(&file), &file, &bytes) {
            Err(error @ ArtifactError::Refused { .. }) => {
                self.refusals.push(error);
                self.refused.insert(file);
                Ok(None)
            }
            tensors => Ok(Some(Opened { tensors: tensors?, file, bytes })),
        }
    }

    /// Whether a file is one that is never read.
    pub(super) fn is_refused(&self, file: &str) -> bool {
        self.refused.contains(file)
    }

    /// Adds a file's tensors.
    pub(super) fn add(&mut self, opened: Opened) -> Result<(), ArtifactError> {
        let Opened { file, bytes, tensors } = opened;
        for (name, info) in tensors {
            if sidecar::is_vision(&name) || sidecar::is_vision_file(&file) {
                self.vision.insert(name, info);
                continue;
            }
            if let Some(other) = self.tensors.get(&name) {
                let what = format!("tensor {}: also in {}", shown(&name), shown(&other.file));
                return Err(ArtifactError::damaged(self.source.path(&file), what));
            }
            self.tensors.insert(name, info);
        }
        self.files.insert(file, bytes);
        Ok(())
    }

    /// Finds the draft head and adds its file.
    pub(super) fn add_head(&mut self, announced: Option<&str>, config: &Config) -> Result<HeadSource, ArtifactError> {
        for file in announced.into_iter().chain(SIDECARS) {
            let Some(opened) = self.open(file)? else { continue };
            if opened.tensors.iter().any(|(name, _)| sidecar::is_mtp(name)) {
                self.tensors.retain(|name, _| !sidecar::is_mtp(name));
                self.add(opened)?;
                return Ok(HeadSource::File(file.to_owned()));
            }
            if !self.foreign.iter().any(|known| known == file) {
                self.foreign.push(file.to_owned());
            }
        }
        let layers = config.text().size("num_hidden_layers", usize::MAX).ok();
        let in_shards = self.tensors.keys().any(|name| sidecar::is_head(name, layers));
        Ok(if in_shards { HeadSource::Shards } else { HeadSource::None })
    }
}
