//! What a benchmark measures: depths, contexts and numbers of rows, checked before anything runs.

use mtplx_runtime::model::MtpModel;
use mtplx_runtime::speculative::Simulation;

use super::measure::{SETTLE, STEPS};
use super::report::Kind;
use crate::args::{Acceptance, Depths, DraftVocabArgs, MAX_DEPTH, MethodArgs};
use crate::error::Failure;

/// Lengths of context where none are stated.
const CONTEXTS: [usize; 2] = [512, 4096];
/// A text's tokens that are read for acceptance, where no context is stated.
const TEXT: usize = 512;

/// What was asked for, as far as it can be judged without the model.
pub struct Wanted<'a> {
    pub kind: Kind,
    args: &'a MethodArgs,
    pub simulation: Option<Simulation>,
    /// What drafts are restricted to.
    pub vocab: DraftVocabArgs,
    /// The deepest, as typed or by default.
    depths: Vec<usize>,
}

/// What will be measured. Lists without entries are not.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// 0 first.
    pub depths: Vec<usize>,
    /// 1 first.
    pub rows: Vec<usize>,
    pub decode: Vec<usize>,
    pub verify: Vec<usize>,
    pub prefill: Vec<usize>,
    /// Tokens of a text that are read at most.
    pub acceptance: Option<usize>,
}

impl<'a> Wanted<'a> {
    /// Judges the arguments.
    ///
    /// # Errors
    /// They contradict each other.
    pub fn of(args: &'a MethodArgs, simulated: Option<&[f64]>, kind: Kind) -> Result<Self, Failure> {
        if let Some(list) = args.too_many() {
            return Err(Failure::usage(format!("{list}: too many"), "64 at most"));
        }
        let simulation = match simulated {
            None => None,
            Some(_) if !matches!(kind, Kind::Decode | Kind::Sweep) => {
                let what =
                    format!("--simulate-acceptance: {} decides on no draft that it could stand for", kind.name());
                return Err(Failure::usage(what, "`bench decode` and `bench sweep` take it"));
            }
            Some(_) if args.acceptance == Some(Acceptance::Coupled) => {
                let what = "--simulate-acceptance: the coupled rule emits what the target drew, whatever the draft: \
                            there is no decision to simulate";
                return Err(Failure::usage(what, "leave out `--acceptance coupled`"));
            }
            Some(figures) => Some(Simulation::new(figures.to_vec()).map_err(|error| {
                let what = format!("--simulate-acceptance: {error}");
                Failure::usage(
                    what,
                    "figures are cumulative: the share of rounds that accept at least 1, 2, ... drafts",
                )
            })?),
        };
        let default = match (&simulation, kind) {
            (Some(simulation), _) => simulation.cumulative().len().min(MAX_DEPTH),
            (None, Kind::Decode | Kind::Prefill) => 3,
            (None, Kind::VerifyCost | Kind::Acceptance | Kind::Sweep | Kind::Tune) => MAX_DEPTH,
        };
        let mut depths = args.depths.as_ref().map_or_else(|| (0..=default).collect(), |Depths(depths)| depths.clone());
        let deepest = depths.last().copied().unwrap_or(0);
        if let Some(figures) = simulation.as_ref().map(|simulation| simulation.cumulative().len())
            && deepest > figures
        {
            let what = format!("--simulate-acceptance: {figures} figures for a depth of {deepest}");
            return Err(Failure::usage(what, "give a figure for each depth"));
        }
        if depths.first() != Some(&0) {
            depths.insert(0, 0);
        }
        Ok(Self { kind, args, simulation, vocab: DraftVocabArgs::default(), depths })
    }

    /// Whether it takes a draft head.
    pub fn needs_head(&self) -> bool {
        match self.kind {
            Kind::Decode | Kind::Sweep | Kind::Tune => self.depths.last().is_some_and(|&depth| depth > 0),
            Kind::Acceptance => true,
            Kind::VerifyCost | Kind::Prefill => false,
        }
    }

    /// Judges them for a model.
    ///
    /// # Errors
    /// It does not draft that deep, or its context is too short.
    pub fn plan(&self, model: &MtpModel) -> Result<Plan, Failure> {
        let head = model.drafter.as_ref().map_or(0, |head| head.max_depth());
        self.plan_within(head, model.info.context)
    }

    fn plan_within(&self, head: usize, context: usize) -> Result<Plan, Failure> {
        let mut depths = self.depths.clone();
        if self.needs_head() {
            if let Some(deepest) = depths.last().filter(|&&depth| depth > head && self.args.depths.is_some()) {
                let what = format!("--depths {deepest}: this model drafts at most {head} tokens a round");
                return Err(Failure::usage(what, "leave the deeper ones out"));
            }
            depths.retain(|&depth| depth <= head);
        }
        let deepest = depths.last().copied().unwrap_or(0);
        let rows: Vec<usize> = depths.iter().map(|depth| depth + 1).collect();
        // What is generated behind the context.
        let decoded = self.args.tokens.saturating_add((SETTLE + 1) * (deepest + 1));
        let verified = (SETTLE + STEPS) * (deepest + 1);
        let behind = match self.kind {
            Kind::Decode | Kind::Acceptance | Kind::Tune => decoded,
            Kind::VerifyCost => verified,
            Kind::Prefill => 1,
            Kind::Sweep => decoded.max(verified),
        };
        let Some(room) = context.checked_sub(behind).filter(|&room| room > 0) else {
            let what = format!("{behind} tokens to generate: the model's context holds {context}");
            return Err(Failure::usage(what, "`-n` sets how many are generated"));
        };
        let contexts = match &self.args.contexts {
            Some(stated) => {
                if let Some(long) = stated.iter().find(|&&long| long > room) {
                    let what = format!(
                        "--contexts {long}: behind {behind} generated tokens the model's context leaves {room}"
                    );
                    return Err(Failure::usage(what, "ask for a shorter context, or for fewer tokens with `-n`"));
                }
                stated.clone()
            }
            None => {
                let several = matches!(self.kind, Kind::Prefill | Kind::Sweep);
                let usual = CONTEXTS.into_iter().take(if several { 2 } else { 1 }).filter(|&usual| usual <= room);
                let usual: Vec<usize> = usual.collect();
                if usual.is_empty() { vec![room] } else { usual }
            }
        };
        let all = |kinds: &[Kind]| if kinds.contains(&self.kind) { contexts.clone() } else { Vec::new() };
        let reads_texts =
            self.kind == Kind::Acceptance || self.kind == Kind::Sweep && self.simulation.is_none() && deepest > 0;
        let most = self.args.contexts.as_ref().map_or(TEXT, |_| contexts[0]).min(room);
        Ok(Plan {
            decode: all(&[Kind::Decode, Kind::Sweep, Kind::Tune]),
            verify: all(&[Kind::VerifyCost, Kind::Sweep]),
            prefill: all(&[Kind::Prefill, Kind::Sweep]),
            acceptance: reads_texts.then_some(most),
            depths,
            rows,
        })
    }
}
