//! Reader of a request's JSON that knows the path of every value.
//!
//! Clients send unions that change with each release: a string or a list, an object with or without `type`. Derived
//! readers lose the path inside such unions, so every dialect walks the value by hand.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::wire::internal::{Failure, FailureKind};

/// Levels of nesting that a body may have; serde_json's own limit is one more.
const MAX_DEPTH: usize = 127;
/// Characters of a wrong value that an error repeats.
const SHOWN_CHARS: usize = 40;
/// Largest integer up to which every integer has a float of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// JSON of a request's body.
pub(crate) fn read(body: &[u8]) -> Result<Value, Failure> {
    if depth(body) > MAX_DEPTH {
        return Err(unreadable(format!("nested too deeply: expected at most {MAX_DEPTH} levels")));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    Value::deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track))
        .and_then(|value| json.end().map(|()| value))
        .map_err(|error| {
            let path = track.path().to_string();
            let message = format!("{error}: expected one JSON object in UTF-8");
            // A path of `.` is the body itself; `?` stands for a value whose key was not read.
            if path == "." || path.contains('?') {
                unreadable(message)
            } else {
                let message = format!("{path}: {message}");
                Failure::invalid(path, message)
            }
        })
}

/// Error of a body as a whole, which no field is at fault for.
fn unreadable(message: impl Display) -> Failure {
    Failure::new(FailureKind::Invalid, format!("body: {message}"))
}

/// A value of a request, with its path.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    value: &'a Value,
    /// Path such as `messages[2].content`.
    path: String,
}

impl<'a> Field<'a> {
    /// The body, which has to be an object.
    pub fn root(value: &'a Value) -> Result<Self, Failure> {
        if value.is_object() {
            return Ok(Self { value, path: String::new() });
        }
        Err(unreadable(format!("{}: expected an object", shown(value))))
    }

    /// The field's value.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// A field of this object; `None` where it is absent or null, or this is no object.
    pub fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self { value, path: self.path_of(key) })
    }

    /// A field of this object, read by `read`.
    pub fn opt<T>(&self, key: &str, read: impl FnOnce(&Self) -> Result<T, Failure>) -> Result<Option<T>, Failure> {
        self.get(key).as_ref().map(read).transpose()
    }

    /// A field that this object must have.
    pub fn require(&self, key: &str, expected: &str) -> Result<Self, Failure> {
        self.get(key).ok_or_else(|| {
            let path = self.path_of(key);
            let message = format!("{path}: missing: expected {expected}");
            Failure::invalid(path, message)
        })
    }

    /// A string that this object must have.
    pub fn require_text(&self, key: &str, expected: &str) -> Result<&'a str, Failure> {
        self.require(key, expected)?.text()
    }

    /// The object's `type`; empty where it has none.
    pub fn kind(&self) -> Result<&'a str, Failure> {
        Ok(self.opt("type", Self::text)?.unwrap_or_default())
    }

    /// A string.
    pub fn text(&self) -> Result<&'a str, Failure> {
        self.value.as_str().ok_or_else(|| self.unexpected("a string"))
    }

    /// True or false.
    pub fn flag(&self) -> Result<bool, Failure> {
        self.value.as_bool().ok_or_else(|| self.unexpected("true or false"))
    }

    /// An integer in a range; `20.0` is one, since JSON has a single type for numbers.
    pub fn integer<T>(&self, range: RangeInclusive<T>) -> Result<T, Failure>
    where
        T: Copy + Into<i128> + TryFrom<i128>,
    {
        let (start, end): (i128, i128) = ((*range.start()).into(), (*range.end()).into());
        let number = self.value.as_number().and_then(integral).filter(|number| (start..=end).contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            if start >= 0 && end == i128::from(u64::MAX) {
                self.unexpected(format!("an integer of at least {start}"))
            } else {
                self.unexpected(format!("an integer in [{start}, {end}]"))
            }
        })
    }

    /// A number for which `inside` is true; `expected` tells which ones those are.
    pub fn number(&self, expected: impl Display, inside: impl FnOnce(f32) -> bool) -> Result<f32, Failure> {
        // Ranges are those of the sampler, which computes in f32. Beyond f32 is infinity, which is in no range.
        let number = self.value.as_f64().map(|number| number as f32);
        match number {
            Some(number) if inside(number) => Ok(number),
            _ => Err(self.unexpected(expected)),
        }
    }

    /// The value of one of some names.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Failure> {
        let found = self.value.as_str().and_then(|name| choices.iter().find(|(choice, _)| *choice == name));
        match found {
            Some(&(_, value)) => Ok(value),
            None => Err(self.unexpected(one_of(choices))),
        }
    }

    /// Elements of a list; null ones are passed over.
    pub fn items(&self) -> Result<Vec<Self>, Failure> {
        self.elements("a list")
    }

    /// Elements of a list, or the value alone where it is a string.
    pub fn parts(&self, expected: &str) -> Result<Vec<Self>, Failure> {
        if self.value.is_string() { Ok(vec![self.clone()]) } else { self.elements(expected) }
    }

    fn elements(&self, expected: &str) -> Result<Vec<Self>, Failure> {
        let values = self.value.as_array().ok_or_else(|| self.unexpected(expected))?;
        let present = values.iter().enumerate().filter(|(_, value)| !value.is_null());
        Ok(present.map(|(index, value)| self.element(index, value)).collect())
    }

    /// The element `value` of this list.
    pub fn element(&self, index: usize, value: &'a Value) -> Self {
        Self { value, path: format!("{}[{index}]", self.path) }
    }

    /// An object.
    pub fn object(&self) -> Result<&'a Map<String, Value>, Failure> {
        self.value.as_object().ok_or_else(|| self.unexpected("an object"))
    }

    /// An error that names field, value and the values that are accepted.
    pub fn unexpected(&self, expected: impl Display) -> Failure {
        self.refused(format!("expected {expected}"))
    }

    /// An error that names field and value, with its own words.
    pub fn refused(&self, message: impl Display) -> Failure {
        self.wrong(format!("{}: {message}", shown(self.value)))
    }

    /// An error that names the number of entries that a list or an object has.
    pub fn miscounted(&self, found: usize, expected: impl Display) -> Failure {
        self.wrong(format!("{found} entries: expected {expected}"))
    }

    /// An error that names the field alone.
    pub fn wrong(&self, message: impl Display) -> Failure {
        Failure::invalid(&self.path, format!("{}: {message}", self.path))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Names as a list of alternatives: `"a", "b" or "c"`.
pub(crate) fn one_of<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// A value as an error shows it. Lists and objects are named only: they are long, and hold the user's text.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => match text.char_indices().nth(SHOWN_CHARS) {
            Some((end, _)) => format!("{}…", Value::from(&text[..end])),
            None => value.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The integer that a number is; a float counts where f64 still tells neighbours apart.
fn integral(number: &Number) -> Option<i128> {
    number.as_i128().or_else(|| {
        number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= EXACT).map(|value| value as i128)
    })
}

