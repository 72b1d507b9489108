//! Filters against cases worked by hand, and what holds for every input.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn none() -> TokenCounts {
    TokenCounts::default()
}

/// Logits whose softmax at T = 1 is `probabilities`.
fn logits(probabilities: &[f64]) -> Vec<f32> {
    probabilities.iter().map(|probability| probability.ln() as f32).collect()
}

fn unfiltered() -> SamplingParams {
    SamplingParams::unfiltered()
}

#[track_caller]
fn check(probabilities: &[f64], params: &SamplingParams, expected: &[f64]) {
    assert_close(&distribution(&logits(probabilities), params, &none()), expected);
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    let close = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            // Logits are f32, so probabilities agree to its precision; zeros are zeros.
            (found - expected).abs() < 1e-6 && (*found == 0.0) == (*expected == 0.0)
        });
    assert!(close, "found {found:?}, expected {expected:?}");
}

#[test]
fn temperature_divides_logits() {
    check(&[0.5, 0.3, 0.2], &unfiltered(), &[0.5, 0.3, 0.2]);
    // T = 0.5 squares the probabilities, T = 2 takes their root.
    let squares = [0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38];
    check(&[0.5, 0.3, 0.2], &SamplingParams { temperature: 0.5, ..unfiltered() }, &squares);
    let roots = [0.5f64.sqrt(), 0.3f64.sqrt(), 0.2f64.sqrt()];
    let sum: f64 = roots.iter().sum();
    check(&[0.5, 0.3, 0.2], &SamplingParams { temperature: 2.0, ..unfiltered() }, &roots.map(|root| root / sum));
}

#[test]
fn temperature_zero_takes_the_first_largest() {
    let greedy = SamplingParams::greedy();
    check(&[0.2, 0.4, 0.4], &greedy, &[0.0, 1.0, 0.0]);
    assert_close(&distribution(&[-3.0, -1.0, -1.0], &greedy, &none()), &[0.0, 1.0, 0.0]);
    // Top-k and the others have nothing left to do.
    check(&[0.2, 0.8], &SamplingParams { top_k: 5, top_p: 0.1, min_p: 1.0, ..greedy }, &[0.0, 1.0]);
    // So small a temperature that every other exponent is -inf is the same, without a NaN.
    check(&[0.2, 0.8], &SamplingParams { temperature: f32::MIN_POSITIVE, ..unfiltered() }, &[0.0, 1.0]);
}

