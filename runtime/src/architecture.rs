//! What an architecture crate implements: a stateless factory that recognises a checkpoint and loads it.
//!
//! The factory works without a device; the loaded model ([`crate::model::MtpModel`]) is the heavy part.

use std::fmt;

use crate::LoadError;
use crate::artifact::expected::{self, Expected, TensorRole};
use crate::artifact::{ArtifactError, Checkpoint, HeadSource, NormEncoding, NormRule, Rules};
use crate::mlx::{self, Device};
use crate::model::MtpModel;

/// How far an architecture's evidence reaches. The program decides: [`crate::registry::Registry::verified`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Checked against independent references and shipped with evidence.
    Verified,
    /// Implemented; each artifact needs evidence of its own.
    Recognized,
}

/// The constant facts of an architecture.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Descriptor {
    /// The contract's `arch_id`, such as `qwen3-next-mtp`.
    pub id: &'static str,
    /// A name for people.
    pub name: &'static str,
    /// The exact values of `config.json`'s `model_type` that this architecture claims.
    pub model_types: &'static [&'static str],
    /// How far the evidence reaches by what its crate claims.
    pub tier: Tier,
    /// The largest draft depth that the loop may ask for.
    pub max_depth: usize,
    /// The crate that implements it.
    pub crate_name: &'static str,
    /// That crate's version.
    pub crate_version: &'static str,
}

impl Descriptor {
    /// Whether the checkpoint's `model_type` is one of these.
    pub fn claims(&self, checkpoint: &Checkpoint) -> bool {
        self.model_types.contains(&checkpoint.config().model_type())
    }
}

/// What [`MtpArchitecture::detect`] says of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detection {
    /// Another architecture's checkpoint.
    No,
    /// This architecture's, with the state of its draft head.
    Claimed {
        /// Whether the draft head is there.
        head: HeadStatus,
    },
}

/// The state of a checkpoint's draft head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadStatus {
    /// Every tensor is there and fits.
    Complete,
    /// Neither announced nor present.
    Absent,
    /// Announced by the configuration or partly present.
    Incomplete {
        /// Tensors that are not there.
        missing: Vec<String>,
        /// Tensors whose shape does not fit, each with what was found and what was expected.
        misshapen: Vec<String>,
    },
}

impl HeadStatus {
    /// Judges by the headers: the head must consist of `expected`.
    pub fn judge(checkpoint: &Checkpoint, expected: &[Expected]) -> Self {
        let (missing, misshapen) = expected::check(checkpoint, expected);
        if missing.is_empty() && misshapen.is_empty() {
            Self::Complete
        } else {
            Self::Incomplete { missing, misshapen }
        }
    }

    /// For a checkpoint whose configuration cannot be read: whether there is a head at all. Loading it says what is wrong
    /// with the configuration.
    pub fn unjudged(checkpoint: &Checkpoint) -> Self {
        if *checkpoint.head_source() == HeadSource::None { Self::Absent } else { Self::Complete }
    }
}

/// The arithmetic that a model is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32 on CPU, [`Precision::Native`] on a GPU.
    #[default]
    Auto,
    /// Every weight dequantized to f32, every activation in f32.
    F32,
    /// Weights stay quantized; activations in the checkpoint's own floating type.
    Native,
}

impl Precision {
    /// Whether everything is f32 on the device in use. MLX's packed products on a CPU have no vector code, and are slowest of all in
    /// bf16.
    #[must_use]
    pub fn is_f32(self) -> bool {
        match self {
            Self::F32 => true,
            Self::Native => false,
            Self::Auto => mlx::default_device() == Device::Cpu,
        }
    }
}

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The arithmetic.
    pub precision: Precision,
    /// Leave the draft head out.
    pub trunk_only: bool,
}

/// What only the family can tell of a checkpoint without loading it. What it does not tell is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckpointFacts {
    /// What a sequence holds beside the weights.
    pub cache: Option<CacheSize>,
    /// How the draft head's norms are stored, and which rule said so; where the family has more than one way.
    pub norms: Option<(NormEncoding, NormRule)>,
}

/// The size of a sequence's cache and of its draft head's history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheSize {
    /// Elements that each row of context adds, in the type of the activations.
    pub row_elements: usize,
    /// Bytes of states that do not grow.
    pub state_bytes: usize,
}

impl CacheSize {
    /// Bytes after `rows` rows, with activations of `width` bytes.
    #[must_use]
    pub fn bytes(&self, rows: usize, width: usize) -> u64 {
        let [elements, rows, width] = [self.row_elements, rows, width].map(|n| n as u64);
        elements.saturating_mul(rows).saturating_mul(width).saturating_add(self.state_bytes as u64)
    }
}

/// An architecture: recognises its checkpoints and loads them.
///
/// Register an implementation with [`crate::register_architecture!`].
pub trait MtpArchitecture: Send + Sync + 'static {
    /// The constant facts.
    fn descriptor(&self) -> &'static Descriptor;

    /// Looks at configuration and tensor headers only.
    fn detect(&self, checkpoint: &Checkpoint) -> Detection;

    /// Loads trunk and draft head.
    ///
    /// # Errors
    /// Names the file, the field or tensor, the value found and the one expected.
    fn load(&self, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<MtpModel, LoadError>;

    /// Calls `each` with every tensor that [`MtpArchitecture::load`] reads of this checkpoint, as far as configuration and
    /// headers tell; returns whether it did. What is missing or misshapen, and what there is no place for, is then known
    /// before anything is loaded. An architecture that does not implement it returns `false`, and loading alone will tell.
    ///
    /// # Errors
    /// The configuration cannot be read: the error that loading would end with.
    fn expected(
        &self,
        _checkpoint: &Checkpoint,
        _each: &mut dyn FnMut(TensorRole, Expected),
    ) -> Result<bool, LoadError> {
        Ok(false)
    }

    /// What a report on the checkpoint wants to know; nothing where this is not implemented.
    ///
    /// # Errors
    /// The configuration or a tensor that is asked cannot be read.
    fn facts(&self, _checkpoint: &Checkpoint) -> Result<CheckpointFacts, LoadError> {
        Ok(CheckpointFacts::default())
    }

    /// What becomes of a checkpoint's tensors in an artifact. A checkpoint may be a bare configuration
    /// ([`Checkpoint::of_config`]): the rules are then those of a checkpoint that has everything.
    ///
    /// # Errors
    /// The configuration cannot be read; the architecture has no rules, which is what this does where it is not implemented.
    fn forge_rules(&self, checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
        let what = format!("{} says nothing of how its checkpoints are converted", self.descriptor().id);
        let hint = "use an artifact that was converted already, or implement `MtpArchitecture::forge_rules`";
        Err(ArtifactError::refused(checkpoint.label(), what, hint).into())
    }
}

impl fmt::Debug for dyn MtpArchitecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MtpArchitecture({})", self.descriptor().id)
    }
}
