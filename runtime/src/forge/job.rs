//! A piece of work, judged and planned: a checkpoint to convert, or a shape to fill with random weights.

use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::files::{self, Documents, pretty};
use super::layout::numbers;
use super::plan::{Output, Plan};
use super::read::Reader;
use super::run::{Contents, Outcome, RunControl, run};
use super::source::{PackedRows, TensorSource};
use super::synth::Synthetic;
use super::work::hex;
use super::{Coding, ForgeError, Part, Policy, affine, graft, tokenizer};
use crate::architecture::{HeadStatus, MtpArchitecture};
use crate::artifact::expected::{Comparison, refuse_endless};
use crate::artifact::{ArtifactError, Checkpoint, Hint, norm_encoding, shown};
use crate::quant::{HeadQuantization, Quantization};

/// A piece of work: what will be written, from what.
pub struct ForgeJob<'a> {
    architecture: &'a dyn MtpArchitecture,
    plan: Plan,
    documents: Documents,
    fingerprint: String,
    source: Box<dyn TensorSource + 'a>,
}

/// Most weights of a shape that is filled.
const MAX_NUMBERS: u128 = 1 << 50;

/// Most tensors that an error names.
const NAMED: usize = 40;

impl<'a> ForgeJob<'a> {
    /// Converts a checkpoint; its head is `head`'s where that is given.
    ///
    /// # Errors
    /// The checkpoint is partial, packed already, or without its head; the head of `head` does not fit.
    pub fn forge(
        architecture: &'a dyn MtpArchitecture,
        checkpoint: &'a Checkpoint,
        head: Option<&'a Checkpoint>,
        policy: Policy,
    ) -> Result<Self, ForgeError> {
        refuse_outright(checkpoint)?;
        refuse_packed(checkpoint, &policy)?;
        let mut rules = architecture.plan(checkpoint)?.conversion(checkpoint)?.grouped();
        let config: Map<String, Value> = match head {
            Some(other) => {
                refuse_outright(other)?;
                let config = graft::config(checkpoint, other)?;
                rules = graft::rules(architecture, rules, &config, other)?;
                config
            }
            None => checkpoint.config().fields().map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        };
        let (missing, misshapen) = rules.check(checkpoint, Part::Trunk);
        if !(missing.is_empty() && misshapen.is_empty()) {
            let what = format!("the trunk is partial: {}", list(&missing, &misshapen));
            return Err(ForgeError::Artifact(ArtifactError::damaged(checkpoint.label(), what)));
        }
        let of_head = head.unwrap_or(checkpoint);
        check_head(architecture, &rules, of_head)?;
        refuse_unread(architecture, checkpoint)?;
        head.map_or(Ok(()), |head| refuse_unread(architecture, head))?;

        let plan = Plan::new(&rules, policy, checkpoint, of_head)?;
        let source = files::identity(checkpoint);
        let mut provenance = json!({
            "tool": concat!("mtplx ", env!("CARGO_PKG_VERSION")),
            "policy": plan.policy.name,
            "source": source,
            "left_out": plan.left_out.len(),
        });
        if let Some(head) = head {
            provenance["mtp_from"] = files::identity(head);
        }
        files::keep_provenance(&mut provenance, checkpoint, head);
        if checkpoint.vision_tensors() > 0 {
            provenance["vision_tensors"] = json!(checkpoint.vision_tensors());
        }
        let mut documents = files::copied(checkpoint)?;
        documents.extend(finish(architecture, config, &plan, [Some(checkpoint), Some(of_head)], provenance));
        let fingerprint = fingerprint(&plan, &documents, &[Some(checkpoint), head]);
        let numbers = Box::new(Converter(Reader::new(checkpoint, head)?));
        Ok(Self { architecture, plan, documents, fingerprint, source: numbers })
    }

