//! What a verification writes into a contract, and what reading it again believes.

use std::collections::BTreeMap;

use mtplx_runtime::architecture::{Descriptor, Tier};
use mtplx_runtime::artifact::{Contract, Severity};
use mtplx_runtime::verify::Report;
use serde_json::{Map, Value, json};

use crate::assess::evidence;
use crate::assess::stamp::{Evidence, baseline, stamp};
use crate::testing::{report, verified_on};

static DESCRIPTOR: Descriptor = Descriptor {
    id: "toy-mtp",
    name: "Toy",
    model_types: &["toy"],
    tier: Tier::Recognized,
    max_depth: 4,
    crate_name: "toy",
    crate_version: "0.0.0",
};

fn stamped(before: Value, report: &Report) -> Map<String, Value> {
    let sha256 = BTreeMap::from([("config.json".to_owned(), "0".repeat(64))]);
    let evidence =
        Evidence { report, descriptor: &DESCRIPTOR, sha256: &sha256, verified_on: verified_on(Some("here")) };
    stamp(before.as_object().unwrap().clone(), &evidence)
}

fn faults(fields: Map<String, Value>) -> Vec<String> {
    evidence::doubts(&Contract::parse(fields).0).all().collect()
}

#[test]
fn a_new_contract_is_valid() {
    let fields = stamped(json!({}), &report(2));
    let (contract, findings) = Contract::parse(fields.clone());
    assert_eq!(findings, []);
    assert!(evidence::doubts(&contract).is_empty());
    assert_eq!((contract.arch_id.as_deref(), contract.mtp_depth_max), (Some("toy-mtp"), Some(2)));
    assert_eq!(contract.speed_evidence.unwrap().acceptance_by_depth, Some(vec![0.75, 0.56]));
    assert_eq!(fields["exactness_baseline"]["sample_agreement"], json!(0.995));
    assert_eq!(fields["exactness_baseline"]["max_abs_diff"], json!(1e-5));
    assert_eq!(fields["exactness_baseline"]["total_variation"], json!(2e-6));
}

#[test]
fn what_evidence_does_not_speak_of_stays() {
    let before = json!({"mtplx_version": "0.0.1", "somebody_elses": [1, 2], "mtp_depth_max": 2,
        "speed_evidence": {"ar_tok_s": 20.0, "acceptance_by_depth": [0.1], "by": "hand"},
        "exactness_baseline": {"status": "pending", "old": 1}, "verified_on": {"old": 1}, "sha256": {}});
    let after = stamped(before, &report(3));
    let names: Vec<&String> = after.keys().take(3).collect();
    assert_eq!(names, ["mtplx_version", "somebody_elses", "mtp_depth_max"]);
    assert_eq!((&after["mtplx_version"], &after["mtp_depth_max"]), (&json!("0.0.1"), &json!(2)));
    assert_eq!(after["speed_evidence"]["ar_tok_s"], json!(20.0));
    assert_eq!(after["speed_evidence"]["by"], json!("hand"));
    // Old evidence does not shine through.
    assert_eq!(after["exactness_baseline"].get("old"), None);
    assert_eq!(after["verified_on"], json!(verified_on(Some("here"))));
    assert_eq!(after["arch_id"], json!("toy-mtp"));
}

#[test]
fn depths_come_down_to_what_was_measured() {
    let after = stamped(json!({"mtp_depth_max": 8, "mtp_depth_default": 3}), &report(1));
    assert_eq!((&after["mtp_depth_max"], &after["mtp_depth_default"]), (&json!(1), &json!(1)));
    assert_eq!(faults(after), [""; 0]);
    let after = stamped(json!({"mtp_depth_max": 3, "mtp_depth_default": 2}), &report(4));
    assert_eq!((&after["mtp_depth_max"], &after["mtp_depth_default"]), (&json!(3), &json!(2)));
}

