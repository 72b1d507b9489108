//! The joint law of what the loop draws: what plain decoding gives, by the trunk alone.
//!
//! A text, held to the law of every token behind those before it (`verify::walk`); and short sequences from one place, a
//! great many, held to the law of each of them. A bias towards a few tokens and top-k leave a small vocabulary, in which
//! no filter cuts near a tie and every sequence can be written down. Errors across positions show here, among them stale
//! caches, which no test of one position can see; what one position can get wrong is drawn for more often elsewhere
//! (`verify::draws`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use serde_json::json;

use super::error::VerifyError;
use super::gate::{Effort, GateResult, LEVEL, ProgressReporter, Verification, figures};
use super::host::{self, token_array};
use super::prompt::Prompt;
use super::walk::MartingaleTest;
use crate::cache::Prefix;
use crate::model::MtpModel;
use crate::sampling::{SamplingParams, TokenCounts, filter};
use crate::speculation::statistics::{ChiSquare, goodness_of_fit};
use crate::speculative::{DepthPolicy, DraftOptions, Rule, Sequence, SequenceOptions};

/// The gate's name.
pub const NAME: &str = "joint";

/// Tokens that may occur in a text, and in a short sequence.
const TEXT_VOCABULARY: usize = 8;
const SYMBOLS: usize = 3;
/// How far apart the logarithms of their probabilities are where they begin: texts from other laws show best where one
/// token is likely, short sequences where all of them occur.
const TEXT_SPREAD: f32 = 3.0;
const SEQUENCE_SPREAD: f32 = 1.5;
/// A low temperature tells one law from another, and enlarges rounding: it stays so many times above what widths were
/// seen to round differently by, and above this in any case.
const ROUNDING: f32 = 20.0;
const COOLEST: f32 = 0.05;
/// Tokens of a short sequence.
const LENGTH: usize = 4;
/// Added to their logits: more than logits differ by.
const BIAS: f32 = 100.0;
/// Limit of a round that is not to be clipped.
const ROUND_LIMIT: usize = 64;
/// And of one that is.
const CLIPPED: usize = 2;

pub(super) fn gate(bench: &mut Verification<'_>, watch: &mut ProgressReporter<'_>) -> Result<GateResult, VerifyError> {
    let Start { prompt, order, scale } = flattest(bench)?;
    let coolest = (ROUNDING * bench.measured.min(bench.tolerance.max) as f32 * scale).clamp(COOLEST, 1.0);
    let Effort { walk: tokens, samples, .. } = bench.options.effort;
    let (mut done, all) = (0, 2 * (tokens + samples));
    let mut tick = |count: usize| {
        done += count;
        watch.tick(done.min(all), all)
    };
    let mut passed = true;
    let (mut texts, mut sequences_of, mut summary) = (Vec::new(), Vec::new(), Vec::new());
    for rule in [Rule::Rejection, Rule::Coupled] {
        let (walk, tokens) = walk(bench, &prompt, &sampling(&order, TEXT_SPREAD, coolest), rule, &mut tick)?;
        let p_value = walk.p_value();
        passed &= p_value >= LEVEL;
        summary.push(format!("{rule} {tokens} tokens, p = {p_value:.2e}"));
        texts.push(json!({"rule": rule, "tokens": tokens, "p_value": p_value}));
    }
    let mut summary = format!("a text by each rule: {}", summary.join("; "));
    if samples > 0 {
        let sampling = sampling(&order[..SYMBOLS.min(order.len())], SEQUENCE_SPREAD, coolest);
        let fits = sequences(bench, &prompt, &sampling, samples, &mut tick)?;
        passed &= fits.iter().all(|(_, fit)| fit.p_value >= LEVEL);
        let named: Vec<String> = fits.iter().map(|(rule, fit)| format!("{rule} p = {:.2e}", fit.p_value)).collect();
        summary += &format!("; {samples} sequences of {LENGTH}: {}", named.join(", "));
        let figures =
            |(rule, fit): &(Rule, ChiSquare)| fit.figures(&[("rule", json!(rule)), ("samples", json!(samples))]);
        sequences_of.extend(fits.iter().map(figures));
    }
    summary += &format!(" (at least {LEVEL:.0e})");
    let figures = figures(json!({
        "depth": bench.depth, "length": LENGTH, "level": LEVEL, "texts": texts, "sequences": sequences_of,
    }));
    Ok(GateResult { name: NAME, passed, summary, figures })
}

