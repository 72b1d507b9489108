//! Measures whether a model's speculative loop is exact on this machine, through the model's own logits.
//!
//! | gate | what it compares |
//! | --- | --- |
//! | marginal | the law of a round's first token, in closed form from the device's p and q and as the device draws it, with p by the host in f64 |
//! | joint | sequences that the loop draws with the law that plain decoding gives them |
//! | state | trunk and head after every accept count with the same tokens fed one by one |
//! | teacher-forced | drafts accepted in the loop with what the head's and the trunk's distributions promise |
//! | greedy | the loop's greedy text with plain decoding's choice at every token, near-ties aside |
//!
//! Statistical gates fail a right model with probability [`LEVEL`] each, by the law they test with. Nothing is printed and
//! no file is touched: what a report is worth to an artifact is [`stamp`]'s business.
//!
//! A pass through the model is what takes time, so a prompt is fed once for all gates, whatever can be computed in one
//! pass is, and no pass is made for a number that another one gave. `MTPLX_LOG=debug` shows how many each gate took.

mod acceptance;
mod counted;
mod draws;
pub mod evidence;
mod greedy;
pub mod host;
mod joint;
mod marginal;
mod prompt;
pub mod stamp;
mod state;
pub mod statistics;
mod walk;

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

use mlx_rs::Dtype;
use mlx_rs::error::Exception;
use serde_json::{Map, Value};

pub use self::acceptance::DepthCount;
use self::counted::{Counts, counted};
use self::prompt::Prompt;
#[cfg(any(test, feature = "testing"))]
pub(crate) use self::state::compared;
pub use self::state::{Difference, Mismatch, difference};
use crate::mlx::message;
use crate::model::MtpModel;
use crate::sampling::SamplingParams;
use crate::speculative::SessionError;

/// The probability with which a statistical gate fails a model that is right.
pub const LEVEL: f64 = 1e-6;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// What contracts call it.
    pub name: &'static str,
    /// Prompts that are used at most.
    pub prompts: usize,
    /// Of those, prompts behind which every accept count is tried: each is a fresh rollback.
    pub rollbacks: usize,
    /// Rows of logits whose one-round law is computed.
    pub rows: usize,
    /// Tokens drawn from computed distributions, of each kind.
    pub draws: usize,
    /// Tokens of the text that the loop draws for the joint law, by each rule.
    pub walk: usize,
    /// Rounds of any text at most: where next to no draft is accepted, there would be as many as tokens.
    pub rounds: usize,
    /// Short sequences that it draws besides, all from one place.
    pub samples: usize,
    /// Tokens generated behind each prompt.
    pub tokens: usize,
    /// Whether plain decoding is fed the loop's text token by token in any case. If not, it is fed all of it at once, and
    /// token by token only where that disagrees.
    pub stepwise: bool,
}

impl Effort {
    /// What evidence should come from.
    pub const FULL: Self = Self {
        name: "full",
        prompts: 8,
        rollbacks: 3,
        rows: 64,
        draws: 4096,
        walk: 192,
        rounds: usize::MAX,
        samples: 500,
        tokens: 96,
        stepwise: true,
    };
    /// About a twentieth of the passes.
    pub const QUICK: Self = Self {
        name: "quick",
        prompts: 2,
        rollbacks: 1,
        rows: 16,
        draws: 1024,
        walk: 48,
        rounds: 16,
        samples: 0,
        tokens: 20,
        stepwise: false,
    };

    /// Tokens of a text of `count` at least, that nothing ends but the number of rounds: each emits one or more.
    const fn fewest(&self, count: usize) -> usize {
        let by_rounds = self.rounds.saturating_add(1);
        if count < by_rounds { count } else { by_rounds }
    }
}

/// What is measured, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Token ids; empty ones are left out.
    pub prompts: Vec<Vec<u32>>,
    /// Drafts a round; what the head cannot draft is not asked of it.
    pub depth: usize,
    /// The sampler of the teacher-forced gate, and one of those of the marginal gate.
    pub sampling: SamplingParams,
    /// Tokens that end a text.
    pub stop_tokens: Vec<u32>,
    /// How much.
    pub effort: Effort,
    /// All randomness follows from it.
    pub seed: u64,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Nothing drafts.
    #[error("the model was loaded without its draft head: there is nothing to verify")]
    NoDraftHead,
    /// No prompt of at least two tokens.
    #[error("no prompt has two tokens or more")]
    NoPrompt,
    /// The caller broke off.
    #[error("interrupted")]
    Interrupted,
    /// The loop failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// MLX failed.
    #[error("MLX: {}", message(.0))]
    Mlx(#[from] Exception),
}

/// What one gate found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// Whether the model passed.
    pub passed: bool,
    /// The figures in a line, for people.
    pub summary: String,
    /// The figures.
    pub figures: Map<String, Value>,
}

impl Gate {
    /// A gate that the model's own error ended.
    fn failed(name: &'static str, error: &SessionError) -> Self {
        Self { name, passed: false, summary: error.to_string(), figures: Map::new() }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// How much was measured: [`Effort::name`].
    pub effort: &'static str,
    /// Drafts a round.
    pub depth: usize,
    /// The type of the trunk's hidden states.
    pub dtype: &'static str,
    /// Every gate, also behind one that failed.
    pub gates: Vec<Gate>,
    /// Acceptance by depth, the first draft first, of the teacher-forced gate's texts.
    pub acceptance_by_depth: Vec<DepthCount>,
}

impl Report {
    /// Whether every gate was passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.gates.iter().all(|gate| gate.passed)
    }
}

