//! What needs no model: the one-round law with and without mistakes, and what is stamped.
//!
//! That every gate passes real models and fails spoilt ones is tested where there are models: in `arch-qwen3-next`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::marginal::{distance, one_round_law};
use super::stamp::{Evidence, baseline, stamp};
use super::{DepthCount, Effort, Gate, Report, fitting};
use crate::architecture::{Descriptor, Tier};
use crate::artifact::{Contract, Severity};
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

static DESCRIPTOR: Descriptor = Descriptor {
    id: "toy-mtp",
    name: "Toy",
    model_types: &["toy"],
    tier: Tier::Recognized,
    max_depth: 4,
    crate_name: "toy",
    crate_version: "0.0.0",
};

fn report(passed: bool) -> Report {
    let gate = |name, figures: Value| Gate {
        name,
        passed,
        summary: String::new(),
        figures: figures.as_object().unwrap().clone(),
    };
    Report {
        effort: "full",
        depth: 2,
        dtype: "float32",
        gates: vec![
            gate("state", json!({"max_abs_diff": 1e-5})),
            gate("marginal", json!({"total_variation": 2e-6})),
            gate("greedy", json!({"matches": 199, "total": 200})),
        ],
        acceptance_by_depth: vec![
            DepthCount { drafted: 30, examined: 30, accepted: 20, ..DepthCount::default() },
            DepthCount { drafted: 30, examined: 20, accepted: 10, ..DepthCount::default() },
        ],
    }
}

fn stamped(before: Value, passed: bool) -> Map<String, Value> {
    let sha256 = BTreeMap::from([("config.json".to_owned(), "0".repeat(64))]);
    let verified_on = json!({"machine": "here"}).as_object().unwrap().clone();
    let evidence = Evidence { report: &report(passed), descriptor: &DESCRIPTOR, sha256: &sha256, verified_on };
    stamp(before.as_object().unwrap().clone(), &evidence)
}

#[test]
fn a_new_contract_is_valid() {
    let fields = stamped(json!({}), true);
    let (contract, findings) = Contract::parse(fields.clone());
    assert_eq!(findings, []);
    assert_eq!(contract.baseline_fault(), None);
    assert_eq!((contract.arch_id.as_deref(), contract.mtp_depth_max), (Some("toy-mtp"), Some(2)));
    assert_eq!(contract.speed_evidence.unwrap().acceptance_by_depth, Some(vec![0.6667, 0.3333]));
    assert_eq!(fields["exactness_baseline"]["sample_agreement"], json!(0.995));
    assert_eq!(fields["exactness_baseline"]["max_abs_diff"], json!(1e-5));
    assert_eq!(fields["exactness_baseline"]["total_variation"], json!(2e-6));
}

#[test]
fn what_evidence_does_not_speak_of_stays() {
    let before = json!({"mtplx_version": "0.0.1", "somebody_elses": [1, 2], "mtp_depth_max": 3,
        "speed_evidence": {"ar_tok_s": 20.0, "acceptance_by_depth": [0.1], "by": "hand"},
        "exactness_baseline": {"status": "pending", "old": 1}, "verified_on": {"old": 1}, "sha256": {}});
    let after = stamped(before, true);
    let names: Vec<&String> = after.keys().take(3).collect();
    assert_eq!(names, ["mtplx_version", "somebody_elses", "mtp_depth_max"]);
    assert_eq!((&after["mtplx_version"], &after["mtp_depth_max"]), (&json!("0.0.1"), &json!(3)));
    assert_eq!(after["speed_evidence"]["ar_tok_s"], json!(20.0));
    assert_eq!(after["speed_evidence"]["by"], json!("hand"));
    // Old evidence does not shine through.
    assert_eq!(after["exactness_baseline"].get("old"), None);
    assert_eq!(after["verified_on"], json!({"machine": "here"}));
    assert_eq!(after["arch_id"], json!("toy-mtp"));
}

#[test]
fn a_later_contract_version_stays_a_finding() {
    let (_, findings) = Contract::parse(stamped(json!({"contract_version": 2}), true));
    assert!(findings.iter().any(|f| f.severity == Severity::Error && f.field == "contract_version"), "{findings:?}");
}

#[test]
fn a_failed_report_is_no_evidence() {
    assert_eq!(baseline(&report(false))["status"], json!("failed"));
    let (contract, _) = Contract::parse(stamped(json!({}), false));
    assert!(contract.baseline_fault().is_some());
}
