//! A checkpoint's tensors by part of the model and by how they are stored.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use serde::{Serialize, Serializer};

use crate::artifact::{Checkpoint, TensorInfo, is_head_tensor};
use crate::quant::{Quantization, Scheme};

/// Tensors of one part that are stored alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The part: `attention`, `experts` ...
    pub part: &'static str,
    /// Whether it is the draft head's.
    pub head: bool,
    /// How it is stored.
    pub stored: Stored,
    /// Tensors; a packed weight has two or three.
    pub tensors: usize,
    /// Numbers, those of packed weights one by one.
    pub parameters: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// One by one, in this type.
    Dense(Dtype),
    /// Packed.
    Packed(Scheme),
    /// Packed in a way that does not follow from the tensors.
    Unknown,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense(dtype) => write!(f, "{dtype:?}"),
            Self::Packed(scheme) => scheme.fmt(f),
            Self::Unknown => f.write_str("packed"),
        }
    }
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Every group: the trunk's first, parts in the order in which a token passes them.
pub(super) fn of(checkpoint: &Checkpoint) -> Vec<Group> {
    let layers = checkpoint.config().text().size("num_hidden_layers", usize::MAX).ok();
    // Unreadable, it leaves what the tensors say.
    let quantization = Quantization::from_config(checkpoint.config()).unwrap_or_default();
    let mut groups: BTreeMap<(bool, usize, String), Group> = BTreeMap::new();
    for (name, info) in checkpoint.tensors() {
        let head = is_head_tensor(name, layers);
        let place = part(name);
        let (stored, parameters) = stored(checkpoint, &quantization, name, info);
        let group = groups.entry((head, place, stored.to_string())).or_insert(Group {
            part: PARTS[place].0,
            head,
            stored,
            tensors: 0,
            parameters: 0,
            bytes: 0,
        });
        group.tensors += 1;
        group.parameters += parameters;
        group.bytes += info.range.len() as u64;
    }
    groups.into_values().collect()
}

/// Parts, and what their tensors' names hold; the first that fits.
const PARTS: [(&str, &[&str]); 11] = [
    ("norms", &["norm"]),
    ("embeddings", &["embed_tokens"]),
    ("linear attention", &[".linear_attn."]),
    ("attention", &[".self_attn."]),
    ("experts", &[".experts.", ".switch_mlp.", ".block_sparse_moe.experts."]),
    ("shared experts", &[".shared_expert.", ".shared_experts."]),
    ("router", &[".mlp.gate.", ".shared_expert_gate.", ".block_sparse_moe.gate.", "e_score_correction_bias"]),
    ("mlp", &[".mlp."]),
    ("projection", &["mtp.fc.", ".eh_proj.", ".input_proj."]),
    ("output", &["lm_head", "shared_head"]),
    ("other", &[""]),
];

fn part(name: &str) -> usize {
    PARTS.iter().position(|(_, marks)| marks.iter().any(|mark| name.contains(mark))).unwrap_or(PARTS.len() - 1)
}

/// How a tensor is stored, and how many numbers it stands for: scales and biases stand for none.
fn stored(checkpoint: &Checkpoint, stated: &Quantization, name: &str, info: &TensorInfo) -> (Stored, u64) {
    let count = info.shape.iter().map(|&n| n as u64).product::<u64>();
    let Some((module, part)) = name.rsplit_once('.') else { return (Stored::Dense(info.dtype), count) };
    let sibling = |part: &str| checkpoint.tensor(&format!("{module}.{part}"));
    let (Some(weight), Some(scales)) = (sibling("weight"), sibling("scales")) else {
        return (Stored::Dense(info.dtype), count);
    };
    if !matches!(part, "weight" | "scales" | "biases") {
        return (Stored::Dense(info.dtype), count);
    }
    let scheme = scheme(stated.scheme_for(module), weight, scales, sibling("biases").is_some());
    let groups = scales.shape.iter().map(|&n| n as u64).product::<u64>();
    let numbers = |scheme: Scheme| if part == "weight" { groups.saturating_mul(scheme.group_size() as u64) } else { 0 };
    scheme.map_or((Stored::Unknown, 0), |scheme| (Stored::Packed(scheme), numbers(scheme)))
}

/// The scheme of a packed weight: the stated one if the tensors bear it out, else the first that they allow.
fn scheme(stated: Option<Scheme>, weight: &TensorInfo, scales: &TensorInfo, biases: bool) -> Option<Scheme> {
    let groups = *scales.shape.last()?;
    let inferred = |group: usize| Scheme::infer(weight, scales, biases, groups.checked_mul(group)?).ok();
    let fits = |stated: &Scheme| inferred(stated.group_size()).as_ref() == Some(stated);
    stated.filter(fits).or_else(|| [64, 32, 128, 16].into_iter().find_map(inferred))
}