#[test]
fn a_later_contract_version_stays_a_finding() {
    let (_, findings) = Contract::parse(stamped(json!({"contract_version": 2}), &report(2)));
    assert!(findings.iter().any(|f| f.severity == Severity::Error && f.field == "contract_version"), "{findings:?}");
}

#[test]
fn a_failed_report_is_no_evidence() {
    for gate in 0..report(2).gates.len() {
        let mut report = report(2);
        report.gates[gate].passed = false;
        assert_eq!(baseline(&report)["status"], json!("failed"));
        let mut after = stamped(json!({}), &report);
        let gate = format!("exactness_baseline.gates.{}.passed: false: expected true", report.gates[gate].name);
        assert_eq!(faults(after.clone()), ["exactness_baseline.status: \"failed\" is not evidence", &gate]);
        // Nor is it one for saying so.
        after["exactness_baseline"]["status"] = json!("passed");
        assert_eq!(faults(after), [gate]);
    }
}

#[test]
fn both_precisions_are_believed() {
    let mut report = report(2);
    for dtype in ["bfloat16", "float16"] {
        report.dtype = dtype;
        report.gates[0].figures["tolerance"] = json!(5e-2);
        report.gates[0].figures["mean_tolerance"] = json!(1e-2);
        report.gates[3].figures["differing_allowed"] = json!(8);
        report.gates[0].figures["trunk"]["relative"] = json!(4e-2);
        assert_eq!(faults(stamped(json!({}), &report)), [""; 0]);
    }
    report.dtype = "float32";
    let said = faults(stamped(json!({}), &report));
    assert_eq!(said[0], "exactness_baseline.gates.state.tolerance: 0.05: expected at most 0.0005");
    report.dtype = "other";
    let said = faults(stamped(json!({}), &report));
    assert_eq!(said[0], "exactness_baseline.dtype: \"other\": expected float32 or float16 or bfloat16");
}

/// A contract before it is verified, with all that evidence is bound to.
fn conventional() -> Value {
    json!({"mtp_depth_max": 2, "mtp_depth_default": 1, "recommended_draft_lm_head": {"bits": 4},
        "mtp_contract": {"hidden_variant": "post_norm", "concat_order": "embedding_hidden", "mtp_quant_bits": 4}})
}

/// The faults of a verified contract in which one value was changed, or taken out.
fn fooled(pointer: &str, value: Value) -> Vec<String> {
    let mut contract = Value::Object(stamped(conventional(), &report(2)));
    assert_eq!(faults(contract.as_object().unwrap().clone()), [""; 0]);
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match contract.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}")) {
        Value::Object(fields) if value.is_null() => drop(fields.remove(field)),
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        parent => parent[field] = value,
    }
    faults(contract.as_object().unwrap().clone())
}

