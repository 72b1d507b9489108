//! Checkpoint folders with expected values: what a conformance test is given.
//!
//! A fixture is a folder with a checkpoint, and perhaps subfolders with variants of it (`mlx_f32`, `mlx_q4g32`). Beside
//! the checkpoint lie, where there are any, `golden.safetensors` (tensors as in [`crate::parity`], `greedy_ids`) and
//! `golden.json` (`spec_trace_K1` and further: rounds as `[draft ids, accepted]`).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::company::in_company;
use super::tiny;
use crate::architecture::{Detection, MtpArchitecture};
use crate::artifact::Checkpoint;
use crate::model::MtpModel;
use crate::parity::Reference;

/// A checkpoint in a folder, with what is expected of it.
#[derive(Debug)]
pub struct Fixture {
    /// The folder's path, for failures.
    pub name: String,
    dir: PathBuf,
    golden: Option<Vec<u8>>,
    facts: Value,
    /// True where two other sequences are in every pass.
    in_company: bool,
}

/// A round of an expected trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRound {
    /// The drafts.
    pub drafts: Vec<u32>,
    /// How many stay.
    pub accepted: usize,
}

impl Fixture {
    /// The checkpoints in `folder` and in its subfolders.
    ///
    /// # Panics
    /// When there is none, or a file cannot be read.
    #[must_use]
    pub fn all(folder: &Path) -> Vec<Self> {
        let mut dirs = vec![folder.to_owned()];
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        dirs.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()));
        dirs.sort();
        let fixtures: Vec<_> = dirs
            .into_iter()
            .filter(|dir| dir.join("config.json").is_file())
            .map(|dir| Self::open(folder, dir))
            .collect();
        assert!(!fixtures.is_empty(), "{}: no checkpoint here", folder.display());
        fixtures
    }

    fn open(folder: &Path, dir: PathBuf) -> Self {
        let base = folder.parent().unwrap_or(folder);
        let name = dir.strip_prefix(base).unwrap_or(&dir).display().to_string();
        let golden = std::fs::read(dir.join("golden.safetensors")).ok();
        let facts = std::fs::read(dir.join("golden.json")).ok();
        let facts = facts.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).expect("golden.json"));
        Self { name, dir, golden, facts, in_company: false }
    }

    /// The same expectations of another folder, forged from this one.
    #[must_use]
    pub fn forged_to(&self, dir: PathBuf) -> Self {
        let (golden, facts) = (self.golden.clone(), self.facts.clone());
        Self { name: format!("{}, forged", self.name), dir, golden, facts, in_company: self.in_company }
    }

    /// The same with two other sequences in every pass of its model.
    #[must_use]
    pub fn in_company(&self) -> Self {
        let (golden, facts) = (self.golden.clone(), self.facts.clone());
        Self { name: format!("{}, batch of 3", self.name), dir: self.dir.clone(), golden, facts, in_company: true }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The opened checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::open(&self.dir).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Whether `architecture` claims it.
    #[must_use]
    pub fn is_of(&self, architecture: &dyn MtpArchitecture) -> bool {
        architecture.detect(&self.checkpoint()) != Detection::No
    }

    /// The model, in f32.
    #[must_use]
    pub fn load(&self, architecture: &dyn MtpArchitecture) -> MtpModel {
        let model = tiny::load(architecture, &self.dir);
        if self.in_company { in_company(model) } else { model }
    }

    /// The expected tensors, if there are any.
    #[must_use]
    pub fn golden(&self) -> Option<Reference<'_>> {
        self.golden
            .as_deref()
            .map(|bytes| Reference::parse(bytes).unwrap_or_else(|error| panic!("{}: {error}", self.name)))
    }

    /// A list of ids among the expected tensors.
    #[must_use]
    pub fn ids(&self, name: &str) -> Option<Vec<u32>> {
        let ids =
            self.golden()?.ids(name, i32::MAX as usize).unwrap_or_else(|error| panic!("{}: {error}", self.name))?;
        Some(ids.into_iter().map(|id| id as u32).collect())
    }

    /// A prompt: the golden one, or tokens of a fixed choice.
    #[must_use]
    pub fn prompt(&self, vocab: usize) -> Vec<u32> {
        self.ids("input_ids").unwrap_or_else(|| super::Rng::new(17).tokens(24, vocab))
    }

    /// The expected rounds at draft depth `depth`, where the fixture has them.
    #[must_use]
    pub fn trace(&self, depth: usize) -> Option<Vec<TraceRound>> {
        let rounds = self.facts.get(format!("spec_trace_K{depth}"))?.as_array()?;
        let round = |round: &Value| {
            let drafts = round.get(0)?.as_array()?.iter().map(|id| id.as_u64().map(|id| id as u32));
            Some(TraceRound { drafts: drafts.collect::<Option<_>>()?, accepted: round.get(1)?.as_u64()? as usize })
        };
        Some(rounds.iter().map(|entry| round(entry).unwrap_or_else(|| panic!("{}: {entry}", self.name))).collect())
    }
}
