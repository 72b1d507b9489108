//! What speculation did: counts by depth, lengths and times.
//!
//! Counts are exact and add up over requests; every rate is derived from them when it is asked for. Clock values come
//! in as arguments.
//!
//! ```text
//! cumulative_i  = accepted_i / rounds that drafted at least i     (the table of a model card)
//! conditional_i = accepted_i / drafts examined at i               (a draft behind a rejection is never examined)
//! E             = emitted / rounds                                (mean accepted length; 1 is plain decoding)
//! ```

use serde::Serialize;

use super::accept::Acceptance;

/// Counters of one or more requests. Serializes as its [`Report`].
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(into = "Report")]
pub struct SpeculationStats {
    requests: u64,
    rounds: u64,
    emitted: u64,
    prompt_tokens: u64,
    // By depth, the first at 0; all three are as long as the deepest round.
    drafted: Vec<u64>,
    examined: Vec<u64>,
    accepted: Vec<u64>,
    prefill_seconds: f64,
    decode_seconds: f64,
    first_token_seconds: f64,
}

impl SpeculationStats {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a prompt: its length in tokens, the seconds that feeding it took, and the seconds from the request to its
    /// first token.
    pub fn record_prefill(&mut self, prompt_tokens: usize, prefill_seconds: f64, first_token_seconds: f64) {
        self.requests += 1;
        self.prompt_tokens += prompt_tokens as u64;
        self.prefill_seconds += prefill_seconds;
        self.first_token_seconds += first_token_seconds;
    }

    /// Counts a round: what was decided, how many tokens were emitted of it (fewer than decided where a stop token or
    /// the length limit clipped it), and its seconds.
    ///
    /// Acceptance counts decisions, clipped or not: it is a property of the drafts.
    pub fn record_round(&mut self, acceptance: &Acceptance, emitted: usize, seconds: f64) {
        self.rounds += 1;
        self.emitted += emitted as u64;
        self.decode_seconds += seconds;
        self.reserve(acceptance.drafted);
        count_up(&mut self.drafted, acceptance.drafted);
        count_up(&mut self.examined, acceptance.examined());
        count_up(&mut self.accepted, acceptance.accepted.min(acceptance.drafted));
    }

    /// Takes back tokens of the last round that did not become part of the text: those behind a stop string. Acceptance stays, as in
    /// [`SpeculationStats::record_round`].
    pub fn retract(&mut self, tokens: usize) {
        self.emitted = self.emitted.saturating_sub(tokens as u64);
    }

    /// Adds another's counts and times to these.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.rounds += other.rounds;
        self.emitted += other.emitted;
        self.prompt_tokens += other.prompt_tokens;
        self.prefill_seconds += other.prefill_seconds;
        self.decode_seconds += other.decode_seconds;
        self.first_token_seconds += other.first_token_seconds;
        self.reserve(other.drafted.len());
        for (mine, theirs) in [
            (&mut self.drafted, &other.drafted),
            (&mut self.examined, &other.examined),
            (&mut self.accepted, &other.accepted),
        ] {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }

    /// Requests whose prompt was fed.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Rounds, those at depth 0 included.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Tokens that rounds emitted. The token that prefill ends with is not a round's.
    #[must_use]
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    /// Tokens of prompts.
    #[must_use]
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// At `[i]`, the rounds that drafted at least i + 1 tokens.
    #[must_use]
    pub fn drafted_by_depth(&self) -> &[u64] {
        &self.drafted
    }

    /// At `[i]`, the rounds that decided on draft i + 1.
    #[must_use]
    pub fn examined_by_depth(&self) -> &[u64] {
        &self.examined
    }

    /// At `[i]`, the rounds that accepted draft i + 1.
    #[must_use]
    pub fn accepted_by_depth(&self) -> &[u64] {
        &self.accepted
    }

    /// Accepted of those examined, by depth; `None` where none was.
    #[must_use]
    pub fn conditional(&self) -> Vec<Option<f64>> {
        ratios(&self.accepted, &self.examined)
    }

    /// Accepted of those drafted, by depth; `None` where none was.
    #[must_use]
    pub fn cumulative(&self) -> Vec<Option<f64>> {
        ratios(&self.accepted, &self.drafted)
    }

    /// E: tokens emitted a round; `None` before the first.
    #[must_use]
    pub fn mean_accepted_length(&self) -> Option<f64> {
        ratio(self.emitted as f64, self.rounds as f64)
    }

