//! A model ready to generate: opened, judged, loaded, with its tokenizer and chat template.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mtplx_engine::assess::{AssessOptions, Assessment, Verdict, assess_with};
use mtplx_runtime::architecture::{Descriptor, LoadOptions, Precision, Tier};
use mtplx_runtime::artifact::{Area, Checkpoint, ErrorKind, Fault, Finding, Severity};
use mtplx_runtime::inspect;
use mtplx_runtime::mlx::{self, MemoryBudget};
use mtplx_runtime::model::{DraftVocabulary, MtpModel};
use mtplx_runtime::registry::{Registry, Verified};
use mtplx_runtime::text::{self as runtime, ChatTemplate, Tokenizer};
use mtplx_runtime::verify::finite::require_finite;
use serde_json::{Map, Value};

use crate::args::{self, EvidenceArgs, Model};
use crate::error::{Exit, Failure};
use crate::state_dirs::StateDirs;
use crate::terminal::Progress;
use crate::{builtin, hint, hub, input, machine, settings};

/// The architectures that this program vouches for: checked against independent references, with evidence shipped.
const VERIFIED: [Verified; 1] = [("qwen3-next-mtp", "mtplx-arch-qwen3-next")];

/// The linked architectures, as this program judges them.
pub fn registry() -> Registry {
    Registry::linked().verified(&VERIFIED)
}

/// A checkpoint that was opened and judged, but not loaded.
pub struct AssessedModel {
    pub checkpoint: Checkpoint,
    pub assessment: Assessment,
    text: runtime::TextAssets,
}

/// A loaded model and its text side.
pub struct Engine {
    pub model: MtpModel,
    pub descriptor: &'static Descriptor,
    pub load_time: Duration,
}

/// The text side, which takes no device.
pub struct TextAssets {
    pub tokenizer: Arc<Tokenizer>,
    pub template: Option<ChatTemplate>,
    pub generation_config: Option<Map<String, Value>>,
}

/// Opens a model: headers, configuration and text files, and the files' hashes where the contract has evidence to compare
/// with.
///
/// # Errors
/// There is no such model, or its folder cannot be read.
pub fn open(model: &Model) -> anyhow::Result<AssessedModel> {
    let checkpoint = checkpoint(model)?;
    let text = read_text(&checkpoint);
    let assessment = assess(&checkpoint, &text, false);
    Ok(AssessedModel { checkpoint, assessment, text })
}

/// What the files are worth. `thorough`: compares hashes even where the verdict is clear without them.
pub fn judge(checkpoint: &Checkpoint, thorough: bool) -> Assessment {
    assess(checkpoint, &read_text(checkpoint), thorough)
}

/// The text side, and what is wrong with it: the settings' bounds are this program's.
pub fn read_text(checkpoint: &Checkpoint) -> runtime::TextAssets {
    let mut text = runtime::TextAssets::of(checkpoint);
    let faults = text.generation_config.as_ref().map(settings::generation_faults).unwrap_or_default();
    for what in faults {
        text.fault(ErrorKind::Damaged, what, settings::CORRECT);
    }
    text
}

/// What the files are worth, whose text side was read already.
pub fn assess(checkpoint: &Checkpoint, text: &runtime::TextAssets, thorough: bool) -> Assessment {
    let home = StateDirs::of_user();
    let (before, machine) = (home.known_hashes(), home.machine());
    let mut known = before.clone();
    let mut bar = None;
    let mut progress = |done: u64, all: u64| {
        let bar = bar.get_or_insert_with(|| Progress::start("comparing the files with their evidence", false));
        bar.update((done >> 20) as usize, (all >> 20) as usize);
    };
    let witness = AssessOptions {
        machine: machine.as_deref(),
        known: Some(&mut known),
        progress: Some(&mut progress),
        thorough,
        text: Some(text),
    };
    let assessment = assess_with(checkpoint, &registry(), witness);
    if known != before {
        home.keep_hashes(&known);
    }
    assessment
}

/// Opens a model's files, without judging them: what cannot or may not be read is left out, and the verdict says so.
///
/// # Errors
/// There is no such model, or its folder cannot be read.
pub fn checkpoint(model: &Model) -> anyhow::Result<Checkpoint> {
    Ok(match model {
        Model::Dir(typed) => Checkpoint::open_lenient(&hub::folder_of(typed)?)?,
        Model::Builtin => {
            let files = builtin::files().ok_or_else(|| {
                Failure::usage(
                    "this binary has no built-in model",
                    "`--model MODEL` runs one from a folder or the Hugging Face cache",
                )
            })?;
            Checkpoint::embedded(builtin::LABEL, files)?
        }
    })
}

