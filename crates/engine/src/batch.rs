//! The batch of a round: how many requests share one pass, and how deep they draft, by measured throughput.
//!
//! A batch of n is worth its tokens a second, at its best depth. Sizes are the powers of two and the number of requests that are ready; the
//! best of those that were measured is taken, and one that was not, or not for long, is tried now and then. Within a size an adaptive
//! policy chooses the depth, from acceptance and from the time of whole rounds. Requests whose depth is fixed keep it: the text of a seed
//! does not depend on who else is served.

use mtplx_runtime::speculative::accept::Acceptance;
use mtplx_runtime::speculative::depth::Adaptive;

/// Rounds of a size before it counts as measured.
const ROUNDS_NEEDED: u64 = 6;
/// Rounds between two trials of another size.
const TRIAL_INTERVAL: u64 = 64;
/// Weight of a measurement a round later.
const MEMORY: f64 = 0.95;

/// The choice of batches.
#[derive(Debug)]
pub(crate) struct BatchPolicy {
    max_depth: usize,
    /// By size, from 1.
    sizes: Vec<Size>,
    rounds: u64,
    last_trial: u64,
}

/// Measurements of one size.
#[derive(Debug, Clone)]
struct Size {
    depth: Adaptive,
    tokens: f64,
    seconds: f64,
    rounds: u64,
    last_round: u64,
}

/// One request's part in a round that is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Tokens that were emitted.
    pub tokens: usize,
    /// The decision.
    pub acceptance: Acceptance,
    /// True where the batch's depth was the request's.
    pub adapts: bool,
}

impl BatchPolicy {
    /// A policy for at most `most` requests that draft at most `max_depth` tokens.
    pub(crate) fn new(most: usize, max_depth: usize) -> Self {
        let depth = Adaptive::new(max_depth);
        let size = Size { depth, tokens: 0.0, seconds: 0.0, rounds: 0, last_round: 0 };
        Self { max_depth, sizes: vec![size; most.max(1)], rounds: 0, last_trial: 0 }
    }

    /// The number of requests of the next round, of `ready` that could take part.
    pub(crate) fn size(&mut self, ready: usize) -> usize {
        let ready = ready.min(self.sizes.len());
        if ready <= 1 {
            return ready;
        }
        let choices: Vec<usize> = std::iter::successors(Some(1), |size| Some(size * 2))
            .take_while(|size| *size < ready)
            .chain([ready])
            .collect();
        let measured = |size: &&usize| self.of(**size).rounds >= ROUNDS_NEEDED;
        // The largest batch first: it is the likeliest to pay.
        if let Some(size) = choices.iter().rev().find(|size| !measured(size)) {
            return *size;
        }
        if self.rounds >= self.last_trial + TRIAL_INTERVAL {
            self.last_trial = self.rounds;
            return choices.into_iter().min_by_key(|size| self.of(*size).last_round).unwrap_or(ready);
        }
        let best = choices.iter().filter(measured).max_by(|a, b| self.rate(**a).total_cmp(&self.rate(**b)));
        best.copied().unwrap_or(ready)
    }

    /// The depth of a batch of `size`, for requests whose depth is not fixed; `None` for a request alone, which has its own policy.
    pub(crate) fn depth(&mut self, size: usize) -> Option<usize> {
        (size > 1 && self.max_depth > 0).then(|| self.sizes[size - 1].depth.next_depth())
    }

    /// Learns from a round.
    pub(crate) fn observe(&mut self, parts: &[Part], seconds: f64) {
        let Some(size) = parts.len().checked_sub(1).and_then(|place| self.sizes.get_mut(place)) else { return };
        self.rounds += 1;
        size.rounds += 1;
        size.last_round = self.rounds;
        size.tokens = MEMORY * size.tokens + parts.iter().map(|part| part.tokens as f64).sum::<f64>();
        size.seconds = MEMORY * size.seconds + seconds;
        let adapting = || parts.iter().filter(|part| part.adapts);
        let depth = adapting().map(|part| part.acceptance.drafted).max();
        // A round at several depths is a measurement of none.
        let uniform = adapting().all(|part| Some(part.acceptance.drafted) == depth);
        let mut seconds = if uniform { seconds } else { f64::NAN };
        for Part { acceptance, .. } in adapting() {
            size.depth.observe(acceptance.drafted, acceptance.examined(), acceptance.accepted, seconds);
            // The round was one.
            seconds = f64::NAN;
        }
    }

