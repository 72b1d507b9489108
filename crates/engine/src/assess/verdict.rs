//! What a checkpoint is worth: the verdict, with everything that led to it.
//!
//! Decides from configuration, headers, text files, contract and the files' hashes; loads nothing and measures nothing.
//! Whatever keeps a checkpoint from running is found at once, and decides. Evidence counts if the contract has no errors, its
//! baseline passed, and its hashes are those of `config.json` and of every weight file. For an architecture of
//! [`Tier::Recognized`] it must also have been measured on this machine: such a family ships none. Evidence that is missing is
//! one thing, evidence that speaks against the files another. What each tier may do without evidence is the caller's to say.
//!
//! The files are hashed only where the verdict depends on it, unless a [`AssessOptions`] asks for it.

use std::collections::BTreeMap;
use std::fmt;

use mtplx_runtime::architecture::{Descriptor, HeadStatus, MtpArchitecture, Tier};
use mtplx_runtime::artifact::quant::{HeadQuantization, Quantization};
use mtplx_runtime::artifact::text::TextAssets;
use mtplx_runtime::artifact::{
    Area, ArtifactError, CONTRACT, Checkpoint, Contract, ErrorKind, Fault, Finding, HeadSource, Hint, KnownHashes,
    Severity, known_family, norm_encoding, shown,
};
use mtplx_runtime::compatibility::{self, Compared};
use mtplx_runtime::registry::{Claim, Registry, ResolveError};

use super::coverage::uncovered;
use super::doubts::Doubts;
use super::{evidence, stamp};

/// Most reasons that are said in one line.
const IN_A_LINE: usize = 40;
/// Most doubts about evidence that are: one is enough to act on.
const DOUBTS_IN_A_LINE: usize = 4;

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "name")]
pub enum Verdict {
    /// Complete, and its evidence covers these very files.
    Verified,
    /// Complete, without evidence that covers these files.
    Unverified {
        /// What the evidence lacks.
        why: Vec<String>,
        /// The tier of the architecture.
        #[serde(skip)]
        tier: Tier,
    },
    /// Complete, with evidence that speaks against these files, or a contract with errors.
    Contradicted {
        /// Contradictions first, then gaps in the evidence.
        why: Vec<String>,
        /// True for a contract with errors that new evidence does not remove.
        #[serde(skip)]
        needs_correction: bool,
    },
    /// A draft head is announced and is missing, partial or misshapen.
    Incomplete {
        /// Tensors or files that are not there.
        missing: Vec<String>,
        /// Tensors that do not fit.
        misshapen: Vec<String>,
    },
    /// A trunk without a draft head.
    #[serde(rename = "no_mtp")]
    NoMtp,
    /// Files are missing or not what they should be: it cannot run at all.
    Damaged {
        /// Everything that keeps it from running.
        why: Vec<String>,
        /// The next step.
        #[serde(skip)]
        hint: Hint,
    },
    /// Not for this program.
    Incompatible {
        /// Everything that keeps it from running, what this program is not for first.
        why: Vec<String>,
        /// The next step.
        #[serde(skip)]
        hint: Hint,
    },
}

impl Verdict {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified { .. } => "unverified",
            Self::Contradicted { .. } => "contradicted",
            Self::Incomplete { .. } => "incomplete",
            Self::NoMtp => "no MTP",
            Self::Damaged { .. } => "damaged",
            Self::Incompatible { .. } => "incompatible",
        }
    }

    /// Reasons, and how many of them the line of a verdict repeats.
    fn reasons(&self) -> (&[String], usize) {
        match self {
            Self::Unverified { why, .. } | Self::Contradicted { why, .. } => (why, DOUBTS_IN_A_LINE),
            Self::Damaged { why, .. } | Self::Incompatible { why, .. } => (why, IN_A_LINE),
            Self::Verified | Self::NoMtp | Self::Incomplete { .. } => (&[], 0),
        }
    }

    /// True where the line of the verdict leaves reasons out.
    pub fn is_shortened(&self) -> bool {
        let (why, most) = self.reasons();
        why.len() > most
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Verified => Ok(()),
            Self::NoMtp => f.write_str(": the trunk is supported and has no draft head"),
            Self::Incomplete { missing, misshapen } => {
                let lists = [("missing", missing), ("misshapen", misshapen)];
                let lists = lists.iter().filter(|(_, names)| !names.is_empty());
                let lists: Vec<_> = lists.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
                write!(f, ": the draft head is announced but {}", lists.join("; "))
            }
            _ => {
                let (why, most) = self.reasons();
                write!(f, ": {}", why[..why.len().min(most)].join("; "))?;
                let more = why.len().saturating_sub(most);
                if more > 0 { write!(f, "; and {more} more") } else { Ok(()) }
            }
        }
    }
}

