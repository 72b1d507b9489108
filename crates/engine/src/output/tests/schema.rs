//! Types of properties.

use serde_json::json;

use super::super::schema::{Types, property_types};

#[test]
fn types_are_found_through_combinators() {
    let schema = json!({
        "type": "object",
        "properties": {
            "list": {"type": ["integer", "null"]},
            "any_of": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/Flag"}]},
            "one_of": {"oneOf": [{"const": 3}, {"enum": ["a", null]}]},
            "all_of": {"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "boolean"]}]},
            "ref": {"$ref": "#/$defs/a~1b"},
            "self": {"$ref": "#/properties/self"},
            "tree": {"anyOf": [{"type": "string"}, {"$ref": "#/properties/tree"}]},
            "remote": {"$ref": "https://example.org/schema"},
            "nullable": {"type": "string", "nullable": true},
            "never": {"allOf": [{"type": "string"}, {"type": "number"}]},
            "true": true,
            "none": {},
            "foreign": {"type": "date"},
        },
        "additionalProperties": {"type": "array"},
        "$defs": {"Flag": {"type": "boolean"}, "a/b": {"type": "object"}},
    });
    let cases = [
        ("list", Types::NUMBER | Types::NULL),
        ("any_of", Types::NUMBER | Types::BOOLEAN),
        ("one_of", Types::NUMBER | Types::STRING | Types::NULL),
        ("all_of", Types::NUMBER),
        ("ref", Types::OBJECT),
        ("self", Types::ANY),
        ("tree", Types::STRING),
        ("remote", Types::ANY),
        ("nullable", Types::STRING | Types::NULL),
        ("never", Types::ANY),
        ("true", Types::ANY),
        ("none", Types::ANY),
        ("foreign", Types::ANY),
        ("unknown", Types::ARRAY),
    ];
    for (key, expected) in cases {
        assert_eq!(property_types(&schema, key), expected, "{key}");
    }
}

#[test]
fn properties_are_found_through_combinators() {
    let schema = json!({
        "anyOf": [{"$ref": "#/$defs/A"}, {"properties": {"a": {"type": "null"}}}],
        "allOf": [{"properties": {"b": {"type": "boolean"}}}],
        "$defs": {"A": {"$ref": "#", "properties": {"a": {"type": "integer"}}}},
    });
    assert_eq!(property_types(&schema, "a"), Types::NUMBER | Types::NULL);
    assert_eq!(property_types(&schema, "b"), Types::BOOLEAN);
    assert_eq!(property_types(&schema, "c"), Types::STRING);
    for schema in
        [json!(null), json!(true), json!([]), json!({"properties": 5}), json!({"additionalProperties": false})]
    {
        assert_eq!(property_types(&schema, "a"), Types::STRING, "{schema}");
    }
}

#[test]
fn references_that_multiply_end() {
    let defs = (0..40).map(|i| {
        let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
        (format!("d{i}"), json!({"anyOf": [next, next, {"type": "string"}]}))
    });
    let schema = json!({
        "properties": {"a": {"$ref": "#/$defs/d0"}},
        "$defs": defs.collect::<serde_json::Map<_, _>>(),
    });
    assert!(property_types(&schema, "a").allow(Types::STRING));
}
