//! What can be said of a checkpoint without loading it: parts, how each is stored, the draft head's layout, memory.
//!
//! From configuration and headers alone, so it costs no more than opening. Estimates are called so: a loader may leave
//! copies out that a file has.

mod groups;
mod memory;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::groups::{Group, Stored};
pub use self::memory::{Arithmetic, CONTEXTS, ContextMemory, Memory, Need};
use crate::architecture::{CheckpointFacts, MtpArchitecture, Tier};
use crate::artifact::{Checkpoint, HeadSource, NormEncoding, NormRule};
use crate::quant::HeadQuantization;

/// A checkpoint's parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// `config.json`'s `model_type`.
    pub model_type: String,
    /// The architecture that claims it, where one does.
    pub architecture: Option<Claimant>,
    /// Weight files, with their sizes in bytes.
    pub files: Vec<WeightFile>,
    /// All weight files together.
    pub file_bytes: u64,
    /// Tensors, vision parts left out.
    pub tensors: usize,
    /// Numbers of the model, vision parts left out: those of packed weights counted one by one.
    pub parameters: u64,
    /// Trunk and head by part and storage.
    pub groups: Vec<Group>,
    /// The draft head.
    pub head: HeadLayout,
    /// The longest context that the configuration states.
    pub context: Option<usize>,
    /// What it takes to run; `None` where no architecture says what a sequence holds, and where weights could not be read.
    pub memory: Option<Memory>,
    /// Vision parts, which do not run.
    pub vision: Vision,
}

/// An architecture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claimant {
    /// The contract's `arch_id`.
    pub id: &'static str,
    /// A name for people.
    pub name: &'static str,
    /// How far its evidence reaches.
    pub tier: Tier,
}

/// A weight file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightFile {
    /// Relative to the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// How the draft head is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadLayout {
    /// Where its tensors are.
    pub source: HeadSource,
    /// How many.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether any of its linears is packed.
    pub prequantized: bool,
    /// What `config.json` states of it.
    pub stated: Option<HeadQuantization>,
    /// How its norms are stored.
    pub norms: Option<Norms>,
}

/// How norms are stored, and why that is believed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Norms {
    /// The encoding.
    pub encoding: NormEncoding,
    /// The rule that fired.
    pub rule: NormRule,
}

/// Vision parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Vision {
    /// How many tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Parts of `checkpoint`, with those that only the architecture that claims it can tell.
#[must_use]
pub fn inspect(checkpoint: &Checkpoint, claimant: Option<(&dyn MtpArchitecture, Tier)>) -> Inspection {
    // What cannot be told is left out here; the verdict says what is wrong.
    let plan = claimant.and_then(|(architecture, _)| architecture.plan(checkpoint).ok());
    let facts = plan.map(|plan| plan.facts(checkpoint)).unwrap_or_default();
    let CheckpointFacts { cache, pass, norms } = facts;
    let groups = groups::of(checkpoint);
    let files: Vec<WeightFile> =
        checkpoint.files().map(|(name, bytes)| WeightFile { name: name.to_owned(), bytes: bytes as u64 }).collect();
    let parameters = groups.iter().map(|group| group.parameters).sum();
    let context = checkpoint.config().text().size("max_position_embeddings", usize::MAX).ok();
    let head = |group: &&Group| group.head;
    let head = HeadLayout {
        source: checkpoint.head_source().clone(),
        tensors: groups.iter().filter(head).map(|group| group.tensors).sum(),
        bytes: groups.iter().filter(head).map(|group| group.bytes).sum(),
        prequantized: groups.iter().filter(head).any(|group| matches!(group.stored, Stored::Packed(_))),
        stated: HeadQuantization::from_config(checkpoint.config()).ok().filter(|s| *s != HeadQuantization::default()),
        norms: norms.map(|(encoding, rule)| Norms { encoding, rule }),
    };
    let vision = checkpoint.vision().map(|(_, info)| info.range.len() as u64);
    Inspection {
        model_type: checkpoint.config().model_type().to_owned(),
        architecture: claimant.map(|(architecture, tier)| {
            let descriptor = architecture.descriptor();
            Claimant { id: descriptor.id, name: descriptor.name, tier }
        }),
        file_bytes: files.iter().map(|file| file.bytes).sum(),
        files,
        tensors: checkpoint.tensors().count(),
        parameters,
        // What is left out has a size as well.
        memory: cache
            .zip(pass)
            .filter(|_| checkpoint.whole().weights)
            .map(|(cache, pass)| Memory::of(cache, pass, &groups, context)),
        groups,
        head,
        context,
        vision: Vision { tensors: checkpoint.vision_tensors(), bytes: vision.sum() },
    }
}
