//! Drafts accepted in the loop, by depth, against what the distributions promise.
//!
//! A draft drawn from q and judged against p is accepted with probability `sum min(p, q)`. p and q are computed anew,
//! teacher-forced: the trunk and the head are fed the whole text at once, or the head round by round with the drafts that
//! the loop drew. Accepted less promised is then a martingale with steps below 1, which Bernstein's inequality bounds
//! (Freedman 1975).
//!
//! The same q and the same noise also say which token the loop must have drawn. A head that the loop feeds the wrong
//! pairs draws others, even where it is no worse for it.

use std::ops::ControlFlow;

use mlx_rs::{Dtype, ops};
use serde_json::json;

use super::error::VerifyError;
use super::gate::{Effort, GateResult, LEVEL, ProgressReporter, Verification, figures};
use super::host::{self, token_array};
use super::prompt::Prompt;
use crate::Array;
use crate::model::MtpModel;
use crate::sampling::device::RoundNoise;
use crate::sampling::{DeviceSampler, Noise, Role};
use crate::speculation::statistics::bernstein;
use crate::speculative::{DepthPolicy, DraftOptions, Round, Rule, Sequence, SequenceOptions};

/// The gate's name.
pub const NAME: &str = "teacher-forced";

/// How far rounding of a 16-bit type may move what a draft promises, on average.
const SLACK_16_BIT: f64 = 0.01;

/// The share of drafts that may fall to the other side of an edge of q's cumulative sum, in f32 and in a 16-bit type, and
/// how many in any case.
const DIFFERING: [f64; 2] = [2e-3, 5e-2];
const FEW: u64 = 2;

/// How far rounding may move what drafts promise, for each of them.
pub fn slack(sixteen_bit: bool) -> f64 {
    if sixteen_bit { SLACK_16_BIT } else { 0.0 }
}

/// How many of so many drafts may differ.
pub fn differing_allowed(examined: u64, sixteen_bit: bool) -> u64 {
    FEW.max((DIFFERING[usize::from(sixteen_bit)] * examined as f64) as u64)
}

/// The widest bound that so many drafts can have, whatever each promised: the variance is largest where all promised the
/// same.
pub fn widest(examined: f64, promised: f64, slack: f64) -> f64 {
    let variance = promised * (1.0 - promised / examined.max(1.0));
    bernstein(variance.max(0.0), LEVEL) + slack * examined
}

/// Whether as many were accepted as were promised, within `bound`. What is promised never is never accepted.
pub fn agree(accepted: u64, promised: f64, bound: f64) -> bool {
    (accepted as f64 - promised).abs() <= bound && (promised > 0.0 || accepted == 0)
}

/// Rounds that are judged at once: up to depth times as many rows of logits, and what filters make of them.
const BLOCK: usize = 8;

/// What happened to the drafts of one depth.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct DepthCount {
    /// Rounds that drafted so far.
    pub drafted: u64,
    /// Of those, rounds that decided on this draft.
    pub examined: u64,
    /// Of those, rounds that accepted it.
    pub accepted: u64,
    /// Of those examined, drafts that are not the ones that q and the noise give.
    pub differing: u64,
    /// How many acceptances p and q promise for the drafts that were examined.
    pub promised: f64,
    /// The variance of that number.
    #[serde(skip)]
    pub(super) variance: f64,
}

impl DepthCount {
    /// Accepted of those drafted.
    #[must_use]
    pub fn cumulative(&self) -> f64 {
        self.accepted as f64 / self.drafted.max(1) as f64
    }

    /// How far accepted and promised may be apart.
    fn bound(&self, slack: f64) -> f64 {
        bernstein(self.variance, LEVEL) + slack * self.examined as f64
    }

    fn agrees(&self, slack: f64) -> bool {
        agree(self.accepted, self.promised, self.bound(slack))
    }
}

