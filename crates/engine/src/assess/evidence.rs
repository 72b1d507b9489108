//! What makes a contract's baseline evidence for what its artifact would run: the reader of what [`super::stamp`] writes.
//!
//! A status alone proves nothing. The figures must be there, lie within tolerances no looser than this engine's, agree with
//! one another and cover the depth that the contract allows; and the contract must still say what it said when they were
//! measured. What a run may choose anyway (a depth below the ceiling, samplers, a profile) is not bound: the rule that
//! decides on drafts is exact for each. A contract is not signed, so figures that were made up with care pass here: what is
//! caught is evidence that is stale, partial or edited. Whose files and whose machine it speaks of is the verdict's
//! business.

mod figures;

use mtplx_runtime::mlx_rs::Dtype;
use serde_json::{Map, Value, json};

use self::figures::{DIGITS, Figures};
pub use super::doubts::Doubts;
use mtplx_runtime::artifact::{Contract, shown, shown_value};
use mtplx_runtime::verify::{Effort, GATE_NAMES, Tolerance, acceptance, greedy, joint, marginal, state};

/// Where a baseline keeps the conventions that it was measured with.
pub(super) const MEASURED_WITH: &str = "measured_with";
/// By which a baseline says that this program measured it.
pub(super) const GATE: &str = "mtplx verify";
/// Once among the conventions, and never followed.
const NEVER_FOLLOWED: &str = "recommended_draft_lm_head";
/// What `verified_on` must say.
const PROVENANCE: [&str; 7] = ["timestamp", "hardware", "os", "device", "mlx_version", "engine_version", "model"];

/// The contract's field that changes what head or trunk compute, as evidence keeps it.
#[must_use]
pub fn conventions(contract: &Contract) -> Map<String, Value> {
    let head = contract.mtp_contract.as_ref().map(|head| json!(head));
    head.map(|head| ("mtp_contract".to_owned(), head)).into_iter().collect()
}

/// Why the contract's baseline is no evidence for what would run, by field. What another program measured is none, so of its
/// figures only a failure and another depth speak against anything.
#[must_use]
pub fn doubts(contract: &Contract) -> Doubts {
    let Some(baseline) = &contract.exactness_baseline else {
        return Doubts { lacking: vec!["exactness_baseline: missing".to_owned()], ..Doubts::default() };
    };
    let mut doubts = status(baseline);
    if !doubts.is_empty() {
        return doubts.shortened();
    }
    let mut at = Figures::of("exactness_baseline", baseline);
    let depth = at.count("depth");
    if let (Some(depth), Some(ceiling)) = (depth, contract.mtp_depth_max)
        && depth < ceiling as u64
    {
        let what = format!("{depth}: mtp_depth_max allows {ceiling} drafts a round");
        doubts.against.push(format!("exactness_baseline.depth: {what}"));
    }
    let effort = at.one_of("effort", &[Effort::FULL.name, Effort::QUICK.name]);
    let dtype = at.one_of("dtype", &["float32", "float16", "bfloat16"]);
    let device = contract.verified_on.as_ref().and_then(|on| on.get("device")?.as_str());
    if let (Some(dtype), Some("cpu")) = (dtype.filter(|&dtype| dtype != "float32"), device) {
        at.fault("dtype", &format!("\"{dtype}\": verified_on.device is \"cpu\", which computes in float32"));
    }
    if let Some(measured) = at.object(MEASURED_WITH) {
        doubts.against.extend(differences(&conventions(contract), measured));
    }
    if let Some(gates) = at.object("gates") {
        let basis = Basis {
            depth,
            sixteen_bit: dtype.is_some_and(|dtype| dtype != "float32"),
            effort: if effort == Some(Effort::FULL.name) { Effort::FULL } else { Effort::QUICK },
        };
        at.absorb(of_gates(gates, &basis));
        repeated(&mut at, gates);
    }
    let mut figures = at.end();
    if let Some(on) = &contract.verified_on {
        let mut on = Figures::of("verified_on", on);
        for field in PROVENANCE {
            on.text(field);
        }
        figures.extend(on.end());
    }
    if baseline.get("gate").and_then(Value::as_str) != Some(GATE) {
        figures = Doubts { lacking: figures.all().collect(), ..Doubts::default() };
    }
    doubts.extend(figures);
    doubts.shortened()
}