    fn rate(&self, size: usize) -> f64 {
        self.of(size).rate(size)
    }

    fn of(&self, size: usize) -> &Size {
        &self.sizes[size - 1]
    }
}

impl Size {
    /// Tokens a second: at the best depth that was measured, so that trying others does not count against the size.
    fn rate(&self, size: usize) -> f64 {
        let estimates = self.depth.estimates();
        let best = estimates.iter().filter(|depth| depth.measured).map(|depth| size as f64 * depth.rate());
        best.max_by(f64::total_cmp).unwrap_or_else(|| self.tokens / self.seconds.max(f64::MIN_POSITIVE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays rounds of `ready` requests, a batch of n at depth k taking `seconds(n, k)` and a draft being accepted with probability
    /// `likely`; sizes and depths of the last quarter.
    fn play(ready: usize, rounds: usize, likely: f64, seconds: impl Fn(usize, usize) -> f64) -> Vec<(usize, usize)> {
        let mut policy = BatchPolicy::new(8, 3);
        let mut noise = 1_u32;
        let mut chosen = Vec::new();
        for _ in 0..rounds {
            let size = policy.size(ready);
            let depth = policy.depth(size).unwrap_or(0);
            let mut part = || {
                let draw = |_: &usize| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f64::from(noise) / f64::from(u32::MAX) < likely
                };
                let accepted = (0..depth).take_while(draw).count();
                let acceptance = Acceptance { drafted: depth, accepted, next: 0 };
                Part { tokens: accepted + 1, acceptance, adapts: true }
            };
            let parts: Vec<Part> = (0..size).map(|_| part()).collect();
            policy.observe(&parts, seconds(size, depth));
            chosen.push((size, depth));
        }
        chosen.split_off(rounds - rounds / 4)
    }

    /// The share of rounds with a choice.
    fn share(chosen: &[(usize, usize)], is: impl Fn(&(usize, usize)) -> bool) -> f64 {
        chosen.iter().filter(|choice| is(choice)).count() as f64 / chosen.len() as f64
    }

    #[test]
    fn a_pass_that_costs_little_more_takes_all() {
        let chosen = play(6, 800, 0.8, |size, depth| 10.0 + (size * (1 + depth)) as f64 * 0.2 + depth as f64);
        assert!(share(&chosen, |&(size, depth)| size == 6 && depth >= 2) > 0.9, "{chosen:?}");
    }

    #[test]
    fn a_pass_that_costs_as_much_as_its_parts_and_more_is_not_made() {
        let chosen = play(4, 800, 0.0, |size, _| size as f64 * (1.0 + 0.1 * size as f64));
        assert!(share(&chosen, |&(size, _)| size == 1) > 0.9, "{chosen:?}");
        // A step between two and four rows.
        let chosen = play(4, 800, 0.0, |size, _| if size <= 2 { 1.0 } else { 3.0 });
        assert!(share(&chosen, |&(size, _)| size == 2) > 0.9, "{chosen:?}");
    }

    #[test]
    fn drafts_that_are_tried_in_vain_do_not_count_against_a_size() {
        let chosen = play(8, 120, 0.0, |size, depth| 10.0 + (size * (1 + depth)) as f64 * 0.5 + 5.0 * depth as f64);
        assert!(share(&chosen, |&(size, _)| size == 8) > 0.8, "{chosen:?}");
    }

    #[test]
    fn rows_that_are_dear_draft_less() {
        let chosen = play(8, 1600, 0.5, |size, depth| (size * (1 + depth)) as f64);
        assert!(share(&chosen, |&(_, depth)| depth == 0) > 0.9, "{chosen:?}");
    }

    #[test]
    fn a_request_alone_has_a_policy_of_its_own() {
        let mut policy = BatchPolicy::new(4, 3);
        assert_eq!((policy.size(0), policy.size(1), policy.depth(1)), (0, 1, None));
        assert_eq!((policy.size(3), policy.size(9)), (3, 4));
        assert!(policy.depth(3).is_some() && BatchPolicy::new(4, 0).depth(3).is_none());
    }
}