pub(super) fn gate(
    bench: &mut Verification<'_>,
    watch: &mut ProgressReporter<'_>,
    depths: &mut Vec<DepthCount>,
) -> Result<GateResult, VerifyError> {
    depths.resize(bench.depth, DepthCount::default());
    let prompts = bench.prompts.clone();
    let sampler = DeviceSampler::new(bench.options.sampling.clone(), bench.model.info.vocab_size)?;
    let mut rounds = 0;
    let tokens = bench.options.effort.tokens;
    // The loop's text, and what was promised for it.
    let all = 2 * tokens * prompts.len();
    for (index, prompt) in prompts.iter().enumerate() {
        let mut tick = |done: usize| watch.tick((2 * index * tokens + done).min(all), all);
        let text = Text::generate(bench, prompt, index as u64, &mut tick)?;
        rounds += text.rounds.len();
        text.promises(bench.model, prompt, &sampler, depths, |done| tick(tokens + done))?;
        tick(2 * tokens)?;
    }
    let sixteen_bit = bench.tolerance.sixteen_bit();
    let slack = slack(sixteen_bit);
    let total = |of: fn(&DepthCount) -> u64| depths.iter().map(of).sum::<u64>();
    let (differing, examined) = (total(|depth| depth.differing), total(|depth| depth.examined));
    let allowed = differing_allowed(examined, sixteen_bit);
    let passed = depths.iter().all(|depth| depth.agrees(slack)) && differing <= allowed && examined > 0;
    let by_depth = depths.iter().enumerate().map(|(index, depth)| {
        let DepthCount { accepted, examined, promised, .. } = depth;
        let bound = depth.bound(slack);
        format!("{}: {accepted}/{examined} for {promised:.1} ± {bound:.1}", index + 1)
    });
    let by_depth: Vec<String> = by_depth.collect();
    let summary = format!(
        "{differing} of {examined} drafts are not the head's (at most {allowed}); accepted of examined for promised, by \
         depth  {}",
        by_depth.join("  ")
    );
    let by_depth: Vec<_> = depths
        .iter()
        .map(|depth| {
            json!({"drafted": depth.drafted, "examined": depth.examined, "accepted": depth.accepted,
                "differing": depth.differing, "promised": depth.promised, "bound": depth.bound(slack)})
        })
        .collect();
    let figures = figures(json!({"rounds": rounds, "level": LEVEL, "drafts": examined, "differing": differing,
        "differing_allowed": allowed, "by_depth": by_depth}));
    Ok(GateResult { name: NAME, passed, summary, figures })
}

/// A text that the loop wrote.
struct Text {
    /// Prompt and output.
    tokens: Vec<u32>,
    prompt: usize,
    /// The rounds whose tokens are all in the text.
    rounds: Vec<Round>,
    seed: u64,
}

impl Text {
    fn generate(
        bench: &mut Verification<'_>,
        prompt: &Prompt,
        index: u64,
        mut tick: impl FnMut(usize) -> Result<(), VerifyError>,
    ) -> Result<Self, VerifyError> {
        let Effort { tokens: count, rounds, .. } = bench.options.effort;
        let prompt = &prompt.tokens[..];
        let seed = bench.options.seed.wrapping_add(index);
        let options = SequenceOptions {
            sampling: bench.options.sampling.clone(),
            drafts: Some(DraftOptions::new(DepthPolicy::Fixed(bench.depth))),
            rule: Rule::Rejection,
            seed,
            stop_tokens: bench.options.stop_tokens.clone(),
            logprobs: None,
        };
        let mut sequence = Sequence::new(bench.model, options)?;
        let first = sequence.prefill(bench.model, prompt, |_, _| ControlFlow::Continue(()))?;
        let mut text = Self { tokens: [prompt, &[first]].concat(), prompt: prompt.len(), rounds: Vec::new(), seed };
        let mut stopped = bench.options.stop_tokens.contains(&first);
        while !stopped && text.tokens.len() < prompt.len() + count && sequence.stats().rounds() < rounds as u64 {
            let round = sequence.round(bench.model, usize::MAX)?;
            stopped = round.stopped;
            text.tokens.extend(&round.tokens);
            // What a stop token clipped is not in the text.
            if round.tokens.len() == round.acceptance.emitted() {
                text.rounds.push(round);
            }
            tick((text.tokens.len() - prompt.len()).min(count))?;
        }
        Ok(text)
    }

