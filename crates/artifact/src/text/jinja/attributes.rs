//! `value.name`, `value[key]` and slices.

use minijinja::Value;

use super::access::{Access, INTERNAL, access};
use super::value::{
    Group, Kind, Method, Number, Range, Result, error, index, int, int_value, iterate, kind, length, lookup, number,
    sequence_like, text, wrong,
};

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
    if INTERNAL.contains(&name) {
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
        let named = value.downcast_object_ref::<Group>();
        return Ok(named.map(|group| if name == "list" { group.list.clone() } else { group.grouper.clone() }));
    }
    Ok(match access(kind(value), name) {
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
