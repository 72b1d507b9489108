//! A checkpoint held against its architecture: everything that keeps it from running, from configuration and headers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::LoadError;
use crate::architecture::MtpArchitecture;
use crate::artifact::expected::{Comparison, Names, refuse_endless};
use crate::artifact::quant::Quantization;
use crate::artifact::{ArtifactError, Checkpoint, ErrorKind, Fault, Finding, Hint};

/// The fault that loading would end with.
pub fn fault_of(error: &LoadError) -> Fault {
    let hint = error.hint().unwrap_or_else(|| "run it again: MLX failed".into());
    Fault::model(error.kind().unwrap_or(ErrorKind::Damaged), error.to_string(), hint)
}

/// The differences of a checkpoint from its architecture's list.
#[derive(Debug, Default)]
pub struct Compared {
    /// Faults that keep it from running. Of the draft head only tensors that are there and not read: those it lacks,
    /// the plan's `head` says.
    pub faults: Vec<Fault>,
    /// Tensors that nothing reads and that may well be meant so, by the list or the tensor that they belong to, and how
    /// many they are.
    pub strange: BTreeMap<String, usize>,
    /// The finding of modules packed otherwise than the configuration states, which are read by their shapes.
    pub contradicted: Option<Finding>,
}

/// Most times that a configuration is read to find what else is wrong with it.
const MAX_ROUNDS: usize = 16;

/// Everything that is wrong with a configuration whose reading ended with `first`: it is read once more with faults noted,
/// and again without each field that ends the reading all the same.
fn of_config(checkpoint: &Checkpoint, architecture: &dyn MtpArchitecture, first: &LoadError) -> Vec<Fault> {
    let mut faults = vec![fault_of(first)];
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
        let ended = architecture.plan(&imagined).err().map(LoadError::from);
        let noted = notes.take();
        let none_noted = noted.is_empty();
        let mut add = |error: LoadError| {
            let new = field_of(&error).is_some_and(|field| seen.insert(field));
            faults.extend(new.then(|| fault_of(&error)));
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
pub fn compare(checkpoint: &Checkpoint, architecture: &dyn MtpArchitecture) -> Compared {
    let id = architecture.descriptor().id;
    let mut comparison = Comparison::new(checkpoint);
    match refuse_endless(checkpoint).and_then(|()| architecture.plan(checkpoint)) {
        Ok(plan) => plan.tensors(checkpoint, &mut |role, expected| comparison.expect(role, &expected)),
        Err(error) => {
            let faults = of_config(checkpoint, architecture, &error.into());
            return Compared { faults, ..Compared::default() };
        }
    }
    let unread = comparison.unread();
    let Comparison { missing, misshapen, unreadable, contradicted, .. } = comparison;
    let contradicted = Quantization::contradicted(checkpoint.config(), &contradicted);
    let (missing, unread) = if checkpoint.whole().weights { (missing, unread) } else { Default::default() };
    let of = |kind: ErrorKind, hint: Hint| move |what: String| Fault::model(kind, what, hint.clone());
    let partial = "the checkpoint is partial, or its config.json belongs to another model: download it again";
    let partial = checkpoint.incomplete_download().unwrap_or_else(|| partial.into());
    let foreign = "config.json and weights belong to different models, or the file is damaged";
    let convert = "convert the checkpoint to bf16, or to MLX's quantization";
    let mut faults: Vec<Fault> = missing.lines(": tensor not found").map(of(ErrorKind::Damaged, partial)).collect();
    faults.extend(misshapen.lines("").map(of(ErrorKind::Damaged, foreign.into())));
    faults.extend(unreadable.lines("").map(of(ErrorKind::Incompatible, convert.into())));
    let without = format!(": {id} has no place for it, and without it another model would run");
    let other =
        "use a checkpoint of the architecture as published; if this is one, its architecture's crate is too old";
    let mut needed = Names::default();
    unread.needed.into_iter().for_each(|name| needed.push(name));
    faults.extend(needed.lines(&without).map(of(ErrorKind::Incompatible, other.into())));
    Compared { faults, strange: unread.strange, contradicted }
}
