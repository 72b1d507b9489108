//! Types that a tool's JSON Schema allows for an argument.
//!
//! Markup of the XML kind writes strings without quotes, so only the schema tells the string `5` from the number.

use std::ops::{BitAnd, BitOr};

use serde_json::{Map, Value};

/// Schemas that one look-up visits at most. Behind the limit a schema allows everything: references can make the walk
/// exponential.
const MAX_VISITS: usize = 512;

/// A tool of the request.
#[derive(Debug, Clone)]
pub struct ToolSchema {
    /// Name that a call gives.
    pub name: String,
    /// JSON Schema of the arguments' object.
    pub parameters: Value,
}

/// Set of JSON types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const STRING: Self = Self(1);
    /// Numbers, integers among them.
    pub(super) const NUMBER: Self = Self(2);
    pub(super) const BOOLEAN: Self = Self(4);
    pub(super) const NULL: Self = Self(8);
    pub(super) const OBJECT: Self = Self(16);
    pub(super) const ARRAY: Self = Self(32);
    pub(super) const ANY: Self = Self(63);

    /// True if the sets have a type in common.
    pub(super) fn allow(self, other: Self) -> bool {
        self & other != Self::NONE
    }

    /// Type of a JSON text that begins with `c`.
    pub(super) fn of_first_char(c: char) -> Self {
        match c {
            '"' => Self::STRING,
            '{' => Self::OBJECT,
            '[' => Self::ARRAY,
            't' | 'f' => Self::BOOLEAN,
            'n' => Self::NULL,
            '-' | '0'..='9' => Self::NUMBER,
            _ => Self::NONE,
        }
    }

    fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    fn of_name(name: &str) -> Self {
        match name {
            "string" => Self::STRING,
            "number" | "integer" => Self::NUMBER,
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            "object" => Self::OBJECT,
            "array" => Self::ARRAY,
            // Not JSON Schema: no ground to refuse anything.
            _ => Self::ANY,
        }
    }
}

impl BitOr for Types {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Types {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Types that the schema `parameters` allows for the property `key`. A property that no part of the schema knows is a
/// string.
pub(super) fn property_types(parameters: &Value, key: &str) -> Types {
    let mut walk = Walk { root: parameters, visits: 0, active: Vec::new() };
    walk.property(parameters, key).unwrap_or(Types::STRING)
}

/// A walk through one schema.
struct Walk<'s> {
    root: &'s Value,
    visits: usize,
    /// Schemas between the root and here: a reference to one of them says nothing new.
    active: Vec<&'s Value>,
}

impl<'s> Walk<'s> {
    /// Types of the property `key` of objects that `schema` describes; `None` where the schema does not know it.
    fn property(&mut self, schema: &'s Value, key: &str) -> Option<Types> {
        self.visit(schema, |walk, map| {
            if let Some(found) = map.get("properties").and_then(|p| p.get(key)) {
                return Some(walk.types(found).unwrap_or(Types::ANY));
            }
            let mut found = None;
            for part in walk.parts(map) {
                if let Some(types) = walk.property(part, key) {
                    found = Some(found.unwrap_or(Types::NONE) | types);
                }
            }
            found.or_else(|| match map.get("additionalProperties") {
                Some(other @ Value::Object(_)) => walk.types(other),
                _ => None,
            })
        })
    }

    /// Types that `schema` allows; `None` for a reference back into itself.
    fn types(&mut self, schema: &'s Value) -> Option<Types> {
        if !schema.is_object() {
            return Some(Types::ANY);
        }
        self.visit(schema, |walk, map| {
            let mut types = own_types(map);
            if let Some(target) = walk.target(map) {
                types = types & walk.types(target)?;
            }
            for keyword in ["anyOf", "oneOf"] {
                if let Some(Value::Array(parts)) = map.get(keyword) {
                    let union = parts.iter().filter_map(|p| walk.types(p)).reduce(|a, b| a | b);
                    types = types & union.unwrap_or(Types::ANY);
                }
            }
            if let Some(Value::Array(parts)) = map.get("allOf") {
                for part in parts {
                    types = types & walk.types(part).unwrap_or(Types::ANY);
                }
            }
            if map.get("nullable") == Some(&Value::Bool(true)) {
                types = types | Types::NULL;
            }
            // A contradiction is the schema's fault; the argument is still wanted.
            Some(if types == Types::NONE { Types::ANY } else { types })
        })
    }

    /// Calls `look` with the keywords of `schema`, unless the walk is inside that schema or at its limit.
    fn visit(
        &mut self,
        schema: &'s Value,
        look: impl FnOnce(&mut Self, &'s Map<String, Value>) -> Option<Types>,
    ) -> Option<Types> {
        let map = schema.as_object()?;
        if self.visits == MAX_VISITS || self.active.iter().any(|s| std::ptr::eq(*s, schema)) {
            return None;
        }
        self.visits += 1;
        self.active.push(schema);
        let found = look(self, map);
        self.active.pop();
        found
    }

    /// Schemas that describe the same value as the schema with the keywords `map`.
    fn parts(&self, map: &'s Map<String, Value>) -> Vec<&'s Value> {
        let lists = ["allOf", "anyOf", "oneOf"].iter().filter_map(|k| map.get(*k)?.as_array());
        self.target(map).into_iter().chain(lists.flatten()).collect()
    }

    /// Schema that `$ref` names. Only references into the same schema are followed.
    fn target(&self, map: &'s Map<String, Value>) -> Option<&'s Value> {
        self.root.pointer(map.get("$ref")?.as_str()?.strip_prefix('#')?)
    }
}

/// Types that `type`, `enum` and `const` allow.
fn own_types(map: &Map<String, Value>) -> Types {
    let union = |types: &mut dyn Iterator<Item = Types>| types.reduce(|a, b| a | b).unwrap_or(Types::ANY);
    match (map.get("type"), map.get("enum"), map.get("const")) {
        (Some(Value::String(name)), ..) => Types::of_name(name),
        (Some(Value::Array(names)), ..) => {
            union(&mut names.iter().map(|n| n.as_str().map_or(Types::ANY, Types::of_name)))
        }
        (_, Some(Value::Array(values)), _) => union(&mut values.iter().map(Types::of_value)),
        (.., Some(value)) => Types::of_value(value),
        _ => Types::ANY,
    }
}