impl AssessedModel {
    /// Admits the model to run, drafting or (`trunk_only`) not.
    ///
    /// Evidence is about drafting, so plain decoding needs none. Drafting without evidence is for architectures of
    /// [`Tier::Verified`]; against evidence, for nobody who does not ask for it.
    ///
    /// # Errors
    /// The verdict forbids it; says why, and what would help.
    pub fn admit(&self, trunk_only: bool, evidence: EvidenceArgs) -> Result<(), Failure> {
        let EvidenceArgs { allow_unverified, require_verified } = evidence;
        let without_contract =
            (trunk_only && !require_verified).then(|| self.assessment.clone().without(Area::Contract));
        let verdict = &without_contract.as_ref().unwrap_or(&self.assessment).verdict;
        let runs = match verdict {
            Verdict::Verified => true,
            Verdict::Damaged { .. } | Verdict::Incompatible { .. } => false,
            _ if require_verified => false,
            Verdict::Unverified { .. } => {
                trunk_only || allow_unverified || self.assessment.tier == Some(Tier::Verified)
            }
            Verdict::Contradicted { .. } => trunk_only || allow_unverified,
            Verdict::Incomplete { .. } | Verdict::NoMtp => trunk_only,
        };
        if runs {
            return Ok(());
        }
        let mut what = format!("{}: {verdict}", self.checkpoint.label());
        if *verdict == Verdict::NoMtp {
            // A head that config.json says is none.
            let of_config = self.checkpoint.findings().iter().filter(|finding| finding.file == "config.json");
            of_config.for_each(|finding| what.push_str(&format!("; {finding}")));
        }
        let failure = Failure::new(Exit::from(verdict), what);
        let more = if verdict.is_shortened() { "; `mtplx inspect` lists every reason" } else { "" };
        Err(match (verdict, hint::of_verdict(verdict)) {
            (Verdict::Unverified { .. } | Verdict::Contradicted { .. }, _) if require_verified => failure
                .hint("`mtplx verify` measures the evidence on this machine; --require-verified runs nothing without"),
            (Verdict::Incomplete { .. } | Verdict::NoMtp, Some(hint)) if require_verified => {
                failure.hint(format!("{hint}, without --require-verified"))
            }
            (_, Some(hint)) => failure.hint(format!("{hint}{more}")),
            (_, None) => failure,
        })
    }

    /// Warnings about the files before anything runs, drafting or (`trunk_only`) not.
    pub fn warnings(&self, trunk_only: bool) -> Vec<String> {
        let verdict = &self.assessment.verdict;
        let (doubted, next): (&[String], _) = match verdict {
            Verdict::Unverified { why, .. } => (why, ": `mtplx verify` measures whether its drafting is exact"),
            Verdict::Contradicted { why, .. } => (why, ": `mtplx verify` replaces such evidence"),
            _ => (&[], ""),
        };
        // What is not drafted needs no measuring.
        let next = if trunk_only { "" } else { next };
        let doubts = (!doubted.is_empty()).then(|| format!("{}: {verdict}{next}", self.checkpoint.label()));
        let findings = self.assessment.findings.iter().filter(|finding| finding.severity > Severity::Remark);
        let findings = findings.map(Finding::to_string).filter(|finding| !doubted.contains(finding));
        doubts.into_iter().chain(findings).collect()
    }

