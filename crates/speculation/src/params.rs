//! What the user asked of the sampler, and the counts that penalties need.
//!
//! Values and their ranges only: where a value came from (flag, contract, default) is the application's business, and
//! what the values do to logits is [`super::filter`]'s.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Temperatures above 0. Quotients of logits by smaller ones overflow f32.
pub const TEMPERATURES: RangeInclusive<f32> = 1e-6..=100.0;
/// Repetition penalties. Quotients and products of logits with others overflow f32.
pub const REPETITION_PENALTIES: RangeInclusive<f32> = 0.01..=100.0;

/// How tokens are drawn from logits. [`super::filter`] documents the order in which the fields act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Divides the logits: 0, which always takes the most probable token, or in [`TEMPERATURES`].
    pub temperature: f32,
    /// Nucleus: keeps a token while the mass before it is smaller than this, in (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// Keeps so many of the most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps a token whose probability is at least this share of the largest, in [0, 1]; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies other logits of tokens in prompt or output, in [`REPETITION_PENALTIES`]; 1 does nothing.
    pub repetition_penalty: f32,
    /// Taken off the logit of a token that the output holds, in [-2, 2].
    pub presence_penalty: f32,
    /// Taken off a token's logit once for each time that the output holds it, in [-2, 2].
    pub frequency_penalty: f32,
    /// Added to logits before anything else, by token id, in [-100, 100].
    pub logit_bias: BTreeMap<u32, f32>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.6,
            top_p: 0.95,
            top_k: 20,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
        }
    }
}

impl SamplingParams {
    /// Always the most probable token, with no bias and no penalty.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, ..Self::default() }
    }

    /// The unchanged distribution of the model: temperature 1 and no filter.
    #[must_use]
    pub fn unfiltered() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: 0, ..Self::default() }
    }

    /// Whether the distribution is a point mass. Bias and penalties still move its place.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether any penalty is on, so that the distribution depends on [`TokenCounts`].
    #[must_use]
    pub fn needs_counts(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Checks every field's range; a NaN is in none.
    ///
    /// # Errors
    /// The first field, in the order of declaration, that is out of its range, or a biased token id that a vocabulary
    /// of `vocab_size` tokens does not hold.
    pub fn validate(&self, vocab_size: usize) -> Result<(), ParamsError> {
        // Written as "is inside", never as "is outside": every comparison with NaN is false.
        let temperature = self.temperature;
        check("temperature", temperature, temperature == 0.0 || TEMPERATURES.contains(&temperature), || {
            format!("0, or a number in {}", shown(&TEMPERATURES))
        })?;
        check("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, || "a number in (0, 1]".into())?;
        check("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), || "a number in [0, 1]".into())?;
        let penalty = self.repetition_penalty;
        check("repetition_penalty", penalty, REPETITION_PENALTIES.contains(&penalty), || {
            format!("a number in {} (1 is off)", shown(&REPETITION_PENALTIES))
        })?;
        for (field, penalty) in
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            check(field, penalty, (-2.0..=2.0).contains(&penalty), || "a number in [-2, 2]".into())?;
        }
        for (&token, &bias) in &self.logit_bias {
            let inside = usize::try_from(token).is_ok_and(|token| token < vocab_size);
            check(&format!("logit_bias[{token}]"), bias, inside, || format!("a token id below {vocab_size}"))?;
            check(&format!("logit_bias[{token}]"), bias, (-100.0..=100.0).contains(&bias), || {
                "a number in [-100, 100]".into()
            })?;
        }
        Ok(())
    }
}

fn shown(range: &RangeInclusive<f32>) -> String {
    format!("[{}, {}]", range.start(), range.end())
}

fn check(field: &str, found: f32, inside: bool, expected: impl FnOnce() -> String) -> Result<(), ParamsError> {
    if inside {
        return Ok(());
    }
    Err(ParamsError { field: field.to_owned(), found: found.to_string(), expected: expected() })
}

/// A sampling parameter out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {found}: expected {expected}")]
pub struct ParamsError {
    /// The field as [`SamplingParams`] spells it, with the token id for a bias: `logit_bias[7]`.
    pub field: String,
    /// The value found.
    pub found: String,
    /// What would have been accepted.
    pub expected: String,
}

/// How often each token occurred: what penalties depend on.
///
/// The repetition penalty asks whether a token is in the prompt or the output; presence and frequency ask how often it
/// is in the output. Sparse, in the order of token ids, so that a device version can upload it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Every token of prompt and output, with its count in the output alone.
    output: BTreeMap<u32, u32>,
}

impl TokenCounts {
    /// Counts of a sequence that is a prompt so far.
    #[must_use]
    pub fn from_prompt(prompt: &[u32]) -> Self {
        let mut counts = Self::default();
        counts.extend_prompt(prompt);
        counts
    }

    /// Counts further tokens of the prompt.
    pub fn extend_prompt(&mut self, prompt: &[u32]) {
        for &token in prompt {
            self.output.entry(token).or_default();
        }
    }

    /// Counts one more token of the output.
    pub fn push(&mut self, token: u32) {
        let count = self.output.entry(token).or_default();
        *count = count.saturating_add(1);
    }

