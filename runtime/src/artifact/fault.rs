//! What keeps a checkpoint from being a model that runs: everything at once, from configuration and headers.

use super::Checkpoint;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Finding;
use super::error::{ArtifactError, ErrorKind, LoadError};
use super::expected::{Comparison, Names};
use crate::architecture::MtpArchitecture;
use crate::quant::Quantization;

/// What a fault is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Configuration or weights: nothing works without them.
    Model,
    /// The contract, which plain decoding does without.
    Contract,
    /// What turns text into tokens and back, and when a text ends.
    Text,
    /// The chat template, which raw text does without.
    Template,
}

/// Something that keeps a checkpoint from running.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// What it is of.
    pub subject: Subject,
    /// What it means for the user.
    pub kind: ErrorKind,
    /// File, field or tensor, value, expectation.
    pub what: String,
    /// The next step.
    #[serde(skip)]
    pub hint: String,
}

impl Fault {
    /// A fault of configuration or weights.
    pub(crate) fn model(kind: ErrorKind, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { subject: Subject::Model, kind, what: what.into(), hint: hint.into() }
    }
}

impl From<&ArtifactError> for Fault {
    fn from(error: &ArtifactError) -> Self {
        let hint = error.hint().unwrap_or("check the file, and the disk that it is on");
        Self::model(error.kind(), error.to_string(), hint)
    }
}

impl From<&LoadError> for Fault {
    fn from(error: &LoadError) -> Self {
        let hint = error.hint().unwrap_or("run it again: MLX failed");
        Self::model(error.kind().unwrap_or(ErrorKind::Damaged), error.to_string(), hint)
    }
}

/// Most experts of all layers together: what published models have, times ten. More would make a list without end.
const MAX_EXPERTS: usize = 1 << 19;

/// Refuses a configuration whose experts alone would make a list of tensors without end.
///
/// # Errors
/// The field, and how many experts it makes.
pub(crate) fn refuse_endless(checkpoint: &Checkpoint) -> Result<(), ArtifactError> {
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

/// What comparing a checkpoint with its architecture showed.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// What keeps it from running. Of the draft head only what is there and not read: what it lacks,
    /// [`MtpArchitecture::detect`] says.
    pub(crate) faults: Vec<Fault>,
    /// Tensors that nothing reads and that may well be meant so, by the list or the tensor that they belong to, and how
    /// many they are.
    pub(crate) strange: BTreeMap<String, usize>,
    /// The finding of modules packed otherwise than the configuration states, which are read by their shapes.
    pub(crate) contradicted: Option<Finding>,
}

/// Most times that a configuration is read to find what else is wrong with it.
const MAX_ROUNDS: usize = 16;

/// Everything that is wrong with a configuration whose reading ended with `first`: it is read once more with faults noted,
/// and again without each field that ends the reading all the same.
fn of_config(checkpoint: &Checkpoint, architecture: &dyn MtpArchitecture, first: &LoadError) -> Vec<Fault> {
    let mut faults = vec![Fault::from(first)];
    let field_of = |error: &LoadError| match error {
        LoadError::Artifact(ArtifactError::Field { field, .. }) => Some(field.to_string()),
        _ => None,
    };
    let Some(field) = field_of(first) else { return faults };
    let mut seen = BTreeSet::from([field]);
    let fields = checkpoint.config().fields().map(|(name, value)| (name.to_owned(), value.clone()));
    let mut fields = Value::Object(fields.collect());
    for _ in 0..MAX_ROUNDS {
        let Ok((imagined, notes)) = checkpoint.noting(fields.to_string().as_bytes()) else { break };
        let ended = architecture.facts(&imagined).err();
        let noted = notes.take();
        let none_noted = noted.is_empty();
        let mut add = |error: LoadError| {
            let new = field_of(&error).is_some_and(|field| seen.insert(field));
            faults.extend(new.then(|| Fault::from(&error)));
        };
        noted.into_iter().map(LoadError::from).for_each(&mut add);
        let Some(error) = ended else { break };
        let Some(field) = field_of(&error).filter(|field| remove(&mut fields, field)) else { break };
        // What cannot be may follow from what stands in for another field; what is not supported is so by itself.
        if none_noted || error.kind() == Some(ErrorKind::Incompatible) {
            add(error);
        }
        // That it is missing from now on is no fault.
        seen.insert(field);
    }
    faults
}

/// Removes the field at a path; whether it was there.
fn remove(fields: &mut Value, path: &str) -> bool {
    let (inner, name) = match path.rsplit_once('.') {
        Some((outer, name)) => (fields.pointer_mut(&format!("/{}", outer.replace('.', "/"))), name),
        None => (Some(fields), path),
    };
    inner.and_then(Value::as_object_mut).is_some_and(|object| object.remove(name).is_some())
}

/// Compares `checkpoint` with what `architecture` reads of it: the configuration's bounds, the trunk's tensors by name,
/// shape, packing and type, and tensors that there is no place for. Headers only. Where weight files could not be read,
/// nothing is called missing, and of what is there nothing is said that those files might explain.
pub(crate) fn compare(checkpoint: &Checkpoint, architecture: &dyn MtpArchitecture) -> Compared {
    let id = architecture.descriptor().id;
    let mut comparison = Comparison::new(checkpoint);
    let said = refuse_endless(checkpoint)
        .map_err(LoadError::from)
        .and_then(|()| architecture.expected(checkpoint, &mut |place, expected| comparison.expect(place, &expected)));
    match said {
        Err(error) => return Compared { faults: of_config(checkpoint, architecture, &error), ..Compared::default() },
        Ok(false) => return Compared::default(),
        Ok(true) => {}
    }
    let unread = comparison.unread();
    let Comparison { missing, misshapen, unreadable, contradicted, .. } = comparison;
    let contradicted = Quantization::contradicted(checkpoint.config(), &contradicted);
    let (missing, unread) = if checkpoint.whole().weights { (missing, unread) } else { Default::default() };
    let of = |kind: ErrorKind, hint: &str| {
        let hint = hint.to_owned();
        move |what: String| Fault::model(kind, what, hint.clone())
    };
    let partial = "the checkpoint is partial, or its config.json belongs to another model: download it again";
    let download = checkpoint.incomplete_download();
    let partial = download.as_deref().unwrap_or(partial);
    let foreign = "config.json and weights belong to different models, or the file is damaged";
    let convert = "convert the checkpoint to bf16, or to MLX's quantization";
    let mut faults: Vec<Fault> = missing.lines(": tensor not found").map(of(ErrorKind::Damaged, partial)).collect();
    faults.extend(misshapen.lines("").map(of(ErrorKind::Damaged, foreign)));
    faults.extend(unreadable.lines("").map(of(ErrorKind::Incompatible, convert)));
    let without = format!(": {id} has no place for it, and without it another model would run");
    let other =
        "use a checkpoint of the architecture as published; if this is one, its architecture's crate is too old";
    let mut needed = Names::default();
    unread.needed.into_iter().for_each(|name| needed.push(name));
    faults.extend(needed.lines(&without).map(of(ErrorKind::Incompatible, other)));
    Compared { faults, strange: unread.strange, contradicted }
}