    /// Adds what happened to the drafts and what was promised for them.
    fn promises(
        &self,
        model: &MtpModel,
        prompt: &Prompt,
        sampler: &DeviceSampler,
        depths: &mut [DepthCount],
        mut tick: impl FnMut(usize) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let head = model.drafter.as_ref().ok_or(VerifyError::NoDraftHead)?;
        let behind = model.trunk.append(&token_array(&self.tokens[self.prompt..]), &mut prompt.cache())?;
        let hidden = ops::concatenate(&[&prompt.hidden, &behind], 0)?;
        let pairs = self.tokens.len() - 1;
        let feed = |from: usize, to: usize| -> crate::Result<(Array, Array)> {
            Ok((host::rows(&hidden, from as i32, to as i32)?, token_array(&self.tokens[from + 1..=to])))
        };
        let (rows, next) = feed(0, pairs)?;
        let mut whole = head.new_state();
        head.feed(&mut whole, &rows, &next)?;

        let noise = Noise::new(self.seed);
        let mut state = head.new_state();
        let mut fed = 0;
        let mut end = self.prompt;
        let mut placed = Vec::with_capacity(self.rounds.len());
        for round in &self.rounds {
            placed.push((end, round));
            end += round.tokens.len();
        }
        placed.retain(|(_, round)| round.acceptance.examined() > 0);
        for rounds in placed.chunks(BLOCK) {
            // Everything that needs no draft fed back, in one pass of each output layer.
            // The row before the anchor was fed the anchor.
            let firsts = head.logits(&picked(&whole.round()?.rows[0], rounds.iter().map(|(anchor, _)| anchor - 1))?)?;
            let judged = rounds.iter().flat_map(|&(anchor, round)| anchor..anchor + round.acceptance.examined());
            let targets = picked(&hidden, judged).and_then(|rows| model.trunk.logits(&rows))?;
            let mut found = Vec::with_capacity(2 * rounds.len());
            let mut row = 0;
            for (index, &(anchor, round)) in rounds.iter().enumerate() {
                let examined = round.acceptance.examined();
                let mut q = vec![host::rows(&firsts, index as i32, index as i32 + 1)?];
                let (pairs, next) = feed(fed, anchor)?;
                head.feed(&mut state, &pairs, &next)?;
                fed = anchor;
                for draft in 1..examined {
                    if draft == 1 {
                        head.draft(&mut state, None, None)?;
                    }
                    let previous = token_array(&round.drafts[draft - 1..draft]);
                    q.push(head.draft(&mut state, Some(&previous), None)?);
                }
                let p = filtered(sampler, &host::rows(&targets, row, row + examined as i32)?)?;
                let q = filtered(sampler, &ops::concatenate(&q, 0)?)?;
                row += examined as i32;
                let draws = RoundNoise { rule: Rule::Rejection, noise: &noise, first: anchor as u64 + 1 };
                found.push(ops::minimum(&p, &q)?.sum_axis(-1, false)?);
                found.push(draws.draw(&q, Role::Draft)?.as_dtype(Dtype::Float32)?);
            }
            let found = host::values(&ops::concatenate(&found, 0)?)?;
            let mut rest = &found[..];
            for (_, round) in rounds {
                let (promised, behind) = rest.split_at(round.acceptance.examined());
                let (drawn, behind) = behind.split_at(round.acceptance.examined());
                rest = behind;
                note(depths, round, promised, drawn);
            }
            tick(fed - self.prompt)?;
        }
        Ok(())
    }
}

/// Adds one round: for every draft that was examined, what it promised and which token q and the noise give.
fn note(depths: &mut [DepthCount], round: &Round, promised: &[f32], drawn: &[f32]) {
    for (index, depth) in depths.iter_mut().enumerate().take(round.acceptance.drafted) {
        depth.drafted += 1;
        if let (Some(&promised), Some(&drawn)) = (promised.get(index), drawn.get(index)) {
            let promised = f64::from(promised).min(1.0);
            depth.examined += 1;
            depth.differing += u64::from(drawn as u32 != round.drafts[index]);
            depth.promised += promised;
            depth.variance += promised * (1.0 - promised);
        }
        depth.accepted += u64::from(index < round.acceptance.accepted);
    }
}

/// Rows of a matrix, by place.
fn picked(a: &Array, places: impl Iterator<Item = usize>) -> crate::Result<Array> {
    let places: Vec<i32> = places.map(|place| place as i32).collect();
    Ok(a.take_axis(Array::from_slice(&places, &[places.len() as i32]), 0)?)
}

/// The distributions that logits give.
fn filtered(sampler: &DeviceSampler, logits: &Array) -> crate::Result<Array> {
    sampler.distribution(&logits.as_dtype(Dtype::Float32)?, None)
}
