//! The device against the host's reference: the same distributions, the same draws from them.

use super::*;
use crate::sampling::filter;
use crate::sampling::noise::categorical;
use crate::speculation::statistics::assert_fits;
use crate::speculative::accept::{self, Proposal};
use crate::testing::{Rng, host};

/// Vocabularies, the largest beyond any block that sorting or summing is divided into.
const VOCABULARIES: [usize; 6] = [1, 2, 5, 37, 320, 5000];
/// What f32 may be off by in a probability, and a threshold by relative to itself.
const ROUNDING: f64 = 1e-5;

/// Logits of one of four kinds: smooth, full of ties, masked, or nearly a point mass.
fn logits(rng: &mut Rng, vocab: usize, kind: usize) -> Vec<f32> {
    let mut logits: Vec<f32> = (0..vocab).map(|_| (3.0 * rng.normal()) as f32).collect();
    match kind {
        1 => logits.iter_mut().for_each(|logit| *logit = logit.round()),
        2 => logits.iter_mut().skip(1).filter(|_| rng.uniform() < 0.6).for_each(|logit| *logit = f32::NEG_INFINITY),
        3 => logits[vocab / 2] += 40.0,
        _ => {}
    }
    logits
}

fn params(rng: &mut Rng, vocab: usize) -> SamplingParams {
    let mut chance = |value: f64, off: f64| if rng.uniform() < 0.5 { value as f32 } else { off as f32 };
    let (top_p, min_p) = (chance(0.83, 1.0), chance(0.07, 0.0));
    let (presence_penalty, frequency_penalty) = (chance(0.7, 0.0), chance(-0.3, 0.0));
    let repetition_penalty = chance(1.4, 1.0);
    SamplingParams {
        temperature: [0.0, 0.3, 0.6, 1.0, 1.7][rng.below(5)],
        top_p: if top_p < 1.0 { 0.05 + 0.94 * rng.uniform() as f32 } else { top_p },
        top_k: if rng.uniform() < 0.5 { 1 + rng.below(vocab + 3) as u32 } else { 0 },
        min_p: if min_p > 0.0 { 0.3 * rng.uniform() as f32 } else { min_p },
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        logit_bias: (0..rng.below(3)).map(|_| (rng.below(vocab) as u32, (2.0 * rng.normal()) as f32)).collect(),
    }
}

/// Whether the two agree, or would if a threshold were off by its rounding: a token at the edge of a cut may fall to
/// either side.
fn agree(device: &[f32], logits: &[f32], params: &SamplingParams, counts: &TokenCounts) -> bool {
    let nudges = [1.0, 1.0 - ROUNDING as f32, 1.0 + ROUNDING as f32];
    nudges.iter().flat_map(|p| nudges.map(|m| (p, m))).any(|(p, m)| {
        let nudged = SamplingParams {
            top_p: if params.top_p < 1.0 { params.top_p * p } else { 1.0 },
            min_p: params.min_p * m,
            ..params.clone()
        };
        let host = filter::distribution(logits, &nudged, counts);
        device.iter().zip(&host).all(|(&device, host)| (f64::from(device) - host).abs() <= ROUNDING)
    })
}

fn matrix(rows: &[Vec<f32>]) -> Array {
    Array::from_slice(&rows.concat(), &[rows.len() as i32, rows[0].len() as i32])
}