/// A text of the loop, put to the test token by token, and how many there were.
fn walk(
    bench: &mut Verification<'_>,
    prompt: &Prompt,
    sampling: &SamplingParams,
    rule: Rule,
    mut tick: impl FnMut(usize) -> Result<(), VerifyError>,
) -> Result<(MartingaleTest, usize), VerifyError> {
    let Effort { walk: count, rounds, stepwise, .. } = bench.options.effort;
    let options = SequenceOptions {
        sampling: sampling.clone(),
        drafts: Some(DraftOptions::new(DepthPolicy::Fixed(bench.depth))),
        rule,
        seed: bench.options.seed,
        stop_tokens: Vec::new(),
        logprobs: None,
    };
    let mut sequence = Sequence::new(bench.model, options)?;
    let mut text = vec![sequence.prefill(bench.model, &prompt.tokens, |_, _| ControlFlow::Continue(()))?];
    while text.len() < count && sequence.stats().rounds() < rounds as u64 {
        // Every second round is clipped by its limit, which must not change the law either.
        let limit = if sequence.stats().rounds() % 2 == 0 { ROUND_LIMIT } else { CLIPPED };
        let tokens = sequence.round(bench.model, limit)?.tokens;
        tick(tokens.len())?;
        text.extend(tokens);
    }
    let mut walk = MartingaleTest::default();
    let mut counts = TokenCounts::from_prompt(&prompt.tokens);
    prompt.judge(&*bench.model.trunk, &text, !stepwise, |index, logits| {
        walk.note(filter::candidates(logits, sampling, &counts), text[index]);
        counts.push(text[index]);
        Ok(())
    })?;
    Ok((walk, text.len()))
}

/// Short sequences by each rule from one place, held to the law of all that are possible.
fn sequences(
    bench: &mut Verification<'_>,
    prompt: &Prompt,
    sampling: &SamplingParams,
    samples: usize,
    mut tick: impl FnMut(usize) -> Result<(), VerifyError>,
) -> Result<Vec<(Rule, ChiSquare)>, VerifyError> {
    // A draft behind the last token that is looked at changes nothing but the width; the texts try the whole depth.
    let depth = bench.depth.min(LENGTH);
    let options = |rule, seed| SequenceOptions {
        sampling: sampling.clone(),
        drafts: Some(DraftOptions::new(DepthPolicy::Fixed(depth))),
        rule,
        seed,
        stop_tokens: Vec::new(),
        logprobs: None,
    };
    let mut sequence = Sequence::new(bench.model, options(Rule::Rejection, bench.options.seed))?;
    let anchor = sequence.prefill(bench.model, &prompt.tokens, |_, _| ControlFlow::Continue(()))?;
    // The pair that waits is fed once, not with every sequence.
    sequence.history(bench.model)?;
    let start = sequence.snapshot()?;
    let law = TokenDistribution::of(bench.model, prompt, anchor, sampling)?;
    let mut fits = Vec::new();
    for rule in [Rule::Rejection, Rule::Coupled] {
        let mut observed = law.cells();
        for sample in 0..samples {
            let seed = bench.options.seed.wrapping_add(1 + sample as u64);
            let mut sequence = Sequence::resume(bench.model, options(rule, seed), &start)?;
            let mut tokens = Vec::with_capacity(LENGTH);
            while tokens.len() < LENGTH {
                let limit = if sample % 2 == 0 { LENGTH - tokens.len() } else { ROUND_LIMIT };
                tokens.extend(sequence.round(bench.model, limit)?.tokens);
            }
            law.count(&mut observed, &tokens[..LENGTH]);
            tick(1)?;
        }
        let fit = match law.places.is_empty() {
            // Logits that are not numbers give no law.
            true => ChiSquare { statistic: f64::INFINITY, degrees: 0, p_value: 0.0 },
            false => goodness_of_fit(&observed, &law.probabilities),
        };
        fits.push((rule, fit));
    }
    Ok(fits)
}

/// Where sequences begin.
struct Start {
    prompt: Rc<Prompt>,
    /// The most probable next tokens, the best first, with their logits.
    order: Vec<(u32, f32)>,
    /// The largest logit behind any prompt, by amount.
    scale: f32,
}

