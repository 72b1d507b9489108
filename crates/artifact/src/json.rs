//! JSON as published checkpoints have it: `NaN` and `Infinity` as Python writes them, a byte order mark in front, a key
//! that is stated twice (readers differ on which one holds).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::shown;

/// The UTF-8 byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Python's numbers that JSON lacks, the longer word first.
const NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
/// Keys that are named when they are stated twice.
const NAMED: usize = 8;

/// Parses a file.
///
/// # Errors
/// Not JSON, or not a `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(&standard(bytes))
}

/// The same text without a byte order mark, and Python's numbers as strings: a field that is read as a number then says
/// what it holds, and one that is not read is kept.
fn standard(bytes: &[u8]) -> Cow<'_, [u8]> {
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let mut out: Vec<u8> = Vec::new();
    let (mut at, mut copied, mut quoted) = (0, 0, false);
    while let Some(&byte) = bytes.get(at) {
        let number = NUMBERS.into_iter().filter(|_| !quoted && b"-IN".contains(&byte));
        if let Some(number) = number.into_iter().find(|number| bytes[at..].starts_with(number)) {
            out.extend_from_slice(&bytes[copied..at]);
            out.extend([b"\"", number, b"\""].concat());
            at += number.len();
            copied = at;
            continue;
        }
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(bytes);
    }
    out.extend_from_slice(&bytes[copied..]);
    Cow::Owned(out)
}

/// Parses an object. With it, the paths of keys that are stated twice anywhere in it: the first few.
///
/// # Errors
/// Not JSON, or no object.
pub fn object(bytes: &[u8]) -> serde_json::Result<(Map<String, Value>, Vec<String>)> {
    let mut twice = Vec::new();
    let bytes = standard(bytes);
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let value = Distinct { place: FieldPath::Root, twice: &mut twice }.deserialize(&mut reader)?;
    reader.end()?;
    match value {
        Value::Object(fields) => Ok((fields, twice)),
        _ => Err(serde_json::Error::custom("expected an object")),
    }
}

/// Where a value is; spelled only for whom it concerns.
#[derive(Clone, Copy)]
enum FieldPath<'a> {
    Root,
    Key(&'a FieldPath<'a>, &'a str),
    Item(&'a FieldPath<'a>, usize),
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(&shown(key)),
            Self::Key(parent, key) => write!(f, "{parent}.{}", shown(key)),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Reads a value.
struct Distinct<'a> {
    place: FieldPath<'a>,
    twice: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Distinct<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Distinct<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        loop {
            let place = FieldPath::Item(&self.place, all.len());
            match items.next_element_seed(Distinct { place, twice: &mut *self.twice })? {
                Some(item) => all.push(item),
                None => return Ok(Value::Array(all)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let place = FieldPath::Key(&self.place, &key);
            let value = entries.next_value_seed(Distinct { place, twice: &mut *self.twice })?;
            if fields.contains_key(&key) && self.twice.len() < NAMED {
                let place = place.to_string();
                if !self.twice.contains(&place) {
                    self.twice.push(place);
                }
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn python_s_numbers_and_a_byte_order_mark() {
        for (text, expected) in [
            ("\u{feff}{\"a\": 1}", json!({"a": 1})),
            ("{\"a\": NaN, \"b\": [Infinity, -Infinity]}", json!({"a": "NaN", "b": ["Infinity", "-Infinity"]})),
            ("\u{feff}[NaN]", json!(["NaN"])),
            // In strings they are text, also behind an escaped quote or backslash.
            (r#"{"NaN": "\"NaN", "b": "\\", "c": NaN}"#, json!({"NaN": "\"NaN", "b": "\\", "c": "NaN"})),
            ("[-1, 1]", json!([-1, 1])),
        ] {
            assert_eq!(from_slice::<Value>(text.as_bytes()).unwrap(), expected, "{text}");
        }
        for text in ["{\"a\": Inf}", "[--Infinity]", "[NaN1]", "[-NaN]", "\u{feff}\u{feff}{}", "{\"a\": \"NaN"] {
            assert!(from_slice::<Value>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
