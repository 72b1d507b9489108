//! From files to a loaded model: opened, assessed, admitted, loaded, each once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mtplx_runtime::architecture::{Descriptor, LoadOptions, MtpArchitecture, Precision, Tier};
use mtplx_runtime::artifact::{Area, Checkpoint, ErrorKind, Fault, Finding, Severity};
use mtplx_runtime::inspect::{self, Arithmetic, Memory};
use mtplx_runtime::mlx::MemoryBudget;
use mtplx_runtime::model::{DraftVocabulary, MtpModel};
use mtplx_runtime::registry::{Registry, ResolveError};
use mtplx_runtime::text::{ChatTemplate, TextAssets, Tokenizer};
use mtplx_runtime::verify::finite::require_finite;
use serde_json::{Map, Value};

use crate::assess::{AssessOptions, Assessment, Verdict, assess_with};
use crate::error::{EngineError, Refusal};
use crate::memory::{Fit, Room};
use crate::settings::generation_faults;

/// Advice on a field out of range.
const CORRECT: &str = "correct the file, or download it again";

/// A checkpoint that was opened and assessed, but not loaded.
pub struct AssessedModel {
    /// The files.
    pub checkpoint: Checkpoint,
    /// Their verdict.
    pub assessment: Assessment,
    text: TextAssets,
}

/// The files between text and tokens, without a fault.
#[derive(Debug, Clone)]
pub struct ModelText {
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Conversations to text.
    pub template: Option<ChatTemplate>,
    /// `generation_config.json`.
    pub generation_config: Option<Map<String, Value>>,
}

/// Which verdicts run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Admission {
    /// Draft without evidence, and against it.
    pub allow_unverified: bool,
    /// Run with evidence only.
    pub require_verified: bool,
}

impl Admission {
    /// Drafting without evidence and against it: for work that judges a model itself.
    pub const UNVERIFIED: Self = Self { allow_unverified: true, require_verified: false };
}

/// A loaded model.
pub struct LoadedModel {
    /// The model.
    pub model: MtpModel,
    /// Its architecture.
    pub descriptor: &'static Descriptor,
    /// Time that loading took.
    pub load_time: Duration,
}

/// Tokens that drafts are to be restricted to: the most frequent ones.
#[derive(Debug, Clone)]
pub struct DraftVocab {
    /// How many.
    pub count: usize,
    /// Tokens of a text, whose most frequent ones come first.
    pub sample: Vec<u32>,
}

/// Reads tokenizer, template and generation settings, with the faults of settings that [`crate::settings`] would not take.
pub fn read_text(checkpoint: &Checkpoint) -> TextAssets {
    let mut text = TextAssets::of(checkpoint);
    let faults = text.generation_config.as_ref().map(generation_faults).unwrap_or_default();
    for what in faults {
        text.fault(ErrorKind::Damaged, what, CORRECT);
    }
    text
}

impl AssessedModel {
    /// Assesses an opened checkpoint.
    pub fn new(checkpoint: Checkpoint, registry: &Registry, options: AssessOptions<'_>) -> Self {
        let text = read_text(&checkpoint);
        let assessment = assess_with(&checkpoint, registry, &text, options);
        Self { checkpoint, assessment, text }
    }

    /// Admits the model to run, drafting or (`trunk_only`) not.
    ///
    /// Evidence is about drafting, so plain decoding needs none. Drafting without evidence is for architectures of
    /// [`Tier::Verified`]; against evidence, for nobody who does not ask for it.
    ///
    /// # Errors
    /// The verdict forbids it.
    pub fn admit(&self, trunk_only: bool, admission: Admission) -> Result<(), Refusal> {
        let Admission { allow_unverified, require_verified } = admission;
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
        let mut remarks = String::new();
        if *verdict == Verdict::NoMtp {
            let of_config = self.checkpoint.findings().iter().filter(|finding| finding.file == "config.json");
            of_config.for_each(|finding| remarks.push_str(&format!("; {finding}")));
        }
        let label = self.checkpoint.label().to_owned();
        Err(Refusal { label, verdict: Box::new(verdict.clone()), remarks, required: require_verified })
    }

    /// Findings about the files that deserve a warning, those that `said` repeats left out.
    pub fn warnings(&self, said: &[String]) -> impl Iterator<Item = String> {
        let findings = self.assessment.findings.iter().filter(|finding| finding.severity > Severity::Remark);
        findings.map(Finding::to_string).filter(move |finding| !said.contains(finding))
    }

