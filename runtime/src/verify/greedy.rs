//! The loop's greedy text against plain decoding, which is fed that text one token at a time: each token must be plain
//! decoding's choice, or lie within the numerical tolerance of it. A disagreement beyond the margin is one of the loop;
//! one within it is a near-tie that widths 1 and k + 1 round to different sides of.
//!
//! Where [`super::Effort::stepwise`] is off, the text is fed at once first: if every token is the choice of that one
//! pass, it is plain decoding's up to the same rounding, and no token is fed alone.

use std::ops::ControlFlow;

use serde_json::json;

use super::error::VerifyError;
use super::gate::{Effort, GateResult, ProgressReporter, Verification, figures};
use super::host;
use super::prompt::Prompt;
use crate::sampling::SamplingParams;
use crate::speculative::{DepthPolicy, DraftOptions, Rule, Sequence, SequenceOptions};

/// The gate's name.
pub const NAME: &str = "greedy";

/// Rows of a text may be rounded worse than the few that were measured.
const MEASURED: f64 = 4.0;
/// What f32 rounds at least, for each unit of the largest logit.
const FLOOR: f64 = 1e-4;
/// The share of tokens that must be plain decoding's own, in f32 and in a 16-bit type: near-ties alone prove nothing. Even
/// a model of random weights, whose logits lie close together, has fewer.
const MATCHING: [f64; 2] = [0.9, 0.5];

/// Whether so many matches and near-ties are all of `total`, and matches enough of them.
pub fn agree(matches: u64, near_ties: u64, total: u64, sixteen_bit: bool) -> bool {
    let enough = matches as f64 >= MATCHING[usize::from(sixteen_bit)] * total as f64;
    matches.checked_add(near_ties) == Some(total) && enough && total > 0
}

/// Tokens that the loop and plain decoding agree on, and what is to be said of the others.
#[derive(Debug, Default)]
struct Tally {
    total: usize,
    matches: usize,
    near_ties: usize,
    /// The largest lead that plain decoding's choice had over the loop's token, in logits.
    worst: f64,
}

pub(super) fn gate(bench: &mut Verification<'_>, watch: &mut ProgressReporter<'_>) -> Result<GateResult, VerifyError> {
    let mut tally = Tally::default();
    let prompts = bench.prompts.clone();
    let Effort { tokens, stepwise, .. } = bench.options.effort;
    // The loop's text, and the comparison.
    let all = 2 * tokens * prompts.len();
    for (index, prompt) in prompts.iter().enumerate() {
        let mut tick = |done: usize| watch.tick((2 * index * tokens + done).min(all), all);
        let text = text(bench, prompt, &mut tick)?;
        // Two rows may be off, each to its side.
        let near = 2.0 * (MEASURED * bench.measured).clamp(FLOOR, bench.tolerance.max);
        let trunk = &mut *bench.model.trunk;
        let mut found = Tally::default();
        if !stepwise {
            prompt.judge(trunk, &text, true, |index, logits| {
                found.note(logits, text[index], near);
                Ok(())
            })?;
        }
        if found.matches < text.len() {
            found = Tally::default();
            prompt.judge(trunk, &text, false, |index, logits| {
                found.note(logits, text[index], near);
                tick(tokens + index)
            })?;
        }
        tally.add(&found);
        tick(2 * tokens)?;
    }
    let Tally { total, matches, near_ties, worst } = tally;
    let differing = total - matches - near_ties;
    let mut summary = format!("{matches}/{total} tokens are plain decoding's, depth {}", bench.depth);
    if near_ties > 0 {
        summary += &format!(", {near_ties} near-ties");
    }
    if differing > 0 {
        summary += &format!(", {differing} are not by up to {worst:.2e}");
    }
    let figures = figures(json!({"depth": bench.depth, "matches": matches, "total": total, "near_ties": near_ties,
        "largest_margin": worst.min(f64::MAX)}));
    let passed = agree(matches as u64, near_ties as u64, total as u64, bench.tolerance.sixteen_bit());
    Ok(GateResult { name: NAME, passed, summary, figures })
}

/// What the loop writes.
fn text(
    bench: &mut Verification<'_>,
    prompt: &Prompt,
    mut tick: impl FnMut(usize) -> Result<(), VerifyError>,
) -> Result<Vec<u32>, VerifyError> {
    let options = SequenceOptions {
        sampling: SamplingParams::greedy(),
        drafts: Some(DraftOptions::new(DepthPolicy::Fixed(bench.depth))),
        rule: Rule::Rejection,
        seed: bench.options.seed,
        stop_tokens: Vec::new(),
        logprobs: None,
    };
    let Effort { tokens: count, rounds, .. } = bench.options.effort;
    let mut sequence = Sequence::new(bench.model, options)?;
    let mut text = vec![sequence.prefill(bench.model, &prompt.tokens, |_, _| ControlFlow::Continue(()))?];
    while text.len() < count && sequence.stats().rounds() < rounds as u64 {
        text.extend(sequence.round(bench.model, usize::MAX)?.tokens);
        tick(text.len().min(count))?;
    }
    text.truncate(count);
    Ok(text)
}

impl Tally {
    /// Plain decoding's `logits` of the row that `token` follows.
    fn note(&mut self, logits: &[f32], token: u32, near: f64) {
        let best = host::argmax(logits);
        let lead = f64::from(logits[best]) - f64::from(logits[token as usize]);
        let scale = logits.iter().fold(1.0f64, |scale, &logit| scale.max(f64::from(logit).abs()));
        self.total += 1;
        // Written so that a NaN is a difference.
        if best == token as usize && lead == 0.0 {
            self.matches += 1;
        } else if lead <= near * scale {
            self.near_ties += 1;
        }
        self.worst = self.worst.max(if lead.is_nan() { f64::INFINITY } else { lead });
    }

    fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.matches += other.matches;
        self.near_ties += other.near_ties;
        self.worst = self.worst.max(other.worst);
    }
}
