//! What makes a contract's baseline evidence for what its artifact would run: the reader of what [`super::stamp`] writes.
//!
//! A status alone proves nothing. The figures must be there, lie within tolerances no looser than this engine's, agree with
//! one another and cover the depth that the contract allows; and the contract must still say what it said when they were
//! measured. What a run may choose anyway (a depth below the ceiling, samplers, a profile) is not bound: the rule that
//! decides on drafts is exact for each. A contract is not signed, so figures that were made up with care pass here: what is
//! caught is evidence that is stale, partial or edited. Whose files and whose machine it speaks of is the verdict's
//! business.

use mlx_rs::Dtype;
use serde_json::{Map, Value, json};

use super::statistics::bernstein;
use super::{Effort, GATES, LEVEL, Tolerance, acceptance, greedy, joint, marginal, state};
use crate::artifact::{Contract, shown, shown_value};

/// Where a baseline keeps the conventions that it was measured with.
pub(super) const MEASURED_WITH: &str = "measured_with";
/// Faults that are named.
const MOST: usize = 16;
/// What `verified_on` must say.
const PROVENANCE: [&str; 7] = ["timestamp", "hardware", "os", "device", "mlx_version", "engine_version", "model"];

/// The contract's fields that change what head or trunk compute, as evidence keeps them.
#[must_use]
pub fn conventions(contract: &Contract) -> Map<String, Value> {
    let head = contract.mtp_contract.as_ref().map(|head| json!(head));
    let lm_head = contract.recommended_draft_lm_head.as_ref().map(|scheme| json!(scheme));
    let stated = [("mtp_contract", head), ("recommended_draft_lm_head", lm_head)];
    stated.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

/// Why the contract's baseline is no evidence for what would run, by field; empty when it is.
#[must_use]
pub fn faults(contract: &Contract) -> Vec<String> {
    let Some(baseline) = &contract.exactness_baseline else {
        return vec!["exactness_baseline: missing".to_owned()];
    };
    // What does not even claim to have passed is not read on.
    match baseline.get("status") {
        Some(Value::String(status)) if status == "passed" => {}
        None | Some(Value::Null) => {
            return vec!["exactness_baseline.status: missing, so it is not evidence".to_owned()];
        }
        status => return vec![format!("exactness_baseline.status: {} is not evidence", shown_value(status))],
    }
    let mut at = Figures::of("exactness_baseline", baseline);
    let depth = at.count("depth");
    if let (Some(depth), Some(ceiling)) = (depth, contract.mtp_depth_max)
        && depth < ceiling as u64
    {
        let what = format!("{depth}: mtp_depth_max allows {ceiling} drafts a round: run `mtplx verify` again");
        at.fault("depth", &what);
    }
    let effort = at.one_of("effort", &[Effort::FULL.name, Effort::QUICK.name]);
    let dtype = at.one_of("dtype", &["float32", "float16", "bfloat16"]);
    if let Some(measured) = at.object(MEASURED_WITH) {
        at.faults.extend(differences(&conventions(contract), measured));
    }
    if let Some(gates) = at.object("gates") {
        let basis = Basis {
            depth,
            dtype: if dtype == Some("float32") { Dtype::Float32 } else { Dtype::Bfloat16 },
            quick: effort == Some(Effort::QUICK.name),
        };
        at.faults.extend(of_gates(gates, &basis));
        repeated(&mut at, gates);
    }
    let mut faults = at.end();
    if let Some(on) = &contract.verified_on {
        let mut on = Figures::of("verified_on", on);
        for field in PROVENANCE {
            on.text(field);
        }
        faults.extend(on.end());
    }
    if let Some(more) = faults.len().checked_sub(MOST).filter(|&more| more > 0) {
        faults.truncate(MOST);
        faults.push(format!("exactness_baseline: {more} faults more"));
    }
    faults
}

/// The conventions that are not those that were measured.
fn differences(now: &Map<String, Value>, measured: &Map<String, Value>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut compare = |field: &str, now: Option<&Value>, measured: Option<&Value>| {
        if now != measured {
            let was = measured.map_or("nothing stated".to_owned(), |value| shown_value(Some(value)));
            let now = shown_value(now);
            faults.push(format!("{field}: {now}: the evidence was measured with {was}: run `mtplx verify` again"));
        }
    };
    for field in union(now, measured) {
        match (now.get(field), measured.get(field)) {
            (Some(Value::Object(now)), Some(Value::Object(measured))) => {
                for inner in union(now, measured) {
                    compare(&shown(&format!("{field}.{inner}")), now.get(inner), measured.get(inner));
                }
            }
            (now, measured) => compare(&shown(field), now, measured),
        }
    }
    faults
}

/// The keys of both, each once.
fn union<'a>(a: &'a Map<String, Value>, b: &'a Map<String, Value>) -> impl Iterator<Item = &'a String> {
    a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)))
}

