//! Repeated measurements in a few numbers.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The median of repeated measurements and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub n: usize,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// The median distance from the median.
    pub mad: f64,
}

impl Summary {
    /// Of what was measured; `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        let median = median(&mut values)?;
        let (&min, &max) = (values.first()?, values.last()?);
        let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        let mad = self::median(&mut distances)?;
        Some(Self { n: values.len(), median, min, max, mad })
    }

    /// The same in a unit that is `factor` times smaller.
    pub fn times(&self, factor: f64) -> Self {
        let Self { n, median, min, max, mad } = *self;
        Self { n, median: median * factor, min: min * factor, max: max * factor, mad: mad * factor }
    }

    /// Whether two ranges from least to most have a number in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// Sorts, and takes the middle; the mean of the two in the middle of an even number.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (middle, last) = (values.len() / 2, values.len().checked_sub(1)?);
    Some((values[last / 2] + values[middle]) / 2.0)
}

/// Percentiles of times, in seconds, to three digits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many times.
    pub n: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

/// Times on their way to percentiles.
///
/// `hdrhistogram` because it is the usual tool for latencies: its memory does not grow with their number.
pub struct Times(Histogram<u64>);

impl Times {
    /// None yet.
    pub fn new() -> Self {
        // From 100 ns to an hour.
        Self(Histogram::new_with_bounds(100, 3_600_000_000_000, 3).expect("constant bounds are in order"))
    }

    /// Adds `count` times of `seconds` each.
    pub fn add(&mut self, seconds: f64, count: u64) {
        self.0.saturating_record_n((seconds * 1e9) as u64, count);
    }

    /// What they are; `None` of nothing.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e9;
        let n = self.0.len();
        (n > 0).then(|| Percentiles { n, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: self.0.max() as f64 / 1e9 })
    }
}

/// Percentiles of rates, by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// How many.
    pub n: usize,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Rates {
    /// Of what was measured; `None` of nothing.
    pub fn of(rates: &[f64]) -> Option<Self> {
        let mut sorted = rates.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).clamp(1, sorted.len()) - 1];
        Some(Self { n: sorted.len(), min, p50: at(50), p90: at(90), p99: at(99), max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        let summary = Summary::of([5.0, 1.0, 2.0, 100.0, 3.0]).unwrap();
        assert_eq!(summary, Summary { n: 5, median: 3.0, min: 1.0, max: 100.0, mad: 2.0 });
        let even = Summary::of([1.0, 4.0]).unwrap();
        assert_eq!((even.median, even.mad), (2.5, 1.5));
        let one = Summary::of([7.0]).unwrap();
        assert_eq!((one.median, one.min, one.max, one.mad), (7.0, 7.0, 7.0, 0.0));
        assert_eq!(Summary::of([]), None);
        assert!(summary.overlaps(&even) && even.overlaps(&summary) && !even.overlaps(&one));
    }

    #[test]
    fn percentiles_of_times() {
        let mut times = Times::new();
        assert_eq!(times.percentiles(), None);
        times.add(0.001, 98);
        times.add(0.5, 2);
        let percentiles = times.percentiles().unwrap();
        assert_eq!(percentiles.n, 100);
        for (found, expected) in [(percentiles.p50, 0.001), (percentiles.p90, 0.001), (percentiles.p99, 0.5)] {
            assert!((found / expected - 1.0).abs() < 2e-3, "{found} {expected}");
        }
        times.add(1e9, 1);
        assert!(times.percentiles().unwrap().max >= 3600.0);
    }

    #[test]
    fn percentiles_of_rates() {
        let rates: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let expected = Rates { n: 200, min: 1.0, p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 };
        assert_eq!(Rates::of(&rates), Some(expected));
        let one = Rates { n: 1, min: 3.0, p50: 3.0, p90: 3.0, p99: 3.0, max: 3.0 };
        assert_eq!((Rates::of(&[3.0]), Rates::of(&[])), (Some(one), None));
    }
}
