//! Tiny random checkpoints, written to a temporary folder: real files for the real loader.
//!
//! Which tensors a family has is the family's business: its crate names them, this module fills and writes them.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::Rng;
use crate::LoadError;
use crate::architecture::{LoadOptions, MtpArchitecture, Precision};
use crate::artifact::Checkpoint;
use crate::artifact::expected::{Expected, TensorRole};
use crate::model::MtpModel;

/// What a tensor is filled with.
#[derive(Debug, Clone, Copy)]
pub enum Fill {
    /// Normal with this standard deviation.
    Normal(f64),
    /// Normal with standard deviation `gain / sqrt(last axis)`: unit inputs give outputs of about `gain`.
    Linear(f64),
    /// Uniform between the two.
    Between(f64, f64),
}

impl Fill {
    /// What a tensor of this name and rank is likely to be. Gains are above a trained model's, so that what a layer
    /// remembers matters to the next token: a stale state must show.
    fn of(name: &str, rank: usize) -> Self {
        let is = |part: &str| name.contains(part);
        match rank {
            1 if is("norm") => Self::Between(0.8, 1.2),
            1 => Self::Normal(0.1),
            _ if is("embed_tokens") => Self::Normal(1.0),
            _ if is(".o_proj") => Self::Linear(3.0),
            _ if is(".v_proj") || is("unembed_out") => Self::Linear(2.0),
            _ if is("self_attn") => Self::Linear(1.5),
            _ if is("lm_head") => Self::Linear(1.2),
            _ => Self::Linear(1.0),
        }
    }
}

/// A checkpoint in the making.
pub struct TinyCheckpoint {
    config: Value,
    rng: Rng,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
    tokenizer: Option<Value>,
}

impl TinyCheckpoint {
    /// With this `config.json` and tensors drawn from `seed`, in the order in which they are named.
    #[must_use]
    pub fn new(config: Value, seed: u64) -> Self {
        Self { config, rng: Rng::new(seed), tensors: Vec::new(), tokenizer: None }
    }

    /// With every tensor of the model that `config` describes, trunk and draft head, under the names they are published by.
    ///
    /// # Panics
    /// When the architecture cannot read the configuration.
    #[must_use]
    pub fn planned(architecture: &dyn MtpArchitecture, config: Value, seed: u64) -> Self {
        Self::with_roles(architecture, config, seed, &[TensorRole::Trunk, TensorRole::Head])
    }

    /// The same without its draft head.
    ///
    /// # Panics
    /// When the architecture cannot read the configuration.
    #[must_use]
    pub fn planned_trunk(architecture: &dyn MtpArchitecture, config: Value, seed: u64) -> Self {
        Self::with_roles(architecture, config, seed, &[TensorRole::Trunk])
    }

    fn with_roles(architecture: &dyn MtpArchitecture, config: Value, seed: u64, roles: &[TensorRole]) -> Self {
        let mut checkpoint = Self::new(config, seed);
        checkpoint.fill(|checkpoint| {
            let mut list = Vec::new();
            let plan = architecture.plan(checkpoint).unwrap_or_else(|error| panic!("{error}"));
            plan.tensors(checkpoint, &mut |role, expected| list.extend(roles.contains(&role).then_some(expected)));
            list
        });
        checkpoint
    }

    /// Adds a tokenizer whose tokens are the 256 bytes, so that the program can run it: the vocabulary must be as large.
    pub fn byte_tokenizer(&mut self) -> &mut Self {
        let vocab: Map<String, Value> =
            (0..=255).map(|byte: u8| (byte_symbol(byte).to_string(), json!(byte))).collect();
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        self.tokenizer = Some(json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
            "pre_tokenizer": byte_level, "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        }));
        self
    }

    /// Adds an f32 tensor.
    pub fn tensor(&mut self, name: impl Into<String>, shape: &[usize], fill: Fill) -> &mut Self {
        let count = shape.iter().product();
        let width = shape.last().copied().unwrap_or(1) as f64;
        let value = |rng: &mut Rng| match fill {
            Fill::Normal(deviation) => deviation * rng.normal(),
            Fill::Linear(gain) => gain / width.sqrt() * rng.normal(),
            Fill::Between(low, high) => low + (high - low) * rng.uniform(),
        };
        let bytes = (0..count).flat_map(|_| (value(&mut self.rng) as f32).to_le_bytes()).collect();
        self.tensors.push((name.into(), shape.to_vec(), bytes));
        self
    }

    /// Adds every tensor that `plan` expects where a checkpoint has this configuration and nothing else, each filled as
    /// its name suggests.
    ///
    /// # Panics
    /// When the configuration cannot be read.
    pub fn fill(&mut self, plan: impl FnOnce(&Checkpoint) -> Vec<Expected>) -> &mut Self {
        let dir = Self::new(self.config.clone(), 0).tensor("nothing", &[1], Fill::Normal(1.0)).write();
        for expected in plan(&Checkpoint::open(dir.path()).expect("a checkpoint")) {
            let (name, shape) = match expected {
                Expected::Tensor { name, shape } => (name, shape),
                Expected::Norm { name, width } => (name, vec![width]),
                Expected::Module { module, shape } => (format!("{module}.weight"), shape),
            };
            let fill = Fill::of(&name, shape.len());
            self.tensor(name, &shape, fill);
        }
        self
    }

    /// Writes it to a folder of its own.
    ///
    /// # Panics
    /// When the file system fails.
    #[must_use]
    pub fn write(&self) -> TempDir {
        let dir = TempDir::new().expect("a temporary folder");
        self.write_to(dir.path());
        dir
    }

    /// Writes it to `dir`, which is there.
    ///
    /// # Panics
    /// When the file system fails.
    pub fn write_to(&self, dir: &Path) {
        std::fs::write(dir.join("config.json"), self.config.to_string()).expect("config.json");
        if let Some(tokenizer) = &self.tokenizer {
            std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).expect("tokenizer.json");
        }
        let views = self.tensors.iter().map(|(name, shape, bytes)| {
            (
                name.as_str(),
                TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many values as the shape says"),
            )
        });
        safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).expect("model.safetensors");
    }

    /// Writes and loads it, in f32.
    ///
    /// # Panics
    /// When `architecture` does not take it.
    #[must_use]
    pub fn load(&self, architecture: &dyn MtpArchitecture) -> MtpModel {
        // Weights are read at load, so the folder may go.
        load(architecture, self.write().path())
    }
}

/// What byte-level tokenizers write for a byte: itself where it can be seen, else a character beyond the 256 (GPT-2).
fn byte_symbol(byte: u8) -> char {
    let visible = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..);
    if visible(&byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !visible(byte)).count() as u32;
    char::from_u32(256 + before).unwrap_or_default()
}

/// Loads the checkpoint in `dir` in f32.
///
/// # Panics
/// When it does not load.
#[must_use]
pub fn load(architecture: &dyn MtpArchitecture, dir: &Path) -> MtpModel {
    let checkpoint = Checkpoint::open(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let options = LoadOptions { precision: Precision::F32, ..LoadOptions::default() };
    let model = architecture.plan(&checkpoint).map_err(LoadError::from);
    let model = model.and_then(|plan| plan.load(&checkpoint, &options));
    model.unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}
