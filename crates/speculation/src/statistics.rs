//! Goodness of fit for tests of exactness, at a false-alarm level that a test suite can live with.
//!
//! A chi-square test (Pearson 1900) with cells of small expectation pooled, and the enumeration of a joint law over
//! short sequences. The level is [`FALSE_ALARM`]: thousands of runs of hundreds of tests without one alarm, while a
//! bias of a few percent still shows with the 10^5 samples that a tiny model gives in seconds.

use serde_json::Value;
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// A test that is right fails with this probability.
pub const FALSE_ALARM: f64 = 1e-9;

/// Cells are pooled until each expects so many: Cochran's rule, under which the chi-square law is close.
const SMALLEST_EXPECTATION: f64 = 5.0;

/// The result of a chi-square test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquare {
    /// The sum of `(observed - expected)^2 / expected` over cells.
    pub statistic: f64,
    /// Cells after pooling, less one.
    pub degrees: usize,
    /// The probability of a statistic at least this large if the law holds; 0 where an impossible cell was observed.
    pub p_value: f64,
}

impl ChiSquare {
    /// Whether the observations are compatible with the law at the [`FALSE_ALARM`] level.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.p_value >= FALSE_ALARM
    }

    /// For JSON, which has no infinity, with `more` in front.
    pub fn figures(&self, more: &[(&str, Value)]) -> Value {
        let statistic = if self.statistic.is_finite() { self.statistic.into() } else { Value::Null };
        let own = [("degrees", self.degrees.into()), ("p_value", self.p_value.into()), ("statistic", statistic)];
        more.iter().cloned().chain(own).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Tests counts against a law: `observed[i]` draws of cell i, which has probability `law[i]`.
///
/// # Panics
/// If the two differ in length, or the law does not sum to 1 within 1e-9: a mistake in the test.
#[must_use]
pub fn goodness_of_fit(observed: &[u64], law: &[f64]) -> ChiSquare {
    assert_eq!(observed.len(), law.len(), "counts and law have as many cells");
    let mass: f64 = law.iter().sum();
    assert!((mass - 1.0).abs() < 1e-9, "the law sums to {mass}, not 1");
    if observed.iter().zip(law).any(|(&count, &probability)| count > 0 && probability <= 0.0) {
        return ChiSquare { statistic: f64::INFINITY, degrees: 0, p_value: 0.0 };
    }
    let total = observed.iter().sum::<u64>() as f64;
    let mut cells: Vec<(f64, f64)> =
        observed.iter().zip(law).map(|(&count, &probability)| (count as f64, probability * total)).collect();
    cells.retain(|&(_, expected)| expected > 0.0);
    let cells = pooled(cells);
    let degrees = cells.len().saturating_sub(1);
    let statistic: f64 = cells.iter().map(|(count, expected)| (count - expected).powi(2) / expected).sum();
    ChiSquare { statistic, degrees, p_value: tail(statistic, degrees) }
}

/// The probability of a chi-square statistic at least this large, by the law of so many degrees of freedom.
#[must_use]
pub fn tail(statistic: f64, degrees: usize) -> f64 {
    match ChiSquared::new(degrees as f64) {
        Ok(law) => law.sf(statistic),
        // One cell is no test.
        Err(_) => 1.0,
    }
}

/// The law of all sequences of `length` symbols out of `symbols`, by chaining `next(prefix)`, each a law of `symbols`
/// cells. A sequence's cell is [`cell`].
pub fn joint(symbols: usize, length: usize, mut next: impl FnMut(&[u32]) -> Vec<f64>) -> Vec<f64> {
    let mut law = vec![1.0];
    for position in 0..length {
        law = (0..law.len())
            .flat_map(|place| {
                let conditional = next(&sequence(place, symbols, position));
                let before = law[place];
                conditional.into_iter().map(move |probability| before * probability)
            })
            .collect();
    }
    law
}

/// The cell of a sequence in [`joint`]: its digits in base `symbols`, the first the most significant.
#[must_use]
pub fn cell(sequence: &[u32], symbols: usize) -> usize {
    sequence.iter().fold(0, |place, &symbol| place * symbols + symbol as usize)
}

fn sequence(mut place: usize, symbols: usize, length: usize) -> Vec<u32> {
    let mut digits = vec![0; length];
    for digit in digits.iter_mut().rev() {
        *digit = (place % symbols) as u32;
        place /= symbols;
    }
    digits
}

/// Merges cells, the smallest first, until each expects enough.
fn pooled(mut cells: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    // By expectation alone: pooling that looked at the counts would bend the test.
    cells.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut pools: Vec<(f64, f64)> = Vec::with_capacity(cells.len());
    for (count, expected) in cells {
        match pools.last_mut() {
            Some(pool) if pool.1 < SMALLEST_EXPECTATION => *pool = (pool.0 + count, pool.1 + expected),
            _ => pools.push((count, expected)),
        }
    }
    pools
}

/// How far a martingale with steps of at most 1 may stray, either way, except with probability `level`: Bernstein's
/// inequality, `P(|S| >= t) <= 2 exp(-t^2 / (2 (variance + t / 3)))`, solved for t. `variance` is the sum of the steps'
/// conditional variances (Freedman 1975).
#[must_use]
pub fn bernstein(variance: f64, level: f64) -> f64 {
    let l = (2.0 / level).ln();
    l / 3.0 + (l * l / 9.0 + 2.0 * variance * l).sqrt()
}

/// [`goodness_of_fit`], as an assertion.
///
/// # Panics
/// If the observations do not fit, with `what`, the statistic and the largest deviation.
pub fn assert_fits(what: &str, observed: &[u64], law: &[f64]) {
    let result = goodness_of_fit(observed, law);
    assert!(result.fits(), "{what}: {result:?}; worst cell: {}", worst(observed, law));
}

fn worst(observed: &[u64], law: &[f64]) -> String {
    let total = observed.iter().sum::<u64>() as f64;
    let deviation = |place: usize| (observed[place] as f64 - law[place] * total) / (law[place] * total).max(1.0).sqrt();
    (0..law.len()).max_by(|&a, &b| deviation(a).abs().total_cmp(&deviation(b).abs())).map_or_else(
        String::new,
        |place| {
            format!(
                "{place}: {} of {total}, expected {:.1} ({:+.1} sigma)",
                observed[place],
                law[place] * total,
                deviation(place)
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_probabilities_match_tables() {
        // 3.841 at one degree and 18.307 at ten are the 5 % points of every table.
        let half = goodness_of_fit(&[5_098, 4_902], &[0.5, 0.5]);
        assert!((half.statistic - 3.8416).abs() < 1e-9 && (half.p_value - 0.05).abs() < 1e-4, "{half:?}");
        let law = ChiSquared::new(10.0).unwrap();
        assert!((law.sf(18.307) - 0.05).abs() < 1e-5);
        // Far out in the tail: the one-degree survival function is erfc(sqrt(x / 2)); 37.3249 is 1e-9's point.
        assert!((ChiSquared::new(1.0).unwrap().sf(37.3249) / 1e-9 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn exact_counts_fit_and_a_bias_does_not() {
        let law = [0.5, 0.3, 0.2];
        assert_eq!(goodness_of_fit(&[50_000, 30_000, 20_000], &law).p_value, 1.0);
        assert!(!goodness_of_fit(&[52_000, 29_000, 19_000], &law).fits());
    }

    #[test]
    fn an_impossible_cell_never_fits() {
        assert!(!goodness_of_fit(&[1_000_000, 1, 0], &[1.0, 0.0, 0.0]).fits());
        assert!(goodness_of_fit(&[1_000_000, 0, 0], &[1.0, 0.0, 0.0]).fits());
    }

    #[test]
    fn small_cells_are_pooled() {
        let mut law = vec![1e-6; 100];
        law.push(1.0 - 1e-4);
        let mut counts = vec![0; 100];
        counts.push(100_000);
        counts[7] = 10;
        // The hundred cells together expect 10 in 100 010 draws.
        let result = goodness_of_fit(&counts, &law);
        assert!(result.fits() && result.degrees < 5, "{result:?}");
    }

    #[test]
    fn bernstein_bounds_what_strays() {
        // Solved back: the inequality's right side is the level.
        for variance in [0.0, 1.0, 250.0] {
            let t = bernstein(variance, 1e-6);
            assert!((2.0 * (-t * t / (2.0 * (variance + t / 3.0))).exp() / 1e-6 - 1.0).abs() < 1e-9);
        }
        // Close to a normal law's 4.9 sigma where the variance is large.
        assert!((bernstein(1e6, 1e-6) / 1e3 - 5.39).abs() < 0.02);
    }

    #[test]
    fn joint_laws_chain() {
        // The second symbol repeats the first with probability 0.9.
        let law = joint(2, 2, |prefix| match prefix {
            [] => vec![0.25, 0.75],
            [0, ..] => vec![0.9, 0.1],
            _ => vec![0.1, 0.9],
        });
        let expected = [0.225, 0.025, 0.075, 0.675];
        assert!(law.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{law:?}");
        assert_eq!((cell(&[1, 0], 2), cell(&[3, 1, 2], 4)), (2, 54));
    }

    #[test]
    #[should_panic(expected = "coin: ")]
    fn the_assertion_says_what_failed() {
        assert_fits("coin", &[600, 400], &[0.5, 0.5]);
        assert_fits("coin", &[60_000, 40_000], &[0.5, 0.5]);
    }
}
