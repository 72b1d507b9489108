//! The joint law of short sequences: what plain decoding gives each, by the trunk alone, one token at a time, against
//! what the loop draws.
//!
//! A bias towards [`SYMBOLS`] tokens and top-k leave a vocabulary small enough to write the law of every sequence of
//! [`LENGTH`] tokens down, and no filter cuts near a tie. Errors across positions show here, among them stale caches,
//! which no test of one position can see.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::host::{self, token_array};
use super::statistics::{ChiSquare, goodness_of_fit};
use super::{Bench, Gate, LEVEL, VerifyError, Watch, figures};
use crate::cache::Cache;
use crate::model::MtpModel;
use crate::sampling::{SamplingParams, TokenCounts, filter};
use crate::speculative::{DepthPolicy, Rule, Session, SessionOptions};

pub(super) const NAME: &str = "joint";

/// Tokens that may occur.
const SYMBOLS: usize = 3;
/// Tokens of a sequence.
const LENGTH: usize = 4;
/// Added to their logits: more than logits differ by.
const BIAS: f32 = 100.0;
/// Limit of a round that is not to be clipped.
const AMPLE: usize = 64;

pub(super) fn gate(bench: &mut Bench<'_>, watch: &mut Watch<'_>) -> Result<Gate, VerifyError> {
    let (prompt, sampling) = flattest(bench)?;
    let samples = bench.options.effort.samples;
    let mut passed = true;
    let mut rules = Vec::new();
    let mut summary = Vec::new();
    for (index, rule) in [Rule::Rejection, Rule::Coupled].into_iter().enumerate() {
        let options = |seed| SessionOptions {
            sampling: sampling.clone(),
            draft_sampling: None,
            rule,
            depth: DepthPolicy::Fixed(bench.depth),
            seed,
            stop_tokens: Vec::new(),
        };
        let mut session = Session::new(bench.model, options(bench.options.seed))?;
        let anchor = session.prefill(bench.model, &prompt, |_, _| ControlFlow::Continue(()))?;
        let start = session.snapshot()?;
        let law = Law::of(bench.model, &prompt, anchor, &sampling)?;
        let mut observed = law.cells();
        for sample in 0..samples {
            let seed = bench.options.seed.wrapping_add(1 + sample as u64);
            let mut session = Session::resume(bench.model, options(seed), &start)?;
            let mut tokens = Vec::with_capacity(LENGTH);
            while tokens.len() < LENGTH {
                // Every second sequence is clipped by its limit, which must not change the law either.
                let limit = if sample % 2 == 0 { LENGTH - tokens.len() } else { AMPLE };
                tokens.extend(session.round(bench.model, limit)?.tokens);
            }
            law.count(&mut observed, &tokens[..LENGTH]);
            watch.tick(index * samples + sample + 1, 2 * samples)?;
        }
        let ChiSquare { statistic, degrees, p_value } = match law.places.is_empty() {
            // Logits that are not numbers give no law.
            true => ChiSquare { statistic: f64::INFINITY, degrees: 0, p_value: 0.0 },
            false => goodness_of_fit(&observed, &law.probabilities),
        };
        passed &= p_value >= LEVEL;
        summary.push(format!("{rule} p = {p_value:.2e}"));
        rules.push(json!({"rule": rule, "samples": samples, "degrees": degrees, "p_value": p_value,
            "statistic": if statistic.is_finite() { json!(statistic) } else { Value::Null }}));
    }
    let summary = format!(
        "{samples} sequences of {LENGTH} tokens by each rule: {} (chi-square, at least {LEVEL:.0e})",
        summary.join(", ")
    );
    let figures = figures(json!({"depth": bench.depth, "symbols": SYMBOLS, "length": LENGTH,
        "temperature": sampling.temperature, "level": LEVEL, "rules": rules}));
    Ok(Gate { name: NAME, passed, summary, figures })
}

/// The prompt whose most probable next tokens lie closest together, and a sampler that allows them and no others, warm
/// enough that each of them occurs.
fn flattest(bench: &mut Bench<'_>) -> Result<(Vec<u32>, SamplingParams), VerifyError> {
    let mut best: Option<(f32, usize, Vec<u32>)> = None;
    for (index, prompt) in bench.prompts.iter().enumerate() {
        let hidden = bench.model.trunk.forward(&token_array(prompt), &mut bench.model.trunk.new_cache())?;
        let rows = prompt.len() as i32;
        let logits = host::values(&bench.model.trunk.logits(&host::rows(&hidden, rows - 1, rows)?)?)?;
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        order.truncate(SYMBOLS);
        let spread = match (order.first(), order.last()) {
            (Some(&first), Some(&last)) => logits[first as usize] - logits[last as usize],
            _ => continue,
        };
        if best.as_ref().is_none_or(|(least, ..)| spread < *least) {
            best = Some((spread, index, order));
        }
    }
    let (spread, index, symbols) = best.ok_or(VerifyError::NoPrompt)?;
    let temperature = if spread.is_finite() { (spread / 1.5).clamp(1.0, 10.0) } else { 1.0 };
    let sampling = SamplingParams {
        temperature,
        top_k: SYMBOLS as u32,
        logit_bias: symbols.into_iter().map(|token| (token, BIAS)).collect(),
        ..SamplingParams::unfiltered()
    };
    Ok((bench.prompts[index].clone(), sampling))
}

/// The probability of every sequence that is possible, and a cell for all others.
pub(super) struct Law {
    places: BTreeMap<Vec<u32>, usize>,
    probabilities: Vec<f64>,
}

impl Law {
    /// The law of the tokens behind `prompt` and `anchor`, by plain decoding.
    pub(super) fn of(
        model: &mut MtpModel,
        prompt: &[u32],
        anchor: u32,
        sampling: &SamplingParams,
    ) -> Result<Self, VerifyError> {
        let mut cache = model.trunk.new_cache();
        model.trunk.forward(&token_array(prompt), &mut cache)?;
        let mut counts = TokenCounts::from_prompt(prompt);
        counts.push(anchor);
        let mut law = Self { places: BTreeMap::new(), probabilities: Vec::new() };
        law.grow(model, &cache, anchor, &mut Vec::new(), 1.0, &counts, sampling)?;
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
        model: &mut MtpModel,
        cache: &Cache,
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
        let mut cache = cache.snapshot()?;
        let hidden = model.trunk.forward(&token_array(&[last]), &mut cache)?;
        let logits = host::values(&model.trunk.logits(&hidden)?)?;
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
