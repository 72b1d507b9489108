//! The tensors that an architecture expects, checked against a checkpoint's headers.

use std::collections::BTreeSet;

use safetensors::Dtype;

use super::unused_tensors::{self, Unread, scope};
use super::{ArtifactError, Checkpoint};
use crate::quant::{Quantization, Scheme};

/// Most experts of all layers together: what published models have, times ten. More would make a list without end.
const MAX_EXPERTS: usize = 1 << 19;

/// Refuses a configuration whose experts alone would make a list of tensors without end.
///
/// # Errors
/// The field, and how many experts it makes.
pub fn refuse_endless(checkpoint: &Checkpoint) -> Result<(), ArtifactError> {
    let text = checkpoint.config().text();
    // What is no count is for the family to refuse, in its own bounds.
    let count = |field| text.count_or(field, 0, usize::MAX).unwrap_or(0);
    let layers = count("num_hidden_layers");
    for field in ["num_experts", "n_routed_experts", "num_local_experts"] {
        let experts = count(field);
        if experts.saturating_mul(layers) > MAX_EXPERTS {
            let what = format!("in {layers} layers: expected at most {MAX_EXPERTS} in all");
            return Err(text.error(field, &what));
        }
    }
    Ok(())
}

/// One or more tensors that an architecture expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A dense tensor.
    Tensor {
        /// Its whole name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The weight of a norm, stored in the encoding of its part: as `w`, or as `w - 1`.
    Norm {
        /// Its whole name.
        name: String,
        /// Features.
        width: usize,
    },
    /// A matrix, or stacked matrices: `module.weight`, dense or packed with `.scales` (and `.biases`).
    Module {
        /// The name without `.weight`.
        module: String,
        /// `[out, in]` or `[experts, out, in]`.
        shape: Vec<usize>,
    },
}

/// What an expected tensor is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorRole {
    /// The trunk, which needs it.
    Trunk,
    /// The draft head, which needs it: the architecture's `detect` judges that.
    Head,
    /// Either, which does without it.
    Optional,
}

impl Expected {
    /// A dense tensor.
    pub fn tensor(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self::Tensor { name: name.into(), shape: shape.into() }
    }

    /// A norm's weight, stored in the encoding of its part.
    pub fn norm(name: impl Into<String>, width: usize) -> Self {
        Self::Norm { name: name.into(), width }
    }

    /// A matrix, dense or packed.
    pub fn module(module: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self::Module { module: module.into(), shape: shape.into() }
    }

    /// The names that it may be stored under.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Tensor { name, .. } | Self::Norm { name, .. } => vec![name.clone(), format!("{name}_scale_inv")],
            // The last are scales of block-scaled fp8, which only the forge reads.
            Self::Module { module, .. } => {
                ["weight", "scales", "biases", "weight_scale_inv"].map(|part| format!("{module}.{part}")).to_vec()
            }
        }
    }
}

/// What is missing, by name, and what does not fit, each with the shape found and the shape expected.
pub fn check(checkpoint: &Checkpoint, expected: &[Expected]) -> (Vec<String>, Vec<String>) {
    let quantization = stated(checkpoint);
    let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
    for expected in expected {
        match lack(checkpoint, &quantization, expected) {
            Some(Lack::Missing(name)) => missing.push(name),
            Some(Lack::Misshapen(what)) => misshapen.push(what),
            None => {}
        }
    }
    (missing, misshapen)
}

/// What `config.json` states of packed modules; where that cannot be read, which is said elsewhere, the tensors tell.
fn stated(checkpoint: &Checkpoint) -> Quantization {
    Quantization::from_config(checkpoint.config()).unwrap_or_default()
}

/// Why something expected is not there.
enum Lack {
    /// The name of a tensor.
    Missing(String),
    /// What was found and what was expected.
    Misshapen(String),
}

/// Compares as [`crate::nn::Weights`] does when it reads.
fn lack(checkpoint: &Checkpoint, quantization: &Quantization, expected: &Expected) -> Option<Lack> {
    let compare = |name: String, shape: &[usize]| match checkpoint.tensor(&name) {
        None => Some(Lack::Missing(name)),
        Some(info) if info.shape != shape => {
            Some(Lack::Misshapen(format!("{name}: shape {:?}: expected {shape:?}", info.shape)))
        }
        Some(_) => None,
    };
    match expected {
        Expected::Tensor { name, shape } => compare(name.clone(), shape),
        Expected::Norm { name, width } => compare(name.clone(), &[*width]),
        Expected::Module { module, shape } => {
            let weight = format!("{module}.weight");
            let scales = format!("{module}.scales");
            match (checkpoint.tensor(&weight), checkpoint.tensor(&scales)) {
                (Some(_), Some(_)) => {
                    let stated = !checkpoint.in_sidecar(&weight);
                    quantization.resolve(checkpoint, module, shape, stated).err().map(|error| match error {
                        ArtifactError::Quantized { error, .. } => Lack::Misshapen(format!("{module}: {error}")),
                        other => Lack::Misshapen(other.to_string()),
                    })
                }
                (Some(info), None) if info.dtype == Dtype::U32 => Some(Lack::Missing(scales)),
                _ => compare(weight, shape),
            }
        }
    }
}