#[test]
fn distributions_are_the_references() {
    let mut rng = Rng::new(1);
    for vocab in VOCABULARIES {
        for case in 0..if vocab > 1000 { 24 } else { 80 } {
            let params = params(&mut rng, vocab);
            let rows: Vec<Vec<f32>> = (0..4).map(|kind| logits(&mut rng, vocab, kind)).collect();
            // Each row sees the counts of the drafts before it.
            let mut counts = TokenCounts::from_prompt(&rng.tokens(3, vocab));
            rng.tokens(4, vocab).into_iter().for_each(|token| counts.push(token));
            let drafts = rng.tokens(3, vocab);
            let sampler = DeviceSampler::new(params.clone(), vocab).unwrap();
            let arrays: Vec<Array> = drafts.iter().map(|&draft| host::token_array(&[draft])).collect();
            let count_rows = sampler.count_rows(&counts, &arrays).unwrap();
            assert_eq!(count_rows.is_some(), params.needs_counts());
            let device = sampler.distribution(&matrix(&rows), count_rows.as_ref()).unwrap();
            for (row, device) in host::table(&device).unwrap().iter().enumerate() {
                let counts = counts.with(&drafts[..row]);
                // The kernels call a row with a masked token one that is not finite.
                if sampler.ranks() && rows[row].contains(&f32::NEG_INFINITY) {
                    assert!(
                        device.iter().any(|p| p.is_nan()),
                        "vocabulary {vocab}, case {case}, row {row}, {params:?}"
                    );
                    continue;
                }
                assert!(
                    agree(device, &rows[row], &params, &counts),
                    "vocabulary {vocab}, case {case}, row {row}, {params:?}:\n{device:?}\n{:?}",
                    filter::distribution(&rows[row], &params, &counts)
                );
            }
        }
    }
}

/// Some columns give the law of logits that leave the other tokens out, and draw from it.
#[test]
fn restricted_laws_are_those_of_masked_logits() {
    let mut rng = Rng::new(9);
    for vocab in [2, 5, 37, 320, 1000] {
        for case in 0..40 {
            let params = params(&mut rng, vocab);
            let count = 1 + rng.below(vocab);
            let mut tokens = rng.tokens(count, vocab);
            tokens.sort_unstable();
            tokens.dedup();
            let rows: Vec<Vec<f32>> = (0..2).map(|kind| logits(&mut rng, vocab, kind)).collect();
            let columns: Vec<Vec<f32>> =
                rows.iter().map(|row| tokens.iter().map(|&token| row[token as usize]).collect()).collect();
            let mut counts = TokenCounts::from_prompt(&rng.tokens(3, vocab));
            rng.tokens(4, vocab).into_iter().for_each(|token| counts.push(token));
            let draft = rng.tokens(1, vocab);
            let sampler = DeviceSampler::restricted(params.clone(), vocab, &tokens).unwrap();
            let count_rows = sampler.count_rows(&counts, &[host::token_array(&draft)]).unwrap();
            let device = sampler.distribution(&matrix(&columns), count_rows.as_ref()).unwrap();
            assert_eq!(device.shape(), [2, vocab as i32]);
            for (row, device) in host::table(&device).unwrap().iter().enumerate() {
                let mut masked = vec![f32::NEG_INFINITY; vocab];
                tokens.iter().for_each(|&token| masked[token as usize] = rows[row][token as usize]);
                let counts = counts.with(&draft[..row]);
                assert!(
                    agree(device, &masked, &params, &counts),
                    "{} of a vocabulary of {vocab}, case {case}, row {row}, {params:?}",
                    tokens.len()
                );
            }
            for rule in [Rule::Rejection, Rule::Coupled] {
                let noise = Noise::new(case);
                let draws = RoundNoise { rule, noise: &noise, first: 3 };
                let (law, drawn) = sampler.sample(&matrix(&columns), count_rows.as_ref(), &draws, Role::Draft).unwrap();
                let drawn = drawn.item_exact::<i32>() as usize;
                assert!(tokens.binary_search(&(drawn as u32)).is_ok(), "{drawn} of {tokens:?}");
                assert!(host::table(&law.dense().unwrap()).unwrap()[1][drawn] > 0.0);
            }
        }
    }
}

