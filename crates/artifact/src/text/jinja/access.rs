//! Attributes that a template may take of a value, by its type: Jinja's sandbox.

use super::value::Kind;

/// The sandbox's answer to an attribute of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// The type has none of this name.
    None,
    /// It changes its receiver, or is internal.
    Forbidden,
    /// It may be called.
    Method,
}

const FORBIDDEN_OF_LISTS: [&str; 8] = ["append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"];
const FORBIDDEN_OF_DICTS: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];
/// Attributes of every object.
pub(super) const INTERNAL: [&str; 12] = [
    "__class__",
    "__dict__",
    "__dir__",
    "__doc__",
    "__eq__",
    "__hash__",
    "__init__",
    "__new__",
    "__reduce__",
    "__repr__",
    "__str__",
    "__subclasshook__",
];

/// The sandbox's answer to `name` of a value of this type.
pub(super) fn access(kind: Kind, name: &str) -> Access {
    let forbidden = match kind {
        Kind::List => FORBIDDEN_OF_LISTS.contains(&name),
        Kind::Dict => FORBIDDEN_OF_DICTS.contains(&name),
        _ => false,
    };
    if forbidden || INTERNAL.contains(&name) {
        return Access::Forbidden;
    }
    let special = kind == Kind::Str && matches!(name, "format" | "format_map");
    if special || is_method(kind, name) { Access::Method } else { Access::None }
}

pub(super) const STR: &[Kind] = &[Kind::Str];
pub(super) const DICT: &[Kind] = &[Kind::Dict];
pub(super) const SEQUENCE: &[Kind] = &[Kind::List, Kind::Tuple, Kind::Range];
pub(super) const INT: &[Kind] = &[Kind::Int, Kind::Bool];
pub(super) const FLOAT: &[Kind] = &[Kind::Float];

/// Names of the methods of each type.
pub(super) static NAMES: &[(&[Kind], &[&str])] = &[
    (
        STR,
        &[
            "capitalize",
            "casefold",
            "center",
            "count",
            "encode",
            "endswith",
            "expandtabs",
            "find",
            "index",
            "isalnum",
            "isalpha",
            "isascii",
            "isdecimal",
            "isdigit",
            "isidentifier",
            "islower",
            "isnumeric",
            "isprintable",
            "isspace",
            "istitle",
            "isupper",
            "join",
            "ljust",
            "lower",
            "lstrip",
            "maketrans",
            "partition",
            "removeprefix",
            "removesuffix",
            "replace",
            "rfind",
            "rindex",
            "rjust",
            "rpartition",
            "rsplit",
            "rstrip",
            "split",
            "splitlines",
            "startswith",
            "strip",
            "swapcase",
            "title",
            "translate",
            "upper",
            "zfill",
        ],
    ),
    (&[Kind::Bytes], &["decode"]),
    (SEQUENCE, &["count", "index"]),
    (&[Kind::List], &["copy"]),
    (DICT, &["copy", "fromkeys", "get", "items", "keys", "values"]),
    (INT, &["bit_length", "bit_count", "conjugate", "as_integer_ratio", "to_bytes"]),
    (FLOAT, &["is_integer", "conjugate", "hex", "as_integer_ratio"]),
];

/// True for a method of the type.
pub(super) fn is_method(kind: Kind, name: &str) -> bool {
    NAMES.iter().any(|(kinds, names)| kinds.contains(&kind) && names.contains(&name))
}
