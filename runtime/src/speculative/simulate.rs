//! Acceptance by stated figures instead of by the drafts: what a round costs, apart from how good its drafts are.
//!
//! **Not exact**, and for benchmarks alone: with weights drawn at random no draft is ever accepted, and the wall clock of
//! a round that keeps three of them can be seen in no other way. Only the decision is replaced. Drafting, verification,
//! the draws, the read-back, the commit and the feeding of the head are the loop's own, on the tokens that were really
//! drafted. A sequence simulates only if it was made by [`super::Sequence::simulated`].

use super::accept::{Acceptance, RowOutcome};
use crate::sampling::noise::{Noise, Role};

/// The fractional part of the golden ratio: multiples of it fill [0, 1) more evenly than those of any other number.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Cumulative acceptance by depth, as stated.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    cumulative: Vec<f64>,
}

/// Figures that no drafts could have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("cumulative acceptance at depth {depth}: {found}: expected a number from 0 to {most}")]
pub struct SimulationError {
    /// The depth, from 1.
    pub depth: usize,
    /// What was stated of it.
    pub found: f64,
    /// What was stated of the depth before, or 1.
    pub most: f64,
}

impl Simulation {
    /// With `cumulative[i]` the share of rounds that accept at least `i + 1` drafts.
    ///
    /// # Errors
    /// A figure that is no share, or above the one before it.
    pub fn new(cumulative: Vec<f64>) -> Result<Self, SimulationError> {
        let mut most = 1.0;
        for (place, &found) in cumulative.iter().enumerate() {
            if !(0.0..=most).contains(&found) {
                return Err(SimulationError { depth: place + 1, found, most });
            }
            most = found;
        }
        Ok(Self { cumulative })
    }

    /// The figures.
    #[must_use]
    pub fn cumulative(&self) -> &[f64] {
        &self.cumulative
    }

    /// E: tokens that a round of `depth` drafts emits on average.
    #[must_use]
    pub fn expected_emitted(&self, depth: usize) -> f64 {
        1.0 + self.cumulative.iter().take(depth).sum::<f64>()
    }

    /// Settles round `round` of a sequence, in the place of [`super::accept::decide`] and with its result's meaning. A
    /// draft beyond the last figure is not accepted.
    ///
    /// One number decides a round: the seed's own offset and `round` golden steps, modulo 1. Over n rounds the share of
    /// each depth is then within about `ln(n) / n` of its figure, where independent coins would need n^2 rounds for that.
    #[must_use]
    pub fn decide(&self, rows: &[RowOutcome], bonus: u32, round: u64, noise: &Noise) -> Acceptance {
        let u = (noise.uniform(0, Role::Accept) + round as f64 * GOLDEN).fract();
        let accepted = self.cumulative.iter().take(rows.len()).take_while(|&&share| u < share).count();
        let next = rows.get(accepted).map_or(bonus, |row| row.recovered);
        Acceptance { drafted: rows.len(), accepted, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(depth: usize) -> Vec<RowOutcome> {
        // The exact rule accepts none of these.
        (0..depth).map(|row| RowOutcome { draft: row as u32, p: 0.0, q: 1.0, recovered: 100 + row as u32 }).collect()
    }

    #[test]
    fn shares_are_the_stated_ones() {
        let simulation = Simulation::new(vec![0.976, 0.952, 0.881]).unwrap();
        assert!((simulation.expected_emitted(3) - 3.809).abs() < 1e-12);
        assert_eq!(simulation.expected_emitted(0), 1.0);
        for (seed, rounds) in [(0, 40_u64), (1, 200), (2, 1000)] {
            let noise = Noise::new(seed);
            let mut accepted = [0_u64; 3];
            for round in 0..rounds {
                let acceptance = simulation.decide(&rows(3), 9, round, &noise);
                accepted.iter_mut().take(acceptance.accepted).for_each(|count| *count += 1);
            }
            let bound = (rounds as f64).ln() / rounds as f64;
            for (count, share) in accepted.iter().zip(simulation.cumulative()) {
                assert!((*count as f64 / rounds as f64 - share).abs() < bound, "{accepted:?} of {rounds}");
            }
        }
    }

    #[test]
    fn what_is_emitted_comes_from_the_rows() {
        let all = Simulation::new(vec![1.0, 1.0]).unwrap();
        let noise = Noise::new(7);
        assert_eq!(all.decide(&rows(2), 9, 0, &noise), Acceptance { drafted: 2, accepted: 2, next: 9 });
        // Beyond the last figure.
        assert_eq!(all.decide(&rows(3), 9, 5, &noise), Acceptance { drafted: 3, accepted: 2, next: 102 });
        let none = Simulation::new(vec![0.0]).unwrap();
        assert_eq!(none.decide(&rows(1), 9, 3, &noise), Acceptance { drafted: 1, accepted: 0, next: 100 });
        // Plain decoding.
        assert_eq!(all.decide(&[], 9, 3, &noise), Acceptance { drafted: 0, accepted: 0, next: 9 });
    }

    #[test]
    fn figures_that_cannot_be() {
        for (figures, depth) in [(vec![1.1], 1), (vec![0.5, 0.6], 2), (vec![0.5, -0.1], 2), (vec![f64::NAN], 1)] {
            assert_eq!(Simulation::new(figures).unwrap_err().depth, depth);
        }
        let error = Simulation::new(vec![0.9, 0.95]).unwrap_err();
        assert_eq!(error.to_string(), "cumulative acceptance at depth 2: 0.95: expected a number from 0 to 0.9");
    }
}
