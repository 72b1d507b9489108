//! Benchmarks on a tiny model: what is measured, what is said of it, what is refused.

use serde_json::{Value, json};

use crate::command::{fails, json, model, run};

const TRAINED: &str = "trained_qwen3_5/mlx_q4g32";
const QUICK: [&str; 7] = ["--contexts", "48", "--repeats", "2", "--warmup", "1", "--allow-unverified"];

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
    // Said to people as well, in words and in the picture.
    let dir = tempfile::tempdir().unwrap();
    let plot = dir.path().join("decode.svg").display().to_string();
    let ran = run(&[
        &["bench", "decode", &model(TRAINED)],
        &QUICK[..],
        &["-n", "4", "--simulate-acceptance", "0.5", "--plot", &plot],
    ]
    .concat());
    assert!(
        ran.stdout.contains("SIMULATED acceptance 0.5") && ran.stdout.contains("acceptance (SIMULATED)"),
        "{ran:?}"
    );
    assert!(std::fs::read_to_string(&plot).unwrap().contains("SIMULATED acceptance 0.5"));
}

#[test]
fn drafts_from_a_part_of_the_vocabulary() {
    let measured = |more: &[&str]| bench("decode", &[&["--depths", "1", "-n", "4"], more].concat());
    let (whole, some) = (measured(&[]), measured(&["--draft-vocab", "64"]));
    assert_eq!((&whole["method"]["draft_vocab"], &some["method"]["draft_vocab"]), (&json!(null), &json!(64)));
    let bytes = |document: &Value| document["memory"]["draft_weights"].as_u64().unwrap();
    assert!(bytes(&some) < bytes(&whole), "less of the output matrix is read");
}

#[test]
fn a_picture_of_nothing_is_not_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old) = (dir.path().join("new.svg"), dir.path().join("old.svg"));
    std::fs::write(&old, "old").unwrap();
    for plot in [&new, &old] {
        fails(&["bench", "decode", "/no/such/model", "--plot", plot.to_str().unwrap()], 5);
    }
    assert!(!new.exists());
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "old");
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
    assert!(rows.iter().all(|row| row["verify_s"]["median"].as_f64().unwrap() > 0.0 && row["verify_s"]["n"] == 2));
    // On a CPU every weight is held in four bytes, and an embedding table is not read.
    let memory = &document["memory"];
    let [weights, step] = ["weights", "step_weights"].map(|name| memory[name].as_u64().unwrap());
    assert!(0 < step && step < weights);
    assert_eq!(document["provenance"]["machine"]["device"], "cpu");
    assert!(memory["copy_gb_s"]["median"].as_f64().unwrap() > 0.0);
}

#[test]
fn results_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let document = bench("decode", &["--depths", "0,2", "-n", "8"]);
    let write = |name: &str, document: &Value| std::fs::write(path(name), document.to_string()).unwrap();
    write("a", &document);
    // Twice as fast at depth 2, far apart.
    let mut faster = document.clone();
    for field in ["median", "min", "max"] {
        let value = document["decode"][1]["tok_s"][field].as_f64().unwrap();
        faster["decode"][1]["tok_s"][field] = json!(value + document["decode"][1]["tok_s"]["max"].as_f64().unwrap());
    }
    write("b", &faster);
    let comparison = json(&["bench", "compare", &path("a"), &path("b"), "--json"]);
    let rows = comparison["rows"].as_array().unwrap();
    let row = |figure: &str| rows.iter().find(|row| row["figure"] == figure).unwrap_or_else(|| panic!("{comparison}"));
    let faster = row("decode behind 48 at depth 2, tok/s");
    assert!(faster["ratio"].as_f64().unwrap() > 1.5);
    assert_eq!(faster["overlaps"], false);
    let same = row("decode behind 48 at depth 0, tok/s");
    assert_eq!((&same["ratio"], &same["overlaps"]), (&json!(1.0), &json!(true)));
    let shown = run(&["bench", "compare", &path("a"), &path("b")]).stdout;
    assert!(shown.contains("B/A") && shown.contains("1.000  spreads overlap"), "{shown}");

    for (pointer, value, named) in [
        ("/provenance/machine/cpu", json!("another"), "different devices: "),
        ("/provenance/model/files/0/bytes", json!(7), "different model files: "),
        ("/simulated_acceptance", json!([0.9]), "different simulated acceptance: none and [0.9]"),
    ] {
        let mut other = document.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        write("c", &other);
        let (error, hint) = fails(&["bench", "compare", &path("a"), &path("c")], 2);
        assert!(error.starts_with(named) && hint.contains("--anyway"), "{error}");
        let ran = run(&["bench", "compare", &path("a"), &path("c"), "--anyway"]);
        assert!(ran.code == 0 && ran.stderr.contains(named), "{ran:?}");
    }

    write("empty", &json!({}));
    write("newer", &json!({"schema": 3}));
    write("serve", &json!({"schema": 2, "kind": "serve"}));
    for (file, named) in
        [("serve", "kind: serve"), ("empty", "no result"), ("newer", "schema: 3"), ("missing", "No such file")]
    {
        let (error, _) = fails(&["bench", "compare", &path("a"), &path(file)], 5);
        assert!(error.starts_with(&path(file)) && error.contains(named), "{error}");
    }
}

