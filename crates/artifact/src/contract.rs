//! `mtplx_runtime.json`, the contract: what a forged artifact says of itself.
//!
//! Every finding is collected with its field path; nothing stops at the first. A field that is absent or faulty is `None`, so
//! that nobody acts on it. Unknown keys are kept. What the findings are worth is the verdict's business.

mod reading;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Map, Value};

use super::checkpoint::Checkpoint;
use super::diagnostic::{Finding, Severity};
use super::error::{ArtifactError, shown};
use super::json;
use crate::quant::Scheme;

/// The contract's file name.
pub const CONTRACT: &str = "mtplx_runtime.json";
/// Largest contract in bytes.
const MAX_CONTRACT: usize = 4 << 20;

/// The contract. A field that is absent or faulty is `None`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Contract {
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtplx_version: Option<String>,
    /// The architecture, such as `qwen3-next-mtp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch_id: Option<String>,
    /// Ceiling of the depth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtp_depth_max: Option<usize>,
    /// A profile's name or alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_profile: Option<String>,
    /// The evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exactness_baseline: Option<Map<String, Value>>,
    /// Where the evidence comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_on: Option<Map<String, Value>>,
    /// The depth to begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtp_depth_default: Option<usize>,
    /// Whether to draft at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_generation_mode: Option<GenerationMode>,
    /// The sampler for drafts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_draft_sampler: Option<DraftSampler>,
    /// The quantization of the head's own `lm_head`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_draft_lm_head: Option<Scheme>,
    /// The oldest engine that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_engine_version: Option<String>,
    /// Conventions of the head that override the family's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtp_contract: Option<MtpContract>,
    /// Speeds that the writer measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_evidence: Option<SpeedEvidence>,
    /// What it was forged from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forge_provenance: Option<Value>,
    /// Its vision parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<Value>,
    /// The contract's own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract_version: Option<usize>,
    /// SHA-256 in lower-case hexadecimal of each file that the evidence was measured on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<BTreeMap<String, String>>,
    /// Keys that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Whether to draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GenerationMode {
    /// With the draft head.
    Mtp,
    /// The trunk alone.
    Ar,
}

/// A sampler for drafts.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct DraftSampler {
    /// 0 is greedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Mass that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Tokens that are kept; 0 keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Keys that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Which of the trunk's and head's hidden states is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenVariant {
    /// Before the final norm.
    PreNorm,
    /// After it: what every family does unless its contract says otherwise.
    #[default]
    PostNorm,
}

/// The order in which `fc` reads its two inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConcatOrder {
    /// Embedding first.
    EmbeddingHidden,
    /// Hidden state first.
    HiddenEmbedding,
}

/// Conventions of the head.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct MtpContract {
    /// The trunk's hidden state that the head is fed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_hidden_variant: Option<HiddenVariant>,
    /// The head's own that it is fed at the next depth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_variant: Option<HiddenVariant>,
    /// The order of `fc`'s inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concat_order: Option<ConcatOrder>,
    /// How the head counts positions, in the writer's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtp_position_mode: Option<String>,
    /// Quantization of the head and other keys, kept as they are: `mtplx_mtp_quantization` of `config.json` decides.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl MtpContract {
    /// What the checkpoint's contract states, which overrides the family's own conventions; nothing where it has none.
    pub fn stated(checkpoint: &Checkpoint) -> Self {
        let (contract, _) = Contract::read(checkpoint);
        contract.and_then(|contract| contract.mtp_contract).unwrap_or_default()
    }
}

