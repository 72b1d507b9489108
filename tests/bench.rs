//! Benchmarks on a tiny model: what is measured, what is said of it, what is refused.

use serde_json::{Value, json};

use crate::command::{fails, json, model, run};

const TRAINED: &str = "trained_qwen3_5/mlx_q4g32";
const QUICK: [&str; 6] = ["--contexts", "48", "--repeats", "2", "--warmup", "1"];

/// The document of a quick measurement.
fn bench(what: &str, more: &[&str]) -> Value {
    json(&[&["bench", what, &model(TRAINED), "--json"], &QUICK[..], more].concat())
}

#[test]
fn simulated_acceptance_gives_the_length_that_it_implies() {
    let figures = ["--simulate-acceptance", ".976,.952,.881", "-n", "200", "--depths", "0,2..3"];
    let document = bench("decode", &figures);
    assert_eq!(document["simulated_acceptance"], json!([0.976, 0.952, 0.881]));
    let rows = document["decode"].as_array().unwrap();
    let depths: Vec<_> = rows.iter().map(|row| row["depth"].as_u64().unwrap()).collect();
    assert_eq!(depths, [0, 2, 3]);
    assert_eq!((&rows[0]["tokens_per_round"], &rows[0]["implied_tokens_per_round"]), (&json!(1.0), &Value::Null));
    for (row, implied) in rows[1..].iter().zip([2.928, 3.809]) {
        assert!((row["implied_tokens_per_round"].as_f64().unwrap() - implied).abs() < 1e-9);
        // Over 2 runs of 50 rounds at least.
        let found = row["tokens_per_round"].as_f64().unwrap();
        assert!((found - implied).abs() < 0.05, "{found} for {implied}");
        assert!(row["counts"]["conditional_acceptance"][1].as_f64().unwrap() > 0.9);
    }
    // Said to people as well.
    let ran = run(
        &[&["bench", "decode", &model(TRAINED)], &QUICK[..], &["-n", "4", "--simulate-acceptance", "0.5"]].concat()
    );
    assert!(
        ran.stdout.contains("SIMULATED acceptance 0.5") && ran.stdout.contains("acceptance (SIMULATED)"),
        "{ran:?}"
    );
}

#[test]
fn simulation_that_makes_no_sense() {
    let model = model(TRAINED);
    for (what, more, named) in [
        ("decode", &["--acceptance", "coupled", "--simulate-acceptance", "0.9"][..], "the coupled rule"),
        ("decode", &["--simulate-acceptance", "0.5,0.9"], "depth 2: 0.9: expected a number from 0 to 0.5"),
        ("decode", &["--simulate-acceptance", "0.9", "--depths", "2"], "1 figures for a depth of 2"),
        ("verify-cost", &["--simulate-acceptance", "0.9"], "verify-cost decides on no draft"),
        ("acceptance", &["--simulate-acceptance", "0.9"], "acceptance decides on no draft"),
    ] {
        let (error, _) = fails(&[&["bench", what, &model], more].concat(), 2);
        assert!(error.contains("--simulate-acceptance") && error.contains(named), "{error}");
    }
    // Nor is there a way to it from a run.
    assert_eq!(run(&["run", "x", "--model", &model, "--simulate-acceptance", "1"]).code, 2);
}

#[test]
fn verification_is_measured_by_rows() {
    let document = bench("verify-cost", &["--depths", "0..3"]);
    let rows = document["verify_cost"].as_array().unwrap();
    let counts: Vec<_> = rows.iter().map(|row| row["rows"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 2, 3, 4]);
    assert_eq!(rows[0]["cost"]["median"], 1.0);
    assert!(rows.iter().all(|row| row["ms"]["median"].as_f64().unwrap() > 0.0 && row["ms"]["n"] == 2));
    // On a CPU every weight is held in four bytes, and an embedding table is not read.
    let memory = &document["memory"];
    let [weights, step] = ["weights", "step_weights"].map(|name| memory[name].as_u64().unwrap());
    assert!(0 < step && step < weights);
    assert_eq!(document["provenance"]["machine"]["device"], "cpu");
    assert!(memory["copy_gb_s"]["median"].as_f64().unwrap() > 0.0);
}