/// A verdict and what led to it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Assessment {
    /// The verdict.
    pub verdict: Verdict,
    /// The id of the architecture that claims the checkpoint.
    pub claim: Option<&'static str>,
    /// The architecture that claims the checkpoint.
    #[serde(skip)]
    pub architecture: Option<&'static dyn MtpArchitecture>,
    /// How far that one's evidence reaches.
    pub tier: Option<Tier>,
    /// The contract, as far as it could be read.
    pub contract: Option<Contract>,
    /// Everything that keeps it from running, whatever it is of.
    pub faults: Vec<Fault>,
    /// Everything there is to say about the contract, about tensors that are left out, and about what config.json names beside
    /// the weights.
    pub findings: Vec<Finding>,
    /// The verdict where there are no faults.
    #[serde(skip)]
    sound: Verdict,
}

impl Assessment {
    /// The same for a use that does without `area`: its faults count for nothing.
    #[must_use]
    pub fn without(mut self, area: Area) -> Self {
        self.faults.retain(|fault| fault.area != area);
        self.verdict = conclude(&self.faults, &self.sound);
        self
    }
}

/// The verdict that faults make of one where there were none.
fn conclude(faults: &[Fault], sound: &Verdict) -> Verdict {
    let of_kind = |kinds: &'static [ErrorKind]| faults.iter().filter(move |fault| kinds.contains(&fault.kind));
    const INCOMPATIBLE: &[ErrorKind] = &[ErrorKind::Incompatible];
    const DAMAGED: &[ErrorKind] = &[ErrorKind::Missing, ErrorKind::Damaged, ErrorKind::Incomplete];
    let (other, broken) = (|| of_kind(INCOMPATIBLE), || of_kind(DAMAGED));
    let Some(first) = other().chain(broken()).next() else { return sound.clone() };
    let mut why: Vec<String> = other().chain(broken()).map(|fault| fault.what.clone()).collect();
    if let Verdict::Incomplete { missing, misshapen } = sound {
        why.extend(missing.iter().map(|name| format!("the draft head: missing {name}")));
        why.extend(misshapen.iter().map(|what| format!("the draft head: misshapen {what}")));
    }
    let hint = first.hint.clone();
    if first.kind == ErrorKind::Incompatible {
        Verdict::Incompatible { why, hint }
    } else {
        Verdict::Damaged { why, hint }
    }
}

/// What judging evidence takes beside the files.
#[derive(Default)]
pub struct AssessOptions<'a> {
    /// This machine, as the caller names it in `verified_on.machine`; without it nothing was measured here.
    pub machine: Option<&'a str>,
    /// Saves hashing again what did not change.
    pub known: Option<&'a mut KnownHashes>,
    /// Is told the bytes hashed so far and all of them.
    pub progress: Option<&'a mut dyn FnMut(u64, u64)>,
    /// Compares hashes even where the verdict is clear without them.
    pub thorough: bool,
}

/// Verdict without [`AssessOptions`]: every byte is hashed, and no evidence counts as this machine's.
pub fn assess(checkpoint: &Checkpoint, registry: &Registry) -> Assessment {
    assess_with(checkpoint, registry, &TextAssets::of(checkpoint), AssessOptions::default())
}