/// Levels of nesting, also in a text that is no JSON.
///
/// serde_json has a limit as well, but its error comes with the path down to there: hundreds of characters.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for &byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(body: &str) -> (String, Option<String>) {
        let failure = read(body.as_bytes()).and_then(|value| Field::root(&value).map(|_| ())).unwrap_err();
        (failure.message, failure.param)
    }

    #[test]
    fn bodies_that_are_no_object_are_refused() {
        for (body, message, param) in [
            ("[1]", "body: a list: expected an object", None),
            ("3", "body: 3: expected an object", None),
            ("", "body: EOF while parsing a value at line 1 column 0: expected one JSON object in UTF-8", None),
            (r#"{"a": 1} x"#, "body: trailing characters at line 1 column 10: expected one JSON object in UTF-8", None),
            ("{} {}", "body: trailing characters at line 1 column 4: expected one JSON object in UTF-8", None),
            (
                r#"{"a": [{"b": "\ud800"}]}"#,
                "a[0].b: unexpected end of hex escape at line 1 column 21: expected one JSON object in UTF-8",
                Some("a[0].b"),
            ),
            (
                r#"{"a": 1e400}"#,
                "a: number out of range at line 1 column 11: expected one JSON object in UTF-8",
                Some("a"),
            ),
            (r#"{"a": NaN}"#, "a: expected value at line 1 column 7: expected one JSON object in UTF-8", Some("a")),
        ] {
            assert_eq!(error(body), (message.to_owned(), param.map(str::to_owned)), "{body}");
        }
        assert!(read(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn depth_is_limited_before_anything_is_parsed() {
        for brackets in [128, 100_000] {
            let body = format!("{{\"unknown\": {}", "[".repeat(brackets));
            assert_eq!(error(&body), ("body: nested too deeply: expected at most 127 levels".to_owned(), None));
        }
        let nested = |levels: usize| format!("{{\"a\": {}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(read(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(read(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
        let text = format!("{{\"a\": \"\\\"{}\"}}", "[".repeat(1000));
        assert!(read(text.as_bytes()).is_ok(), "brackets in a string are text");
    }

    #[test]
    fn errors_name_path_value_and_range() {
        let value = json!({"a": [null, {"b": "x", "c": -1, "d": 5.0, "e": 5.5, "f": null}], "g": "y".repeat(50)});
        let root = Field::root(&value).unwrap();
        let items = root.get("a").unwrap().items().unwrap();
        let [item] = &items[..] else { panic!("{items:?}") };
        let integer = |key: &str| item.get(key).unwrap().integer(0_u64..=8);
        assert_eq!(integer("d"), Ok(5));
        assert!(item.get("f").is_none());
        for (result, expected) in [
            (integer("b"), r#"a[1].b: "x": expected an integer in [0, 8]"#),
            (integer("c"), "a[1].c: -1: expected an integer in [0, 8]"),
            (integer("e"), "a[1].e: 5.5: expected an integer in [0, 8]"),
            (item.require("f", "a string").map(|_| 0), "a[1].f: missing: expected a string"),
            (root.get("a").unwrap().flag().map(u64::from), "a: a list: expected true or false"),
        ] {
            assert_eq!(result.unwrap_err().message, expected);
        }
        let long = root.get("g").unwrap().flag().unwrap_err().message;
        assert_eq!(long, format!("g: \"{}\"…: expected true or false", "y".repeat(40)));
    }

    #[test]
    fn numbers_are_checked_against_their_range() {
        let integer = |json: &str| {
            let body = read(format!("{{\"n\": {json}}}").as_bytes()).unwrap();
            let read = Field::root(&body).unwrap().opt("n", |field| field.integer(0_u8..=8));
            read.map_err(|failure| failure.message)
        };
        for (json, expected) in [
            ("8", Ok(Some(8))),
            ("2.0", Ok(Some(2))),
            ("null", Ok(None)),
            ("9", Err("n: 9: expected an integer in [0, 8]")),
            ("-1", Err("n: -1: expected an integer in [0, 8]")),
            ("1.5", Err("n: 1.5: expected an integer in [0, 8]")),
            ("1e300", Err("n: 1e+300: expected an integer in [0, 8]")),
            ("\"3\"", Err("n: \"3\": expected an integer in [0, 8]")),
        ] {
            assert_eq!(integer(json), expected.map_err(str::to_owned), "{json}");
        }
    }
}