/// What every gate's figures are read by.
struct Basis {
    /// Drafts a round, as the baseline states it.
    depth: Option<u64>,
    dtype: Dtype,
    quick: bool,
}

fn of_gates(gates: &Map<String, Value>, basis: &Basis) -> Vec<String> {
    let mut all = Figures::of("exactness_baseline.gates", gates);
    for (name, _) in GATES {
        all.object(name);
    }
    // Also those that nobody here knows.
    for (name, gate) in gates {
        let Value::Object(figures) = gate else { continue };
        let mut at = Figures::of(&format!("exactness_baseline.gates.{}", shown(name)), figures);
        match at.get("passed") {
            None | Some(Value::Bool(true)) => {}
            other => at.fault("passed", &format!("{}: expected true", shown_value(other))),
        }
        match name.as_str() {
            state::NAME => of_state(&mut at, basis),
            marginal::NAME => of_marginal(&mut at),
            joint::NAME => of_joint(&mut at, basis),
            acceptance::NAME => of_acceptance(&mut at, basis),
            greedy::NAME => of_greedy(&mut at, basis),
            _ => {}
        }
        all.faults.extend(at.end());
    }
    all.end()
}

fn of_state(at: &mut Figures<'_>, basis: &Basis) {
    at.same_depth(basis);
    at.some("compared");
    let loosest = Tolerance::of(basis.dtype);
    let max = at.at_most("tolerance", loosest.max);
    let mean = at.at_most("mean_tolerance", loosest.mean);
    let mut largest = Some(0.0f64);
    for part in ["trunk", "head"] {
        let Some(figures) = at.object(part) else { continue };
        let mut part = Figures::of(&format!("{}.{part}", at.path), figures);
        part.at_most("relative", max.unwrap_or(loosest.max));
        part.at_most("state_relative", max.unwrap_or(loosest.max));
        part.at_most("mean_relative", mean.unwrap_or(loosest.mean));
        largest = largest.zip(part.number("max_abs_diff")).map(|(a, b)| a.max(b));
        at.faults.extend(part.end());
    }
    let stated = at.number("max_abs_diff");
    if let (Some(stated), Some(largest)) = (stated, largest)
        && stated != largest
    {
        at.fault("max_abs_diff", &format!("{stated}: trunk and head state {largest} at most"));
    }
}

fn of_marginal(at: &mut Figures<'_>) {
    at.some("rows");
    let tolerance = at.at_most("tolerance", marginal::TOLERANCE);
    at.at_most("total_variation", tolerance.unwrap_or(marginal::TOLERANCE));
    at.fits("drawn", "kind", "draws", &["rejection", "coupled", "bonus"]);
}

fn of_joint(at: &mut Figures<'_>, basis: &Basis) {
    at.same_depth(basis);
    let rules = ["rejection", "coupled"];
    at.fits("texts", "rule", "tokens", &rules);
    // A quick verification draws no sequences.
    at.fits("sequences", "rule", "samples", if basis.quick { &[] } else { &rules });
}

