//! The trait of an architecture crate: a stateless factory that recognizes a checkpoint and plans its model.
//!
//! Plans need no device; the loaded model ([`crate::model::MtpModel`]) is the heavy part.

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

/// An architecture's answer on a checkpoint.
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

/// Facts of a checkpoint that only its family knows, without loading it; `None` where it does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckpointFacts {
    /// The size of a sequence's cache.
    pub cache: Option<CacheSize>,
    /// The size of a pass over many rows.
    pub pass: Option<PassSize>,
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
    /// Elements that each row of a pass holds until the pass is done, in every layer at once: inputs of recurrent states, which are
    /// computed last.
    pub pending_elements: usize,
}

/// Sizes that the working memory of a pass over many rows follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassSize {
    /// Features that the linears of the widest layer put out for a row; of routed experts, those that a row uses.
    pub width: usize,
    /// Query heads of the attention layer that has most; 0 where none computes scores.
    pub heads: usize,
    /// Numbers of a layer's largest linear, which some devices unpack for a product.
    pub largest_linear: usize,
}

impl CacheSize {
    /// The size of two together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            row_elements: self.row_elements.saturating_add(other.row_elements),
            state_bytes: self.state_bytes.saturating_add(other.state_bytes),
            pending_elements: self.pending_elements.saturating_add(other.pending_elements),
        }
    }

    /// Bytes after `rows` rows, with activations of `width` bytes.
    #[must_use]
    pub fn bytes(&self, rows: usize, width: usize) -> u64 {
        let [elements, rows, width] = [self.row_elements, rows, width].map(|n| n as u64);
        elements.saturating_mul(rows).saturating_mul(width).saturating_add(self.state_bytes as u64)
    }
}

/// An architecture: recognizes its checkpoints and plans their models.
///
/// It gates nothing: whoever loads a model judges first what may run. Register an implementation with
/// [`crate::register_architecture!`].
pub trait MtpArchitecture: Send + Sync + 'static {
    /// The constant facts.
    fn descriptor(&self) -> &'static Descriptor;

    /// True for a checkpoint of this architecture, by `config.json` alone.
    fn claims(&self, checkpoint: &Checkpoint) -> bool {
        self.descriptor().claims(checkpoint)
    }

    /// The model that `config.json` describes. Headers are asked where it leaves something open; no device is needed.
    ///
    /// # Errors
    /// Names the field, the value found and the one expected.
    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError>;

    /// Looks at configuration and tensor headers only.
    fn detect(&self, checkpoint: &Checkpoint) -> Detection {
        if !self.claims(checkpoint) {
            return Detection::No;
        }
        let head = match self.plan(checkpoint) {
            Ok(plan) => plan.head(checkpoint),
            Err(_) => HeadStatus::unjudged(checkpoint),
        };
        Detection::Claimed { head }
    }
}

/// The model of a checkpoint before its weights are read. Every method takes the checkpoint that the plan was made from.
pub trait ModelPlan {
    /// The state of the draft head, by the headers.
    fn head(&self, checkpoint: &Checkpoint) -> HeadStatus;

    /// Calls `each` with every tensor that [`ModelPlan::load`] reads, so that a tensor that is missing or misshapen, or has no place
    /// in the model, is known before anything is loaded.
    fn tensors(&self, checkpoint: &Checkpoint, each: &mut dyn FnMut(TensorRole, Expected));

    /// Facts for a report on the checkpoint.
    fn facts(&self, checkpoint: &Checkpoint) -> CheckpointFacts;

    /// Rules from the checkpoint's tensors to those of an artifact. The checkpoint may be a bare configuration
    /// ([`Checkpoint::of_config`]): the rules are then those of a checkpoint that has everything.
    ///
    /// # Errors
    /// A tensor's bytes cannot be read; the family has no conversion.
    fn conversion(&self, checkpoint: &Checkpoint) -> Result<Rules, LoadError>;

    /// Reads trunk and draft head.
    ///
    /// # Errors
    /// Names the file, the field or tensor, the value found and the one expected.
    fn load(&self, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<MtpModel, LoadError>;
}

impl fmt::Debug for dyn MtpArchitecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MtpArchitecture({})", self.descriptor().id)
    }
}