    /// Seconds spent on prompts.
    #[must_use]
    pub fn prefill_seconds(&self) -> f64 {
        self.prefill_seconds
    }

    /// Seconds spent in rounds.
    #[must_use]
    pub fn decode_seconds(&self) -> f64 {
        self.decode_seconds
    }

    /// Seconds from a request to its first token, on average; `None` without a request.
    #[must_use]
    pub fn ttft_seconds(&self) -> Option<f64> {
        ratio(self.first_token_seconds, self.requests as f64)
    }

    /// Tokens a second in rounds; `None` without any time.
    #[must_use]
    pub fn decode_tok_s(&self) -> Option<f64> {
        ratio(self.emitted as f64, self.decode_seconds)
    }

    /// Prompt tokens a second; `None` without any time.
    #[must_use]
    pub fn prefill_tok_s(&self) -> Option<f64> {
        ratio(self.prompt_tokens as f64, self.prefill_seconds)
    }

    fn reserve(&mut self, depth: usize) {
        for counts in [&mut self.drafted, &mut self.examined, &mut self.accepted] {
            counts.resize(counts.len().max(depth), 0);
        }
    }
}

/// Counts and rates as a document, under their published names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// See [`SpeculationStats::requests`].
    pub requests: u64,
    /// See [`SpeculationStats::rounds`].
    pub rounds: u64,
    /// See [`SpeculationStats::emitted`].
    pub emitted: u64,
    /// See [`SpeculationStats::prompt_tokens`].
    pub prompt_tokens: u64,
    /// See [`SpeculationStats::drafted_by_depth`].
    pub drafted_by_depth: Vec<u64>,
    /// See [`SpeculationStats::examined_by_depth`].
    pub examined_by_depth: Vec<u64>,
    /// See [`SpeculationStats::accepted_by_depth`].
    pub accepted_by_depth: Vec<u64>,
    /// See [`SpeculationStats::conditional`].
    pub conditional_acceptance: Vec<Option<f64>>,
    /// See [`SpeculationStats::cumulative`].
    pub cumulative_acceptance: Vec<Option<f64>>,
    /// See [`SpeculationStats::mean_accepted_length`].
    pub mean_accepted_length: Option<f64>,
    /// See [`SpeculationStats::prefill_seconds`].
    pub prefill_seconds: f64,
    /// See [`SpeculationStats::decode_seconds`].
    pub decode_seconds: f64,
    /// See [`SpeculationStats::ttft_seconds`].
    pub ttft_seconds: Option<f64>,
    /// See [`SpeculationStats::prefill_tok_s`].
    pub prefill_tok_s: Option<f64>,
    /// See [`SpeculationStats::decode_tok_s`].
    pub decode_tok_s: Option<f64>,
}

impl From<SpeculationStats> for Report {
    fn from(stats: SpeculationStats) -> Self {
        Self {
            conditional_acceptance: stats.conditional(),
            cumulative_acceptance: stats.cumulative(),
            mean_accepted_length: stats.mean_accepted_length(),
            ttft_seconds: stats.ttft_seconds(),
            prefill_tok_s: stats.prefill_tok_s(),
            decode_tok_s: stats.decode_tok_s(),
            requests: stats.requests,
            rounds: stats.rounds,
            emitted: stats.emitted,
            prompt_tokens: stats.prompt_tokens,
            prefill_seconds: stats.prefill_seconds,
            decode_seconds: stats.decode_seconds,
            drafted_by_depth: stats.drafted,
            examined_by_depth: stats.examined,
            accepted_by_depth: stats.accepted,
        }
    }
}

fn count_up(counts: &mut [u64], depth: usize) {
    counts.iter_mut().take(depth).for_each(|count| *count += 1);
}

fn ratios(of: &[u64], all: &[u64]) -> Vec<Option<f64>> {
    of.iter().zip(all).map(|(&of, &all)| ratio(of as f64, all as f64)).collect()
}

