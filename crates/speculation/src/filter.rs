//! From logits to the distribution that a token is drawn from: the reference, on the host, in f64.
//!
//! The order is fixed, because another order is another distribution:
//!
//! 1. logit bias: `z += bias`;
//! 2. repetition penalty r, for tokens of prompt or output: `z = z / r` where z > 0, else `z * r` (Keskar et al. 2019,
//!    arXiv 1909.05858, with the sign rule that every later implementation added);
//! 3. presence and frequency penalties, for tokens of the output: `z -= presence + frequency * count`;
//! 4. `softmax(z / T)` over the full vocabulary;
//! 5. top-p (Holtzman et al. 2019, arXiv 1904.09751): from the most probable on, a token stays while the mass *before*
//!    it is smaller than p;
//! 6. top-k: of those, the first k;
//! 7. min-p (arXiv 2407.01082): of those, the ones with at least `min_p` times the largest probability;
//! 8. renormalize.
//!
//! Equal probabilities go to the lower token id, in every cut. T = 0 is a point mass on the largest penalized logit.
//! Drafts and targets both come from here, each with its own parameters and counts; drawing is [`super::noise`]'s.

use super::params::{SamplingParams, TokenCounts};

/// A token that every filter kept, with its renormalized probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token id.
    pub token: u32,
    /// Its probability among the candidates, in [0, 1].
    pub probability: f64,
}

/// The filtered distribution over the whole vocabulary, in the order of token ids; sums to 1.
///
/// A logit of `-inf` is a token that a mask took out; a NaN counts as one. Where no token is left, every probability is
/// 0: the caller decides what a row without a choice means.
#[must_use]
pub fn distribution(logits: &[f32], params: &SamplingParams, counts: &TokenCounts) -> Vec<f64> {
    let mut dense = vec![0.0; logits.len()];
    for Candidate { token, probability } in candidates(logits, params, counts) {
        dense[token as usize] = probability;
    }
    dense
}

/// The tokens that every filter kept, most probable first, equal ones by token id. See [`distribution`].
#[must_use]
pub fn candidates(logits: &[f32], params: &SamplingParams, counts: &TokenCounts) -> Vec<Candidate> {
    let scores = penalized(logits, params, counts);
    let Some(best) = argmax(&scores) else { return Vec::new() };
    if params.is_greedy() {
        return vec![Candidate { token: best, probability: 1.0 }];
    }
    let mut ranked = softmax(&scores, best, f64::from(params.temperature));
    // The key is unique, and NaN cannot occur (see `softmax`). Top-p and top-k each keep the first of this order, so behind
    // the first k there is nothing to be put in order.
    let falling = |a: &Candidate, b: &Candidate| b.probability.total_cmp(&a.probability).then(a.token.cmp(&b.token));
    let most = params.top_k as usize;
    if (1..ranked.len()).contains(&most) {
        ranked.select_nth_unstable_by(most, falling);
        ranked.truncate(most);
    }
    ranked.sort_unstable_by(falling);
    ranked.truncate(top_p_len(&ranked, f64::from(params.top_p)));
    let floor = f64::from(params.min_p) * ranked.first().map_or(0.0, |candidate| candidate.probability);
    ranked.retain(|candidate| candidate.probability >= floor);
    // Smallest first loses the least to rounding.
    let mass: f64 = ranked.iter().rev().map(|candidate| candidate.probability).sum();
    ranked.iter_mut().for_each(|candidate| candidate.probability /= mass);
    ranked
}

/// Steps 1 to 3: the logits with bias and penalties, in f64.
#[must_use]
pub fn penalized(logits: &[f32], params: &SamplingParams, counts: &TokenCounts) -> Vec<f64> {
    let mut scores: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
    for (&token, &bias) in &params.logit_bias {
        if let Some(score) = scores.get_mut(token as usize) {
            *score += f64::from(bias);
        }
    }
    if params.needs_counts() {
        let repetition = f64::from(params.repetition_penalty);
        for (token, count) in counts.iter() {
            let Some(score) = scores.get_mut(token as usize) else { continue };
            *score = if *score > 0.0 { *score / repetition } else { *score * repetition };
            if count > 0 {
                *score -= f64::from(params.presence_penalty) + f64::from(params.frequency_penalty) * f64::from(count);
            }
        }
    }
    scores
}

/// The place of the largest value above `-inf`, the lowest of equal ones; `None` where there is none. NaN is no value.
#[must_use]
pub fn argmax(scores: &[f64]) -> Option<u32> {
    let mut best = None;
    let mut highest = f64::NEG_INFINITY;
    for (place, &score) in scores.iter().enumerate() {
        if score > highest {
            (best, highest) = (u32::try_from(place).ok(), score);
        }
    }
    best
}

/// `softmax(scores / temperature)` in the order of token ids, without the tokens at `-inf`. Not empty, no NaN.
fn softmax(scores: &[f64], best: u32, temperature: f64) -> Vec<Candidate> {
    let highest = scores[best as usize];
    let mut ranked: Vec<_> = (0..)
        .zip(scores)
        // An infinite logit leaves no room for others; a NaN fails the comparison and is out.
        .filter(|&(_, &score)| score > f64::NEG_INFINITY && (highest.is_finite() || score == highest))
        .map(|(token, &score)| {
            // The difference first: the largest exponent is then exactly 0, whatever the temperature.
            let exponent = if score == highest { 0.0 } else { (score - highest) / temperature };
            Candidate { token, probability: exponent.exp() }
        })
        .collect();
    let mass: f64 = ranked.iter().map(|candidate| candidate.probability).sum();
    ranked.iter_mut().for_each(|candidate| candidate.probability /= mass);
    ranked
}

/// How many of the ranked candidates top-p keeps: those with less than `top_p` before them.
fn top_p_len(ranked: &[Candidate], top_p: f64) -> usize {
    // 1 is "off", not "until rounding reaches 1".
    if top_p >= 1.0 {
        return ranked.len();
    }
    let mut before = 0.0;
    ranked
        .iter()
        .take_while(|candidate| {
            let keep = before < top_p;
            before += candidate.probability;
            keep
        })
        .count()
}

#[cfg(test)]
mod tests;