#[test]
fn equal_logits_go_to_the_lower_token() {
    for (params, kept) in [
        (SamplingParams { top_k: 3, ..SamplingParams::unfiltered() }, 3),
        (SamplingParams { top_p: 0.45, ..SamplingParams::unfiltered() }, 5),
        (SamplingParams::greedy(), 1),
    ] {
        // -0 and +0 are equal too.
        let row: Vec<f32> = (0..10).map(|token| if token % 2 == 0 { 0.0 } else { -0.0 }).collect();
        let sampler = DeviceSampler::new(params, 10).unwrap();
        let p = host::values(&sampler.distribution(&matrix(&[row]), None).unwrap()).unwrap();
        let expected: Vec<bool> = (0..10).map(|token| token < kept).collect();
        assert_eq!(p.iter().map(|&p| p > 0.0).collect::<Vec<_>>(), expected, "{p:?}");
    }
}

/// Random distributions that overlap in part, of f32 values: `[rows][vocab]`.
fn distributions(rng: &mut Rng, rows: usize, vocab: usize) -> Vec<Vec<f32>> {
    let sampling = SamplingParams { top_p: 0.9, ..SamplingParams::unfiltered() };
    let none = TokenCounts::default();
    let mut row = |kind| filter::distribution(&logits(rng, vocab, kind), &sampling, &none);
    (0..rows).map(|number| row(number % 4).iter().map(|&p| p as f32).collect()).collect()
}

/// The draw as the device is meant to make it, in f64: over a large vocabulary a block by the first number, then a
/// token of the block by the second. Returns the token, and whether a number is so close to an edge that rounding decides.
fn draw(weights: &[f64], u: [f32; 2]) -> (u32, bool) {
    let invert = |weights: &[f64], u: f32| {
        let (u, mass) = (f64::from(u), weights.iter().sum::<f64>());
        let mut sum = 0.0;
        let near = weights.iter().any(|weight| {
            sum += weight;
            (sum / mass - u).abs() < ROUNDING
        });
        (categorical(weights, u), near)
    };
    let size = BLOCK as usize;
    if weights.len() <= size {
        let (token, near) = invert(weights, u[0]);
        return (token as u32, near);
    }
    let masses: Vec<f64> = weights.chunks(size).map(|block| block.iter().sum()).collect();
    let (block, near) = invert(&masses, u[0]);
    let (token, close) = invert(weights.chunks(size).nth(block).unwrap(), u[1]);
    ((block * size + token) as u32, near || close)
}

#[test]
fn rejection_draws_are_the_references() {
    let mut rng = Rng::new(2);
    let noise = Noise::new(5);
    let (mut compared, mut on_edges) = (0, 0);
    for vocab in VOCABULARIES {
        let rows = if vocab > 1000 { 16 } else { 200 };
        let (p, q) = (distributions(&mut rng, rows, vocab), distributions(&mut rng, rows, vocab));
        let first = 100 * vocab as u64;
        let draws = RoundNoise { rule: Rule::Rejection, noise: &noise, first };
        let (p_rows, q_rows) = (matrix(&p), matrix(&q));
        let tokens = |a: Array| -> Vec<u32> { host::values(&a).unwrap().iter().map(|&token| token as u32).collect() };
        let drafts = tokens(draws.draw(&q_rows, Role::Draft).unwrap());
        let plain = tokens(draws.draw(&p_rows, Role::Bonus).unwrap());
        let recovered = tokens(draws.recovered(&p_rows, &q_rows).unwrap());
        let read = |of: &Array| host::values(&probability_of(of, &host::token_array(&drafts)).unwrap()).unwrap();
        let (p_drafts, q_drafts) = (read(&p_rows), read(&q_rows));
        for row in 0..rows {
            let position = first + row as u64;
            let [p, q] = [&p[row], &q[row]].map(|row| row.iter().map(|&p| f64::from(p)).collect::<Vec<f64>>());
            let proposal = Proposal { token: drafts[row], q: &q, p: &p };
            let expected = accept::row_outcome(Rule::Rejection, &proposal, position, &noise);
            assert_eq!((p_drafts[row], q_drafts[row]), (expected.p as f32, expected.q as f32), "row {row}");
            for (what, found, reference, weights, role) in [
                ("draft", drafts[row], accept::draft(Rule::Rejection, &q, position, &noise), &q, Role::Draft),
                ("plain", plain[row], accept::plain(Rule::Rejection, &p, position, &noise), &p, Role::Bonus),
                ("otherwise", recovered[row], expected.recovered, &accept::residual(&p, &q), Role::Residual),
            ] {
                let (expected, near) = draw(weights, noise.uniform_f32(position, role));
                // The host's reference draws from the whole vocabulary at once.
                assert!(vocab > BLOCK as usize || near || expected == reference, "{what}: {expected}, {reference}");
                compared += 1;
                assert!(weights[found as usize] > 0.0, "{what}, vocabulary {vocab}, row {row}: {found} has no mass");
                if found != expected {
                    on_edges += 1;
                    assert!(near, "{what}, vocabulary {vocab}, row {row}: {found}, expected {expected}");
                }
            }
        }
    }
    assert!(on_edges * 100 < compared, "{on_edges} of {compared} draws were left to rounding");
}