/// Every figure is looked at: one that is not there, is no number, or is beyond its bound, and two that disagree.
#[test]
fn a_baseline_that_contradicts_itself() {
    let nothing = || Value::Null;
    for (pointer, value, expected) in [
        ("status", json!("pass"), "status: \"pass\" is not evidence"),
        ("status", json!("ok"), "status: \"ok\" is not evidence"),
        ("status", json!("exact"), "status: \"exact\" is not evidence"),
        ("status", json!("Passed"), "status: \"Passed\" is not evidence"),
        ("status", json!(true), "status: true is not evidence"),
        ("status", nothing(), "status: missing, so it is not evidence"),
        ("depth", json!(1), "depth: 1: mtp_depth_max allows 2 drafts a round"),
        ("depth", json!(3), "gates.state.depth: 2: exactness_baseline.depth is 3"),
        ("depth", json!(u64::MAX), "gates.state.depth: 2: exactness_baseline.depth is 18446744073709551615"),
        ("depth", json!(u32::MAX), "gates.state.depth: 2: exactness_baseline.depth is 4294967295"),
        ("depth", json!("2"), "depth: \"2\": expected a whole number from 0"),
        ("effort", json!("none"), "effort: \"none\": expected full or quick"),
        ("dtype", json!("int1"), "dtype: \"int1\": expected float32 or float16 or bfloat16"),
        ("max_abs_diff", json!(5.0), "max_abs_diff: 5: gates.state.max_abs_diff is 0.00001"),
        ("max_abs_diff", json!("NaN"), "max_abs_diff: \"NaN\": expected a number from 0"),
        ("total_variation", json!(0.5), "total_variation: 0.5: gates.marginal.total_variation is 0.000002"),
        ("sample_agreement", json!(1.0), "sample_agreement: 1: gates.greedy has 199 of 200"),
        ("sample_agreement", json!(-1), "sample_agreement: -1: expected a number from 0"),
        ("matches", json!(200), "matches: 200: gates.greedy.matches is 199"),
        ("total", json!(400), "total: 400: gates.greedy.total is 200"),
        ("acceptance_counts/1/accepted", json!(61), "acceptance_counts: not those of gates.teacher-forced"),
        ("gates/state/passed", json!(false), "gates.state.passed: false: expected true"),
        ("gates/state/passed", json!("true"), "gates.state.passed: \"true\": expected true"),
        ("gates/state/depth", json!(1), "gates.state.depth: 1: exactness_baseline.depth is 2"),
        ("gates/state/compared", json!(0), "gates.state.compared: 0: expected a whole number from 1"),
        ("gates/state/tolerance", json!(1.0), "gates.state.tolerance: 1: expected at most 0.0005"),
        ("gates/state/mean_tolerance", json!(1.0), "gates.state.mean_tolerance: 1: expected at most 0.0001"),
        ("gates/state/head/relative", json!(0.1), "gates.state.head.relative: 0.1: expected at most 0.0005"),
        (
            "gates/state/trunk/mean_relative",
            json!(0.1),
            "gates.state.trunk.mean_relative: 0.1: expected at most 0.0001",
        ),
        ("gates/state/trunk/state_relative", json!(2), "gates.state.trunk.state_relative: 2: expected at most 0.0005"),
        (
            "gates/state/trunk/max_abs_diff",
            json!(3),
            "gates.state.max_abs_diff: 0.00001: trunk and head state 3 at most",
        ),
        ("gates/marginal/rows", json!(0), "gates.marginal.rows: 0: expected a whole number from 1"),
        ("gates/marginal/tolerance", json!(1), "gates.marginal.tolerance: 1: expected at most 0.0005"),
        ("gates/joint/level", json!(0.0), "gates.joint.level: 0: expected at least 0.000001"),
        (
            "gates/joint/texts/0/p_value",
            json!(1e-9),
            "gates.joint.texts[0].p_value: 0.000000001: expected at least 0.000001",
        ),
        (
            "gates/joint/sequences/1/samples",
            json!(0),
            "gates.joint.sequences[1].samples: 0: expected a whole number from 1",
        ),
        ("gates/joint/sequences", json!([]), "gates.joint.sequences: coupled is missing"),
        ("gates/joint/texts/1/rule", json!("rejection"), "gates.joint.texts: coupled is missing"),
        ("gates/marginal/drawn/2/kind", json!("coupled"), "gates.marginal.drawn: bonus is missing"),
        (
            "gates/marginal/drawn",
            json!([{"kind": "x", "draws": 9, "p_value": 0.0}]),
            "gates.marginal.drawn[0].p_value: 0: expected at least 0.000001",
        ),
        (
            "gates/marginal/drawn",
            json!([{"kind": "x", "draws": 0, "p_value": 1}]),
            "gates.marginal.drawn[0].draws: 0: expected a whole number from 1",
        ),
        ("gates/joint/texts", json!([1]), "gates.joint.texts: [1]: expected an array of objects"),
        ("gates/teacher-forced/differing", json!(3), "gates.teacher-forced.differing: 3: expected at most 2"),
        (
            "gates/teacher-forced/differing_allowed",
            json!(99),
            "gates.teacher-forced.differing_allowed: 99: expected at most 2",
        ),
        ("gates/teacher-forced/drafts", json!(170), "gates.teacher-forced.drafts: 170: by_depth has 175"),
        (
            "gates/teacher-forced/by_depth",
            json!([]),
            "gates.teacher-forced.by_depth: 0 depths: exactness_baseline.depth is 2",
        ),
        (
            "gates/teacher-forced/by_depth/0/promised",
            json!("9"),
            "gates.teacher-forced.by_depth[0].promised: \"9\": expected a number from 0",
        ),
        (
            "gates/teacher-forced/by_depth/0/accepted",
            json!(101),
            "gates.teacher-forced.by_depth[0].accepted: 101 of 100 examined of 100 drafted",
        ),
        ("gates/greedy/near_ties", json!(0), "gates.greedy.matches: 199 and 0 near-ties of 200: the others differ"),
        ("gates/greedy/total", json!(0), "gates.greedy.total: 0: expected a whole number from 1"),
        ("gates/greedy/largest_margin", json!([]), "gates.greedy.largest_margin: []: expected a number from 0"),
        ("gates/greedy", nothing(), "gates: greedy missing"),
        ("gates/joint", json!(true), "gates.joint: true: expected an object"),
        ("gates/mine", json!({"passed": false}), "gates.mine.passed: false: expected true"),
        ("gates", json!([]), "gates: []: expected an object"),
    ] {
        let said = fooled(&format!("/exactness_baseline/{pointer}"), value);
        assert!(said.contains(&format!("exactness_baseline.{expected}")), "{pointer}: {said:?}");
    }
}

