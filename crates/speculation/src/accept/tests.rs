//! The emitted token's law, in closed form and by simulation, with mistakes that the same checks must catch.

use proptest::prelude::*;

use super::*;
use crate::filter::distribution;
use crate::params::{SamplingParams, TokenCounts};
use crate::statistics::{ChiSquare, assert_fits, cell, goodness_of_fit, joint};

/// One position of the rejection rule, or of a mistaken one: what to accept and what to emit otherwise.
#[derive(Clone, Copy)]
struct Decision {
    accepts: fn(p: &[f64], q: &[f64], token: usize, u: f64) -> bool,
    residual: fn(p: &[f64], q: &[f64]) -> Vec<f64>,
}

const EXACT: Decision = Decision { accepts: |p, q, token, u| accepts(p[token], q[token], u), residual };

const MISTAKES: [(&str, Decision); 4] = [
    ("residual := p", Decision { residual: |p, _| p.to_vec(), ..EXACT }),
    ("accepts 10 % too often", Decision { accepts: |p, q, token, u| accepts(1.1 * p[token], q[token], u), ..EXACT }),
    ("accepts the argmax", Decision { accepts: |p, _, token, _| p.iter().all(|&other| other <= p[token]), ..EXACT }),
    (
        "residual := |p - q|",
        Decision { residual: |p, q| normalized(p.iter().zip(q).map(|(p, q)| (p - q).abs())), ..EXACT },
    ),
];

fn normalized(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let weights: Vec<f64> = weights.collect();
    let mass: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / mass).collect()
}

/// The probability that `holds(u)` for u uniform in [0, 1), where it holds below some threshold: by bisection, so that
/// the law is that of the very function that decides.
fn measure(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    if !holds(low) {
        return 0.0;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        *if holds(middle) { &mut low } else { &mut high } = middle;
    }
    high
}

/// The law of [`categorical`]: the differences of the thresholds at which it moves on.
fn law_of_draw(probabilities: &[f64]) -> Vec<f64> {
    let mut before = 0.0;
    (0..probabilities.len())
        .map(|place| {
            let upto = measure(|u| categorical(probabilities, u) <= place);
            let mass = upto - before;
            before = upto;
            mass
        })
        .collect()
}

/// The law of the token that is emitted at one position, and the probability that the draft is accepted.
fn law(decision: Decision, p: &[f64], q: &[f64]) -> (Vec<f64>, f64) {
    let mut law = vec![0.0; p.len()];
    for (token, drafted) in law_of_draw(q).into_iter().enumerate() {
        law[token] = drafted * measure(|u| (decision.accepts)(p, q, token, u));
    }
    let accepted: f64 = law.iter().sum();
    let residual = law_of_draw(&(decision.residual)(p, q));
    law.iter_mut().zip(residual).for_each(|(law, residual)| *law += (1.0 - accepted) * residual);
    (law, accepted)
}

/// The check: the largest distance of the emitted token's law from p.
fn error(decision: Decision, p: &[f64], q: &[f64]) -> f64 {
    law(decision, p, q).0.iter().zip(p).map(|(law, p)| (law - p).abs()).fold(0.0, f64::max)
}

const TOLERANCE: f64 = 1e-12;