/// Speeds that the writer measured.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct SpeedEvidence {
    /// Acceptance at depth 1, 2 …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acceptance_by_depth: Option<Vec<f64>>,
    /// Tokens a second without the head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ar_tok_s: Option<f64>,
    /// Tokens a second with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtp_tok_s: Option<f64>,
    /// Their ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speedup: Option<f64>,
    /// Keys that this program does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Contract {
    /// Reads an artifact's contract, with everything there is to say about it; `None` when there is none that can be read.
    pub fn read(checkpoint: &Checkpoint) -> (Option<Self>, Vec<Finding>) {
        match Self::fields(checkpoint) {
            Ok(None) => (None, Vec::new()),
            Ok(Some(fields)) => {
                let (contract, findings) = Self::parse(fields);
                (Some(contract), findings)
            }
            Err(finding) => (None, vec![finding]),
        }
    }

    /// An artifact's contract as it is spelled; `None` when it has none.
    ///
    /// # Errors
    /// It cannot be read, is no JSON object, or states a key twice.
    pub fn fields(checkpoint: &Checkpoint) -> Result<Option<Map<String, Value>>, Finding> {
        let whole = |what: String| Finding { severity: Severity::Damage, file: CONTRACT, field: String::new(), what };
        // A finding names the file itself.
        let path = format!("{}: ", checkpoint.path(CONTRACT));
        let unreadable = |error: ArtifactError| whole(error.to_string().replacen(&path, "", 1));
        let Some(bytes) = checkpoint.read(CONTRACT, MAX_CONTRACT).map_err(unreadable)? else { return Ok(None) };
        let (fields, twice) = json::object(&bytes).map_err(|error| whole(format!("not a JSON object: {error}")))?;
        match twice.split_first() {
            None => Ok(Some(fields)),
            Some((first, more)) => {
                let also = if more.is_empty() { String::new() } else { format!(", and so is {}", more.join(", ")) };
                Err(Finding {
                    field: first.clone(),
                    ..whole(format!("stated twice{also}: which one holds is not said"))
                })
            }
        }
    }

    /// Writes a contract into the folder `dir`, whole or not at all: whoever reads it meanwhile sees the old one or the
    /// new one, and a failure leaves the old one as it was.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(dir: &Path, fields: &Map<String, Value>) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(fields)?;
        text.push('\n');
        let temporary = dir.join(format!(".{CONTRACT}.{}", std::process::id()));
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, dir.join(CONTRACT)));
        written.inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }

    /// The error of a contract that names another architecture than the one that claims the checkpoint.
    pub fn of_another(&self, id: &str) -> Option<Finding> {
        let stated = self.arch_id.as_deref().filter(|stated| *stated != id)?;
        let what = format!("\"{}\": config.json's model_type belongs to {id}", shown(stated));
        Some(Finding { severity: Severity::Error, file: CONTRACT, field: "arch_id".to_owned(), what })
    }

    /// Required fields that are absent, `exactness_baseline` aside: evidence says that itself.
    pub fn missing(&self) -> Vec<&'static str> {
        let required = [
            ("mtplx_version", self.mtplx_version.is_none()),
            ("arch_id", self.arch_id.is_none()),
            ("mtp_depth_max", self.mtp_depth_max.is_none()),
            ("recommended_profile", self.recommended_profile.is_none()),
            ("verified_on", self.verified_on.is_none()),
        ];
        required.into_iter().filter_map(|(field, absent)| absent.then_some(field)).collect()
    }

    /// The engine version that it asks for, when `own` is older.
    pub fn newer_engine(&self, own: &str) -> Option<&str> {
        let asked = self.min_engine_version.as_deref().filter(|_| !self.counts_otherwise())?;
        (version(asked)? > version(own)?).then_some(asked)
    }

    /// True for a contract of a program with other version numbers: MTPLX in Python has been at 1 and 2, this one has not.
    pub(super) fn counts_otherwise(&self) -> bool {
        let writer = self.mtplx_version.as_deref().and_then(version);
        writer.is_some_and(|[major, ..]| (1..=2).contains(&major))
    }
}

/// `1.2.3`, `v1.2` or `1.2.3-preview` as numbers; what follows a dash or plus does not count.
pub(crate) fn version(text: &str) -> Option<[u64; 3]> {
    let core = text.strip_prefix('v').unwrap_or(text).split(['-', '+']).next()?;
    let mut numbers = [0; 3];
    for (i, part) in core.split('.').enumerate() {
        *numbers.get_mut(i)? = part.parse().ok()?;
    }
    Some(numbers)
}
