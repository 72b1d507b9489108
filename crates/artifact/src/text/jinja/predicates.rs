//! Jinja2's tests.

use minijinja::{Environment, State, Value};

use super::arguments::{Arguments, Bound};
use super::operators::{binary, contains};
use super::value::{Kind, Result, callable, equal, hashable, int_value, kind, same_object, str};
use super::{filters, methods};

type Test = fn(&Value, &Bound) -> Result<bool>;

/// Name, parameters behind the value (all of them required), and what holds.
static TESTS: &[(&str, &str, Test)] = &[
    ("boolean", "", |v, _| Ok(kind(v) == Kind::Bool)),
    ("callable", "", |v, _| Ok(callable(v))),
    ("defined", "", |v, _| Ok(!v.is_undefined())),
    ("divisibleby", "num", |v, a| remainder(v, &a.value(0), 0)),
    ("escaped", "", |v, _| Ok(v.is_safe())),
    ("even", "", |v, _| remainder(v, &int_value(2), 0)),
    ("false", "", |v, _| Ok(kind(v) == Kind::Bool && !v.is_true())),
    ("filter", "", |v, _| hashable(v).map(|()| v.as_str().is_some_and(filters::is_known))),
    ("float", "", |v, _| Ok(kind(v) == Kind::Float)),
    ("in", "seq", |v, a| contains(&a.value(0), v)),
    ("integer", "", |v, _| Ok(kind(v) == Kind::Int)),
    ("iterable", "", |v, _| {
        Ok(!matches!(kind(v), Kind::None | Kind::Bool | Kind::Int | Kind::Float | Kind::Method | Kind::Other))
    }),
    ("lower", "", |v, _| Ok(methods::is_case(&str(v)?, char::is_lowercase))),
    ("mapping", "", |v, _| Ok(kind(v) == Kind::Dict)),
    ("none", "", |v, _| Ok(v.is_none())),
    ("number", "", |v, _| Ok(matches!(kind(v), Kind::Bool | Kind::Int | Kind::Float))),
    ("odd", "", |v, _| remainder(v, &int_value(2), 1)),
    ("sameas", "other", |v, a| same(v, &a.value(0))),
    ("sequence", "", |v, _| Ok(kind(v).is_sequence() || matches!(kind(v), Kind::Dict | Kind::Undefined))),
    ("string", "", |v, _| Ok(kind(v) == Kind::Str)),
    ("test", "", |v, _| hashable(v).map(|()| v.as_str().is_some_and(is_known))),
    ("true", "", |v, _| Ok(kind(v) == Kind::Bool && v.is_true())),
    ("undefined", "", |v, _| Ok(v.is_undefined())),
    ("upper", "", |v, _| Ok(methods::is_case(&str(v)?, char::is_uppercase))),
];

/// Names of tests that are operators.
static COMPARISONS: &[(&str, &str)] = &[
    ("==", "=="),
    ("eq", "=="),
    ("equalto", "=="),
    ("!=", "!="),
    ("ne", "!="),
    (">", ">"),
    ("gt", ">"),
    ("greaterthan", ">"),
    (">=", ">="),
    ("ge", ">="),
    ("<", "<"),
    ("lt", "<"),
    ("lessthan", "<"),
    ("<=", "<="),
    ("le", "<="),
];

fn is_known(name: &str) -> bool {
    TESTS.iter().any(|(known, ..)| *known == name) || COMPARISONS.iter().any(|(known, _)| *known == name)
}

pub(super) fn install(environment: &mut Environment<'static>) {
    let arguments = |name: &str, values: &[Value], parameters: &str| {
        let required = parameters.split_whitespace().count();
        Arguments::of(values).bind(name, parameters, required)
    };
    for (name, parameters, test) in TESTS {
        filters::add_test(environment, name, move |_: &State<'_, '_>, value, rest| {
            test(value, &arguments(name, rest, parameters)?)
        });
    }
    for (name, operator) in COMPARISONS {
        filters::add_test(environment, name, move |_: &State<'_, '_>, value, rest| {
            Ok(binary(operator, value, &arguments(name, rest, "_other")?.value(0))?.is_true())
        });
    }
}

fn remainder(value: &Value, divisor: &Value, expected: i128) -> Result<bool> {
    equal(&binary("%", value, divisor)?, &int_value(expected))
}

/// `value is other`: constants and small numbers are one object each in Python.
fn same(value: &Value, other: &Value) -> Result<bool> {
    let constant = value.as_object().is_none() && kind(value) == kind(other) && !value.is_undefined();
    Ok(if constant { equal(value, other)? } else { same_object(value, other) })
}
