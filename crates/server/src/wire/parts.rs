//! Parts of answers that the dialects share.

use serde_json::{Map, Value, json};

use crate::wire::internal::{Failure, FailureKind, Origin, Timings, TokenInfo, Usage};

/// Least log-probability on the wire, as OpenAI writes it: JSON has no infinity.
const LEAST_LOGPROB: f32 = -9999.0;

/// Our mark in the `usage` of a text whose reasoning a budget ended.
pub(crate) fn mark_budget(usage: &mut Value, counts: &Usage) {
    if counts.thinking_budget_reached {
        usage["thinking_budget_reached"] = true.into();
    }
}

/// The field `timings`.
pub(crate) fn timings(timings: &Timings) -> Value {
    // Numbers and lists of numbers always serialize.
    serde_json::to_value(timings).unwrap_or_default()
}

/// Origins of tokens that no frame has told of yet: the field `mtp` of the next one.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    wanted: bool,
    tokens: Vec<Value>,
}

impl Origins {
    /// No tokens; none will be kept unless they are `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self { wanted, tokens: Vec::new() }
    }

    /// Takes the tokens of a piece.
    pub fn take(&mut self, tokens: &[TokenInfo]) {
        if self.wanted {
            self.tokens.extend(tokens.iter().map(origin));
        }
    }

    /// True where there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Writes the tokens taken so far into a frame.
    pub fn write(&mut self, frame: &mut Map<String, Value>) {
        if !self.tokens.is_empty() {
            frame.insert("mtp".to_owned(), json!({ "tokens": std::mem::take(&mut self.tokens) }));
        }
    }
}

fn origin(token: &TokenInfo) -> Value {
    let (origin, depth) = match token.origin {
        Origin::Plain => ("plain", None),
        Origin::Draft(depth) => ("draft", Some(depth)),
        Origin::Recovered => ("recovered", None),
        Origin::Bonus => ("bonus", None),
    };
    // A frame may hold several tokens, so each says which part of the text is its own.
    let mut value = json!({"id": token.id, "text": token.text, "origin": origin});
    if let Some(depth) = depth {
        value["depth"] = depth.into();
    }
    value
}

/// Origins of a whole answer: the fields `mtp` of its frames in a row.
#[derive(Debug, Default)]
pub(crate) struct FoldedOrigins(Option<Vec<Value>>);

impl FoldedOrigins {
    /// Takes the tokens that a frame tells of.
    pub fn take(&mut self, frame: &Value) {
        extend(&mut self.0, &frame["mtp"]["tokens"]);
    }

    /// Writes all tokens into the answer.
    pub fn write(self, answer: &mut Map<String, Value>) {
        if let Some(tokens) = self.0 {
            answer.insert("mtp".to_owned(), json!({ "tokens": tokens }));
        }
    }
}

/// Entries of `logprobs`, one a token, each with up to `top` of the likeliest tokens in its place.
///
/// Tokens of every kind have one, those of reasoning, of calls and those without text too. The stop token has none, as
/// with OpenAI and vLLM: no piece holds it.
pub(crate) fn logprobs(tokens: &[TokenInfo], top: usize) -> Vec<Value> {
    tokens
        .iter()
        .filter_map(|token| {
            let logprobs = token.logprobs.as_ref()?;
            let likeliest = logprobs.top.iter().take(top);
            let top: Vec<Value> =
                likeliest.map(|top| Value::Object(entry(&top.text, top.logprob, &top.bytes))).collect();
            let mut entry = entry(&token.text, logprobs.logprob, &token.bytes);
            entry.insert("top_logprobs".to_owned(), top.into());
            Some(Value::Object(entry))
        })
        .collect()
}

fn entry(token: &str, logprob: f32, bytes: &[u8]) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("token".to_owned(), token.into());
    entry.insert("logprob".to_owned(), finite(logprob).into());
    entry.insert("bytes".to_owned(), bytes.into());
    entry
}

/// A log-probability that JSON has a number for.
pub(crate) fn finite(logprob: f32) -> f32 {
    if logprob.is_nan() { LEAST_LOGPROB } else { logprob.clamp(LEAST_LOGPROB, 0.0) }
}

/// Error of an answer that has no end.
pub(crate) fn cut_short() -> Failure {
    Failure::new(FailureKind::Internal, "the answer has no end: the engine stopped; send the request again")
}

/// Text of a chunk's field behind what earlier chunks had there.
pub(crate) fn append(text: &mut Option<String>, value: &Value) {
    if let Some(piece) = value.as_str() {
        text.get_or_insert_default().push_str(piece);
    }
}

/// Entries of a chunk's list behind those of earlier chunks.
pub(crate) fn extend(list: &mut Option<Vec<Value>>, value: &Value) {
    if let Some(values) = value.as_array() {
        list.get_or_insert_default().extend_from_slice(values);
    }
}

/// A moment as RFC 3339 has it, in UTC, from seconds since 1970.
pub(crate) fn rfc3339(seconds: u64) -> String {
    // Years that begin in March put the leap day last; 719,468 days lie between 0000-03-01 and 1970-01-01.
    // An era of the Gregorian calendar is 400 years, or 146,097 days.
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_796_076_241, "2026-11-30T22:04:01Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), expected);
        }
    }

    #[test]
    fn log_probabilities_are_numbers() {
        for (logprob, expected) in [(-0.5, -0.5), (f32::NEG_INFINITY, -9999.0), (f32::NAN, -9999.0), (1e-9, 0.0)] {
            assert_eq!(finite(logprob), expected);
        }
    }
}