/// Assesses a checkpoint, whose tokenizer and template were read into `text`, against the architectures of `registry`.
pub fn assess_with(
    checkpoint: &Checkpoint,
    registry: &Registry,
    text: &TextAssets,
    witness: AssessOptions<'_>,
) -> Assessment {
    let (contract, mut findings) = Contract::read(checkpoint);
    findings.extend_from_slice(checkpoint.findings());
    let mut faults: Vec<Fault> = checkpoint.refusals().iter().map(Fault::from).collect();
    let code = checkpoint.config().code_keys();
    let claim = match registry.resolve(checkpoint) {
        claim if checkpoint.is_head_alone() => {
            let what = format!("{}: a draft head by itself, without the trunk it drafts for", checkpoint.label());
            let kind = if claim.is_ok() { ErrorKind::Damaged } else { ErrorKind::Incompatible };
            faults.push(Fault::model(kind, what, Hint::JoinHead));
            None
        }
        Ok(claim) => Some(claim),
        // It is said already that there is nothing that anyone might claim.
        Err(_) if checkpoint.config().string("model_type").is_err() => None,
        Err(error) => {
            faults.push(Fault::model(ErrorKind::Incompatible, unclaimed(&error, &code), Hint::Architectures));
            None
        }
    };
    faults.extend(contract.as_ref().and_then(newer_engine));
    let tier = claim.as_ref().map(|claim| registry.tier(claim.architecture.descriptor()));
    if let Some(claim) = &claim {
        let descriptor = claim.architecture.descriptor();
        if let Some(contract) = &contract {
            compare(contract, descriptor, &mut findings);
        }
        findings.extend(code_left_alone(&code, descriptor));
        faults.extend(misstated(checkpoint));
        findings.extend(Quantization::doubts(checkpoint));
        if checkpoint.whole().config {
            let Compared { faults: found, strange, contradicted } =
                compatibility::compare(checkpoint, claim.architecture);
            let said: Vec<String> = faults.iter().map(|fault| fault.what.clone()).collect();
            faults.extend(found.into_iter().filter(|fault| !said.contains(&fault.what)));
            findings.extend(left_out(&strange, descriptor).into_iter().chain(contradicted));
        }
    }
    let runs = faults.is_empty();
    faults.extend(findings.iter().filter(|finding| finding.severity == Severity::Damage).map(no_contract));
    faults.extend_from_slice(text.faults());
    findings.extend_from_slice(text.findings());
    let sound = match &claim {
        // Nothing is said of a head where files could not be read.
        Some(_) if !(checkpoint.whole().config && checkpoint.whole().weights) => Verdict::NoMtp,
        Some(Claim { architecture, head }) => of_head(checkpoint, head, || {
            let descriptor = architecture.descriptor();
            let tier = registry.tier(descriptor);
            // Evidence is not looked at where nothing could run.
            if !runs {
                return Verdict::Unverified { why: Vec::new(), tier };
            }
            let doubts = doubts(checkpoint, descriptor, tier, contract.as_ref(), &findings, witness);
            match (doubts.is_empty(), doubts.against.is_empty()) {
                (true, _) => Verdict::Verified,
                (_, true) => Verdict::Unverified { why: doubts.lacking, tier },
                (_, false) => Verdict::Contradicted {
                    why: doubts.all().collect(),
                    needs_correction: lasting(checkpoint, descriptor),
                },
            }
        }),
        None => Verdict::NoMtp,
    };
    let verdict = conclude(&faults, &sound);
    // An incomplete one names the file itself.
    if matches!(verdict, Verdict::Verified | Verdict::Unverified { .. } | Verdict::Contradicted { .. }) {
        findings.extend(absent_head_file(checkpoint));
    }
    let architecture = claim.map(|claim| claim.architecture);
    let claim = architecture.map(|architecture| architecture.descriptor().id);
    Assessment { verdict, claim, architecture, tier, contract, faults, findings, sound }
}

/// Most places that are named whose tensors are left out.
const MAX_STRANGE: usize = 8;

/// What is said of tensors that nothing reads, by place: how many they are, and where the first of them.
fn left_out(places: &BTreeMap<String, usize>, descriptor: &Descriptor) -> Option<Finding> {
    let tensors = match places.values().sum::<usize>() {
        0 => return None,
        1 => "a tensor".to_owned(),
        count => format!("{count} tensors"),
    };
    let named = places.keys().take(MAX_STRANGE).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = places.len().saturating_sub(MAX_STRANGE);
    let more = if more > 0 { format!(" and {more} places more") } else { String::new() };
    let what = format!("{tensors} that {} does not read: left out", descriptor.id);
    Some(Finding { severity: Severity::Warning, file: "weights", field: format!("{named}{more}"), what })
}

