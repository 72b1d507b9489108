//! What rounds leave behind: trunk and head after every accept count, against the same tokens fed one by one.
//!
//! A stale row or a recurrent state that was not taken back makes a verifier fast and its text wrong; many such mistakes
//! pass every greedy test. Here the next logits and the states themselves must agree.

use std::rc::Rc;

use mlx_rs::transforms::eval;
use serde_json::json;

use super::error::VerifyError;
use super::gate::{GateResult, ProgressReporter, Verification, figures};
use super::host::{self, token_array};
use super::prompt::Prompt;
use crate::cache::{Cache, LayerCache, Prefix};
use crate::model::{DraftState, MtpModel};
use crate::{Array, Result};

/// The gate's name.
pub const NAME: &str = "state";

/// Pairs of the prompt that the head of the comparison is fed one by one, behind those that it is fed at once.
const ALONE: usize = 4;

/// What is compared behind one prompt: for the trunk, with so many rows kept, each of their logits, those behind them, and
/// the state before and after; for the head, logits and history after each accept count.
pub const fn compared(depth: u64) -> u64 {
    let kept = (depth + 1) * (depth + 2) / 2;
    kept + 3 * (depth + 2) + 2 * (depth + 1)
}

/// The largest differences seen.
#[derive(Debug, Default)]
struct Worst {
    /// Of two logits.
    logits: f64,
    /// The same for each unit of the largest logit.
    relative: f64,
    /// The largest mean difference of a row, likewise.
    mean: f64,
    /// Of two states, for each unit of the state's largest value.
    state: f64,
    /// What does not even have the same form.
    mismatch: Option<String>,
    /// The accept count with the largest difference.
    at: usize,
    compared: usize,
}

pub(super) fn gate(bench: &mut Verification<'_>, watch: &mut ProgressReporter<'_>) -> Result<GateResult, VerifyError> {
    let prompts: Vec<Rc<Prompt>> = bench.prompts.iter().take(bench.options.effort.rollbacks.max(1)).cloned().collect();
    let (mut trunk, mut head) = (Worst::default(), Worst::default());
    // Plain steps, then a rollback of the trunk for each count, then those of the head.
    let mut done = 0;
    let all = prompts.len() * (bench.depth + 4);
    for prompt in &prompts {
        let steps = Steps::take(bench.model, prompt, bench.depth + 2)?;
        let mut tick = || {
            done += 1;
            watch.tick(done, all)
        };
        tick()?;
        trunk_after_each_count(bench, &steps, &mut trunk, &mut tick)?;
        head_after_each_count(bench, prompt, &steps, &mut head)?;
        tick()?;
    }
    bench.measured = trunk.relative;
    let (max, mean) = (bench.tolerance.max, bench.tolerance.mean);
    let within =
        |worst: &Worst| worst.relative <= max && worst.mean <= mean && worst.state <= max && worst.mismatch.is_none();
    let mut passed = true;
    let mut parts = Vec::new();
    for (what, worst) in [("trunk", &trunk), ("head", &head)] {
        passed &= within(worst);
        let mut part =
            format!("{what} off by {:.1e} ({:.1e} relative, at most {max:.0e})", worst.logits, worst.relative);
        if !within(worst) {
            part += &format!(", mean {:.1e}, state {:.1e}, first at {} accepted", worst.mean, worst.state, worst.at);
            part.extend(worst.mismatch.iter().map(|mismatch| format!(", {mismatch}")));
        }
        parts.push(part);
    }
    let summary = format!("0 to {} accepted: {}", bench.depth, parts.join("; "));
    let of = |worst: &Worst| {
        json!({"max_abs_diff": worst.logits.min(f64::MAX), "relative": worst.relative.min(f64::MAX),
            "mean_relative": worst.mean.min(f64::MAX), "state_relative": worst.state.min(f64::MAX)})
    };
    let figures = figures(json!({"depth": bench.depth, "compared": trunk.compared + head.compared,
        "max_abs_diff": trunk.logits.max(head.logits).min(f64::MAX), "tolerance": max, "mean_tolerance": mean,
        "trunk": of(&trunk), "head": of(&head)}));
    Ok(GateResult { name: NAME, passed, summary, figures })
}

/// Plain decoding behind a prompt.
struct Steps {
    /// Greedy tokens, one more than caches were advanced by.
    tokens: Vec<u32>,
    /// After the prompt and so many tokens.
    caches: Vec<Prefix>,
    /// The hidden rows of the prompt, then the row of each token.
    hidden: Vec<Array>,
    /// Behind each cache.
    logits: Vec<Array>,
}