    /// Tokenizer, generation settings, and the chat template if it is wanted: one that is broken is no obstacle to raw
    /// text.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn text_side(&self, with_template: bool) -> anyhow::Result<TextAssets> {
        let wanted = |fault: &&Fault| with_template || fault.area != Area::Template;
        if let Some(fault) = self.text.faults().iter().find(wanted) {
            let what = format!("{}: {}", self.checkpoint.label(), fault.what);
            return Err(Failure::new(fault.kind.into(), what).hint(hint::words(&fault.hint)).into());
        }
        let tokenizer = self.text.tokenizer.clone().context("a tokenizer without faults")?;
        let template = self.text.template.clone().filter(|_| with_template);
        Ok(TextAssets { tokenizer, template, generation_config: self.text.generation_config.clone() })
    }

    /// The same for a use that does without `area`: what is wrong with that is no obstacle.
    #[must_use]
    pub fn without(mut self, area: Area) -> Self {
        self.assessment = self.assessment.without(area);
        self
    }

    /// Tokens of context that the configuration states.
    pub fn context(&self) -> Option<usize> {
        self.checkpoint.config().text().size("max_position_embeddings", usize::MAX).ok()
    }

    /// The architecture that claims the checkpoint.
    ///
    /// # Errors
    /// None does, or several do.
    pub fn descriptor(&self) -> anyhow::Result<&'static Descriptor> {
        Ok(registry().resolve(&self.checkpoint)?.architecture.descriptor())
    }

    /// Refuses weights that are not finite.
    ///
    /// # Errors
    /// Names the first tensor that has such a number.
    pub fn require_finite(&self) -> anyhow::Result<()> {
        let claim = registry().resolve(&self.checkpoint)?;
        Ok(require_finite(&self.checkpoint, claim.architecture)?)
    }

    /// Loads the weights.
    ///
    /// # Errors
    /// The files do not hold what their headers say, or MLX fails.
    pub fn load(&self, trunk_only: bool, precision: Precision) -> anyhow::Result<Engine> {
        let started = Instant::now();
        let claim = registry().resolve(&self.checkpoint)?;
        let weights = self.fits(trunk_only, precision)?;
        let plan = claim.architecture.plan(&self.checkpoint)?;
        let model = plan.load(&self.checkpoint, &LoadOptions { precision, trunk_only })?;
        if let (Some(budget), Some(weights)) = (MemoryBudget::of_default(), weights) {
            budget.wire(weights);
        }
        Ok(Engine { model, descriptor: claim.architecture.descriptor(), load_time: started.elapsed() })
    }

    /// The bytes of the weights, as far as headers tell, if they fit into memory: where it runs out, MLX ends the process.
    fn fits(&self, trunk_only: bool, precision: Precision) -> Result<Option<u64>, Failure> {
        let found = inspect::inspect(&self.checkpoint, &registry());
        let Some(memory) = found.memory else { return Ok(None) };
        let in_f32 = precision.is_f32();
        let all = if in_f32 { memory.weights_f32 } else { memory.weights_native };
        let head = found.groups.iter().filter(|group| group.head && trunk_only);
        let left_out: u64 = head.map(|group| if in_f32 { 4 * group.parameters } else { group.bytes }).sum();
        let weights = all.saturating_sub(left_out);
        match Room::of_default().and_then(|room| room.shortage(weights, in_f32)) {
            None => Ok(Some(weights)),
            Some((what, hint)) => {
                let what = format!("{}: {what}", self.checkpoint.label());
                Err(Failure::new(Exit::Failed, what).hint(hint))
            }
        }
    }
}

/// Bytes of memory for weights, and whose memory it is.
enum Room {
    /// The processor's, as much as is free.
    Free(u64),
    /// A graphics card's, all of it.
    Card(u64),
    /// Of memory that processor and GPU share, as much as the GPU may hold.
    Shared(u64),
}

impl Room {
    /// Of the default device; `None` where it does not say.
    fn of_default() -> Option<Self> {
        if let Some(budget) = MemoryBudget::of_default() {
            return Some(Self::Shared(budget.weights()));
        }
        match mlx::default_device() {
            mlx::Device::Gpu => mlx::DeviceInfo::of_default().memory.map(|bytes| Self::Card(bytes as u64)),
            mlx::Device::Cpu => machine::free_memory().map(Self::Free),
        }
    }

    /// Message and hint where weights take more bytes.
    fn shortage(&self, needed: u64, in_f32: bool) -> Option<(String, &'static str)> {
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
        let (room, there) = match *self {
            Self::Free(room) => (room, format!("{} are free", gib(room))),
            Self::Card(room) => (room, format!("the GPU has {}", gib(room))),
            Self::Shared(room) => (room, format!("the GPU may hold {} of this machine's memory", gib(room))),
        };
        let unit = if in_f32 { "at four bytes each" } else { "as stored" };
        let hint = match self {
            Self::Free(_) => {
                "close other programs, or use a model with fewer parameters: on a processor a weight takes four bytes, \
                 however few it is stored in"
            }
            _ => "use a model with fewer parameters or fewer bits; `mtplx inspect MODEL` estimates what one takes",
        };
        (needed > room).then(|| (format!("its weights take {}, {unit}, and {there}", gib(needed)), hint))
    }
}

