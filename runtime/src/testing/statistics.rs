//! The statistics of [`crate::verify`], as assertions.

pub use crate::verify::statistics::{ChiSquare, FALSE_ALARM, cell, goodness_of_fit, joint};

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
    #[should_panic(expected = "coin: ")]
    fn the_assertion_says_what_failed() {
        assert_fits("coin", &[600, 400], &[0.5, 0.5]);
        assert_fits("coin", &[60_000, 40_000], &[0.5, 0.5]);
    }
}