/// A head's file that is named and not there, where a head was found all the same.
fn absent_head_file(checkpoint: &Checkpoint) -> Option<Finding> {
    let (file, field) = match checkpoint.missing_head_file()? {
        file if checkpoint.announced_head().is_ok_and(|named| named.as_deref() == Some(file)) => {
            ("config.json", "mlx_lm_extra_tensors.mtp_file")
        }
        _ => ("model.safetensors.index.json", "weight_map"),
    };
    let found = match checkpoint.head_source() {
        HeadSource::File(file) => file,
        _ => "the shards",
    };
    let what =
        format!("\"{}\": not there: the head is the one in {}", shown(checkpoint.missing_head_file()?), shown(found));
    Some(Finding { severity: Severity::Warning, file, field: field.to_owned(), what })
}

/// The remark on keys that name code of the repository where nobody needs it.
fn code_left_alone(keys: &[String], descriptor: &Descriptor) -> Option<Finding> {
    let what = format!("names code of the repository, which is never run: {} has its own", descriptor.id);
    let field = (!keys.is_empty()).then(|| keys.join(", "))?;
    Some(Finding { severity: Severity::Remark, file: "config.json", field, what })
}

/// The message of a resolution error, with the family's name where it is a known one. `code`: the keys that name code of the
/// repository, which nothing else could run.
fn unclaimed(error: &ResolveError, code: &[String]) -> String {
    let code = match code {
        [] => String::new(),
        keys => format!("; {} names code of the repository, which is never run", keys.join(", ")),
    };
    format!("{}{code}", of_resolution(error))
}

fn of_resolution(error: &ResolveError) -> String {
    if let ResolveError::Unclaimed { model_type, linked } = error
        && let Some(family) = known_family(model_type)
    {
        let linked = if linked.is_empty() { "none".to_owned() } else { linked.join("; ") };
        let model_type = shown(model_type);
        return format!(
            "config.json: model_type: \"{model_type}\" is {family}: no linked architecture implements it (linked: {linked})"
        );
    }
    shown_line(&error.to_string())
}

/// A line that may repeat a file's own text.
fn shown_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Compares the contract with the architecture that claims the checkpoint.
fn compare(contract: &Contract, descriptor: &Descriptor, findings: &mut Vec<Finding>) {
    findings.extend(contract.of_another(descriptor.id));
    let Descriptor { id, max_depth, .. } = descriptor;
    if let Some(depth) = contract.mtp_depth_max.filter(|depth| depth > max_depth) {
        findings.push(Finding {
            severity: Severity::Warning,
            file: CONTRACT,
            field: "mtp_depth_max".to_owned(),
            what: format!("{depth}: {id} drafts at most {max_depth}"),
        });
    }
}

/// The fault of a contract that asks for a newer engine.
fn newer_engine(contract: &Contract) -> Option<Fault> {
    let own = env!("CARGO_PKG_VERSION");
    let asked = contract.newer_engine(own)?;
    let what = format!("{CONTRACT}: min_engine_version: {}: this engine is {own}", shown(asked));
    Some(Fault::model(ErrorKind::Incompatible, what, "install a newer mtplx"))
}

/// What `config.json` states in a way that cannot be, or that this program has no code for, whatever the family.
fn misstated(checkpoint: &Checkpoint) -> Vec<Fault> {
    let config = checkpoint.config();
    let errors = [
        Quantization::from_config(config).err(),
        HeadQuantization::from_config(config).err(),
        // Only a stated encoding can be refused here: means are asked where none is stated.
        norm_encoding::<ArtifactError>(config, false, |_| Ok(0.0)).err(),
    ];
    let mut faults: Vec<Fault> = errors.iter().flatten().map(Fault::from).collect();
    faults.dedup_by(|a, b| a.what == b.what);
    faults
}