/// How far two ways to compute the same row may differ, for each unit of the largest value.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tolerance {
    /// In the worst place.
    max: f64,
    /// On average: a structural mistake moves a whole row.
    mean: f64,
}

impl Tolerance {
    /// In f32, products of other widths round differently by a few units in the seventh digit, layer upon layer. A 16-bit
    /// type carries two to three digits.
    fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Float32 => Self { max: 5e-4, mean: 1e-4 },
            _ => Self { max: 5e-2, mean: 1e-2 },
        }
    }

    fn sixteen_bit(self) -> bool {
        self != Self::of(Dtype::Float32)
    }
}

/// Where a verification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The gate.
    pub gate: &'static str,
    /// Steps done ...
    pub done: usize,
    /// ... of so many.
    pub all: usize,
}

/// Tells the caller how far it is, and asks whether to go on.
struct Watch<'a> {
    gate: &'static str,
    tell: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Watch<'_> {
    fn tick(&mut self, done: usize, all: usize) -> Result<(), VerifyError> {
        match (self.tell)(Progress { gate: self.gate, done, all }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(VerifyError::Interrupted),
        }
    }
}

/// What every gate is given.
struct Bench<'a> {
    model: &'a mut MtpModel,
    prompts: Vec<Rc<Prompt>>,
    depth: usize,
    options: &'a Options,
    tolerance: Tolerance,
    /// The largest difference of two logits that the state gate saw, for each unit of the largest: rounding, as this
    /// model does it.
    measured: f64,
}

/// Measures `model`. `progress` may break off between two steps.
///
/// # Errors
/// No draft head, no prompt, interrupted; or MLX fails. A model that is wrong is no error but a gate not passed.
pub fn verify(
    model: &mut MtpModel,
    options: &Options,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Report, VerifyError> {
    if model.draft_head.is_none() {
        return Err(VerifyError::NoDraftHead);
    }
    counted(model, |model, counts| measure(model, counts, options, &mut progress))
}

fn measure(
    model: &mut MtpModel,
    counts: &Counts,
    options: &Options,
    tell: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Report, VerifyError> {
    let most = model.draft_head.as_ref().map_or(0, |head| head.max_depth());
    let depth = options.depth.clamp(1, most.max(1));
    let mut watch = Watch { gate: PROMPTS, tell };
    let mut meter = Meter { counts, before: counts.so_far(), started: Instant::now() };
    let texts = fitting(&options.prompts, &options.effort, model.info.context, depth);
    let mut prompts = Vec::with_capacity(texts.len());
    let count = texts.len();
    for text in texts {
        watch.tick(prompts.len(), count)?;
        prompts.push(Rc::new(Prompt::feed(&mut *model.trunk, text)?));
    }
    watch.tick(count, count)?;
    let dtype = prompts.first().ok_or(VerifyError::NoPrompt)?.hidden.dtype();
    meter.read(PROMPTS);
    let mut bench = Bench { model, prompts, depth, options, tolerance: Tolerance::of(dtype), measured: 0.0 };
    let mut gates = Vec::new();
    let mut acceptance_by_depth = Vec::new();
    for (name, gate) in GATES {
        watch.gate = name;
        gates.push(match gate(&mut bench, &mut watch, &mut acceptance_by_depth) {
            Err(VerifyError::Session(error @ SessionError::NotFinite)) => Gate::failed(name, &error),
            measured => measured?,
        });
        meter.read(name);
    }
    let dtype = match dtype {
        Dtype::Float32 => "float32",
        Dtype::Float16 => "float16",
        Dtype::Bfloat16 => "bfloat16",
        _ => "other",
    };
    Ok(Report { effort: options.effort.name, depth, dtype, gates, acceptance_by_depth })
}

/// What comes before the first gate.
const PROMPTS: &str = "prompts";

/// Reports what each gate cost.
struct Meter<'a> {
    counts: &'a Counts,
    before: counted::Passes,
    started: Instant,
}

impl Meter<'_> {
    fn read(&mut self, gate: &str) {
        let now = self.counts.so_far();
        let counted::Passes { trunk, trunk_rows, head, logits, logit_rows } = now.since(self.before);
        let seconds = self.started.elapsed().as_secs_f32();
        tracing::debug!(gate, seconds, trunk, trunk_rows, head, logits, logit_rows, "passes");
        (self.before, self.started) = (now, Instant::now());
    }
}

type Run = fn(&mut Bench<'_>, &mut Watch<'_>, &mut Vec<DepthCount>) -> Result<Gate, VerifyError>;

/// In the order in which they run: what is quick, and what would make the rest meaningless, first.
const GATES: [(&str, Run); 5] = [
    (state::NAME, |bench, watch, _| state::gate(bench, watch)),
    (marginal::NAME, |bench, watch, _| marginal::gate(bench, watch)),
    (joint::NAME, |bench, watch, _| joint::gate(bench, watch)),
    (acceptance::NAME, acceptance::gate),
    (greedy::NAME, |bench, watch, _| greedy::gate(bench, watch)),
];

/// The prompts that leave room for what is generated, cut where they leave none.
fn fitting(prompts: &[Vec<u32>], effort: &Effort, context: usize, depth: usize) -> Vec<Vec<u32>> {
    let room = context.saturating_sub(effort.tokens + 2 * (depth + 1)).max(2);
    let cut = prompts.iter().map(|prompt| prompt[..prompt.len().min(room)].to_vec());
    cut.filter(|prompt| prompt.len() >= 2).take(effort.prompts).collect()
}

/// An object of figures.
fn figures(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(figures) => figures,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