/// The status that a baseline states, unless that is that it passed. What does not even claim that is not read on, but for gates
/// that failed.
fn status(baseline: &Map<String, Value>) -> Doubts {
    let failed = |value: Option<&Value>| value == Some(&Value::Bool(false));
    let gates = baseline.get("gates").and_then(Value::as_object);
    let gates = gates.into_iter().flatten().filter(|(_, gate)| failed(gate.get("passed")));
    let gates = gates.map(|(name, _)| format!("exactness_baseline.gates.{}.passed: false: expected true", shown(name)));
    let whole = failed(baseline.get("passed")).then(|| "exactness_baseline.passed: false: expected true".to_owned());
    let mut doubts = Doubts { against: whole.into_iter().chain(gates).collect(), ..Doubts::default() };
    let stated = baseline.get("status").filter(|status| !status.is_null());
    let text = stated.and_then(Value::as_str).map(str::to_lowercase);
    match (stated, text.as_deref()) {
        (Some(Value::String(status)), _) if status == "passed" => {}
        (None, _) => doubts.lacking.push("exactness_baseline.status: missing, so it is not evidence".to_owned()),
        (status, text) => {
            let line = format!("exactness_baseline.status: {} is not evidence", shown_value(status));
            let says_so = text.is_some_and(|text| text.starts_with("fail") || text == "rejected");
            if says_so || failed(status) { doubts.against.insert(0, line) } else { doubts.lacking.push(line) }
        }
    }
    doubts
}

/// The conventions that are not those that were measured.
fn differences(now: &Map<String, Value>, measured: &Map<String, Value>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut compare = |field: &str, now: Option<&Value>, measured: Option<&Value>| {
        if now != measured {
            let was = measured.map_or("nothing stated".to_owned(), |value| shown_value(Some(value)));
            let now = shown_value(now);
            faults.push(format!("{field}: {now}: the evidence was measured with {was}"));
        }
    };
    for field in union(now, measured).filter(|field| *field != NEVER_FOLLOWED) {
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
    sixteen_bit: bool,
    effort: Effort,
}

fn of_gates(gates: &Map<String, Value>, basis: &Basis) -> Doubts {
    let mut all = Figures::of("exactness_baseline.gates", gates);
    for name in GATE_NAMES {
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
            marginal::NAME => of_marginal(&mut at, basis),
            joint::NAME => of_joint(&mut at, basis),
            acceptance::NAME => of_acceptance(&mut at, basis),
            greedy::NAME => of_greedy(&mut at, basis),
            _ => {}
        }
        all.absorb(at.end());
    }
    all.end()
}

/// A gate's depth is the baseline's.
fn same_depth(at: &mut Figures<'_>, basis: &Basis) {
    let depth = at.count("depth");
    if let (Some(depth), Some(stated)) = (depth, basis.depth)
        && depth != stated
    {
        at.fault("depth", &format!("{depth}: exactness_baseline.depth is {stated}"));
    }
}

fn of_state(at: &mut Figures<'_>, basis: &Basis) {
    same_depth(at, basis);
    let (compared, each) = (at.some("compared"), basis.depth.and_then(|depth| u16::try_from(depth).ok()));
    if let (Some(compared), Some(each)) = (compared, each.map(|depth| state::compared(depth.into())))
        && compared % each != 0
    {
        at.fault("compared", &format!("{compared}: expected a multiple of {each}, as many as each prompt gives"));
    }
    let loosest = Tolerance::of(if basis.sixteen_bit { Dtype::Bfloat16 } else { Dtype::Float32 });
    let max = at.just("tolerance", loosest.max);
    let mean = at.just("mean_tolerance", loosest.mean);
    let mut largest = Some(0.0f64);
    for part in ["trunk", "head"] {
        let Some(figures) = at.object(part) else { continue };
        let mut part = Figures::of(&format!("{}.{part}", at.path), figures);
        part.at_most("relative", max.unwrap_or(loosest.max));
        part.at_most("state_relative", max.unwrap_or(loosest.max));
        part.at_most("mean_relative", mean.unwrap_or(loosest.mean));
        largest = largest.zip(part.number("max_abs_diff")).map(|(a, b)| a.max(b));
        at.absorb(part.end());
    }
    let stated = at.number("max_abs_diff");
    if let (Some(stated), Some(largest)) = (stated, largest)
        && stated != largest
    {
        at.fault("max_abs_diff", &format!("{stated}: trunk and head state {largest} at most"));
    }
}