    /// Tokenizer, generation settings, and the chat template if it is wanted: one that is broken is no obstacle to raw
    /// text.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn text(&self, with_template: bool) -> Result<ModelText, EngineError> {
        let wanted = |fault: &&Fault| with_template || fault.area != Area::Template;
        let label = || self.checkpoint.label().to_owned();
        if let Some(fault) = self.text.faults().iter().find(wanted) {
            return Err(EngineError::Text { label: label(), fault: fault.clone() });
        }
        let tokenizer = self.text.tokenizer.clone().ok_or_else(|| EngineError::Text {
            label: label(),
            fault: Fault {
                area: Area::Text,
                kind: ErrorKind::Missing,
                what: "tokenizer.json: not found".to_owned(),
                hint: CORRECT.into(),
            },
        })?;
        let template = self.text.template.clone().filter(|_| with_template);
        Ok(ModelText { tokenizer, template, generation_config: self.text.generation_config.clone() })
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

    /// Numbers of the model, vision parts left out: those of packed weights counted one by one.
    pub fn parameters(&self) -> u64 {
        inspect::inspect(&self.checkpoint, None).parameters
    }

    /// The architecture that claims the checkpoint.
    ///
    /// # Errors
    /// None does, or several do.
    pub fn architecture(&self) -> Result<&'static dyn MtpArchitecture, EngineError> {
        self.assessment.architecture.ok_or_else(|| {
            let model_type = self.checkpoint.config().model_type().to_owned();
            EngineError::Unclaimed(ResolveError::Unclaimed { model_type, linked: Vec::new() })
        })
    }

    /// Refuses weights that are not finite.
    ///
    /// # Errors
    /// Names the first tensor that has such a number.
    pub fn require_finite(&self) -> Result<(), EngineError> {
        Ok(require_finite(&self.checkpoint, self.architecture()?)?)
    }

    /// Loads the weights on this thread, which everything that runs them must stay on.
    ///
    /// # Errors
    /// The weights do not fit into memory; the files do not hold what their headers say; MLX fails.
    pub fn load(&self, trunk_only: bool, precision: Precision) -> Result<LoadedModel, EngineError> {
        let started = Instant::now();
        let architecture = self.architecture()?;
        let weights = self.fits(trunk_only, precision)?;
        let plan = architecture.plan(&self.checkpoint)?;
        let model = plan.load(&self.checkpoint, &LoadOptions { precision, trunk_only })?;
        if let (Some(budget), Some(weights)) = (MemoryBudget::of_default(), weights) {
            budget.wire(weights);
        }
        Ok(LoadedModel { model, descriptor: architecture.descriptor(), load_time: started.elapsed() })
    }

    /// The memory that running takes; `None` where headers do not tell.
    pub fn memory(&self, trunk_only: bool) -> Option<Memory> {
        let found = inspect::inspect(&self.checkpoint, self.assessment.architecture.zip(self.assessment.tier));
        let memory = found.memory?;
        Some(memory.without(found.groups.iter().filter(|group| group.head && trunk_only)))
    }

    /// The need at `tokens` of context on the default device, held against its memory; `None` where headers or the system do not tell.
    pub fn fit(&self, tokens: usize, trunk_only: bool) -> Option<Fit> {
        Some(Room::of_default()?.fit(&self.memory(trunk_only)?, tokens, Arithmetic::of_default()))
    }

    /// The bytes of the weights, as far as headers tell, if they fit into memory.
    fn fits(&self, trunk_only: bool, precision: Precision) -> Result<Option<u64>, EngineError> {
        let claimant = self.assessment.architecture.zip(self.assessment.tier);
        let found = inspect::inspect(&self.checkpoint, claimant);
        let Some(memory) = found.memory else { return Ok(None) };
        let in_f32 = precision.is_f32();
        let memory = memory.without(found.groups.iter().filter(|group| group.head && trunk_only));
        let weights = if in_f32 { memory.weights_f32 } else { memory.weights_native };
        match Room::of_default().and_then(|room| room.shortage(weights, in_f32)) {
            None => Ok(Some(weights)),
            Some(shortage) => Err(EngineError::Memory { label: self.checkpoint.label().to_owned(), shortage }),
        }
    }
}

impl LoadedModel {
    /// The tokens that drafts are restricted to; `None` for all.
    ///
    /// # Errors
    /// The head cannot be restricted.
    pub fn draft_vocabulary(
        &self,
        wanted: Option<&DraftVocab>,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Rc<DraftVocabulary>>, EngineError> {
        let all = self.model.info.vocab_size;
        let Some(wanted) = wanted.filter(|wanted| wanted.count < all) else { return Ok(None) };
        let Some(head) = &self.model.drafter else { return Ok(None) };
        let tokens = tokenizer.most_frequent(wanted.count, all, &wanted.sample);
        Ok(Some(Rc::new(head.restrict(&tokens)?)))
    }
}
