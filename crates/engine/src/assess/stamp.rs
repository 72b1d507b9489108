//! What a passed verification writes into a contract.
//!
//! Pure: the fields that evidence consists of are replaced, required ones that are missing are filled in, and everything
//! else stays as it was, keys that nobody here knows included.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::evidence::{GATE, MEASURED_WITH, conventions};
use mtplx_runtime::architecture::Descriptor;
use mtplx_runtime::artifact::{Contract, Finding, Severity};
use mtplx_runtime::verify::Report;

/// Evidence, and where it comes from.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// What was found. To be stamped only if it passed.
    pub report: &'a Report,
    /// The architecture that was loaded.
    pub descriptor: &'a Descriptor,
    /// The SHA-256 of `config.json` and of every weight file that was loaded.
    pub sha256: &'a BTreeMap<String, String>,
    /// Where it was measured: `timestamp`, `hardware`, `os`, `machine` and whatever else describes it.
    pub verified_on: Map<String, Value>,
}

/// The contract `before` with this evidence. Its depths come down to the one that was measured.
#[must_use]
pub fn stamp(before: Map<String, Value>, evidence: &Evidence<'_>) -> Map<String, Value> {
    let Evidence { report, descriptor, sha256, verified_on } = evidence;
    let required = [
        ("mtplx_version", json!(env!("CARGO_PKG_VERSION"))),
        ("arch_id", json!(descriptor.id)),
        ("mtp_depth_max", json!(report.depth)),
        ("recommended_profile", json!("stable")),
        // A later version is left standing: this program cannot read it, and says so.
        ("contract_version", json!(1)),
    ];
    let mut after = before;
    for (field, value) in required {
        if after.get(field).is_none_or(Value::is_null) {
            after.insert(field.to_owned(), value);
        }
    }
    // The evidence reaches as deep as was measured: a head may draft less than its architecture could.
    for field in ["mtp_depth_max", "mtp_depth_default"] {
        if after.get(field).and_then(Value::as_u64).is_some_and(|depth| depth > report.depth as u64) {
            after.insert(field.to_owned(), json!(report.depth));
        }
    }
    let (contract, _) = Contract::parse(after.clone());
    let mut baseline = baseline(report);
    baseline.insert(MEASURED_WITH.to_owned(), Value::Object(conventions(&contract)));
    after.insert("exactness_baseline".to_owned(), Value::Object(baseline));
    after.insert("verified_on".to_owned(), Value::Object(verified_on.clone()));
    after.insert("sha256".to_owned(), json!(sha256));
    let mut speed = match after.get("speed_evidence") {
        Some(Value::Object(speed)) => speed.clone(),
        _ => Map::new(),
    };
    let rounded = |rate: f64| (rate * 1e4).round() / 1e4;
    let acceptance: Vec<f64> = report.acceptance_by_depth.iter().map(|depth| rounded(depth.cumulative())).collect();
    speed.insert("acceptance_by_depth".to_owned(), json!(acceptance));
    after.insert("speed_evidence".to_owned(), Value::Object(speed));
    after
}

/// The errors of a contract that evidence does not make up for: they stay whatever is measured.
#[must_use]
pub fn lasting(before: &Map<String, Value>, descriptor: &Descriptor, depth: usize) -> Vec<Finding> {
    let nothing = Report { effort: "", depth, dtype: "", gates: Vec::new(), acceptance_by_depth: Vec::new() };
    let evidence = Evidence { report: &nothing, descriptor, sha256: &BTreeMap::new(), verified_on: Map::new() };
    let (contract, mut findings) = Contract::parse(stamp(before.clone(), &evidence));
    findings.extend(contract.of_another(descriptor.id));
    findings.retain(|finding| finding.severity >= Severity::Error);
    findings
}

/// The report as a contract's `exactness_baseline`.
#[must_use]
pub fn baseline(report: &Report) -> Map<String, Value> {
    let figure = |gate: &str, name: &str| {
        let gate = report.gates.iter().find(|found| found.name == gate);
        gate.and_then(|gate| gate.figures.get(name).cloned()).unwrap_or(Value::Null)
    };
    let (matches, total) = (figure("greedy", "matches"), figure("greedy", "total"));
    let agreement = matches.as_f64().zip(total.as_f64()).map(|(matches, total)| matches / total.max(1.0));
    let mut baseline = Map::new();
    let mut set = |name: &str, value: Value| baseline.insert(name.to_owned(), value);
    set("gate", json!(GATE));
    set("status", json!(if report.passed() { "passed" } else { "failed" }));
    set("effort", json!(report.effort));
    set("depth", json!(report.depth));
    set("dtype", json!(report.dtype));
    set("max_abs_diff", figure("state", "max_abs_diff"));
    set("total_variation", figure("marginal", "total_variation"));
    set("sample_agreement", json!(agreement));
    set("matches", matches);
    set("total", total);
    set("acceptance_counts", json!(report.acceptance_by_depth));
    let gates = report.gates.iter().map(|gate| {
        let mut figures = gate.figures.clone();
        figures.insert("passed".to_owned(), json!(gate.passed));
        (gate.name.to_owned(), Value::Object(figures))
    });
    set("gates", Value::Object(gates.collect()));
    baseline
}