/// A dense tensor of a type that no place of a model can use: name, type.
fn unreadable(checkpoint: &Checkpoint, expected: &Expected) -> Option<String> {
    let (name, module) = match expected {
        Expected::Tensor { name, .. } | Expected::Norm { name, .. } => (name.clone(), false),
        Expected::Module { module, .. } if checkpoint.tensor(&format!("{module}.scales")).is_some() => return None,
        Expected::Module { module, .. } => (format!("{module}.weight"), true),
    };
    let info = checkpoint.tensor(&name)?;
    let reads = match info.dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => true,
        // Packed, and its scales are missing.
        Dtype::U32 => module,
        _ => false,
    };
    (!reads).then(|| format!("{}: {name}: type {}: expected F32, F16 or BF16", info.file, info.dtype))
}

/// Most names that a comparison keeps of each kind: enough to see what is wrong, whatever the configuration asks for.
const MAX_NAMED: usize = 1000;

/// Names, of which the first are kept.
#[derive(Debug, Default)]
pub struct Names {
    named: Vec<String>,
    more: usize,
}

impl Names {
    /// Adds a name; beyond the first few it is only counted.
    pub fn push(&mut self, name: String) {
        if self.named.len() < MAX_NAMED { self.named.push(name) } else { self.more += 1 }
    }

    /// Each with `what` after it; a last line counts those that are not named.
    pub fn lines(self, what: &str) -> impl Iterator<Item = String> {
        let more = (self.more > 0).then(|| format!("{} more tensors{what}", self.more));
        self.named.into_iter().map(move |name| format!("{name}{what}")).chain(more)
    }
}

/// A checkpoint compared with everything that its architecture reads, one tensor after the other: however large the model
/// that a configuration describes, this takes no more memory than the checkpoint's own names.
pub struct Comparison<'a> {
    checkpoint: &'a Checkpoint,
    quantization: Quantization,
    /// Of the trunk, tensors that are not there.
    pub missing: Names,
    /// Of the trunk, what does not fit.
    pub misshapen: Names,
    /// Tensors of types that are not read.
    pub unreadable: Names,
    /// Packed modules whose shapes have another scheme than the stated one: stated, found.
    pub contradicted: Vec<(String, Scheme, Scheme)>,
    unread: BTreeSet<&'a str>,
    scopes: BTreeSet<String>,
}

impl<'a> Comparison<'a> {
    /// With nothing expected yet.
    pub fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            checkpoint,
            quantization: stated(checkpoint),
            missing: Names::default(),
            misshapen: Names::default(),
            unreadable: Names::default(),
            contradicted: Vec::new(),
            unread: checkpoint.tensors().map(|(name, _)| name).collect(),
            scopes: BTreeSet::new(),
        }
    }

    /// Compares with one more.
    pub fn expect(&mut self, place: TensorRole, expected: &Expected) {
        for name in expected.names() {
            if self.unread.remove(name.as_str())
                && let Some(scope) = scope(&name)
                && !self.scopes.contains(scope)
            {
                self.scopes.insert(scope.to_owned());
            }
        }
        if let Some(what) = unreadable(self.checkpoint, expected) {
            self.unreadable.push(what);
        }
        if let Expected::Module { module, shape } = expected
            && !self.checkpoint.in_sidecar(&format!("{module}.weight"))
            && let Some(stated) = self.quantization.scheme_for(module)
            && let Ok(Some(found)) = self.quantization.resolve(self.checkpoint, module, shape, true)
            && found != stated
        {
            self.contradicted.push((module.clone(), stated, found));
        }
        if place == TensorRole::Trunk {
            match lack(self.checkpoint, &self.quantization, expected) {
                Some(Lack::Missing(name)) => self.missing.push(name),
                Some(Lack::Misshapen(what)) => self.misshapen.push(what),
                None => {}
            }
        }
    }

    /// What nothing was expected for, by what its being left out means.
    pub fn unread(&self) -> Unread {
        unused_tensors::classify(self.checkpoint, &self.unread, &self.scopes)
    }
}
