//! What needs no model: the one-round law with and without mistakes, and prompts that leave room.
//!
//! That every gate passes real models and fails spoilt ones is tested where there are models: in `arch-qwen3-next`.

use super::marginal::{distance, one_round_law};
use super::{Effort, fitting};
use crate::sampling::{SamplingParams, TokenCounts, filter};
use crate::speculative::accept::residual;
use crate::testing::Rng;

fn logits(seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..50).map(|_| (2.0 * rng.normal()) as f32).collect()
}

fn law_of(logits: &[f32], params: &SamplingParams) -> Vec<f64> {
    filter::distribution(logits, params, &TokenCounts::default())
}

#[test]
fn the_one_round_law_is_p() {
    for seed in 0..20 {
        for params in [SamplingParams::default(), SamplingParams::unfiltered(), SamplingParams::greedy()] {
            let (own, heads) = (logits(seed), logits(seed + 100));
            let law = one_round_law(&law_of(&own, &params), &law_of(&heads, &params), residual);
            assert!(distance(&law, &own, &params) < 1e-12);
        }
    }
}

#[test]
fn the_marginal_gate_sees_mistakes() {
    let params = SamplingParams::default();
    let (own, heads) = (logits(1), logits(2));
    let (p, q) = (law_of(&own, &params), law_of(&heads, &params));
    let off = |law: &[f64]| distance(law, &own, &params);
    // A rejected draft replaced from p, or from q; nothing in its place; a filter that was forgotten.
    assert!(off(&one_round_law(&p, &q, |p, _| p.to_vec())) > 0.01);
    assert!(off(&one_round_law(&p, &q, |_, q| q.to_vec())) > 0.01);
    assert!(off(&one_round_law(&p, &q, |p, _| vec![0.0; p.len()])) > 0.01);
    assert!(off(&law_of(&own, &SamplingParams { top_p: 0.9, ..params.clone() })) > 0.01);
    assert_eq!(off(&vec![f64::NAN; own.len()]), f64::INFINITY);
    assert_eq!(distance(&p, &vec![f32::NAN; own.len()], &params), f64::INFINITY);
}

#[test]
fn prompts_leave_room() {
    let effort = Effort { prompts: 2, tokens: 10, ..Effort::QUICK };
    let prompts = [vec![1; 40], vec![1], vec![], vec![2; 5], vec![3; 5]];
    assert_eq!(fitting(&prompts, &effort, 40, 2), [vec![1; 24], vec![2; 5]]);
    // A context that holds next to nothing still gives something to begin with.
    assert_eq!(fitting(&prompts, &effort, 3, 2), [vec![1; 2], vec![2; 2]]);
}