impl Steps {
    fn take(model: &MtpModel, prompt: &Prompt, count: usize) -> Result<Self> {
        let mut cache = prompt.cache();
        let logits = model.trunk.logits(&prompt.last()?)?;
        let mut steps = Self {
            tokens: Vec::new(),
            caches: vec![cache.freeze()?],
            hidden: vec![prompt.hidden.clone()],
            logits: vec![logits],
        };
        for _ in 0..count {
            let token = host::argmax(&host::values(&steps.logits[steps.tokens.len()])?) as u32;
            let row = model.trunk.append(&token_array(&[token]), &mut cache)?;
            steps.tokens.push(token);
            steps.caches.push(cache.freeze()?);
            steps.logits.push(model.trunk.logits(&row)?);
            steps.hidden.push(row);
        }
        Ok(steps)
    }
}

/// Verifies k + 1 rows of which the last ones are wrong, keeps the right ones, and goes on.
fn trunk_after_each_count(
    bench: &mut Verification<'_>,
    steps: &Steps,
    worst: &mut Worst,
    mut tick: impl FnMut() -> std::result::Result<(), VerifyError>,
) -> std::result::Result<(), VerifyError> {
    let vocab = bench.model.info.vocab_size as u32;
    let width = bench.depth + 1;
    // Keeping none is how a round is aborted.
    for keep in 0..=width {
        let accepted = keep.saturating_sub(1);
        let wrong = steps.tokens[keep..width].iter().map(|token| (token + 1) % vocab);
        let rows: Vec<u32> = steps.tokens[..keep].iter().copied().chain(wrong).collect();
        let mut cache = steps.caches[0].fork();
        let trunk = &mut bench.model.trunk;
        let hidden = trunk.verify(&token_array(&rows), &mut cache)?;
        let verified = trunk.logits(&host::rows(&hidden, 0, keep.max(1) as i32)?)?;
        cache.commit(keep)?;
        for row in 0..keep {
            let row_logits = host::rows(&verified, row as i32, row as i32 + 1)?;
            worst.note_logits(&row_logits, &steps.logits[row + 1], accepted)?;
        }
        worst.note_state(&cache, &steps.caches[keep].fork(), accepted)?;
        let next = trunk.append(&token_array(&steps.tokens[keep..=keep]), &mut cache)?;
        worst.note_logits(&trunk.logits(&next)?, &steps.logits[keep + 1], accepted)?;
        worst.note_state(&cache, &steps.caches[keep + 1].fork(), accepted)?;
        tick()?;
    }
    Ok(())
}

/// Drafts k tokens, feeds the head the pairs of the accepted ones at once, and drafts again: against a history that was
/// fed pair by pair and drafted from once.
fn head_after_each_count(
    bench: &mut Verification<'_>,
    prompt: &Prompt,
    steps: &Steps,
    worst: &mut Worst,
) -> Result<()> {
    let depth = bench.depth;
    let text = [&prompt.tokens[..], &steps.tokens].concat();
    let hidden: Vec<&Array> = steps.hidden.iter().collect();
    let hidden = mlx_rs::ops::concatenate(&hidden, 0)?;
    let Some(head) = bench.model.drafter.as_ref() else { return Ok(()) };
    let pair = |from: usize, to: usize| -> Result<(Array, Array)> {
        Ok((host::rows(&hidden, from as i32, to as i32)?, token_array(&text[from + 1..=to])))
    };
    let anchor = prompt.len();
    let (mut one_by_one, mut at_once) = (head.new_state(), head.new_state());
    let mut references = Vec::with_capacity(depth + 1);
    let begun = anchor.saturating_sub(ALONE);
    if begun > 0 {
        let (rows, next) = pair(0, begun)?;
        head.feed(&mut one_by_one, &rows, &next)?;
    }
    for row in begun..=anchor + depth {
        let (rows, next) = pair(row, row + 1)?;
        head.feed(&mut one_by_one, &rows, &next)?;
        if row >= anchor {
            references.push((head.draft(&mut one_by_one, None, None)?, one_by_one.history.freeze()?.fork()));
        }
    }
    let (rows, next) = pair(0, anchor)?;
    head.feed(&mut at_once, &rows, &next)?;
    // Drafts that left something behind would have left it to every count below.
    for draft in 0..depth {
        let previous = draft.checked_sub(1).map(|before| token_array(&steps.tokens[before..draft]));
        head.draft(&mut at_once, previous.as_ref(), None)?;
    }
    eval(at_once.history.arrays().chain([&at_once.round()?.last]))?;
    let (history, round) = at_once.freeze()?;
    for (accepted, (logits, reference)) in references.iter().enumerate() {
        let mut state = DraftState::resumed(&history, round.clone());
        let (rows, next) = pair(anchor, anchor + 1 + accepted)?;
        head.feed(&mut state, &rows, &next)?;
        worst.note_logits(&head.draft(&mut state, None, None)?, logits, accepted)?;
        worst.note_state(&state.history, reference, accepted)?;
    }
    Ok(())
}