/// The document's form: names and types, with what differs from run to run taken out.
#[test]
fn the_document_keeps_its_form() {
    let args = [
        "--depths",
        "0,2",
        "-n",
        "8",
        "--repeats",
        "1",
        "--warmup",
        "0",
        "--contexts",
        "40",
        "--temperature",
        "0.7",
        "--allow-unverified",
    ];
    let dir = tempfile::tempdir().unwrap();
    let plot = dir.path().join("sweep.svg").display().to_string();
    let document = json(&[&["bench", "sweep", &model(TRAINED), "--json", "--plot", &plot], &args[..]].concat());
    let picture = std::fs::read_to_string(&plot).unwrap();
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    for said in
        ["Prefill", "Decoding behind 40 tokens", "Cost of a verification", "Acceptance by depth", "tokens / s", "MLX"]
    {
        assert!(picture.contains(said), "{said}");
    }
    assert!(!picture.contains("NaN") && !picture.contains("inf\"") && !picture.contains("SIMULATED"));
    insta::assert_snapshot!("sweep", serde_json::to_string_pretty(&form(&document)).unwrap());
}

/// Values by their type; of a list one entry, of rows the last: it drafts.
fn form(value: &Value) -> Value {
    match value {
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Bool(_) => json!("flag"),
        Value::Array(list) => {
            let one = list.last().filter(|last| last.is_object()).or(list.first());
            one.map(form).into_iter().collect()
        }
        Value::Object(fields) => {
            // What a machine may or may not say.
            let optional = ["commit", "device_name", "device_memory", "driver", "cpu", "peak", "stated_sha256"];
            let field = |(name, value): (&String, &Value)| {
                let form = if optional.contains(&name.as_str()) { json!("optional") } else { form(value) };
                (name.clone(), form)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Null => Value::Null,
    }
}

#[test]
fn measurements_that_make_no_sense() {
    let (model, many) = (model(TRAINED), vec!["1"; 65].join(","));
    for (what, more, named) in [
        ("decode", &["--contexts", "4096"][..], "--contexts 4096: behind"),
        ("decode", &["-n", "5000"], "5012 tokens to generate"),
        ("prefill", &["--prompt", ""], "the text has no tokens"),
        ("decode", &["--contexts", &many], "--contexts: too many"),
    ] {
        let (error, _) = fails(&[&["bench", what, &model, "--allow-unverified"], more].concat(), 2);
        assert!(error.contains(named), "{error}");
    }
    let (error, _) = fails(&["bench", "decode", &model, "--allow-unverified", "--file", "no/such/file"], 5);
    assert!(error.starts_with("no/such/file: "), "{error}");
    let (error, _) = fails(&["bench", "decode", &model, "--plot", "no/such/folder/out.svg"], 1);
    assert!(error.starts_with("no/such/folder/out.svg: "), "{error}");
    for more in [&["--depths", "9"][..], &["--depths", "2..1"], &["--contexts", "0"], &["--repeats", "0"], &["-n", "0"]]
    {
        assert_eq!(run(&[&["bench", "decode", &model], more].concat()).code, 2, "{more:?}");
    }
}

#[test]
fn a_trunk_alone_is_measured_plainly() {
    let dir = crate::command::copy(TRAINED);
    std::fs::remove_file(dir.path().join("mtp.safetensors")).unwrap();
    let path = dir.path().to_str().unwrap();
    let (error, _) = fails(&["bench", "decode", path], 3);
    assert!(error.contains("incomplete: "), "{error}");
    let args = ["bench", "decode", path, "--depths", "0", "-n", "4", "--contexts", "16", "--repeats", "1", "--json"];
    let document = json(&args);
    assert_eq!(document["decode"].as_array().unwrap().len(), 1);
    assert_eq!(document["memory"]["draft_weights"], 0);
}