    /// These counts and `tokens` as further output: what holds behind a draft.
    #[must_use]
    pub fn with(&self, tokens: &[u32]) -> Self {
        let mut counts = self.clone();
        tokens.iter().for_each(|&token| counts.push(token));
        counts
    }

    /// Whether prompt or output hold `token`.
    #[must_use]
    pub fn is_present(&self, token: u32) -> bool {
        self.output.contains_key(&token)
    }

    /// How often the output holds `token`.
    #[must_use]
    pub fn output_count(&self, token: u32) -> u32 {
        self.output.get(&token).copied().unwrap_or(0)
    }

    /// Every token of prompt or output, ascending, with its count in the output.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.output.iter().map(|(&token, &count)| (token, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(change: impl FnOnce(&mut SamplingParams)) -> String {
        let mut params = SamplingParams::default();
        change(&mut params);
        params.validate(100).map_or_else(|error| error.to_string(), |()| "valid".to_owned())
    }

    #[test]
    fn defaults_are_valid_and_sample() {
        let params = SamplingParams::default();
        assert_eq!((params.temperature, params.top_p, params.top_k), (0.6, 0.95, 20));
        assert_eq!(params.validate(1), Ok(()));
        assert!(!params.is_greedy() && !params.needs_counts());
        assert!(SamplingParams::greedy().is_greedy() && SamplingParams::greedy().validate(1).is_ok());
        assert!(SamplingParams::unfiltered().validate(1).is_ok());
    }

    #[test]
    fn out_of_range_values_are_named() {
        for (message, expected) in [
            (message(|p| p.top_p = 1.7), "top_p: 1.7: expected a number in (0, 1]"),
            (message(|p| p.top_p = 0.0), "top_p: 0: expected a number in (0, 1]"),
            (message(|p| p.top_p = f32::NAN), "top_p: NaN: expected a number in (0, 1]"),
            (message(|p| p.top_p = 1.0), "valid"),
            (message(|p| p.temperature = -0.5), "temperature: -0.5: expected 0, or a number in [0.000001, 100]"),
            (
                message(|p| p.temperature = f32::INFINITY),
                "temperature: inf: expected 0, or a number in [0.000001, 100]",
            ),
            (message(|p| p.temperature = f32::NAN), "temperature: NaN: expected 0, or a number in [0.000001, 100]"),
            (message(|p| p.temperature = 1e-7), "temperature: 0.0000001: expected 0, or a number in [0.000001, 100]"),
            (message(|p| p.temperature = 1e-6), "valid"),
            (message(|p| p.min_p = 1.5), "min_p: 1.5: expected a number in [0, 1]"),
            (message(|p| p.min_p = f32::NAN), "min_p: NaN: expected a number in [0, 1]"),
            (
                message(|p| p.repetition_penalty = 0.0),
                "repetition_penalty: 0: expected a number in [0.01, 100] (1 is off)",
            ),
            (
                message(|p| p.repetition_penalty = 101.0),
                "repetition_penalty: 101: expected a number in [0.01, 100] (1 is off)",
            ),
            (message(|p| p.repetition_penalty = 0.01), "valid"),
            (message(|p| p.presence_penalty = 2.5), "presence_penalty: 2.5: expected a number in [-2, 2]"),
            (message(|p| p.frequency_penalty = f32::NAN), "frequency_penalty: NaN: expected a number in [-2, 2]"),
            (
                message(|p| p.logit_bias = BTreeMap::from([(100, 1.0)])),
                "logit_bias[100]: 1: expected a token id below 100",
            ),
            (
                message(|p| p.logit_bias = BTreeMap::from([(3, 101.0)])),
                "logit_bias[3]: 101: expected a number in [-100, 100]",
            ),
            (
                message(|p| p.logit_bias = BTreeMap::from([(3, f32::NAN)])),
                "logit_bias[3]: NaN: expected a number in [-100, 100]",
            ),
            (message(|p| p.logit_bias = BTreeMap::from([(99, -100.0)])), "valid"),
        ] {
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn counts_tell_prompt_from_output() {
        let mut counts = TokenCounts::from_prompt(&[5, 5, 9]);
        counts.push(9);
        counts.push(2);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(2, 1), (5, 0), (9, 1)]);
        assert!(counts.is_present(5) && !counts.is_present(1));
        assert_eq!((counts.output_count(5), counts.output_count(9), counts.output_count(1)), (0, 1, 0));
        let ahead = counts.with(&[9, 1]);
        assert_eq!((ahead.output_count(9), ahead.output_count(1), counts.output_count(9)), (2, 1, 1));
    }

    #[test]
    fn parameters_travel_as_json() {
        let mut params = SamplingParams::default();
        params.logit_bias.insert(17, -2.5);
        let text = serde_json::to_string(&params).unwrap();
        assert_eq!(serde_json::from_str::<SamplingParams>(&text).unwrap(), params);
        assert_eq!(serde_json::from_str::<SamplingParams>("{}").unwrap(), SamplingParams::default());
        assert!(serde_json::from_str::<SamplingParams>(r#"{"top_pp": 0.5}"#).is_err());
    }
}