impl Worst {
    fn note_logits(&mut self, found: &Array, expected: &Array, accepted: usize) -> Result<()> {
        let (found, expected) = (host::values(found)?, host::values(expected)?);
        let scale = expected.iter().fold(1.0f64, |scale, &value| scale.max(f64::from(value).abs()));
        let differences = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
        // What is not a number is as far off as can be, on either side.
        let differences = differences.map(|d| if d.is_nan() { f64::INFINITY } else { d });
        let (largest, sum) = differences.fold((0.0f64, 0.0), |(largest, sum), d| (largest.max(d), sum + d));
        let scale = if scale.is_finite() { scale } else { 1.0 };
        if largest / scale > self.relative {
            self.at = accepted;
        }
        self.logits = self.logits.max(largest);
        self.relative = self.relative.max(largest / scale);
        self.mean = self.mean.max(sum / expected.len().max(1) as f64 / scale);
        self.compared += 1;
        Ok(())
    }

    fn note_state(&mut self, found: &Cache, expected: &Cache, accepted: usize) -> Result<()> {
        match difference(found, expected)? {
            Ok(difference) => self.state = self.state.max(difference.relative),
            Err(mismatch) => {
                self.mismatch.get_or_insert(format!("{mismatch} after {accepted} accepted"));
            }
        }
        self.compared += 1;
        Ok(())
    }
}

/// Two states that cannot be compared: lengths, layers or shapes that differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

/// How far two states are apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// The largest difference of two values, for each unit of the largest value of the same array; infinite where
    /// something is not a number.
    pub relative: f64,
    /// The layer and array that it is in.
    pub at: String,
}

/// Compares two caches, layer by layer.
///
/// # Errors
/// When MLX fails.
pub fn difference(found: &Cache, expected: &Cache) -> Result<std::result::Result<Difference, Mismatch>> {
    let mismatch = |what: String| Ok(Err(Mismatch(what)));
    if (found.len(), found.pending()) != (expected.len(), 0) {
        return mismatch(format!(
            "{} rows committed, {} pending: expected {}",
            found.len(),
            found.pending(),
            expected.len()
        ));
    }
    if found.layers().len() != expected.layers().len() {
        return mismatch(format!("{} layers: expected {}", found.layers().len(), expected.layers().len()));
    }
    let mut worst = Difference::default();
    for (index, pair) in found.layers().iter().zip(expected.layers()).enumerate() {
        let pairs: Vec<(Array, Array)> = match pair {
            (LayerCache::Kv(found), LayerCache::Kv(expected)) => match (found.committed()?, expected.committed()?) {
                (Some((k, v)), Some((wanted_k, wanted_v))) => vec![(k, wanted_k), (v, wanted_v)],
                (None, None) => Vec::new(),
                _ => return mismatch(format!("layer {index}: rows where there should be none, or none")),
            },
            (LayerCache::Recurrent(found), LayerCache::Recurrent(expected)) => {
                if found.states().len() != expected.states().len() {
                    return mismatch(format!("layer {index}: another number of states"));
                }
                found.states().iter().cloned().zip(expected.states().iter().cloned()).collect()
            }
            _ => return mismatch(format!("layer {index}: another kind of state")),
        };
        for (number, (found, expected)) in pairs.into_iter().enumerate() {
            if found.shape() != expected.shape() {
                return mismatch(format!("layer {index}: shape {:?}: expected {:?}", found.shape(), expected.shape()));
            }
            let (found, expected) = (host::values(&found)?, host::values(&expected)?);
            let scale = expected.iter().fold(1.0f64, |scale, &value| scale.max(f64::from(value).abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let off = (f64::from(*found) - f64::from(*expected)).abs() / scale;
                let relative = if off.is_nan() { f64::INFINITY } else { off };
                if relative > worst.relative {
                    worst = Difference { relative, at: format!("layer {index}: array {number}") };
                }
            }
        }
    }
    Ok(Ok(worst))
}