fn of_acceptance(at: &mut Figures<'_>, basis: &Basis) {
    at.level();
    at.some("rounds");
    let wide = usize::from(basis.dtype != Dtype::Float32);
    let slack = [0.0, acceptance::SLACK_16_BIT][wide];
    let drafts = at.some("drafts");
    let allowed = acceptance::FEW.max((acceptance::DIFFERING[wide] * drafts.unwrap_or(0) as f64) as u64);
    let stated = at.at_most("differing_allowed", allowed as f64);
    at.at_most("differing", stated.unwrap_or(allowed as f64));
    let Some(depths) = at.list("by_depth") else { return };
    if let Some(depth) = basis.depth.filter(|&depth| depth != depths.len() as u64) {
        at.fault("by_depth", &format!("{} depths: exactness_baseline.depth is {depth}", depths.len()));
    }
    let mut total = Some(0u64);
    for (index, depth) in depths.iter().enumerate() {
        let Some(figures) = depth.as_object() else { continue };
        let mut depth = Figures::of(&format!("{}.by_depth[{index}]", at.path), figures);
        let [drafted, examined, accepted] = ["drafted", "examined", "accepted"].map(|name| depth.count(name));
        let (promised, bound) = (depth.number("promised"), depth.number("bound"));
        total = total.zip(examined).and_then(|(total, examined)| total.checked_add(examined));
        if let (Some(drafted), Some(examined), Some(accepted)) = (drafted, examined, accepted)
            && (accepted > examined || examined > drafted)
        {
            depth.fault("accepted", &format!("{accepted} of {examined} examined of {drafted} drafted"));
        }
        if let (Some(examined), Some(accepted), Some(promised), Some(bound)) = (examined, accepted, promised, bound) {
            // No draft's variance is above a quarter.
            let widest = bernstein(examined as f64 / 4.0, LEVEL) + slack * examined as f64;
            if (accepted as f64 - promised).abs() > bound.min(widest) {
                let bound = bound.min(widest);
                depth.fault("accepted", &format!("{accepted}: {promised} were promised, and {bound:.1} is the bound"));
            }
        }
        at.faults.extend(depth.end());
    }
    if let (Some(drafts), Some(total)) = (drafts, total)
        && drafts != total
    {
        at.fault("drafts", &format!("{drafts}: by_depth has {total}"));
    }
}

fn of_greedy(at: &mut Figures<'_>, basis: &Basis) {
    at.same_depth(basis);
    at.number("largest_margin");
    let (matches, ties, total) = (at.count("matches"), at.count("near_ties"), at.some("total"));
    if let (Some(matches), Some(ties), Some(total)) = (matches, ties, total)
        && matches.checked_add(ties) != Some(total)
    {
        at.fault("matches", &format!("{matches} and {ties} near-ties of {total}: the others differ"));
    }
}

/// What the baseline repeats of its gates must be what they say.
fn repeated(at: &mut Figures<'_>, gates: &Map<String, Value>) {
    let of = |gate: &str, figure: &str| gates.get(gate).and_then(|gate| gate.get(figure));
    for (gate, figure) in [
        (state::NAME, "max_abs_diff"),
        (marginal::NAME, "total_variation"),
        (greedy::NAME, "matches"),
        (greedy::NAME, "total"),
    ] {
        let stated = at.number(figure);
        if let (Some(stated), Some(measured)) = (stated, of(gate, figure).and_then(Value::as_f64))
            && stated != measured
        {
            at.fault(figure, &format!("{stated}: gates.{gate}.{figure} is {measured}"));
        }
    }
    let agreement = at.at_most("sample_agreement", 1.0);
    let [matches, total] = ["matches", "total"].map(|figure| of(greedy::NAME, figure).and_then(Value::as_f64));
    if let (Some(agreement), Some(matches), Some(total)) = (agreement, matches, total)
        && (agreement * total - matches).abs() > 1e-6 * total
    {
        at.fault("sample_agreement", &format!("{agreement}: gates.greedy has {matches} of {total}"));
    }
    let counts = |depth: &Value| ["drafted", "examined", "accepted"].map(|name| depth.get(name).cloned());
    let stated = at.list("acceptance_counts").map(|depths| depths.iter().map(counts).collect::<Vec<_>>());
    let measured = of(acceptance::NAME, "by_depth").and_then(Value::as_array);
    if let (Some(stated), Some(measured)) = (stated, measured)
        && stated != measured.iter().map(counts).collect::<Vec<_>>()
    {
        at.fault("acceptance_counts", &format!("not those of gates.{}", acceptance::NAME));
    }
}

/// An object that figures are read from, and what is wrong with them.
struct Figures<'a> {
    path: String,
    fields: &'a Map<String, Value>,
    /// Fields that are not there: said in one line.
    missing: Vec<&'static str>,
    faults: Vec<String>,
}

