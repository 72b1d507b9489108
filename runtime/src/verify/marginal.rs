//! The law of the first token of a round, in closed form:
//! `q(y) min(1, p(y)/q(y)) + (1 - sum min(p, q)) residual(y)`, which must be p(y).
//!
//! p and q are what the device filtered from real logits of trunk and head, whole vocabulary; what they are compared with
//! is the host's filter in f64. A wrong residual, a wrong filter and lost mass show here, row by row. What the device then
//! draws from them is `verify::draws`'s.

use mlx_rs::Dtype;
use serde_json::json;

use super::draws::{self, Kind};
use super::error::VerifyError;
use super::gate::{Effort, GateResult, LEVEL, ProgressReporter, Verification, figures};
use super::host::{self, token_array};
use super::prompt::Prompt;
use crate::Array;
use crate::sampling::{DeviceSampler, SamplingParams, TokenCounts, filter};
use crate::speculative::accept;

/// The gate's name.
pub const NAME: &str = "marginal";

/// Largest total variation of a law that is right: exponentials and sums in f32 over a large vocabulary.
pub const TOLERANCE: f64 = 5e-4;
/// How far f32 may move the mass at which top-p cuts.
const EDGE: f32 = 1e-5;
/// Rows filtered at once.
const BLOCK: usize = 8;
/// Rows that are drawn from.
const DRAWN_FROM: usize = 4;

pub(super) fn gate(bench: &mut Verification<'_>, watch: &mut ProgressReporter<'_>) -> Result<GateResult, VerifyError> {
    let settings = [bench.options.sampling.clone(), SamplingParams::unfiltered()];
    let vocab = bench.model.info.vocab_size;
    let Effort { rows: all, draws, .. } = bench.options.effort;
    let share = all.div_ceil(bench.prompts.len());
    let steps = all + draws * Kind::ALL.len();
    let (mut rows, mut worst, mut overlap) = (0, 0.0f64, 0.0);
    let mut pairs = Vec::new();
    for prompt in bench.prompts.clone() {
        let (p, q) = teacher_forced(bench, &prompt, share)?;
        let last = p.dim(0) - 1;
        pairs.push((host::rows(&p, last, last + 1)?, host::rows(&q, last, last + 1)?));
        for start in (0..p.dim(0)).step_by(BLOCK) {
            let stop = (start + BLOCK as i32).min(p.dim(0));
            let block = [host::rows(&p, start, stop)?, host::rows(&q, start, stop)?];
            let logits = host::table(&block[0])?;
            for params in &settings {
                let sampler = DeviceSampler::new(params.clone(), vocab)?;
                let [p, q] = [&block[0], &block[1]].map(|logits| -> crate::Result<Vec<Vec<f64>>> {
                    let filtered = host::table(&sampler.distribution(&logits.as_dtype(Dtype::Float32)?, None)?)?;
                    Ok(filtered.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect())
                });
                for ((p, q), logits) in p?.iter().zip(&q?).zip(&logits) {
                    worst = worst.max(distance(&one_round_law(p, q, accept::residual), logits, params));
                    overlap += accept::overlap(p, q);
                }
            }
            rows += (stop - start) as usize;
            watch.tick(rows.min(all), steps)?;
        }
    }
    pairs.truncate(DRAWN_FROM);
    let mut drawn = 0;
    let fits = draws::fit(&pairs, draws, bench.options.seed, |count| {
        drawn += count;
        watch.tick((all + drawn).min(steps), steps)
    })?;
    let passed = worst <= TOLERANCE && fits.iter().all(|(_, fit)| fit.p_value >= LEVEL);
    let overlap = overlap / (rows * settings.len()).max(1) as f64;
    let named: Vec<String> =
        fits.iter().map(|(kind, fit)| format!("{} p = {:.2e}", kind.name(), fit.p_value)).collect();
    let summary = format!(
        "{rows} rows, largest total variation {worst:.1e} (at most {TOLERANCE:.0e}); {draws} draws of each kind: {} \
         (chi-square, at least {LEVEL:.0e})",
        named.join(", ")
    );
    let fits = fits.iter().map(|(kind, fit)| fit.figures(&[("kind", json!(kind.name())), ("draws", json!(draws))]));
    let figures = figures(json!({"rows": rows, "settings": settings.len(), "total_variation": number(worst),
        "tolerance": TOLERANCE, "mean_overlap": overlap, "level": LEVEL, "drawn": fits.collect::<Vec<_>>()}));
    Ok(GateResult { name: NAME, passed, summary, figures })
}

/// A number for JSON, which has no infinity.
fn number(value: f64) -> f64 {
    value.min(f64::MAX)
}

/// Logits of trunk and head for the same tokens, `[rows, vocab]` each: at most `most` rows, spread over the prompt.
fn teacher_forced(bench: &mut Verification<'_>, prompt: &Prompt, most: usize) -> Result<(Array, Array), VerifyError> {
    let model = &mut *bench.model;
    let head = model.drafter.as_ref().ok_or(VerifyError::NoDraftHead)?;
    let (hidden, tokens) = (&prompt.hidden, &prompt.tokens);
    let pairs = prompt.len() as i32 - 1;
    let mut state = head.new_state();
    head.feed(&mut state, &host::rows(hidden, 0, pairs)?, &token_array(&tokens[1..]))?;
    // Row t of the head and row t + 1 of the trunk predict the same token.
    let count = (pairs as usize).min(most.max(1));
    let chosen: Vec<i32> = (0..count).map(|i| (i * pairs as usize / count) as i32).collect();
    let chosen = Array::from_slice(&chosen, &[count as i32]);
    let q = head.logits(&state.round()?.rows[0].take_axis(&chosen, 0)?)?;
    let rows = hidden.take_axis(chosen.add(Array::from_int(1))?, 0)?;
    Ok((model.trunk.logits(&rows)?, q))
}

/// The law of the token that a round emits first.
pub(super) fn one_round_law(p: &[f64], q: &[f64], residual: impl Fn(&[f64], &[f64]) -> Vec<f64>) -> Vec<f64> {
    let rejected = 1.0 - accept::overlap(p, q);
    let residual = residual(p, q);
    p.iter().zip(q).zip(&residual).map(|((p, q), residual)| p.min(*q) + rejected * residual).collect()
}

/// The total variation between `law` and the host's distribution. Where f32 moves the edge of top-p past a token, the
/// distribution on the other side of it is as right.
pub(super) fn distance(law: &[f64], logits: &[f32], params: &SamplingParams) -> f64 {
    let to = |top_p: f32| {
        let params = SamplingParams { top_p, ..params.clone() };
        let expected = filter::distribution(logits, &params, &TokenCounts::default());
        let total: f64 = law.iter().zip(&expected).map(|(a, b)| (a - b).abs()).sum();
        // A distribution of NaNs is as far as can be.
        if total.is_nan() || expected.iter().all(|&p| p == 0.0) { f64::INFINITY } else { total / 2.0 }
    };
    let distance = to(params.top_p);
    if distance <= TOLERANCE || params.top_p >= 1.0 {
        return distance;
    }
    distance.min(to(params.top_p - EDGE)).min(to((params.top_p + EDGE).min(1.0)))
}
