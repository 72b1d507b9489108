//! Gates: how much they measure, within which tolerance, and what they find.

use std::ops::ControlFlow;
use std::rc::Rc;

use mlx_rs::Dtype;
use serde_json::{Map, Value};

use super::error::VerifyError;
use super::prompt::Prompt;
use crate::model::MtpModel;
use crate::sampling::SamplingParams;
use crate::speculative::SequenceError;

/// The probability with which a statistical gate fails a model that is right.
pub const LEVEL: f64 = 1e-6;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Its name in contracts.
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
    /// True where plain decoding is fed the loop's text token by token in any case. If not, it is fed all of it at once, and
    /// token by token only where that disagrees.
    pub stepwise: bool,
}

impl Effort {
    /// The effort that evidence should come from.
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
    #[must_use]
    pub const fn fewest(&self, count: usize) -> usize {
        let by_rounds = self.rounds.saturating_add(1);
        if count < by_rounds { count } else { by_rounds }
    }
}

/// The inputs of a verification.
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

/// The result of one gate.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct GateResult {
    /// Its name.
    pub name: &'static str,
    /// True where the model passed.
    pub passed: bool,
    /// The figures in a line, for people.
    pub summary: String,
    /// The figures.
    pub figures: Map<String, Value>,
}

impl GateResult {
    /// A gate that the model's own error ended.
    pub(super) fn failed(name: &'static str, error: &SequenceError) -> Self {
        Self { name, passed: false, summary: error.to_string(), figures: Map::new() }
    }
}

/// The largest differences of two ways to compute the same row, for each unit of the largest value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// In the worst place.
    pub max: f64,
    /// On average: a structural mistake moves a whole row.
    pub mean: f64,
}

impl Tolerance {
    /// In f32, products of other widths round differently by a few units in the seventh digit, layer upon layer. A 16-bit
    /// type carries two to three digits.
    #[must_use]
    pub fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Float32 => Self { max: 5e-4, mean: 1e-4 },
            _ => Self { max: 5e-2, mean: 1e-2 },
        }
    }

    pub(super) fn sixteen_bit(self) -> bool {
        self != Self::of(Dtype::Float32)
    }
}

/// The progress of a verification.
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
pub(super) struct ProgressReporter<'a> {
    pub(super) gate: &'static str,
    pub(super) tell: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl ProgressReporter<'_> {
    pub(super) fn tick(&mut self, done: usize, all: usize) -> Result<(), VerifyError> {
        match (self.tell)(Progress { gate: self.gate, done, all }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(VerifyError::Interrupted),
        }
    }
}

/// The state that every gate is given.
pub(super) struct Verification<'a> {
    pub(super) model: &'a mut MtpModel,
    pub(super) prompts: Vec<Rc<Prompt>>,
    pub(super) depth: usize,
    pub(super) options: &'a Options,
    pub(super) tolerance: Tolerance,
    /// The largest difference of two logits that the state gate saw, for each unit of the largest: rounding, as this
    /// model does it.
    pub(super) measured: f64,
}

/// An object of figures.
pub(super) fn figures(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(figures) => figures,
        _ => Map::new(),
    }
}
