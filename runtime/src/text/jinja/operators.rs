//! Operators, subscripts and attributes with Python's meaning.

use std::cmp::Ordering;

use minijinja::Value;

use super::format;
use super::methods::{self, Access};
use super::value::{
    Kind, Method, Number, Range, Result, compare, equal, error, index, int, int_value, iterate, kind, length, lookup,
    number, sequence_like, str, text, wrong,
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
                Ok(if value.is_safe() { text(value)?.to_owned() } else { super::filters::html(text(value)?) })
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

/// `value.name`: the attribute if the type has it, else the item of that key, else undefined.
pub(super) fn attribute(value: &Value, name: &str) -> Result<Value> {
    match own_attribute(value, name)? {
        Some(found) => Ok(found),
        None => match kind(value) {
            Kind::Dict => Ok(lookup(value, &Value::from(name))?.unwrap_or_default()),
            Kind::Other => Ok(value.get_attr(name).unwrap_or_default()),
            _ => Ok(Value::UNDEFINED),
        },
    }
}

/// `value[key]`: the item, else the attribute of that name, else undefined.
pub(super) fn item(value: &Value, key: &Value) -> Result<Value> {
    let found = match kind(value) {
        Kind::Undefined => return Err(error("undefined has no items")),
        Kind::Str | Kind::List | Kind::Tuple | Kind::Range | Kind::Bytes => match int(key) {
            Ok(_) => at(value, index(key)?)?,
            Err(_) => None,
        },
        Kind::Dict => lookup(value, key).ok().flatten(),
        Kind::Other => Some(value.get_item(key).unwrap_or_default()).filter(|found| !found.is_undefined()),
        _ => None,
    };
    match (found, key.as_str()) {
        (Some(found), _) => Ok(found),
        (None, Some(name)) => Ok(own_attribute(value, name)?.unwrap_or_default()),
        (None, None) => Ok(Value::UNDEFINED),
    }
}

/// `getattr(value, name)`, without the items; undefined where the sandbox forbids the attribute.
fn own_attribute(value: &Value, name: &str) -> Result<Option<Value>> {
    if methods::INTERNAL.contains(&name) {
        return Ok(Some(Value::UNDEFINED));
    }
    if value.is_undefined() {
        return Err(error(format!("undefined has no attribute '{name}'")));
    }
    if let Some(Number::Int(n)) = number(value) {
        match name {
            "real" | "numerator" => return Ok(Some(int_value(n))),
            "imag" => return Ok(Some(Value::from(0))),
            "denominator" => return Ok(Some(Value::from(1))),
            _ => {}
        }
    }
    if let Some(Number::Float(x)) = number(value) {
        match name {
            "real" => return Ok(Some(Value::from(x))),
            "imag" => return Ok(Some(Value::from(0.0))),
            _ => {}
        }
    }
    if let Some(Kind::Range) = Some(kind(value)).filter(|_| matches!(name, "start" | "stop" | "step")) {
        return Ok(value.downcast_object_ref::<Range>().map(|range| range.bound(name)));
    }
    if let (Kind::Tuple, "grouper" | "list") = (kind(value), name) {
        let named = value.downcast_object_ref::<super::value::Group>();
        return Ok(named.map(|group| if name == "list" { group.list.clone() } else { group.grouper.clone() }));
    }
    Ok(match methods::access(kind(value), name) {
        Access::None => None,
        Access::Forbidden => Some(Value::UNDEFINED),
        Access::Method => Some(Method::value(value, name)),
    })
}

/// The item at a position, counted from the end if negative.
fn at(value: &Value, position: isize) -> Result<Option<Value>> {
    if kind(value) == Kind::Str {
        let text = text(value)?;
        let found = match usize::try_from(position) {
            Ok(position) => text.chars().nth(position),
            Err(_) => text.chars().rev().nth(position.unsigned_abs() - 1),
        };
        return Ok(found.map(Value::from));
    }
    let length = length(value)?;
    let Some(position) = usize::try_from(position).ok().or_else(|| length.checked_sub(position.unsigned_abs())) else {
        return Ok(None);
    };
    if kind(value) == Kind::Bytes {
        return Ok(value.as_bytes().and_then(|bytes| bytes.get(position)).map(|&byte| Value::from(byte)));
    }
    Ok(value.as_object().filter(|_| position < length).and_then(|object| object.get_value(&Value::from(position))))
}

/// Python's `slice.indices`: first position, end, step and count.
fn bounds(length: usize, start: &Value, stop: &Value, step: &Value) -> Result<(isize, isize, isize, usize)> {
    let length = length as isize;
    let step = if step.is_none() { 1 } else { index(step)? };
    if step == 0 {
        return Err(error("slice step cannot be zero"));
    }
    let (low, high) = if step < 0 { (-1, length - 1) } else { (0, length) };
    let clamp = |value: &Value, default: isize| -> Result<isize> {
        if value.is_none() {
            return Ok(default);
        }
        let n = index(value)?;
        Ok(if n < 0 { n + length } else { n }.clamp(low, high))
    };
    let (start, stop) =
        if step < 0 { (clamp(start, high)?, clamp(stop, low)?) } else { (clamp(start, low)?, clamp(stop, high)?) };
    let count = match step < 0 {
        true if start > stop => (start - stop - 1) / -step + 1,
        false if start < stop => (stop - start - 1) / step + 1,
        _ => 0,
    };
    Ok((start, stop, step, count as usize))
}

/// `value[start:stop:step]`.
pub(super) fn slice(value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value> {
    fn pick<T: Clone>(items: &[T], (start, _, step, count): (isize, isize, isize, usize)) -> Vec<T> {
        (0..count).map(|n| items[(start + n as isize * step) as usize].clone()).collect()
    }
    match kind(value) {
        Kind::Str => {
            let chars: Vec<char> = text(value)?.chars().collect();
            let text = String::from_iter(pick(&chars, bounds(chars.len(), start, stop, step)?));
            Ok(if value.is_safe() { Value::from_safe_string(text) } else { text.into() })
        }
        Kind::List | Kind::Tuple => {
            let items = iterate(value)?;
            Ok(sequence_like(value, pick(&items, bounds(items.len(), start, stop, step)?)))
        }
        Kind::Bytes => {
            let bytes = value.as_bytes().unwrap_or_default();
            Ok(Value::from_bytes(pick(bytes, bounds(bytes.len(), start, stop, step)?)))
        }
        Kind::Range => {
            let (start, stop, step, _) = bounds(value.len().unwrap_or(0), start, stop, step)?;
            value.downcast_object_ref::<Range>().map_or(Ok(Value::UNDEFINED), |range| range.slice(start, stop, step))
        }
        _ => Err(wrong(value, "object cannot be sliced")),
    }
}