/// What drafts are to be restricted to.
pub struct DraftVocab {
    count: usize,
    /// Tokens of a text, whose most frequent ones come first.
    sample: Vec<u32>,
}

impl DraftVocab {
    /// As `args` ask.
    ///
    /// # Errors
    /// The text cannot be read.
    pub fn of(args: &args::DraftVocabArgs, tokenizer: &Tokenizer) -> anyhow::Result<Option<Self>> {
        let Some(count) = args.draft_vocab else { return Ok(None) };
        let sample = match &args.draft_corpus {
            Some(path) => tokenizer.encode(&input::from_file(path)?, false)?,
            None => Vec::new(),
        };
        Ok(Some(Self { count, sample }))
    }
}

impl Engine {
    /// The tokens that drafts are restricted to; `None` for all.
    ///
    /// # Errors
    /// The head cannot be restricted.
    pub fn draft_vocabulary(
        &self,
        wanted: Option<&DraftVocab>,
        tokenizer: &Tokenizer,
    ) -> anyhow::Result<Option<Rc<DraftVocabulary>>> {
        let all = self.model.info.vocab_size;
        let Some(wanted) = wanted.filter(|wanted| wanted.count < all) else { return Ok(None) };
        let Some(head) = &self.model.drafter else { return Ok(None) };
        let tokens = tokenizer.most_frequent(wanted.count, all, &wanted.sample);
        Ok(Some(Rc::new(head.restrict(&tokens)?)))
    }
}

/// Chooses the device for everything that follows.
///
/// # Errors
/// There is no such device.
pub fn choose_device(wanted: Option<args::Device>) -> Result<(), Failure> {
    match wanted {
        None => {}
        Some(args::Device::Cpu) => mlx::set_default_device(mlx::Device::Cpu),
        Some(args::Device::Gpu) if mlx::gpu_available() => mlx::set_default_device(mlx::Device::Gpu),
        Some(args::Device::Gpu) => {
            let what = "--device gpu: MLX finds no GPU here";
            return Err(Failure::usage(what, "`--device cpu` computes on the processor"));
        }
    }
    if let Some(budget) = MemoryBudget::of_default() {
        budget.apply();
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use mtplx_runtime::artifact::HiddenVariant;

    use super::*;

    /// The contract says which hidden states the drafter is fed: one that is replaced between judging and loading changes nothing.
    #[test]
    fn what_was_judged_is_what_is_loaded() {
        choose_device(Some(args::Device::Cpu)).unwrap();
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trained_qwen3_5/mlx_q4g32");
        let folder = tempfile::TempDir::new().unwrap();
        for entry in std::fs::read_dir(fixture).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let contract = |variant: &str| {
            let text = format!(r#"{{"mtp_contract": {{"base_hidden_variant": "{variant}"}}}}"#);
            std::fs::write(folder.path().join("mtplx_runtime.json"), text).unwrap();
        };
        let judged = || open(&Model::Dir(folder.path().to_owned())).unwrap();
        let loaded = |opened: &AssessedModel| opened.load(false, Precision::Auto).unwrap().model.info.hidden_variant;
        contract("post_norm");
        let opened = judged();
        contract("pre_norm");
        assert_eq!(loaded(&opened), HiddenVariant::PostNorm);
        assert_eq!(loaded(&judged()), HiddenVariant::PreNorm);
    }

    #[test]
    fn weights_beyond_memory() {
        let gib = |n: u64| n << 30;
        assert!(Room::Free(gib(3)).shortage(gib(3), true).is_none());
        let (what, hint) = Room::Free(gib(3)).shortage(gib(3) + 1, true).unwrap();
        assert_eq!(what, "its weights take 3.0 GiB, at four bytes each, and 3.0 GiB are free");
        assert!(hint.contains("however few it is stored in"), "{hint}");
        let (what, _) = Room::Card(gib(79)).shortage(gib(90), false).unwrap();
        assert_eq!(what, "its weights take 90.0 GiB, as stored, and the GPU has 79.0 GiB");
        let (what, _) = Room::Shared(gib(10)).shortage(gib(11), false).unwrap();
        assert_eq!(
            what,
            "its weights take 11.0 GiB, as stored, and the GPU may hold 10.0 GiB of this machine's memory"
        );
    }
}