    /// Fills the shape of `config` (a `config.json`; `name` says which) with random weights.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub fn synth(
        architecture: &'a dyn MtpArchitecture,
        name: &str,
        config: Map<String, Value>,
        policy: Policy,
        seed: u64,
    ) -> Result<Self, ForgeError> {
        let text = Value::Object(config.clone()).to_string();
        let imagined = Checkpoint::of_config(name, text.as_bytes())?;
        refuse_endless(&imagined)?;
        let plan = architecture.plan(&imagined)?;
        if plan.head(&imagined) == HeadStatus::Absent {
            let what = format!("{name}: it announces no MTP layers, and an artifact without them drafts nothing");
            return Err(ForgeError::unsupported(
                what,
                "state them in the configuration: `num_nextn_predict_layers` or `mtp_num_hidden_layers`",
            ));
        }
        let rules = plan.conversion(&imagined)?.grouped();
        let total = rules.iter().map(|rule| u128::from(numbers(&rule.shape))).sum::<u128>();
        if total > MAX_NUMBERS {
            let what = format!("{name}: a model of {:.0e} weights", total as f64);
            return Err(ForgeError::unsupported(what, "correct the configuration's sizes"));
        }
        let plan = Plan::imagined(&rules, policy);
        let provenance = json!({
            "tool": concat!("mtplx ", env!("CARGO_PKG_VERSION")),
            "policy": plan.policy.name,
            "synthetic": {"like": name, "seed": seed},
        });
        let vocab = imagined.config().text().size("vocab_size", 1 << 24)?;
        let mut documents = tokenizer::files(vocab);
        documents.extend(finish(architecture, config, &plan, [None; 2], provenance));
        let fingerprint = fingerprint(&plan, &documents, &[]);
        Ok(Self { architecture, plan, documents, fingerprint, source: Box::new(Synthetic::new(seed)) })
    }

    /// What will be written.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Writes the artifact to `out`, which must not exist; goes on where an interrupted run of the same work stopped.
    ///
    /// # Errors
    /// Too little room, a folder in the way, a disk that fails, a source that went away; or the caller's wish.
    pub fn run(&self, out: &Path, control: &RunControl<'_>) -> Result<Outcome, ForgeError> {
        let Self { architecture, plan, documents, fingerprint, source } = self;
        run(&Contents { architecture: *architecture, plan, documents, fingerprint, source: &**source }, out, control)
    }
}

/// Configuration, index and contract. `sources`: of the trunk and of the head.
fn finish(
    architecture: &dyn MtpArchitecture,
    config: Map<String, Value>,
    plan: &Plan,
    sources: [Option<&Checkpoint>; 2],
    provenance: Value,
) -> Documents {
    vec![
        ("model.safetensors.index.json".to_owned(), pretty(&plan.index())),
        files::contract(architecture.descriptor(), plan, sources, provenance),
        // Last: without it, a folder is no checkpoint.
        ("config.json".to_owned(), pretty(&files::config(config, plan, sources[1]))),
    ]
}

/// What makes two runs the same work: headers and small files of the artifact, and the sources as they are.
fn fingerprint(plan: &Plan, documents: &Documents, sources: &[Option<&Checkpoint>]) -> String {
    let mut hash = Sha256::new();
    for file in &plan.files {
        hash.update(&file.header);
    }
    for (name, bytes) in documents {
        hash.update(name);
        hash.update(bytes);
    }
    for checkpoint in sources.iter().flatten() {
        for (name, size) in checkpoint.files() {
            let modified = checkpoint.open_file(name).ok().flatten();
            let modified = modified.and_then(|file| file.metadata().ok()?.modified().ok());
            hash.update(format!("{name} {size} {modified:?}"));
        }
    }
    hex(&hash.finalize())
}

/// Refuses a checkpoint whose configuration says that it is packed, other than in block-scaled fp8.
fn refuse_packed(checkpoint: &Checkpoint, policy: &Policy) -> Result<(), ForgeError> {
    for level in [checkpoint.config(), &checkpoint.config().text()] {
        let section = match level.section("quantization")? {
            Some(section) => Some(section),
            None => level.section("quantization_config")?,
        };
        let Some(section) = section else { continue };
        if section.string_opt("quant_method")? == Some("fp8") {
            continue;
        }
        if !section.has("quant_method") {
            // What makes no sense is said as such.
            Quantization::from_config(checkpoint.config())?;
            if policy.keeps_packed || !checkpoint.is_packed() {
                continue;
            }
        }
        let (method, hint) = match section.string_opt("quant_method")? {
            Some(method) => {
                (method, Hint::from("forge from the unquantized checkpoint: this method's packing is not read"))
            }
            None => ("MLX's quantization", Hint::KeepPacking),
        };
        let what = format!("{}: packed already ({})", checkpoint.path("config.json"), shown(method));
        return Err(ForgeError::unsupported(what, hint));
    }
    Ok(())
}