fn of_marginal(at: &mut Figures<'_>, basis: &Basis) {
    at.some("rows");
    let tolerance = at.at_most("tolerance", marginal::TOLERANCE);
    at.at_most("total_variation", tolerance.unwrap_or(marginal::TOLERANCE));
    let fits = at.fits("drawn", ("kind", &["rejection", "coupled", "bonus"]), ("draws", basis.effort.draws));
    at.tails("drawn", fits);
}

fn of_joint(at: &mut Figures<'_>, basis: &Basis) {
    same_depth(at, basis);
    let rules = ["rejection", "coupled"];
    at.fits("texts", ("rule", &rules), ("tokens", basis.effort.fewest(basis.effort.walk)));
    // A quick verification draws no sequences.
    let samples = basis.effort.samples;
    let fits = at.fits("sequences", ("rule", if samples == 0 { &[] } else { &rules }), ("samples", samples));
    at.tails("sequences", fits);
}

fn of_acceptance(at: &mut Figures<'_>, basis: &Basis) {
    at.level();
    let rounds = at.some("rounds");
    let slack = acceptance::slack(basis.sixteen_bit);
    let drafts = at.some("drafts");
    let allowed = acceptance::differing_allowed(drafts.unwrap_or(0), basis.sixteen_bit) as f64;
    at.just("differing_allowed", allowed);
    at.at_most("differing", allowed);
    let Some(depths) = at.list("by_depth") else { return };
    if let Some(depth) = basis.depth.filter(|&depth| depth != depths.len() as u64) {
        at.fault("by_depth", &format!("{} depths: exactness_baseline.depth is {depth}", depths.len()));
    }
    let mut total = Some(0u64);
    // Rounds that drafted so deep, and of those, rounds that came to decide on it.
    let (mut before, mut reached) = (rounds, rounds);
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
        for (name, value, most) in [("drafted", drafted, before), ("examined", examined, reached)] {
            if let (Some(value), Some(most)) = (value, most)
                && value > most
            {
                depth.fault(name, &format!("{value}: only {most} rounds came so far"));
            }
        }
        (before, reached) = (drafted, accepted);
        if let (Some(examined), Some(accepted), Some(promised), Some(bound)) = (examined, accepted, promised, bound) {
            let widest = acceptance::widest(examined as f64, promised, slack);
            if promised > examined as f64 {
                depth.fault("promised", &format!("{promised}: {examined} were examined"));
            } else if bound > widest * (1.0 + DIGITS) {
                depth.fault("bound", &format!("{bound}: at most {widest:.1} follows from the counts"));
            } else if !acceptance::agree(accepted, promised, bound) {
                depth.fault("accepted", &format!("{accepted}: {promised} were promised, and {bound:.1} is the bound"));
            }
        }
        at.absorb(depth.end());
    }
    if let (Some(drafts), Some(total)) = (drafts, total)
        && drafts != total
    {
        at.fault("drafts", &format!("{drafts}: by_depth has {total}"));
    }
}

fn of_greedy(at: &mut Figures<'_>, basis: &Basis) {
    same_depth(at, basis);
    at.number("largest_margin");
    let (matches, ties, total) = (at.count("matches"), at.count("near_ties"), at.some("total"));
    if let (Some(matches), Some(ties), Some(total)) = (matches, ties, total)
        && !greedy::agree(matches, ties, total, basis.sixteen_bit)
    {
        let what = if matches.checked_add(ties) == Some(total) { "too few match" } else { "the others differ" };
        at.fault("matches", &format!("{matches} and {ties} near-ties of {total}: {what}"));
    }
    let fewest = basis.effort.fewest(basis.effort.tokens) as u64;
    if let Some(total) = total.filter(|&total| total < fewest) {
        at.fault("total", &format!("{total}: expected at least {fewest}"));
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
        && (agreement * total - matches).abs() > DIGITS * total
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
