//! Fields of every wrong kind.

use serde_json::{Value, json};

use super::Folder;
use crate::{ArtifactError, Config, ErrorKind};

fn config(value: Value) -> Config {
    Config::parse("config.json", value.to_string().as_bytes()).unwrap()
}

/// The text model's fields.
fn text(fields: Value) -> Config {
    config(json!({"model_type": "toy", "text_config": fields})).text()
}

#[track_caller]
fn said<T: std::fmt::Debug>(result: Result<T, ArtifactError>) -> String {
    result.expect_err("accepted").to_string()
}

#[test]
fn nested_or_not() {
    let bare = config(json!({"model_type": "a", "hidden_size": 4}));
    assert_eq!((bare.model_type(), bare.text().size("hidden_size", 9).unwrap()), ("a", 4));
    let nested =
        config(json!({"model_type": "a", "hidden_size": 4, "text_config": {"model_type": "b", "hidden_size": 5}}));
    assert_eq!((nested.model_type(), nested.text().size("hidden_size", 9).unwrap()), ("a", 5));
    assert_eq!(nested.size("hidden_size", 9).unwrap(), 4);
    assert_eq!(
        said(nested.text().size("hidden_size", 3)),
        "config.json: text_config.hidden_size: 5: expected an integer from 1 to 3"
    );
}

#[test]
fn sizes() {
    let text = text(json!({"ok": 7, "neg": -3, "zero": 0, "big": 1025, "float": 64.0, "string": "7", "null": null}));
    assert_eq!(text.size("ok", 1024).unwrap(), 7);
    for (field, value) in [
        ("neg", "-3"),
        ("zero", "0"),
        ("big", "1025"),
        ("float", "64.0"),
        ("string", "\"7\""),
        ("null", "null"),
        ("none", "missing"),
    ] {
        let expected = format!("config.json: text_config.{field}: {value}: expected an integer from 1 to 1024");
        assert_eq!(said(text.size(field, 1024)), expected);
    }
    assert_eq!((text.size_or("null", 5, 9).unwrap(), text.size_or("none", 6, 9).unwrap()), (5, 6));
    assert!(text.size_or("zero", 5, 9).is_err());
    assert_eq!(text.count_or("zero", 5, 9).unwrap(), 0);
}

#[test]
fn numbers_flags_and_strings() {
    let text = text(
        json!({"n": 1e-6, "i": 10000, "huge": 1e31, "s": "x", "b": true, "list": [1, 2], "odd": [1, -1], "words": ["a"]}),
    );
    assert_eq!((text.number_or("n", 0.0).unwrap(), text.number_or("i", 0.0).unwrap()), (1e-6, 1e4));
    assert_eq!(text.number_or("none", 2.5).unwrap(), 2.5);
    assert!(said(text.number_or("huge", 0.0)).ends_with("huge: 1e+31: expected a number from -1e30 to 1e30"));
    assert!(said(text.number_in("n", 0.0, 0.5..=1.0)).ends_with("n: 1e-6: expected a number from 0.5 to 1.0"));
    assert!(said(text.number_or("s", 0.0)).contains("s: \"x\": expected a number"));
    assert_eq!((text.flag_or("b", false).unwrap(), text.flag_or("none", true).unwrap()), (true, true));
    assert!(said(text.flag_or("n", false)).ends_with("n: 1e-6: expected true or false"));
    assert_eq!((text.string("s").unwrap(), text.string_opt("none").unwrap()), ("x", None));
    assert!(said(text.string("none")).ends_with("none: missing: expected a string"));
    assert_eq!(text.counts("list", 2).unwrap(), [1, 2]);
    assert!(said(text.counts("odd", 2)).ends_with("odd: [1,-1]: expected an array of integers from 0 to 2"));
    assert_eq!(text.strings("words").unwrap(), ["a"]);
    assert!(said(text.strings("list")).ends_with("list: [1,2]: expected an array of strings"));
    assert_eq!((text.token_ids("i", 10_001).unwrap(), text.token_ids("list", 3).unwrap()), (vec![10_000], vec![1, 2]));
    assert!(said(text.token_ids("list", 2)).ends_with("list: [1,2]: expected a token id below 2, or an array of them"));
}

#[test]
fn sections_carry_their_path() {
    let text = text(json!({"rope_parameters": {"rope_theta": "x"}, "rope_scaling": 3}));
    let rope = text.section("rope_parameters").unwrap().unwrap();
    assert!(
        said(rope.number_or("rope_theta", 1.0))
            .starts_with("config.json: text_config.rope_parameters.rope_theta: \"x\"")
    );
    assert_eq!(said(text.section("rope_scaling")), "config.json: text_config.rope_scaling: 3: expected an object");
    assert!(text.section("none").unwrap().is_none());
}

#[test]
fn supported_and_sensible_are_different_things() {
    let text = text(json!({"act": "gelu"}));
    assert_eq!(text.error("act", "expected silu").kind(), ErrorKind::Damaged);
    let unsupported = text.unsupported("act", "expected silu");
    assert_eq!(unsupported.to_string(), "config.json: text_config.act: \"gelu\": expected silu");
    assert_eq!(unsupported.kind(), ErrorKind::Incompatible);
}

#[test]
fn files_that_are_no_configuration() {
    let fault = |text: &str| Folder::empty().file("config.json", text).fault();
    assert!(fault("").starts_with("broken: DIR/config.json: not a JSON object: EOF"));
    assert!(fault("[]").starts_with("broken: DIR/config.json: not a JSON object: expected an object"));
    let twice = fault(r#"{"model_type": "qwen3_next", "text_config": {"a": 1, "a": 2}}"#);
    assert!(
        twice.starts_with("broken: DIR/config.json: text_config.a: stated twice: readers differ on which one holds"),
        "{twice}"
    );
    assert!(
        fault("{}").starts_with("broken: DIR/config.json: model_type: missing: expected a string (correct the field")
    );
    assert!(fault(r#"{"model_type":"a","text_config":1}"#).contains("text_config: 1: expected an object"));
    let deep = format!(r#"{{"model_type":"a","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(fault(&deep).contains("recursion limit exceeded"));
    let large = format!(r#"{{"model_type":"{}"}}"#, "a".repeat(17 << 20));
    assert!(fault(&large).starts_with("broken: DIR/config.json: more than 16777216 bytes"));
}

/// Nothing follows them, so they keep nothing from opening.
#[test]
fn keys_that_name_code() {
    for (config, keys) in [
        (json!({"auto_map": {"AutoModel": "modeling.Model"}}), &["auto_map"][..]),
        (json!({"text_config": {"auto_map": {"AutoModel": "m.M"}}}), &["text_config.auto_map"]),
        (json!({"custom_pipelines": ["p"], "model_file": "m.py"}), &["custom_pipelines", "model_file"]),
        (json!({"trust_remote_code": true}), &["trust_remote_code"]),
        (json!({"auto_map": {}, "trust_remote_code": false, "model_file": null}), &[]),
    ] {
        let mut whole = json!({"model_type": "toy"});
        whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let folder = Folder::new().config(whole).tensors("model.safetensors", &["x"], 1);
        assert_eq!(folder.open().unwrap().config().code_keys(), keys, "{config}");
    }
}