/// The verdict on a checkpoint that a linked architecture claims and that has no faults.
fn of_head(checkpoint: &Checkpoint, head: &HeadStatus, of_evidence: impl FnOnce() -> Verdict) -> Verdict {
    let absent = checkpoint.missing_head_file().map(|file| checkpoint.path(file));
    let foreign = checkpoint
        .foreign_head_files()
        .iter()
        .map(|file| format!("mtp.* in {} (the file is there and has no such tensor)", checkpoint.path(file)));
    match head {
        HeadStatus::Complete => of_evidence(),
        HeadStatus::Absent => match absent.into_iter().chain(foreign).collect::<Vec<_>>() {
            missing if missing.is_empty() => Verdict::NoMtp,
            missing => Verdict::Incomplete { missing, misshapen: Vec::new() },
        },
        HeadStatus::Incomplete { missing, misshapen } => Verdict::Incomplete {
            missing: absent.into_iter().chain(foreign).chain(missing.iter().cloned()).collect(),
            misshapen: misshapen.clone(),
        },
    }
}

/// Why the evidence for a complete head does not count.
fn doubts(
    checkpoint: &Checkpoint,
    descriptor: &Descriptor,
    tier: Tier,
    contract: Option<&Contract>,
    findings: &[Finding],
    witness: AssessOptions<'_>,
) -> Doubts {
    let errors = || findings.iter().filter(|finding| finding.severity >= Severity::Error);
    let mut doubts = Doubts { against: errors().map(ToString::to_string).collect(), ..Doubts::default() };
    let Some(contract) = contract else {
        if doubts.is_empty() {
            doubts.lacking.push(format!("no {CONTRACT}"));
        }
        return doubts;
    };
    // What was said of a field is not said again of its absence.
    let said = |field: &str| errors().any(|finding| finding.field.split('.').next() == Some(field));
    let missing: Vec<&str> = contract.missing().into_iter().filter(|field| !said(field)).collect();
    if !missing.is_empty() {
        doubts.lacking.push(format!("{CONTRACT}: {} missing", missing.join(", ")));
    }
    if contract.exactness_baseline.is_some() || !said("exactness_baseline") {
        doubts.extend(evidence::doubts(contract));
    }
    if tier == Tier::Recognized {
        doubts.lacking.extend(measured_elsewhere(contract, descriptor, witness.machine));
    }
    // A file that is another one speaks against evidence that lacks something else, where that alone would not refuse it.
    let decides = doubts.against.is_empty() && (tier == Tier::Verified || doubts.lacking.is_empty());
    match &contract.sha256 {
        None if said("sha256") => {}
        None => doubts.lacking.push("sha256: missing, so the evidence covers no files".to_owned()),
        Some(_) if !decides && !witness.thorough => {}
        Some(stated) => doubts.extend(uncovered(checkpoint, stated, || {
            let mut ignored = |_, _| {};
            checkpoint.hashes(witness.known, witness.progress.unwrap_or(&mut ignored))
        })),
    }
    doubts
}

/// The fault of a contract that is none.
fn no_contract(finding: &Finding) -> Fault {
    Fault { area: Area::Contract, ..Fault::model(ErrorKind::Damaged, finding.to_string(), Hint::Contract) }
}

/// Whether the contract has errors that no evidence would make up for.
fn lasting(checkpoint: &Checkpoint, descriptor: &Descriptor) -> bool {
    match Contract::fields(checkpoint) {
        Err(_) => true,
        Ok(fields) => fields.is_some_and(|fields| !stamp::lasting(&fields, descriptor, 1).is_empty()),
    }
}

/// Why evidence is not this machine's own; `None` when it is.
fn measured_elsewhere(contract: &Contract, descriptor: &Descriptor, machine: Option<&str>) -> Option<String> {
    let stated = contract.verified_on.as_ref().and_then(|on| on.get("machine")?.as_str());
    if stated.is_some() && stated == machine {
        return None;
    }
    let id = descriptor.id;
    let needs = format!("{id} is a recognized architecture, which needs evidence measured on this machine");
    Some(match stated {
        None => format!("verified_on.machine: missing: {needs}"),
        Some(stated) => format!("verified_on.machine: \"{}\" is another machine: {needs}", shown(stated)),
    })
}