/// The prompt whose most probable next tokens lie closest together.
fn flattest(bench: &mut Verification<'_>) -> Result<Start, VerifyError> {
    let mut best: Option<Start> = None;
    let mut largest = 1.0f32;
    for prompt in &bench.prompts {
        let logits = host::values(&bench.model.trunk.logits(&prompt.last()?)?)?;
        largest = logits.iter().fold(largest, |largest, logit| largest.max(logit.abs()));
        let order = host::top(&logits, TEXT_VOCABULARY).into_iter().map(|token| (token, logits[token as usize]));
        let start = Start { prompt: Rc::clone(prompt), order: order.collect(), scale: largest };
        if best.as_ref().is_none_or(|best| spread(&start.order) < spread(&best.order)) {
            best = Some(start);
        }
    }
    let best = best.ok_or(VerifyError::NoPrompt)?;
    Ok(Start { scale: largest, ..best })
}

fn spread(order: &[(u32, f32)]) -> f32 {
    order.first().zip(order.last()).map_or(0.0, |((_, first), (_, last))| first - last)
}

/// A sampler that allows these tokens and no others, at the temperature at which the logarithms of their probabilities
/// lie `nats` apart behind the prompt, or at `coolest`.
fn sampling(order: &[(u32, f32)], nats: f32, coolest: f32) -> SamplingParams {
    let spread = spread(order);
    SamplingParams {
        temperature: if spread.is_finite() { (spread / nats).clamp(coolest, 10.0) } else { 1.0 },
        top_k: order.len() as u32,
        logit_bias: order.iter().map(|&(token, _)| (token, BIAS)).collect(),
        ..SamplingParams::unfiltered()
    }
}

/// The probability of every sequence that is possible, and a cell for all others.
struct TokenDistribution {
    places: BTreeMap<Vec<u32>, usize>,
    probabilities: Vec<f64>,
}

impl TokenDistribution {
    /// The law of the tokens behind `prompt` and `anchor`, by plain decoding.
    fn of(model: &MtpModel, prompt: &Prompt, anchor: u32, sampling: &SamplingParams) -> Result<Self, VerifyError> {
        let mut counts = TokenCounts::from_prompt(&prompt.tokens);
        counts.push(anchor);
        let mut law = Self { places: BTreeMap::new(), probabilities: Vec::new() };
        law.grow(model, prompt.prefix(), anchor, &mut Vec::new(), 1.0, &counts, sampling)?;
        // Rounding of the products, nothing else: the test wants a sum of 1.
        let mass: f64 = law.probabilities.iter().sum();
        if mass > 0.0 {
            law.probabilities.iter_mut().for_each(|probability| *probability /= mass);
        }
        law.probabilities.push(if mass > 0.0 { 0.0 } else { 1.0 });
        Ok(law)
    }

    /// Adds every sequence that begins with `prefix`; `last` is the token before the next one, not fed yet.
    #[expect(clippy::too_many_arguments, reason = "one step of a recursion over a tree")]
    fn grow(
        &mut self,
        model: &MtpModel,
        cache: &Prefix,
        last: u32,
        prefix: &mut Vec<u32>,
        probability: f64,
        counts: &TokenCounts,
        sampling: &SamplingParams,
    ) -> Result<(), VerifyError> {
        if prefix.len() == LENGTH {
            self.places.insert(prefix.clone(), self.probabilities.len());
            self.probabilities.push(probability);
            return Ok(());
        }
        let mut cache = cache.fork();
        let hidden = model.trunk.append(&token_array(&[last]), &mut cache)?;
        let logits = host::values(&model.trunk.logits(&hidden)?)?;
        let cache = cache.freeze()?;
        for candidate in filter::candidates(&logits, sampling, &counts.with(prefix)) {
            prefix.push(candidate.token);
            let probability = probability * candidate.probability;
            self.grow(model, &cache, candidate.token, prefix, probability, counts, sampling)?;
            prefix.pop();
        }
        Ok(())
    }

    fn cells(&self) -> Vec<u64> {
        vec![0; self.probabilities.len()]
    }

    fn count(&self, observed: &mut [u64], sequence: &[u32]) {
        let place = self.places.get(sequence).copied().unwrap_or(self.probabilities.len() - 1);
        observed[place] += 1;
    }
}