/// Distributions of one length: raw, with zeros and tiny masses, point masses, filtered with settings of their own,
/// and pairs that are equal or share no token.
fn pairs() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    fn weights(length: usize) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![2 => Just(0.0), 6 => 0.0..1.0, 1 => Just(1e-9), 1 => Just(1e-30)], length)
            .prop_map(|mut weights| {
                if weights.iter().all(|&weight| weight == 0.0) {
                    weights[0] = 1.0;
                }
                normalized(weights.into_iter())
            })
    }
    fn point(length: usize) -> impl Strategy<Value = Vec<f64>> {
        (0..length).prop_map(move |at| (0..length).map(|place| f64::from(u8::from(place == at))).collect())
    }
    fn filtered(length: usize) -> impl Strategy<Value = Vec<f64>> {
        let logits = prop::collection::vec(-6f32..6.0, length);
        (logits, 0.3f32..1.5, 0.3f32..=1.0, 0u32..6).prop_map(|(logits, temperature, top_p, top_k)| {
            let params = SamplingParams { temperature, top_p, top_k, ..SamplingParams::default() };
            distribution(&logits, &params, &TokenCounts::default())
        })
    }
    fn any(length: usize) -> impl Strategy<Value = Vec<f64>> {
        prop_oneof![3 => weights(length), 1 => point(length), 3 => filtered(length)]
    }
    let disjoint = |(p, q): (Vec<f64>, Vec<f64>)| {
        let zeros = p.len();
        let p = p.into_iter().chain(std::iter::repeat_n(0.0, zeros)).collect();
        (p, std::iter::repeat_n(0.0, zeros).chain(q).collect())
    };
    (1usize..10).prop_flat_map(move |length| {
        prop_oneof![
            6 => (any(length), any(length)),
            1 => any(length).prop_map(|p| (p.clone(), p)),
            1 => (any(length), any(length)).prop_map(disjoint),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn emitted_tokens_follow_the_target((p, q) in pairs()) {
        let (law, accepted) = law(EXACT, &p, &q);
        for (law, p) in law.iter().zip(&p) {
            prop_assert!((law - p).abs() < TOLERANCE, "{law} is not {p}");
        }
        prop_assert!((accepted - overlap(&p, &q)).abs() < TOLERANCE, "accepts {accepted}");
    }

    #[test]
    fn coupled_drafts_agree_at_least_as_often_as_the_bound((p, q) in pairs()) {
        let distance = 1.0 - overlap(&p, &q);
        let agreement = agreement(&p, &q);
        prop_assert!(agreement >= (1.0 - distance) / (1.0 + distance) - TOLERANCE);
        prop_assert!(agreement <= overlap(&p, &q) + TOLERANCE, "no rule beats the rejection rule");
    }

    #[test]
    fn rounds_stay_in_the_targets_support((p, q) in pairs(), seed: u64, position in 0u64..1 << 40) {
        let noise = Noise::new(seed);
        for rule in [Rule::Rejection, Rule::Coupled] {
            let token = draft(rule, &q, position, &noise);
            prop_assert!(q[token as usize] > 0.0);
            let round = accept(rule, &[Proposal { token, q: &q, p: &p }], &p, position, &noise);
            for emitted in round.tokens(&[token]) {
                prop_assert!(p[emitted as usize] > 0.0, "{rule} emitted {emitted} after {token}");
            }
        }
    }
}

/// The probability that the coupled draft equals the target: both are argmins of `e_x / p_x` for exponential e, so both
/// are x where `e_y >= e_x max(p_y/p_x, q_y/q_x)` for every y, which has probability `1 / sum_y max(…)`.
fn agreement(p: &[f64], q: &[f64]) -> f64 {
    (0..p.len())
        .filter(|&x| p[x] > 0.0 && q[x] > 0.0)
        .map(|x| 1.0 / p.iter().zip(q).map(|(py, qy)| (py / p[x]).max(qy / q[x])).sum::<f64>())
        .sum()
}

/// Random pairs of full support, the same in every run.
fn samples() -> impl Iterator<Item = (Vec<f64>, Vec<f64>)> {
    (0..200).map(|index| {
        let random = |seed| {
            let noise = Noise::new(seed);
            // Cubed: some tokens are frequent and many are rare.
            normalized((0..6).map(|at| (0.01 + noise.uniform(at, Role::Draft)).powi(3)))
        };
        (random(2 * index), random(2 * index + 1))
    })
}

#[test]
fn mistakes_are_caught_by_the_same_check() {
    assert!(samples().all(|(p, q)| error(EXACT, &p, &q) < TOLERANCE));
    for (name, mistake) in MISTAKES {
        let caught = samples().filter(|(p, q)| error(mistake, p, q) > 1e-3).count();
        assert!(caught > 150, "{name}: only {caught} of 200 pairs tell");
    }
}

#[test]
fn the_test_is_strict_and_knows_zeros() {
    assert!(accepts(0.5, 1.0, 0.499) && !accepts(0.5, 1.0, 0.5), "u < p/q");
    assert!(accepts(0.5, 0.5, 1.0 - f64::EPSILON), "a ratio of 1 always accepts");
    assert!(accepts(0.1, 0.0, 0.9) && !accepts(0.0, 0.0, 0.0) && !accepts(0.0, 0.5, 0.0));
    assert!(!accepts(f64::NAN, 0.5, 0.0) && !accepts(0.5, f64::NAN, 0.0));
}

#[test]
fn residuals() {
    let close = |found: Vec<f64>, expected: [f64; 3]| {
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{found:?}");
    };
    close(residual(&[0.5, 0.3, 0.2], &[0.2, 0.2, 0.6]), [0.75, 0.25, 0.0]);
    close(residual(&[0.5, 0.3, 0.2], &[0.5, 0.3, 0.2]), [0.5, 0.3, 0.2]);
    close(residual(&[0.0, 1.0, 0.0], &[1.0, 0.0, 0.0]), [0.0, 1.0, 0.0]);
    close(residual(&[0.5, 0.3, 0.2], &[]), [0.5, 0.3, 0.2]);
}

#[test]
fn decisions_by_row() {
    let noise = Noise::new(1);
    let sure = |draft| RowOutcome { draft, p: 0.5, q: 0.5, recovered: 99 };
    let never = |draft| RowOutcome { draft, p: 0.0, q: 0.5, recovered: 42 };
    let decide = |rows: &[RowOutcome]| decide(Rule::Rejection, rows, 7, 100, &noise);

    let all = decide(&[sure(1), sure(2)]);
    assert_eq!(all, Acceptance { drafted: 2, accepted: 2, next: 7 });
    assert_eq!((all.examined(), all.emitted(), all.is_bonus()), (2, 3, true));
    assert_eq!(all.tokens(&[1, 2]).collect::<Vec<_>>(), [1, 2, 7]);

    let second = decide(&[sure(1), never(2), sure(3)]);
    assert_eq!(second, Acceptance { drafted: 3, accepted: 1, next: 42 });
    assert_eq!((second.examined(), second.emitted(), second.is_bonus()), (2, 2, false));
    assert_eq!(second.tokens(&[1, 2, 3]).collect::<Vec<_>>(), [1, 42]);

    let plain = decide(&[]);
    assert_eq!(plain, Acceptance { drafted: 0, accepted: 0, next: 7 });
    assert_eq!((plain.examined(), plain.emitted(), plain.is_bonus()), (0, 1, true));
}

#[test]
fn coupled_rows_agree_or_end_the_round() {
    let noise = Noise::new(1);
    // Probabilities are not looked at: the noise has decided.
    let row = |draft, recovered| RowOutcome { draft, p: 0.0, q: 1.0, recovered };
    let round = decide(Rule::Coupled, &[row(4, 4), row(5, 6), row(7, 7)], 8, 0, &noise);
    assert_eq!(round, Acceptance { drafted: 3, accepted: 1, next: 6 });
    let round = decide(Rule::Coupled, &[row(4, 4), row(5, 5)], 8, 0, &noise);
    assert_eq!(round, Acceptance { drafted: 2, accepted: 2, next: 8 });
}

#[test]
fn rules_have_names() {
    assert_eq!(serde_json::to_string(&Rule::default()).unwrap(), "\"rejection\"");
    assert_eq!(serde_json::from_str::<Rule>("\"coupled\"").unwrap(), Rule::Coupled);
    assert_eq!((Rule::Rejection.to_string(), Rule::Coupled.to_string()), ("rejection".into(), "coupled".into()));
}

#[test]
fn acceptance_is_what_the_theory_says() {
    for (index, (p, q)) in samples().take(4).enumerate() {
        for (rule, expected) in [(Rule::Rejection, overlap(&p, &q)), (Rule::Coupled, agreement(&p, &q))] {
            let mut emitted = vec![0; p.len()];
            let mut accepted = [0; 2];
            let noise = Noise::new(index as u64);
            for position in 0..50_000 {
                let token = draft(rule, &q, position, &noise);
                let round = accept(rule, &[Proposal { token, q: &q, p: &p }], &p, position, &noise);
                emitted[round.tokens(&[token]).next().unwrap() as usize] += 1;
                accepted[round.accepted] += 1;
            }
            assert_fits(&format!("{rule}, pair {index}, emitted"), &emitted, &p);
            assert_fits(&format!("{rule}, pair {index}, accepted"), &accepted, &[1.0 - expected, expected]);
        }
    }
}

/// A model of four symbols whose distributions depend on the whole prefix, filtered like a real one's; the draft's are
/// other ones, with other filters.
mod toy {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use super::*;

    pub const SYMBOLS: usize = 4;
    pub const LENGTH: usize = 5;

    /// Which distribution after a prefix.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Distribution {
        /// p.
        Target,
        /// What drafts are drawn from.
        Draft,
        /// The same without its top-p.
        UnfilteredDraft,
    }

    pub fn target(prefix: &[u32]) -> Vec<f64> {
        law(Distribution::Target, prefix)
    }

    pub fn law(which: Distribution, prefix: &[u32]) -> Vec<f64> {
        thread_local! {
            static MEMO: RefCell<HashMap<(Distribution, usize, usize), Vec<f64>>> = RefCell::default();
        }
        let key = (which, prefix.len(), cell(prefix, SYMBOLS));
        MEMO.with_borrow_mut(|memo| memo.entry(key).or_insert_with(|| compute(which, prefix)).clone())
    }

    fn compute(which: Distribution, prefix: &[u32]) -> Vec<f64> {
        let (target, own) = (logits(prefix, 0), logits(prefix, 1));
        // A head that is right more often than not: mostly the target's logits.
        let mixed: Vec<f32> = target.iter().zip(&own).map(|(target, own)| 0.6 * target + 0.4 * own).collect();
        let (logits, temperature, top_p, top_k) = match which {
            Distribution::Target => (target, 0.8, 0.95, 3),
            Distribution::Draft => (mixed, 0.9, 0.8, 0),
            Distribution::UnfilteredDraft => (mixed, 0.9, 1.0, 0),
        };
        let params = SamplingParams { temperature, top_p, top_k, ..SamplingParams::default() };
        distribution(&logits, &params, &TokenCounts::default())
    }

    fn logits(prefix: &[u32], salt: u64) -> Vec<f32> {
        let noise = Noise::new(cell(prefix, SYMBOLS) as u64 * 16 + prefix.len() as u64);
        (0..SYMBOLS as u64).map(|symbol| 4.0 * noise.uniform_f32(symbol + 16 * salt, Role::Draft)[0]).collect()
    }
}

/// A mistake in the loop around the decision.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// q as reported has no top-p, the draft was drawn with it.
    UnfilteredQ,
    /// Drafting stops at a token of low probability, and that token is dropped.
    DropsUnlikely,
    /// Every row of a round uses the first row's noise.
    OneKeyARound,
    /// Row j is decided with the target distribution of row j - 1.
    RowsOffByOne,
}