#[test]
fn top_p_keeps_while_the_mass_before_is_smaller() {
    // Exact in binary, so that the boundary is: before the third token there is 0.75.
    let half = [0.5, 0.25, 0.125, 0.125];
    let at = |top_p| SamplingParams { top_p, ..unfiltered() };
    check(&half, &at(0.4), &[1.0, 0.0, 0.0, 0.0]);
    check(&half, &at(0.6), &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
    check(&half, &at(0.8), &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0, 0.0]);
    check(&half, &at(1.0), &half);
    // A boundary hit exactly: four equal logits are 0.25 each; 0.5 before the third is not smaller than 0.5.
    assert_close(&distribution(&[1.0; 4], &at(0.5), &none()), &[0.5, 0.5, 0.0, 0.0]);
    assert_close(&distribution(&[1.0; 4], &at(0.500_001), &none()), &[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0]);
    assert_close(&distribution(&[1.0; 4], &at(f32::MIN_POSITIVE), &none()), &[1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn top_p_of_one_keeps_what_rounding_would_lose() {
    let kept = distribution(&[0.0, -60.0, -80.0], &unfiltered(), &none());
    assert!(kept.iter().all(|&probability| probability > 0.0), "{kept:?}");
}

#[test]
fn top_k_breaks_ties_by_token_id() {
    let at = |top_k| SamplingParams { top_k, ..unfiltered() };
    check(&[0.2, 0.4, 0.2, 0.2], &at(2), &[1.0 / 3.0, 2.0 / 3.0, 0.0, 0.0]);
    check(&[0.2, 0.4, 0.2, 0.2], &at(3), &[0.25, 0.5, 0.25, 0.0]);
    check(&[0.2, 0.4, 0.2, 0.2], &at(0), &[0.2, 0.4, 0.2, 0.2]);
    check(&[0.2, 0.4, 0.2, 0.2], &at(400), &[0.2, 0.4, 0.2, 0.2]);
}

#[test]
fn min_p_is_relative_to_the_largest() {
    let at = |min_p| SamplingParams { min_p, ..unfiltered() };
    check(&[0.5, 0.3, 0.2], &at(0.5), &[0.625, 0.375, 0.0]);
    check(&[0.5, 0.3, 0.2], &at(0.39), &[0.5, 0.3, 0.2]);
    // 1 keeps the largest, all of them.
    assert_close(&distribution(&[2.0, 1.0, 2.0], &at(1.0), &none()), &[0.5, 0.0, 0.5]);
}

#[test]
fn another_order_is_another_distribution() {
    let probabilities = [0.4, 0.3, 0.2, 0.1];
    let both = SamplingParams { top_p: 0.65, top_k: 2, ..unfiltered() };
    check(&probabilities, &both, &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
    // Top-k first, renormalized, would leave 0.57 before the second: with p = 0.55 it falls to top-p, here it stays.
    let both = SamplingParams { top_p: 0.55, ..both };
    check(&probabilities, &both, &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
    let top_k_first = distribution(&logits(&probabilities), &SamplingParams { top_k: 2, ..unfiltered() }, &none());
    let then_top_p = distribution(&logits(&top_k_first), &SamplingParams { top_p: 0.55, ..unfiltered() }, &none());
    assert_close(&then_top_p, &[1.0, 0.0, 0.0, 0.0]);
    // Temperature comes before top-p: at T = 0.5 the first alone has 0.16 / 0.30 of the mass.
    let sharp = SamplingParams { top_p: 0.53, temperature: 0.5, ..unfiltered() };
    check(&probabilities, &sharp, &[1.0, 0.0, 0.0, 0.0]);
    let warm = distribution(&logits(&probabilities), &SamplingParams { top_p: 0.53, ..unfiltered() }, &none());
    assert!(warm[1] > 0.0);
}

#[test]
fn penalties_come_after_the_bias_and_act_on_raw_logits() {
    let params = SamplingParams {
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: BTreeMap::from([(0, 3.0), (1, -3.0), (99, 5.0)]),
        ..unfiltered()
    };
    let mut counts = TokenCounts::from_prompt(&[0, 2, 77]);
    [1, 1, 3].into_iter().for_each(|token| counts.push(token));
    let found = penalized(&[1.0, 1.0, -1.0, 4.0, 0.0, f32::NEG_INFINITY], &params, &counts);
    let expected = [
        2.0,  // (1 + 3) / 2: the bias first; a prompt token pays repetition only
        -5.0, // (1 - 3) * 2, then 0.5 + 2 * 0.25 off
        -2.0, // -1 * 2
        1.25, // 4 / 2, then 0.5 + 0.25 off
        0.0,  // never seen
        f64::NEG_INFINITY,
    ];
    assert_eq!(found, expected);
    // Temperature does not scale the penalties: they are off before the division.
    let warm =
        distribution(&[1.0, 1.0], &SamplingParams { temperature: 2.0, presence_penalty: 1.0, ..unfiltered() }, &{
            let mut counts = none();
            counts.push(1);
            counts
        });
    assert_close(&warm, &[1.0 / (1.0 + (-0.5f64).exp()), 1.0 - 1.0 / (1.0 + (-0.5f64).exp())]);
}

#[test]
fn greedy_takes_the_largest_after_penalties() {
    let params = SamplingParams { repetition_penalty: 3.0, ..SamplingParams::greedy() };
    let counts = TokenCounts::from_prompt(&[1]);
    assert_close(&distribution(&[1.0, 2.0, 0.5], &params, &counts), &[1.0, 0.0, 0.0]);
    let params = SamplingParams { logit_bias: BTreeMap::from([(2, 9.0)]), ..SamplingParams::greedy() };
    assert_close(&distribution(&[1.0, 2.0, 0.5], &params, &none()), &[0.0, 0.0, 1.0]);
}

#[test]
fn masked_and_broken_logits() {
    let out = f32::NEG_INFINITY;
    for params in [unfiltered(), SamplingParams::default(), SamplingParams::greedy()] {
        assert_close(&distribution(&[out, 1.0, out, f32::NAN], &params, &none()), &[0.0, 1.0, 0.0, 0.0]);
        assert_close(&distribution(&[1.0, f32::INFINITY, 2.0], &params, &none()), &[0.0, 1.0, 0.0]);
        assert_close(&distribution(&[out, out], &params, &none()), &[0.0, 0.0]);
        assert_close(&distribution(&[], &params, &none()), &[]);
    }
    // A repetition penalty leaves a mask a mask.
    let params = SamplingParams { repetition_penalty: 0.5, ..unfiltered() };
    assert_close(&distribution(&[out, 1.0], &params, &TokenCounts::from_prompt(&[0])), &[0.0, 1.0]);
}

#[test]
fn candidates_are_ranked() {
    let params = SamplingParams { top_k: 3, ..unfiltered() };
    let found = candidates(&logits(&[0.1, 0.4, 0.1, 0.4]), &params, &none());
    assert_eq!(found.iter().map(|candidate| candidate.token).collect::<Vec<_>>(), [1, 3, 0]);
}

prop_compose! {
    fn some_logits()(values in prop::collection::vec(
        // A coarse grid for ties, a fine one for the rest, and masks.
        prop_oneof![4 => (-8i8..8).prop_map(f32::from), 4 => -20f32..20.0, 1 => Just(f32::NEG_INFINITY)],
        1..40,
    )) -> Vec<f32> { values }
}

prop_compose! {
    fn some_params()(
        temperature in prop_oneof![1 => Just(0.0f32), 8 => 0.05f32..3.0],
        top_p in prop_oneof![Just(1.0f32), 0.01f32..1.0],
        top_k in prop_oneof![Just(0u32), 1u32..50],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..=1.0],
        repetition_penalty in prop_oneof![Just(1.0f32), 0.5f32..2.0],
        presence_penalty in -2f32..2.0,
        frequency_penalty in -2f32..2.0,
        logit_bias in prop::collection::btree_map(0u32..40, -5f32..5.0, 0..4),
    ) -> SamplingParams {
        SamplingParams {
            temperature, top_p, top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty, logit_bias,
        }
    }
}

proptest! {
    #[test]
    fn is_a_distribution_within_its_limits(
        logits in some_logits(),
        params in some_params(),
        prompt in prop::collection::vec(0u32..40, 0..6),
        output in prop::collection::vec(0u32..40, 0..6),
    ) {
        prop_assert_eq!(params.validate(40), Ok(()));
        let counts = TokenCounts::from_prompt(&prompt).with(&output);
        let found = distribution(&logits, &params, &counts);
        let scores = penalized(&logits, &params, &counts);
        let support: Vec<usize> = (0..found.len()).filter(|&token| found[token] > 0.0).collect();
        let Some(best) = argmax(&scores) else {
            prop_assert!(support.is_empty());
            return Ok(());
        };
        prop_assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(found[best as usize] > 0.0, "the most probable token always stays");
        if params.top_k > 0 {
            prop_assert!(support.len() <= params.top_k as usize);
        }
        if params.is_greedy() {
            prop_assert_eq!(support.len(), 1);
        }
        let largest = found[best as usize];
        let floor = f64::from(params.min_p) * largest;
        prop_assert!(support.iter().all(|&token| found[token] >= floor * (1.0 - 1e-12)));
        // Monotone: a higher score never has less; at equal scores the lower id stays longer.
        for &kept in &support {
            for other in 0..found.len() {
                if scores[other] > scores[kept] || (scores[other] == scores[kept] && other < kept) {
                    prop_assert!(found[other] >= found[kept] * (1.0 - 1e-12), "{other} before {kept}");
                }
            }
        }
    }

    #[test]
    fn top_p_is_the_smallest_set_with_that_mass(logits in some_logits(), top_p in 0.01f32..1.0) {
        let all = candidates(&logits, &unfiltered(), &none());
        let kept = candidates(&logits, &SamplingParams { top_p, ..unfiltered() }, &none()).len();
        let mass = |length: usize| all[..length].iter().map(|candidate| candidate.probability).sum::<f64>();
        prop_assert!(kept == 0 || mass(kept) >= f64::from(top_p) - 1e-12);
        prop_assert!(kept < 2 || mass(kept - 1) < f64::from(top_p));
    }

    #[test]
    fn filters_only_ever_take_away(logits in some_logits(), params in some_params()) {
        let free = SamplingParams { top_p: 1.0, top_k: 0, min_p: 0.0, ..params.clone() };
        let (free, cut) = (distribution(&logits, &free, &none()), distribution(&logits, &params, &none()));
        // Renormalizing scales every kept token by the same factor, of at least 1.
        let factors: Vec<f64> = (0..cut.len()).filter(|&at| cut[at] > 0.0).map(|at| cut[at] / free[at]).collect();
        prop_assert!(factors.iter().all(|factor| *factor >= 1.0 - 1e-12 && (factor / factors[0] - 1.0).abs() < 1e-9));
    }
}