/// Several figures changed so that each is in order by itself and they agree with one another where they are the same.
#[test]
fn a_baseline_made_up_with_some_care() {
    let made_up = |changes: &[(&str, Value)]| {
        let mut contract = Value::Object(stamped(conventional(), &report(2)));
        for (pointer, value) in changes {
            let place = contract.pointer_mut(&format!("/{pointer}"));
            *place.unwrap_or_else(|| panic!("{pointer}")) = value.clone();
        }
        faults(contract.as_object().unwrap().clone())
    };
    const BASELINE: &str = "exactness_baseline";
    const GATES: &str = "exactness_baseline/gates";
    let of = |changes: &[(&str, Value)], expected: &str| {
        let said = made_up(changes);
        assert!(said.iter().any(|line| line.starts_with(expected)), "{expected}: {said:?}");
    };
    // Near-ties, one and all.
    let near = [
        (&*format!("{BASELINE}/matches"), json!(0)),
        (&*format!("{BASELINE}/sample_agreement"), json!(0.0)),
        (&*format!("{GATES}/greedy/matches"), json!(0)),
        (&*format!("{GATES}/greedy/near_ties"), json!(200)),
    ];
    of(&near, "exactness_baseline.gates.greedy.matches: 0 and 200 near-ties of 200: too few match");
    // Nothing promised, and a bound that allows anything; a bound that the counts cannot have.
    let depth = format!("{GATES}/teacher-forced/by_depth/0");
    let [promised, bound] = ["promised", "bound"].map(|name| format!("{depth}/{name}"));
    let at = "exactness_baseline.gates.teacher-forced.by_depth[0]";
    of(&[(&promised, json!(0.0)), (&bound, json!(1000.0))], &format!("{at}.bound: 1000: at most 9.7 follows"));
    of(&[(&promised, json!(0.0)), (&bound, json!(9.0))], &format!("{at}.accepted: 75: 0 were promised, and 9.0 is"));
    of(&[(&bound, json!(33.0))], &format!("{at}.bound: 33: at most 29.0 "));
    of(&[(&promised, json!(101.0))], &format!("{at}.promised: 101: 100 were examined"));
    of(&[(&format!("{depth}/accepted"), json!(60))], &format!("{}.examined: 75: only 60", at.replace('0', "1")));
    of(&[(&format!("{depth}/drafted"), json!(101))], &format!("{at}.drafted: 101: only 100 rounds"));
    // The same with so few drafts that the bound is wider than they are.
    let few = |promised: f64| {
        let mut report = report(1);
        let depth =
            json!({"drafted": 5, "examined": 5, "accepted": 5, "differing": 0, "promised": promised, "bound": 9.0});
        report.gates[3].figures["drafts"] = json!(5);
        report.gates[3].figures["by_depth"] = json!([depth]);
        let count = &mut report.acceptance_by_depth[0];
        (count.drafted, count.examined, count.accepted) = (5, 5, 5);
        faults(stamped(json!({}), &report))
    };
    assert_eq!(few(4.9), [""; 0]);
    assert_eq!(few(0.0), [format!("{at}.accepted: 5: 0 were promised, and 9.0 is the bound")]);
    // Another type, with or without its tolerances.
    let dtype = format!("{BASELINE}/dtype");
    let state = "exactness_baseline.gates.state";
    of(&[(&dtype, json!("bfloat16"))], &format!("{state}.tolerance: 0.0005: expected 0.05, as "));
    of(&[("verified_on/device", json!("cpu")), (&dtype, json!("float16"))], "exactness_baseline.dtype: \"float16\": ");
    of(&[(&format!("{GATES}/state/tolerance"), json!(4e-4))], &format!("{state}.tolerance: 0.0004: expected 0.0005"));
    // Less than even a quick verification measures; p-values that are not those of the test.
    let [drawn, texts] = ["marginal/drawn/0", "joint/texts/0"].map(|name| format!("{GATES}/{name}"));
    let [drawn_at, texts_at] =
        ["marginal.drawn[0]", "joint.texts[0]"].map(|name| format!("{}.{name}", GATES.replace('/', ".")));
    for (effort, draws, tokens, total) in [("full", 4096, 192, 96), ("quick", 1024, 17, 17)] {
        let made_up = |field: String, value: usize, expected: String| {
            of(&[(&*format!("{BASELINE}/effort"), json!(effort)), (&*field, json!(value))], &expected);
        };
        made_up(
            format!("{drawn}/draws"),
            draws - 1,
            format!("{drawn_at}.draws: {}: expected at least {draws}", draws - 1),
        );
        made_up(format!("{texts}/tokens"), tokens - 1, format!("{texts_at}.tokens: {}: expected at least", tokens - 1));
        let greedy = "exactness_baseline.gates.greedy";
        made_up(
            format!("{GATES}/greedy/total"),
            total - 1,
            format!("{greedy}.total: {}: expected at least", total - 1),
        );
    }
    let compared = format!("{GATES}/state/compared");
    of(&[(&compared, json!(1))], &format!("{state}.compared: 1: expected a multiple of 24, as many as"));
    of(
        &[(&format!("{drawn}/p_value"), json!(0.9))],
        &format!("{drawn_at}.p_value: 0.9: 19.3 at 20 degrees gives 0.50"),
    );
    // However large: no number takes long.
    of(&[(&format!("{drawn}/degrees"), json!(u64::MAX))], &format!("{drawn_at}.degrees: 1844"));
    for statistic in [0.0, 1e-300, 1e9, f64::MAX] {
        let at = format!("{drawn}/degrees");
        assert_eq!(made_up(&[(&at, json!(4096)), (&format!("{drawn}/statistic"), json!(statistic))]).len(), 1);
    }
}