fn ratio(of: f64, all: f64) -> Option<f64> {
    (all > 0.0).then(|| of / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(drafted: usize, accepted: usize) -> Acceptance {
        Acceptance { drafted, accepted, next: 0 }
    }

    fn example() -> SpeculationStats {
        let mut stats = SpeculationStats::new();
        stats.record_prefill(100, 0.5, 0.6);
        // All accepted; rejected at 2; rejected at 1; depth 1 accepted; plain; all accepted but clipped to 2 tokens.
        for (acceptance, emitted) in
            [(round(3, 3), 4), (round(3, 1), 2), (round(3, 0), 1), (round(1, 1), 2), (round(0, 0), 1), (round(3, 3), 2)]
        {
            stats.record_round(&acceptance, emitted, 0.25);
        }
        stats
    }

    #[test]
    fn counts_follow_the_definitions() {
        let stats = example();
        assert_eq!(stats.drafted_by_depth(), [5, 4, 4]);
        assert_eq!(stats.examined_by_depth(), [5, 3, 2]);
        assert_eq!(stats.accepted_by_depth(), [4, 2, 2]);
        assert_eq!(stats.conditional(), [Some(0.8), Some(2.0 / 3.0), Some(1.0)]);
        assert_eq!(stats.cumulative(), [Some(0.8), Some(0.5), Some(0.5)]);
        assert_eq!((stats.rounds(), stats.emitted()), (6, 12));
        assert_eq!(stats.mean_accepted_length(), Some(2.0));
        assert_eq!((stats.decode_seconds(), stats.decode_tok_s()), (1.5, Some(8.0)));
        assert_eq!((stats.prefill_tok_s(), stats.ttft_seconds()), (Some(200.0), Some(0.6)));
    }

    #[test]
    fn tokens_behind_a_stop_string_are_taken_back() {
        let mut stats = example();
        stats.retract(2);
        assert_eq!((stats.rounds(), stats.emitted(), stats.accepted_by_depth()), (6, 10, &[4, 2, 2][..]));
        assert_eq!((stats.mean_accepted_length(), stats.decode_tok_s()), (Some(10.0 / 6.0), Some(10.0 / 1.5)));
        stats.retract(usize::MAX);
        assert_eq!(stats.emitted(), 0);
    }

    #[test]
    fn at_a_fixed_depth_length_is_one_plus_the_sum_of_cumulative_acceptance() {
        let mut stats = SpeculationStats::new();
        for accepted in [3, 2, 2, 0, 1, 3, 3] {
            stats.record_round(&round(3, accepted), accepted + 1, 0.1);
        }
        let sum: f64 = stats.cumulative().into_iter().flatten().sum();
        assert!((stats.mean_accepted_length().unwrap() - (1.0 + sum)).abs() < 1e-12);
    }

    #[test]
    fn merging_adds_counts_of_different_depths() {
        let mut shallow = SpeculationStats::new();
        shallow.record_prefill(10, 0.1, 0.2);
        shallow.record_round(&round(1, 0), 1, 0.1);
        let mut both = shallow.clone();
        both.merge(&example());
        let mut other_way = example();
        other_way.merge(&shallow);
        assert_eq!(both, other_way);
        assert_eq!(both.drafted_by_depth(), [6, 4, 4]);
        assert_eq!(both.examined_by_depth(), [6, 3, 2]);
        assert_eq!(both.accepted_by_depth(), [4, 2, 2]);
        assert_eq!((both.requests(), both.rounds(), both.emitted(), both.prompt_tokens()), (2, 7, 13, 110));
        assert_eq!(both.ttft_seconds(), Some(0.4));
    }

    #[test]
    fn nothing_recorded_has_no_rates() {
        let stats = SpeculationStats::new();
        assert_eq!((stats.mean_accepted_length(), stats.decode_tok_s(), stats.ttft_seconds()), (None, None, None));
        let document = serde_json::to_value(&stats).unwrap();
        assert!(document["decode_tok_s"].is_null());
        assert_eq!(document["drafted_by_depth"], serde_json::json!([]));
    }

    #[test]
    fn serializes_under_published_names() {
        let document = serde_json::to_value(example()).unwrap();
        assert_eq!(document["drafted_by_depth"], serde_json::json!([5, 4, 4]));
        assert_eq!(document["examined_by_depth"], serde_json::json!([5, 3, 2]));
        assert_eq!(document["accepted_by_depth"], serde_json::json!([4, 2, 2]));
        assert_eq!((&document["rounds"], &document["decode_tok_s"]), (&6.into(), &8.0.into()));
        assert_eq!(document["cumulative_acceptance"], serde_json::json!([0.8, 0.5, 0.5]));
    }
}