/// Refuses what no architecture is asked about: files that cannot be read, code, lists without end, a head that is stated as
/// it cannot be.
fn refuse_outright(checkpoint: &Checkpoint) -> Result<(), ForgeError> {
    if let Some(refusal) = checkpoint.refusals().first() {
        return Err(ForgeError::Fault(refusal.into()));
    }
    HeadQuantization::from_config(checkpoint.config())?;
    norm_encoding::<ArtifactError>(checkpoint.config(), false, |_| Ok(0.0))?;
    Ok(refuse_endless(checkpoint)?)
}

/// Refuses tensors that the architecture does not read and that the model is not the same without: an artifact would leave
/// them out in silence.
fn refuse_unread(architecture: &dyn MtpArchitecture, checkpoint: &Checkpoint) -> Result<(), ForgeError> {
    let mut comparison = Comparison::new(checkpoint);
    architecture.plan(checkpoint)?.tensors(checkpoint, &mut |role, expected| comparison.expect(role, &expected));
    let needed = comparison.unread().needed;
    if needed.is_empty() {
        return Ok(());
    }
    let id = architecture.descriptor().id;
    let what = format!("{}: {id} has no place for {}", checkpoint.label(), some(&needed));
    Err(ForgeError::unsupported(
        what,
        "without them another model would run: forge from a checkpoint of this architecture",
    ))
}

/// The head is there as a whole.
fn check_head(
    architecture: &dyn MtpArchitecture,
    rules: &super::Rules,
    checkpoint: &Checkpoint,
) -> Result<(), ForgeError> {
    let head = |what: String| ForgeError::Head { checkpoint: checkpoint.label().into(), what: what.into() };
    if rules.expected(Part::Head).is_empty() {
        let id = architecture.descriptor().id;
        return Err(head(format!("no MTP tensors, and config.json announces none: {id} has nothing to draft with")));
    }
    let (missing, misshapen) = rules.check(checkpoint, Part::Head);
    if missing.is_empty() && misshapen.is_empty() {
        return Ok(());
    }
    let foreign = checkpoint.foreign_head_files().iter();
    let foreign: String =
        foreign.map(|file| format!("; {} is there and holds no mtp.* tensor", checkpoint.path(file))).collect();
    let lacks = list(&missing, &misshapen);
    Err(head(match rules.expected(Part::Head).len() {
        all if all == missing.len() => {
            format!("config.json announces an MTP head, and nothing of it is there: {lacks}{foreign}")
        }
        _ => format!("the MTP head is partial: {lacks}{foreign}"),
    }))
}

/// What is missing, and what does not fit.
fn list(missing: &[String], misshapen: &[String]) -> String {
    let of = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", some(names)));
    [of("missing", missing), of("misshapen", misshapen)].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Names, or the first of many.
fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", names[..names.len().min(NAMED)].join(", "))
}

/// Stored tensors, converted.
struct Converter<'a>(Reader<'a>);

impl TensorSource for Converter<'_> {
    fn rows(&self, output: &Output, rows: std::ops::Range<usize>, parts: &mut PackedRows) -> Result<(), ForgeError> {
        if let Coding::Kept(_, dtype) = output.coding {
            return self.0.kept(output, dtype, rows, parts);
        }
        if self.0.copy(output, rows.clone(), &mut parts.weight)? {
            return Ok(());
        }
        parts.weight.clear();
        let mut values = Vec::with_capacity(rows.len() * output.width());
        self.0.floats(output, rows, &mut values)?;
        match output.coding {
            Coding::Kept(..) => {} // above
            Coding::Dense(dtype) => values.iter().for_each(|&value| affine::push(&mut parts.weight, value, dtype)),
            Coding::Packed(scheme, dtype) => {
                let PackedRows { weight, scales, biases } = parts;
                affine::quantize_rows(&values, scheme, dtype, weight, scales, biases);
            }
        }
        Ok(())
    }
}