/// Whatever figure of a passed baseline is missing, that is said.
#[test]
fn a_baseline_with_a_figure_missing() {
    fn pointers(at: &str, value: &Value, all: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let at = format!("{at}/{name}");
                    all.push(at.clone());
                    pointers(&at, value, all);
                }
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| pointers(&format!("{at}/{i}"), item, all))
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    pointers("", &Value::Object(baseline(&report(2))), &mut all);
    assert!(all.len() > 60);
    for pointer in all {
        let said = fooled(&format!("/exactness_baseline{pointer}"), Value::Null);
        let name = pointer.rsplit('/').next().unwrap();
        let idle = match name {
            // For people, or not what decides.
            "gate" | "settings" | "mean_overlap" => true,
            "differing" => pointer.contains("depth/") || pointer.contains("counts/"),
            "promised" => pointer.contains("counts/"),
            _ => false,
        };
        assert_eq!(said.is_empty(), idle, "{pointer}: {said:?}");
        let named = said.iter().any(|line| line.contains(name) || line.contains("acceptance_counts"));
        assert!(idle || named, "{pointer}: {said:?}");
    }
}

#[test]
fn a_bare_status() {
    let mut contract = stamped(json!({}), &report(2));
    contract["exactness_baseline"] = json!({"status": "passed"});
    contract["verified_on"] = json!({});
    assert_eq!(
        faults(contract),
        [
            "exactness_baseline: depth, effort, dtype, measured_with, gates missing",
            "verified_on: timestamp, hardware, os, device, mlx_version, engine_version, model missing",
        ]
    );
    assert_eq!(fooled("/verified_on/device", json!(" ")), ["verified_on.device: \" \": expected a text"]);
}