/// The sequence's loop over the toy model. `depth` chooses from the accepted lengths of earlier rounds.
fn decode(rule: Rule, noise: &Noise, depth: impl Fn(&[usize]) -> usize, mistake: Mistake) -> Vec<u32> {
    use toy::{Distribution, LENGTH, law, target};
    // Prefill ends with a token of plain decoding.
    let mut text = vec![plain(rule, &target(&[]), 0, noise)];
    let mut accepted = Vec::new();
    while text.len() < LENGTH {
        let start = text.len();
        let at = |row: usize| (start + if mistake == Mistake::OneKeyARound { 0 } else { row }) as u64;
        let mut proposed = text.clone();
        let mut rows = Vec::new();
        for row in 0..depth(&accepted) {
            let drawn_from = law(Distribution::Draft, &proposed);
            let token = draft(rule, &drawn_from, at(row), noise);
            if mistake == Mistake::DropsUnlikely && drawn_from[token as usize] < 0.3 {
                break;
            }
            let q = match mistake {
                Mistake::UnfilteredQ => law(Distribution::UnfilteredDraft, &proposed),
                _ => drawn_from,
            };
            let seen = if mistake == Mistake::RowsOffByOne && row > 0 { proposed.len() - 1 } else { proposed.len() };
            rows.push((token, q, target(&proposed[..seen])));
            proposed.push(token);
        }
        let outcomes: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(row, (token, q, p))| row_outcome(rule, &Proposal { token: *token, q, p }, at(row), noise))
            .collect();
        let bonus = plain(rule, &target(&proposed), at(rows.len()), noise);
        let round = decide(rule, &outcomes, bonus, start as u64, noise);
        text.extend(round.tokens(&proposed[start..]));
        accepted.push(round.accepted);
    }
    text.truncate(LENGTH);
    text
}

