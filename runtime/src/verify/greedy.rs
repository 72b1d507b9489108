//! The loop's greedy text against plain decoding, which is fed that text one token at a time: each token must be plain
//! decoding's choice, or lie within the numerical tolerance of it. A disagreement beyond the margin is one of the loop;
//! one within it is a near-tie that widths 1 and k + 1 round to different sides of.

use std::ops::ControlFlow;

use serde_json::json;

use super::host::{self, token_array};
use super::{Bench, Gate, VerifyError, Watch, figures};
use crate::sampling::SamplingParams;
use crate::speculative::{DepthPolicy, Rule, Session, SessionOptions};

pub(super) const NAME: &str = "greedy";

/// Rows of a text may be rounded worse than the few that were measured.
const MEASURED: f64 = 4.0;
/// What f32 rounds at least, for each unit of the largest logit.
const FLOOR: f64 = 1e-4;

/// Tokens that the loop and plain decoding agree on, and what is to be said of the others.
#[derive(Debug, Default)]
struct Tally {
    total: usize,
    matches: usize,
    near_ties: usize,
    /// The largest lead that plain decoding's choice had over the loop's token, in logits.
    worst: f64,
}

pub(super) fn gate(bench: &mut Bench<'_>, watch: &mut Watch<'_>) -> Result<Gate, VerifyError> {
    let mut tally = Tally::default();
    let prompts = bench.prompts.clone();
    for (index, prompt) in prompts.iter().enumerate() {
        let text = text(bench, prompt)?;
        compare(bench, prompt, &text, &mut tally)?;
        watch.tick(index + 1, prompts.len())?;
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
    Ok(Gate { name: NAME, passed: differing == 0 && total > 0, summary, figures })
}

/// What the loop writes.
fn text(bench: &mut Bench<'_>, prompt: &[u32]) -> Result<Vec<u32>, VerifyError> {
    let options = SessionOptions {
        sampling: SamplingParams::greedy(),
        draft_sampling: None,
        rule: Rule::Rejection,
        depth: DepthPolicy::Fixed(bench.depth),
        seed: bench.options.seed,
        stop_tokens: Vec::new(),
    };
    let count = bench.options.effort.tokens;
    let mut session = Session::new(bench.model, options)?;
    let mut text = vec![session.prefill(bench.model, prompt, |_, _| ControlFlow::Continue(()))?];
    while text.len() < count {
        text.extend(session.round(bench.model, usize::MAX)?.tokens);
    }
    text.truncate(count);
    Ok(text)
}

fn compare(bench: &mut Bench<'_>, prompt: &[u32], text: &[u32], tally: &mut Tally) -> Result<(), VerifyError> {
    // Two rows may be off, each to its side.
    let near = 2.0 * (MEASURED * bench.measured).clamp(FLOOR, bench.tolerance.max);
    let trunk = &mut bench.model.trunk;
    let mut cache = trunk.new_cache();
    let hidden = trunk.forward(&token_array(prompt), &mut cache)?;
    let rows = prompt.len() as i32;
    let mut last = host::rows(&hidden, rows - 1, rows)?;
    for token in text {
        let logits = host::values(&trunk.logits(&last)?)?;
        let best = logits[host::argmax(&logits)];
        let lead = f64::from(best) - f64::from(logits[*token as usize]);
        let scale = logits.iter().fold(1.0f64, |scale, &logit| scale.max(f64::from(logit).abs()));
        tally.total += 1;
        // Written so that a NaN is a difference.
        if host::argmax(&logits) == *token as usize && lead == 0.0 {
            tally.matches += 1;
        } else if lead <= near * scale {
            tally.near_ties += 1;
        }
        tally.worst = tally.worst.max(if lead.is_nan() { f64::INFINITY } else { lead });
        last = trunk.forward(&token_array(&[*token]), &mut cache)?;
    }
    Ok(())
}
