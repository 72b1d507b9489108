//! Evidence as a passed verification finds it, for tests that measure nothing.

pub mod script;

use serde_json::{Map, Value, json};

use mtplx_runtime::speculation::statistics::{bernstein, tail};
use mtplx_runtime::verify::state::compared;
use mtplx_runtime::verify::{DepthCount, GateResult, LEVEL, Report};

use crate::assess::stamp::baseline;

/// A report whose every figure is in order, for `depth` drafts a round.
#[must_use]
pub fn report(depth: usize) -> Report {
    let mut reached = 100;
    let mut counts = || {
        let mut count = DepthCount::default();
        (count.drafted, count.examined, count.accepted) = (100, reached, reached * 3 / 4);
        count.promised = 0.74 * reached as f64;
        reached = count.accepted;
        count
    };
    let by_depth: Vec<DepthCount> = (0..depth).map(|_| counts()).collect();
    let with_bound = |count: &DepthCount| {
        let mut figures = json!(count);
        figures["bound"] = json!(bernstein(0.18 * count.examined as f64, LEVEL));
        figures
    };
    let examined: u64 = by_depth.iter().map(|count| count.examined).sum();
    let part = |max_abs_diff: f64| json!({"max_abs_diff": max_abs_diff, "relative": 9e-7, "mean_relative": 1e-7, "state_relative": 1e-6});
    let text = |rule: &str| json!({"rule": rule, "tokens": 195, "p_value": 0.4});
    let fit = |name: &str, of: &str, count: &str| json!({name: of, count: 4096, "degrees": 20, "p_value": tail(19.3, 20), "statistic": 19.3});
    let (drawn, sequences) = (|kind| fit("kind", kind, "draws"), |rule| fit("rule", rule, "samples"));
    let gate = |name, figures: Value| {
        let figures = figures.as_object().cloned().unwrap_or_default();
        GateResult { name, passed: true, summary: String::new(), figures }
    };
    let gates = vec![
        gate(
            "state",
            json!({"depth": depth, "compared": 3 * compared(depth as u64), "max_abs_diff": 1e-5, "tolerance": 5e-4, "mean_tolerance": 1e-4,
                "trunk": part(1e-5), "head": part(5e-6)}),
        ),
        gate(
            "marginal",
            json!({"rows": 64, "settings": 2, "total_variation": 2e-6, "tolerance": 5e-4, "mean_overlap": 0.7, "level": LEVEL,
                "drawn": [drawn("rejection"), drawn("coupled"), drawn("bonus")]}),
        ),
        gate(
            "joint",
            json!({"depth": depth, "level": LEVEL, "texts": [text("rejection"), text("coupled")],
                "sequences": [sequences("rejection"), sequences("coupled")]}),
        ),
        gate(
            "teacher-forced",
            json!({"rounds": 100, "level": LEVEL, "drafts": examined, "differing": 0, "differing_allowed": 2,
                "by_depth": by_depth.iter().map(with_bound).collect::<Vec<_>>()}),
        ),
        gate("greedy", json!({"depth": depth, "matches": 199, "total": 200, "near_ties": 1, "largest_margin": 1e-6})),
    ];
    Report { effort: "full", depth, dtype: "float32", gates, acceptance_by_depth: by_depth }
}

/// [`report`] as a contract's `exactness_baseline`, of a contract that states no conventions.
#[must_use]
pub fn exactness_baseline(depth: usize) -> Value {
    let mut baseline = baseline(&report(depth));
    baseline.insert("measured_with".to_owned(), json!({}));
    Value::Object(baseline)
}

/// Where it was measured: on a machine of this name, or of none.
#[must_use]
pub fn verified_on(machine: Option<&str>) -> Map<String, Value> {
    let said = ["timestamp", "hardware", "os", "device", "mlx_version", "engine_version", "model"];
    let named = machine.map(|machine| ("machine".to_owned(), json!(machine)));
    said.into_iter().map(|field| (field.to_owned(), json!(format!("a {field}")))).chain(named).collect()
}