/// Evidence is bound to the conventions of head and trunk, not to the choices of a run.
#[test]
fn conventions_that_were_changed() {
    let measured = |was: &str| format!("the evidence was measured with {was}");
    for (pointer, value, expected) in [
        ("mtp_depth_max", json!(8), "exactness_baseline.depth: 2: mtp_depth_max allows 8 drafts a round".to_owned()),
        (
            "mtp_contract/concat_order",
            json!("hidden_embedding"),
            format!("mtp_contract.concat_order: \"hidden_embedding\": {}", measured("\"embedding_hidden\"")),
        ),
        (
            "mtp_contract/hidden_variant",
            json!("pre_norm"),
            format!("mtp_contract.hidden_variant: \"pre_norm\": {}", measured("\"post_norm\"")),
        ),
        (
            "mtp_contract/hidden_variant",
            Value::Null,
            format!("mtp_contract.hidden_variant: missing: {}", measured("\"post_norm\"")),
        ),
        (
            "mtp_contract/base_hidden_variant",
            json!("pre_norm"),
            format!("mtp_contract.base_hidden_variant: \"pre_norm\": {}", measured("nothing stated")),
        ),
        (
            "mtp_contract/mtp_position_mode",
            json!("x"),
            format!("mtp_contract.mtp_position_mode: \"x\": {}", measured("nothing stated")),
        ),
        ("mtp_contract/mtp_quant_bits", json!(8), format!("mtp_contract.mtp_quant_bits: 8: {}", measured("4"))),
        (
            "mtp_contract/mtp_quant_mode",
            json!("mxfp4"),
            format!("mtp_contract.mtp_quant_mode: \"mxfp4\": {}", measured("nothing stated")),
        ),
    ] {
        assert_eq!(fooled(&format!("/{pointer}"), value), [expected], "{pointer}");
    }
    let gone = fooled("/mtp_contract", Value::Null);
    assert!(
        gone.len() == 1 && gone[0].starts_with("mtp_contract: missing: the evidence was measured with {"),
        "{gone:?}"
    );
    for (pointer, value) in [
        ("mtp_depth_max", json!(1)),
        ("mtp_depth_default", json!(2)),
        ("recommended_generation_mode", json!("ar")),
        ("recommended_profile", json!("turbo")),
        ("recommended_draft_lm_head", json!({"bits": 8})),
        ("recommended_draft_sampler", json!({"temperature": 0.5})),
        ("somebody_elses", json!(1)),
    ] {
        assert_eq!(fooled(&format!("/{pointer}"), value), [""; 0], "{pointer}");
    }
}

#[test]
fn faults_are_named_up_to_a_point() {
    let gates: Map<String, Value> = (0..1000).map(|i| (format!("\u{1b}{i}"), json!({"passed": false}))).collect();
    let said = fooled("/exactness_baseline/gates", Value::Object(gates));
    assert_eq!(said.len(), 17);
    assert!(said.iter().all(|line| !line.contains('\u{1b}') && line.len() < 300), "{said:?}");
    assert_eq!(said[16], "exactness_baseline: 984 faults more");
}