#[test]
fn q_returned_is_the_q_that_was_drawn_from() {
    let mut rng = Rng::new(3);
    const ROWS: usize = 4000;
    for rule in [Rule::Rejection, Rule::Coupled] {
        // The last vocabulary is drawn from in blocks, and its last block is not full.
        for (case, vocab) in [9, 9, 9, 9, 9, 2 * BLOCK as usize + 6].into_iter().enumerate() {
            let params = SamplingParams { temperature: 0.8, ..params(&mut rng, vocab) };
            let sampler = DeviceSampler::new(params.clone(), vocab).unwrap();
            let counts = TokenCounts::from_prompt(&rng.tokens(4, vocab));
            let counts = sampler.count_rows(&counts, &[]).unwrap();
            let row = logits(&mut rng, vocab, case % 2);
            let q = sampler.distribution(&matrix(&[row]), counts.as_ref()).unwrap();
            let reported: Vec<f64> = host::values(&q).unwrap().iter().map(|&q| f64::from(q)).collect();
            let mass: f64 = reported.iter().sum();
            let law: Vec<f64> = reported.iter().map(|q| q / mass).collect();
            let noise = Noise::new(case as u64);
            let many = ops::broadcast_to(&q, &[ROWS as i32, vocab as i32]).unwrap();
            let drawn = RoundNoise { rule, noise: &noise, first: 0 }.draw(&many, Role::Draft).unwrap();
            let mut observed = vec![0; vocab];
            host::values(&drawn).unwrap().iter().for_each(|&token| observed[token as usize] += 1);
            assert_fits(&format!("{rule}, case {case}, {params:?}"), &observed, &law);
        }
    }
}

#[test]
fn coupled_draws_share_their_noise() {
    let noise = Noise::new(8);
    let mut rng = Rng::new(4);
    let p = matrix(&distributions(&mut rng, 200, 37));
    let q = matrix(&distributions(&mut rng, 200, 37));
    let draws = RoundNoise { rule: Rule::Coupled, noise: &noise, first: 40 };
    let tokens = |a: Array| host::values(&a).unwrap();
    let plain = tokens(draws.draw(&p, Role::Bonus).unwrap());
    // One key a position: a draft from p is p's own choice, and what a rejection emits has nothing to do with q.
    assert_eq!(tokens(draws.draw(&p, Role::Draft).unwrap()), plain);
    assert_eq!(tokens(draws.recovered(&p, &q).unwrap()), plain);
    // The position is absolute: a row by itself draws what it draws among others.
    for row in [0, 1, 199] {
        let one = slice_axis(&p, 0, row, row + 1).unwrap();
        let alone = RoundNoise { rule: Rule::Coupled, noise: &noise, first: 40 + row as u64 };
        assert_eq!(tokens(alone.draw(&one, Role::Bonus).unwrap())[0], plain[row as usize], "row {row}");
    }
    let moved = RoundNoise { rule: Rule::Coupled, noise: &noise, first: 41 };
    assert_ne!(tokens(moved.draw(&p, Role::Bonus).unwrap()), plain);
}
