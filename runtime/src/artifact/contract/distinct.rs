//! A JSON object whose keys are told apart: of a key that is stated twice, readers differ on which one holds.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::artifact::error::shown;

/// Keys that are named when they are stated twice.
const NAMED: usize = 8;

/// Parses an object. With it, the paths of keys that are stated twice anywhere in it: the first few.
///
/// # Errors
/// Not JSON, or no object.
pub(in crate::artifact) fn object(bytes: &[u8]) -> serde_json::Result<(Map<String, Value>, Vec<String>)> {
    let mut twice = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Distinct { place: Place::Root, twice: &mut twice }.deserialize(&mut reader)?;
    reader.end()?;
    match value {
        Value::Object(fields) => Ok((fields, twice)),
        _ => Err(serde_json::Error::custom("expected an object")),
    }
}

/// Where a value is; spelled only for whom it concerns.
#[derive(Clone, Copy)]
enum Place<'a> {
    Root,
    Key(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
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
    place: Place<'a>,
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
            let place = Place::Item(&self.place, all.len());
            match items.next_element_seed(Distinct { place, twice: &mut *self.twice })? {
                Some(item) => all.push(item),
                None => return Ok(Value::Array(all)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let place = Place::Key(&self.place, &key);
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