fn joint_fit(rule: Rule, depth: impl Fn(&[usize]) -> usize, mistake: Mistake, law: &[f64]) -> ChiSquare {
    let mut counts = vec![0; law.len()];
    for seed in 0..60_000 {
        counts[cell(&decode(rule, &Noise::new(seed), &depth, mistake), toy::SYMBOLS)] += 1;
    }
    goodness_of_fit(&counts, law)
}

#[test]
fn sequences_follow_the_enumerated_joint() {
    let law = joint(toy::SYMBOLS, toy::LENGTH, toy::target);
    // The last depth follows the past: twice what the last round accepted, plain decoding included.
    let follows = |past: &[usize]| past.last().map_or(2, |accepted| 2 * accepted).min(3);
    for rule in [Rule::Rejection, Rule::Coupled] {
        for depth in 0..=3 {
            let fit = joint_fit(rule, |_| depth, Mistake::None, &law);
            assert!(fit.fits() && fit.degrees > 50, "{rule} at depth {depth}: {fit:?}");
        }
        let fit = joint_fit(rule, follows, Mistake::None, &law);
        assert!(fit.fits(), "{rule} at a depth that follows the past: {fit:?}");
    }
}

#[test]
fn mistakes_in_the_loop_break_the_joint() {
    let law = joint(toy::SYMBOLS, toy::LENGTH, toy::target);
    for mistake in [Mistake::UnfilteredQ, Mistake::DropsUnlikely, Mistake::OneKeyARound, Mistake::RowsOffByOne] {
        let fit = joint_fit(Rule::Rejection, |_| 3, mistake, &law);
        assert!(!fit.fits(), "{mistake:?} went unnoticed: {fit:?}");
    }
    // The coupled rule never looks at q, and what it emits is the target's choice whatever was drafted.
    for mistake in [Mistake::OneKeyARound, Mistake::RowsOffByOne] {
        let fit = joint_fit(Rule::Coupled, |_| 3, mistake, &law);
        assert!(!fit.fits(), "{mistake:?} went unnoticed: {fit:?}");
    }
}

#[test]
fn coupled_text_is_plain_decodings_at_any_depth() {
    for seed in 0..2_000 {
        let noise = Noise::new(seed);
        let text = decode(Rule::Coupled, &noise, |_| 0, Mistake::None);
        for depth in 1..=4 {
            assert_eq!(decode(Rule::Coupled, &noise, |_| depth, Mistake::None), text, "seed {seed}, depth {depth}");
        }
        assert_eq!(decode(Rule::Coupled, &noise, |past| past.len() % 3, Mistake::None), text, "seed {seed}");
    }
}