impl<'a> Figures<'a> {
    fn of(path: &str, fields: &'a Map<String, Value>) -> Self {
        Self { path: path.to_owned(), fields, missing: Vec::new(), faults: Vec::new() }
    }

    fn end(mut self) -> Vec<String> {
        if !self.missing.is_empty() {
            self.faults.insert(0, format!("{}: {} missing", self.path, self.missing.join(", ")));
        }
        self.faults
    }

    fn fault(&mut self, field: &str, what: &str) {
        self.faults.push(format!("{}.{field}: {what}", self.path));
    }

    /// Null is how a figure is written that no gate measured.
    fn get(&mut self, field: &'static str) -> Option<&'a Value> {
        let value = self.fields.get(field).filter(|value| !value.is_null());
        if value.is_none() && !self.missing.contains(&field) {
            self.missing.push(field);
        }
        value
    }

    fn read<T>(&mut self, field: &'static str, expected: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.get(field)?;
        let result = read(value);
        if result.is_none() {
            self.fault(field, &format!("{}: expected {expected}", shown_value(Some(value))));
        }
        result
    }

    fn number(&mut self, field: &'static str) -> Option<f64> {
        self.read(field, "a number from 0", |value| value.as_f64().filter(|value| (0.0..=f64::MAX).contains(value)))
    }

    fn at_most(&mut self, field: &'static str, limit: f64) -> Option<f64> {
        let value = self.number(field)?;
        if value > limit {
            self.fault(field, &format!("{value}: expected at most {limit}"));
            return None;
        }
        Some(value)
    }

    fn count(&mut self, field: &'static str) -> Option<u64> {
        self.read(field, "a whole number from 0", Value::as_u64)
    }

    /// A count of what was measured, which was not nothing.
    fn some(&mut self, field: &'static str) -> Option<u64> {
        self.read(field, "a whole number from 1", |value| value.as_u64().filter(|&count| count > 0))
    }

    fn text(&mut self, field: &'static str) -> Option<&'a str> {
        self.read(field, "a text", |value| value.as_str().filter(|text| !text.trim().is_empty()))
    }

    fn one_of(&mut self, field: &'static str, choices: &[&'static str]) -> Option<&'static str> {
        let expected = choices.join(" or ");
        self.read(field, &expected, |value| choices.iter().copied().find(|choice| value.as_str() == Some(*choice)))
    }

    fn object(&mut self, field: &'static str) -> Option<&'a Map<String, Value>> {
        self.read(field, "an object", Value::as_object)
    }

    /// An array of objects.
    fn list(&mut self, field: &'static str) -> Option<&'a [Value]> {
        self.read(field, "an array of objects", |value| {
            value.as_array().map(Vec::as_slice).filter(|items| items.iter().all(Value::is_object))
        })
    }

    fn same_depth(&mut self, basis: &Basis) {
        let depth = self.count("depth");
        if let (Some(depth), Some(stated)) = (depth, basis.depth)
            && depth != stated
        {
            self.fault("depth", &format!("{depth}: exactness_baseline.depth is {stated}"));
        }
    }

    /// Tests against a law, each of `count` draws and named by `name`, `wanted` among them.
    fn fits(&mut self, field: &'static str, name: &'static str, count: &'static str, wanted: &[&str]) {
        let level = self.level();
        let mut named = Vec::new();
        let Some(fits) = self.list(field) else { return };
        for (index, fit) in fits.iter().enumerate() {
            let Some(figures) = fit.as_object() else { continue };
            let mut fit = Self::of(&format!("{}.{field}[{index}]", self.path), figures);
            named.extend(fit.text(name));
            fit.some(count);
            if let Some(p) = fit.at_most("p_value", 1.0).filter(|&p| p < level) {
                fit.fault("p_value", &format!("{p}: expected at least {level}"));
            }
            self.faults.extend(fit.end());
        }
        for missing in wanted.iter().filter(|wanted| !named.contains(wanted)) {
            self.fault(field, &format!("{missing} is missing"));
        }
    }

    /// The probability with which a gate fails a model that is right: a smaller one hides more.
    fn level(&mut self) -> f64 {
        let level = self.number("level");
        if let Some(level) = level.filter(|&level| level < LEVEL) {
            self.fault("level", &format!("{level}: expected at least {LEVEL}"));
        }
        level.unwrap_or(LEVEL).max(LEVEL)
    }
}
