//! The incremental JSON checker.

use proptest::prelude::*;
use serde_json::Value;

use super::super::json::{Fed, JsonStream};

/// Output for `text` up to its end or its first invalid character, and the closed output.
fn feed(text: &str) -> (String, String, Fed) {
    let mut json = JsonStream::new();
    let mut out = String::new();
    let mut fed = Fed::More;
    for c in text.chars() {
        fed = json.feed(c, &mut out);
        if fed == Fed::Invalid {
            break;
        }
    }
    if fed == Fed::More && json.finish(&mut out) {
        fed = Fed::Complete;
    }
    let mut closed = out.clone();
    if fed != Fed::Complete {
        json.close(&mut closed);
    }
    (out, closed, fed)
}

#[test]
fn broken_json_is_closed() {
    let cases = [
        ("{", "{}"),
        ("{\"a", "{\"a\":null}"),
        ("{\"a\"", "{\"a\":null}"),
        ("{\"a\":", "{\"a\":null}"),
        ("{\"a\": \"b", "{\"a\": \"b\"}"),
        ("{\"a\": \"b\\", "{\"a\": \"b\"}"),
        ("{\"a\": \"b\\u00", "{\"a\": \"b\"}"),
        ("{\"a\": 1", "{\"a\": null}"),
        ("{\"a\": 1, ", "{\"a\": 1}"),
        ("{\"a\": 1.}", "{\"a\": null}"),
        ("{\"a\": 01}", "{\"a\": null}"),
        ("{\"a\": 1e999}", "{\"a\": null}"),
        ("{\"a\": nul}", "{\"a\": null}"),
        ("{\"a\": [1, x]}", "{\"a\": [1]}"),
        ("{\"a\": [1, tr", "{\"a\": [1]}"),
        ("{\"a\": [{\"b\": [", "{\"a\": [{\"b\": []}]}"),
        ("{\"a\": 1,}", "{\"a\": 1}"),
        ("{,", "{}"),
        ("[1, 2}", "[1, 2]"),
        ("", "null"),
    ];
    for (text, expected) in cases {
        let (_, closed, fed) = feed(text);
        assert_ne!(fed, Fed::Complete, "{text}");
        assert_eq!(closed, expected, "{text}");
    }
}

#[test]
fn errors_in_strings_are_repaired() {
    let cases = [
        ("\"a\nb\tc\u{0}\"", "\"a\\nb\\tc\\u0000\""),
        ("\"\\d+\\\\d\"", "\"\\\\d+\\\\d\""),
        ("\"\\u12zz\"", "\"\\\\u12zz\""),
        ("\"\\u\"", "\"\\\\u\""),
        ("\"\\ud83d\\ude00\"", "\"\\ud83d\\ude00\""),
        ("\"\\ud83dx\"", "\"\\ufffdx\""),
        ("\"\\ude00\"", "\"\\ufffd\""),
        ("\"\\ud83d\\n\"", "\"\\ufffd\\n\""),
        ("\"\\ud83d\\d\"", "\"\\ufffd\\\\d\""),
        ("\"\\ud83d\\u0041\"", "\"\\ufffd\\u0041\""),
        ("\"\\ud83d\\ud83d\\ude00\"", "\"\\ufffd\\ud83d\\ude00\""),
        ("\"\\ud83d\\ud83d\"", "\"\\ufffd\\ufffd\""),
        ("\"\\ud83d\\u12\"", "\"\\ufffd\\\\u12\""),
        ("\"\\ud83d\"", "\"\\ufffd\""),
        ("\"\\ud83d\\\"", "\"\\ufffd\\\""),
    ];
    for (text, expected) in cases {
        let (out, ..) = feed(text);
        assert_eq!(out, expected, "{text}");
    }
}

fn json_like() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", " ", "\n", "true", "null", "fal", "-", "0", "12",
            ".5", "e+3",
            "\\", "\\n", "\\u", "d83d", "\\ude00", "x", "ü", "{\"a\":", "[1,",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn output_can_always_be_closed(text in json_like()) {
        let (_, closed, _) = feed(&text);
        prop_assert!(serde_json::from_str::<Value>(&closed).is_ok(), "{} of {}", closed, text);
    }

    #[test]
    fn json_is_accepted_exactly_where_serde_accepts_it(text in json_like()) {
        let (out, _, fed) = feed(&text);
        if serde_json::from_str::<Value>(&text).is_ok() {
            prop_assert_eq!(fed, Fed::Complete);
            prop_assert_eq!(&out, &text);
        } else if fed == Fed::Complete {
            // Only repairs make the difference.
            prop_assert_ne!(&out, &text);
        }
    }

    #[test]
    fn valid_json_passes_unchanged(value in json_value(), pretty in any::<bool>()) {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        let (out, _, fed) = feed(&text);
        prop_assert_eq!(fed, Fed::Complete);
        prop_assert_eq!(out, text);
    }
}
