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
//! no file is touched: what a report is worth to an artifact is for the crate above to judge.
//!
//! A pass through the model is what takes time, so a prompt is fed once for all gates, whatever can be computed in one
//! pass is, and no pass is made for a number that another one gave. `MTPLX_LOG=debug` shows how many each gate took.

pub mod acceptance;
mod counted;
mod draws;
mod error;
pub mod finite;
pub mod gate;
pub mod greedy;
pub mod host;
pub mod joint;
pub mod marginal;
mod prompt;
pub mod state;
mod walk;

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

use mlx_rs::Dtype;

pub use self::acceptance::DepthCount;
use self::counted::{Counts, counted};
pub use self::error::VerifyError;
pub use self::gate::{Effort, GateResult, LEVEL, Options, Progress, Tolerance};
use self::gate::{ProgressReporter, Verification};
use self::prompt::Prompt;
pub use self::state::{Difference, Mismatch, difference};
use crate::model::MtpModel;
use crate::speculative::SequenceError;

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
    pub gates: Vec<GateResult>,
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

/// Measures `model`. `progress` may break off between two steps.
///
/// # Errors
/// No draft head, no prompt, interrupted; or MLX fails. A model that is wrong is no error but a gate not passed.
pub fn verify(
    model: &mut MtpModel,
    options: &Options,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Report, VerifyError> {
    if model.drafter.is_none() {
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
    let most = model.drafter.as_ref().map_or(0, |head| head.max_depth());
    let depth = options.depth.clamp(1, most.max(1));
    let mut watch = ProgressReporter { gate: PROMPTS, tell };
    let mut meter = Meter { counts, before: counts.so_far(), started: Instant::now() };
    let texts = fitting(&options.prompts, &options.effort, model.info.context, depth);
    let mut prompts = Vec::with_capacity(texts.len());
    let count = texts.len();
    for text in texts {
        watch.tick(prompts.len(), count)?;
        prompts.push(Rc::new(Prompt::feed(&*model.trunk, text)?));
    }
    watch.tick(count, count)?;
    let dtype = prompts.first().ok_or(VerifyError::NoPrompt)?.hidden.dtype();
    meter.read(PROMPTS);
    let mut bench = Verification { model, prompts, depth, options, tolerance: Tolerance::of(dtype), measured: 0.0 };
    let mut gates = Vec::new();
    let mut acceptance_by_depth = Vec::new();
    for (name, gate) in GATES {
        watch.gate = name;
        gates.push(match gate(&mut bench, &mut watch, &mut acceptance_by_depth) {
            Err(VerifyError::Sequence(error @ SequenceError::NotFinite)) => GateResult::failed(name, &error),
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

/// The gates' names, in the order in which they run.
pub const GATE_NAMES: [&str; 5] = [state::NAME, marginal::NAME, joint::NAME, acceptance::NAME, greedy::NAME];

type Run =
    fn(&mut Verification<'_>, &mut ProgressReporter<'_>, &mut Vec<DepthCount>) -> Result<GateResult, VerifyError>;

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

#[cfg(test)]
mod tests;
