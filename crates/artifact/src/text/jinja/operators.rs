//! Operators, subscripts and attributes with Python's meaning.

use std::cmp::Ordering;

use minijinja::Value;

use super::format;
use super::markup::html;
use super::value::{
    Kind, Number, Result, compare, equal, error, index, int_value, iterate, kind, lookup, number, sequence_like, str,
    text, wrong,
};

/// Longest string and list that repetition makes.
const LONGEST_STRING: usize = 64 << 20;
const LONGEST_LIST: usize = 4 << 20;

fn unsupported(operator: &str, a: &Value, b: &Value) -> minijinja::Error {
    error(format!("unsupported operand types for {operator}: '{}' and '{}'", kind(a).name(), kind(b).name()))
}

/// `a operator b` for every operator but `and` and `or`.
pub(super) fn binary(operator: &str, a: &Value, b: &Value) -> Result<Value> {
    let ordered = |holds: fn(Ordering) -> bool| Ok(Value::from(compare(a, b)?.is_some_and(holds)));
    match operator {
        "+" => add(a, b),
        "~" => Ok(Value::from(str(a)? + &str(b)?)),
        "*" => multiply(a, b),
        "%" if kind(a) == Kind::Str => {
            let formatted = format::percent(text(a)?, b)?;
            Ok(if a.is_safe() { Value::from_safe_string(formatted) } else { formatted.into() })
        }
        "==" => equal(a, b).map(Value::from),
        "!=" => Ok(Value::from(!equal(a, b)?)),
        "<" => ordered(Ordering::is_lt),
        "<=" => ordered(Ordering::is_le),
        ">" => ordered(Ordering::is_gt),
        ">=" => ordered(Ordering::is_ge),
        "in" => contains(b, a).map(Value::from),
        _ => match (number(a), number(b)) {
            (Some(x), Some(y)) => arithmetic(operator, x, y),
            _ => Err(unsupported(operator, a, b)),
        },
    }
}

fn add(a: &Value, b: &Value) -> Result<Value> {
    match (kind(a), kind(b)) {
        (Kind::Str, Kind::Str) if a.is_safe() || b.is_safe() => {
            let escaped = |value: &Value| -> Result<String> {
                Ok(if value.is_safe() { text(value)?.to_owned() } else { html(text(value)?) })
            };
            Ok(Value::from_safe_string(escaped(a)? + &escaped(b)?))
        }
        (Kind::Str, Kind::Str) => Ok(Value::from([text(a)?, text(b)?].concat())),
        (Kind::List, Kind::List) | (Kind::Tuple, Kind::Tuple) => {
            let mut items = iterate(a)?;
            items.extend(iterate(b)?);
            Ok(sequence_like(a, items))
        }
        _ => match (number(a), number(b)) {
            (Some(x), Some(y)) => arithmetic("+", x, y),
            _ => Err(unsupported("+", a, b)),
        },
    }
}

fn multiply(a: &Value, b: &Value) -> Result<Value> {
    let (repeated, count) = match (kind(a), kind(b)) {
        (Kind::Str | Kind::List | Kind::Tuple, Kind::Int | Kind::Bool) => (a, b),
        (Kind::Int | Kind::Bool, Kind::Str | Kind::List | Kind::Tuple) => (b, a),
        _ => {
            return match (number(a), number(b)) {
                (Some(x), Some(y)) => arithmetic("*", x, y),
                _ => Err(unsupported("*", a, b)),
            };
        }
    };
    let count = index(count)?.max(0) as usize;
    let fits = |length: usize, limit: usize| length.checked_mul(count).is_some_and(|length| length <= limit);
    if kind(repeated) == Kind::Str {
        let text = text(repeated)?;
        if !fits(text.len(), LONGEST_STRING) {
            return Err(error("the repeated string is too large"));
        }
        return Ok(Value::from(text.repeat(count)));
    }
    let items = iterate(repeated)?;
    if !fits(items.len(), LONGEST_LIST) {
        return Err(error("the repeated list is too large"));
    }
    Ok(sequence_like(repeated, items.iter().cycle().take(items.len() * count).cloned().collect()))
}

fn arithmetic(operator: &str, a: Number, b: Number) -> Result<Value> {
    let by_zero = || error("division by zero");
    let Number::Int(x) = a else { return float_arithmetic(operator, a.float(), b.float()).map(Value::from) };
    let Number::Int(y) = b else { return float_arithmetic(operator, a.float(), b.float()).map(Value::from) };
    let result = match operator {
        "+" => x.checked_add(y),
        "-" => x.checked_sub(y),
        "*" => x.checked_mul(y),
        "/" if y == 0 => return Err(by_zero()),
        "/" => return Ok(Value::from(x as f64 / y as f64)),
        "//" | "%" if y == 0 => return Err(by_zero()),
        // Towards negative infinity, and a remainder with the divisor's sign.
        "//" => x.checked_div(y).map(|quotient| if x % y != 0 && (x < 0) != (y < 0) { quotient - 1 } else { quotient }),
        "%" => x.checked_rem(y).map(|rest| if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }),
        "**" if y < 0 && x == 0 => return Err(error("0 cannot be raised to a negative power")),
        "**" if y < 0 => return Ok(Value::from((x as f64).powf(y as f64))),
        "**" => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
        _ => return Err(error(format!("unknown operator {operator}"))),
    };
    result.map(int_value).ok_or_else(|| error("the result is too large an integer"))
}

fn float_arithmetic(operator: &str, x: f64, y: f64) -> Result<f64> {
    let by_zero = || error("float division by zero");
    Ok(match operator {
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        "/" | "//" | "%" if y == 0.0 => return Err(by_zero()),
        "/" => x / y,
        "//" | "%" => {
            let rest = x % y;
            let (rest, quotient) = match rest != 0.0 {
                true if (rest < 0.0) != (y < 0.0) => (rest + y, (x - rest) / y - 1.0),
                true => (rest, (x - rest) / y),
                false => (0f64.copysign(y), x / y),
            };
            if operator == "%" { rest } else { quotient.round() }
        }
        "**" if x == 0.0 && y < 0.0 => return Err(error("0.0 cannot be raised to a negative power")),
        "**" if x < 0.0 && y.fract() != 0.0 => return Err(error("the result is a complex number")),
        "**" => match x.powf(y) {
            result if result.is_infinite() && x.is_finite() && y.is_finite() => {
                return Err(error("the result is too large"));
            }
            result => result,
        },
        _ => return Err(error(format!("unknown operator {operator}"))),
    })
}

/// `-value`.
pub(super) fn negative(value: &Value) -> Result<Value> {
    match number(value) {
        Some(Number::Int(n)) => {
            n.checked_neg().map(int_value).ok_or_else(|| error("the result is too large an integer"))
        }
        Some(Number::Float(x)) => Ok(Value::from(-x)),
        None => Err(wrong(value, "object cannot be negated")),
    }
}

/// `item in container`.
pub(super) fn contains(container: &Value, item: &Value) -> Result<bool> {
    match kind(container) {
        Kind::Str => match kind(item) {
            Kind::Str => Ok(text(container)?.contains(text(item)?)),
            other => Err(error(format!("'in <string>' requires string as left operand, not {}", other.name()))),
        },
        Kind::Dict => Ok(lookup(container, item)?.is_some()),
        _ => {
            for candidate in iterate(container)? {
                if equal(&candidate, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
