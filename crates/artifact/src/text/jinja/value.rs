//! Values as Python has them: types, truth of comparisons, iteration, and how a value prints.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::float_repr;

pub(super) type Result<T> = std::result::Result<T, Error>;
/// The engine's own mapping; namespaces and loops are maps to it as well, but no dictionaries.
pub(super) type Dict = IndexMap<Value, Value>;

/// The filter that calls a method: methods call attributes, which are methods again, so that the engine joins the two.
pub(super) const CALL: &str = "call()";
/// Deepest nesting that is printed or compared; Python gives up near a thousand as well.
const DEPTH: usize = 900;
/// Address of every object that is printed: Python's differ between runs.
const ADDRESS: &str = "0x7f0000000000";

/// Python's type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Undefined,
    None,
    Bool,
    Int,
    Float,
    Str,
    Bytes,
    List,
    Tuple,
    Dict,
    Range,
    View,
    Generator,
    Method,
    Other,
}

impl Kind {
    /// The type's name in Python's messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Undefined => "Undefined",
            Self::None => "NoneType",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Str => "str",
            Self::Bytes => "bytes",
            Self::List => "list",
            Self::Tuple => "tuple",
            Self::Dict => "dict",
            Self::Range => "range",
            Self::View => "dict view",
            Self::Generator => "generator",
            Self::Method => "method",
            Self::Other => "object",
        }
    }

    /// List, tuple, range or string: what has positions.
    pub(super) fn is_sequence(self) -> bool {
        matches!(self, Self::Str | Self::Bytes | Self::List | Self::Tuple | Self::Range)
    }
}

pub(super) fn kind(value: &Value) -> Kind {
    match value.kind() {
        ValueKind::Undefined => Kind::Undefined,
        ValueKind::None => Kind::None,
        ValueKind::Bool => Kind::Bool,
        ValueKind::Number if value.is_integer() => Kind::Int,
        ValueKind::Number => Kind::Float,
        ValueKind::String => Kind::Str,
        ValueKind::Bytes => Kind::Bytes,
        ValueKind::Seq if value.is_tuple() || value.downcast_object_ref::<Group>().is_some() => Kind::Tuple,
        ValueKind::Seq if value.downcast_object_ref::<Range>().is_some() => Kind::Range,
        ValueKind::Seq => Kind::List,
        ValueKind::Iterable if value.downcast_object_ref::<View>().is_some() => Kind::View,
        ValueKind::Iterable if value.downcast_object_ref::<Generator>().is_some() => Kind::Generator,
        ValueKind::Iterable => Kind::List,
        ValueKind::Map if value.downcast_object_ref::<Dict>().is_some() || value.is_kwargs() => Kind::Dict,
        _ if value.downcast_object_ref::<Method>().is_some() => Kind::Method,
        _ => Kind::Other,
    }
}

pub(super) fn error(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// `error` about a value's type.
pub(super) fn wrong(value: &Value, what: &str) -> Error {
    error(format!("'{}' {what}", kind(value).name()))
}

/// A number, as arithmetic takes it; booleans are numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    pub(super) fn float(self) -> f64 {
        match self {
            Self::Int(n) => n as f64,
            Self::Float(x) => x,
        }
    }
}

pub(super) fn number(value: &Value) -> Option<Number> {
    match kind(value) {
        Kind::Bool => Some(Number::Int(value.is_true().into())),
        Kind::Int => i128::try_from(value.clone()).ok().map(Number::Int),
        Kind::Float => f64::try_from(value.clone()).ok().map(Number::Float),
        _ => None,
    }
}

/// An integer or boolean.
pub(super) fn int(value: &Value) -> Result<i128> {
    match number(value) {
        Some(Number::Int(n)) => Ok(n),
        _ => Err(wrong(value, "object cannot be interpreted as an integer")),
    }
}

/// An integer as a size or position: clamped, since no text or list is as long.
pub(super) fn index(value: &Value) -> Result<isize> {
    Ok(int(value)?.clamp(isize::MIN as i128 / 4, isize::MAX as i128 / 4) as isize)
}

pub(super) fn int_value(n: i128) -> Value {
    i64::try_from(n).map_or_else(|_| Value::from(n), Value::from)
}

pub(super) fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .filter(|_| kind(value) == Kind::Str)
        .ok_or_else(|| wrong(value, "object found, a string was expected"))
}

/// Items of an iteration over the value.
pub(super) fn iterate(value: &Value) -> Result<Vec<Value>> {
    match kind(value) {
        Kind::Undefined => Ok(Vec::new()),
        Kind::Str => Ok(text(value)?.chars().map(Value::from).collect()),
        Kind::Bytes => Ok(value.as_bytes().unwrap_or_default().iter().map(|&b| Value::from(b)).collect()),
        Kind::Generator => Ok(value.downcast_object_ref::<Generator>().map(Generator::take).unwrap_or_default()),
        Kind::List | Kind::Tuple | Kind::Range | Kind::View | Kind::Dict => Ok(value.try_iter()?.collect()),
        _ => Err(wrong(value, "object is not iterable")),
    }
}

/// `len(value)`.
pub(super) fn length(value: &Value) -> Result<usize> {
    match kind(value) {
        Kind::Undefined => Ok(0),
        Kind::Str | Kind::List | Kind::Tuple | Kind::Range | Kind::View | Kind::Dict => {
            value.len().ok_or_else(|| wrong(value, "object has no len()"))
        }
        Kind::Bytes => Ok(value.as_bytes().map_or(0, <[u8]>::len)),
        _ => Err(wrong(value, "object has no len()")),
    }
}

/// Check of a key: lists and dictionaries cannot be one.
pub(super) fn hashable(value: &Value) -> Result<()> {
    match kind(value) {
        Kind::List | Kind::Dict => Err(error(format!("unhashable type: '{}'", kind(value).name()))),
        Kind::Tuple => iterate(value)?.iter().try_for_each(hashable),
        _ => Ok(()),
    }
}

/// The dictionary's value of a key.
pub(super) fn lookup(dict: &Value, key: &Value) -> Result<Option<Value>> {
    hashable(key)?;
    Ok(dict.as_object().and_then(|object| object.get_value(key)))
}

/// `a == b`.
pub(super) fn equal(a: &Value, b: &Value) -> Result<bool> {
    equal_at(a, b, 0)
}

fn equal_at(a: &Value, b: &Value, depth: usize) -> Result<bool> {
    if depth > DEPTH {
        return Err(error("values are nested too deeply to compare"));
    }
    if same_object(a, b) {
        return Ok(true);
    }
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return Ok(compare_numbers(a, b) == Some(Ordering::Equal));
    }
    Ok(match (kind(a), kind(b)) {
        (Kind::Undefined, Kind::Undefined) | (Kind::None, Kind::None) => true,
        (Kind::Str, Kind::Str) => a.as_str() == b.as_str(),
        (Kind::Bytes, Kind::Bytes) => a.as_bytes() == b.as_bytes(),
        (Kind::List, Kind::List) | (Kind::Tuple, Kind::Tuple) | (Kind::Range, Kind::Range) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.try_iter()?.zip(b.try_iter()?) {
                if !equal_at(&a, &b, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Kind::Dict, Kind::Dict) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for key in a.try_iter()? {
                let same = match (lookup(a, &key)?, lookup(b, &key)?) {
                    (Some(a), Some(b)) => equal_at(&a, &b, depth + 1)?,
                    _ => false,
                };
                if !same {
                    return Ok(false);
                }
            }
            true
        }
        _ => false,
    })
}

/// `a is b`, of objects.
pub(super) fn same_object(a: &Value, b: &Value) -> bool {
    fn as_type<T: 'static>(a: &Value, b: &Value) -> bool {
        let pair = a.downcast_object_ref::<T>().zip(b.downcast_object_ref::<T>());
        pair.is_some_and(|(a, b)| std::ptr::eq(a, b))
    }
    as_type::<Vec<Value>>(a, b) || as_type::<Dict>(a, b) || as_type::<Tuple>(a, b) || as_type::<Generator>(a, b)
}

fn compare_numbers(a: Number, b: Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Int(a), Number::Float(b)) => {
            let rounded = a as f64;
            // Exact where the integer is one that a float holds.
            if rounded == b && b.abs() < 1e38 { Some(a.cmp(&(b as i128))) } else { rounded.partial_cmp(&b) }
        }
        (Number::Float(_), Number::Int(_)) => compare_numbers(b, a).map(Ordering::reverse),
    }
}

/// The order of two values; `None` where one is not a number.
///
/// # Errors
/// Values of these types have no order.
pub(super) fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>> {
    compare_at(a, b, 0)
}

fn compare_at(a: &Value, b: &Value, depth: usize) -> Result<Option<Ordering>> {
    if depth > DEPTH {
        return Err(error("values are nested too deeply to compare"));
    }
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return Ok(compare_numbers(a, b));
    }
    match (kind(a), kind(b)) {
        (Kind::Str, Kind::Str) => Ok(Some(text(a)?.cmp(text(b)?))),
        (Kind::Bytes, Kind::Bytes) => Ok(Some(a.as_bytes().cmp(&b.as_bytes()))),
        (Kind::List, Kind::List) | (Kind::Tuple, Kind::Tuple) => {
            for (a, b) in a.try_iter()?.zip(b.try_iter()?) {
                if !equal_at(&a, &b, depth + 1)? {
                    return compare_at(&a, &b, depth + 1);
                }
            }
            Ok(Some(a.len().cmp(&b.len())))
        }
        (left, right) => Err(error(format!("no order between '{}' and '{}'", left.name(), right.name()))),
    }
}

/// `a < b`.
pub(super) fn less(a: &Value, b: &Value) -> Result<bool> {
    Ok(compare(a, b)? == Some(Ordering::Less))
}

/// A stable sort by keys. Not the library's, which may panic over an order as that of NaN.
pub(super) fn sort(items: &mut Vec<(Value, Value)>, reverse: bool) -> Result<()> {
    let mut width = 1;
    while width < items.len() {
        let mut merged = Vec::with_capacity(items.len());
        for run in items.chunks(2 * width) {
            let (mut left, mut right) = run.split_at(width.min(run.len()));
            while let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right) {
                let right_first = if reverse { less(&a.0, &b.0)? } else { less(&b.0, &a.0)? };
                if right_first {
                    merged.push(b.clone());
                    right = right_rest;
                } else {
                    merged.push(a.clone());
                    left = left_rest;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        *items = merged;
        width *= 2;
    }
    Ok(())
}

/// `str(value)`.
pub(super) fn str(value: &Value) -> Result<String> {
    match kind(value) {
        Kind::Str => Ok(text(value)?.to_owned()),
        Kind::Undefined => Ok(String::new()),
        _ => repr(value),
    }
}

/// `repr(value)`.
pub(super) fn repr(value: &Value) -> Result<String> {
    let mut out = String::new();
    write_repr(&mut out, value, 0)?;
    Ok(out)
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<()> {
    if depth > DEPTH {
        return Err(error("a value is nested too deeply to print"));
    }
    match kind(value) {
        Kind::Undefined => out.push_str("Undefined"),
        Kind::None => out.push_str("None"),
        Kind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        Kind::Int => out.push_str(&value.to_string()),
        Kind::Float => out.push_str(&float_repr::float(f64::try_from(value.clone())?)),
        Kind::Str if value.is_safe() => {
            out.push_str("Markup(");
            quote(out, text(value)?);
            out.push(')');
        }
        Kind::Str => quote(out, text(value)?),
        Kind::Bytes => quote_bytes(out, value.as_bytes().unwrap_or_default()),
        Kind::List => write_items(out, "[", value, "]", depth)?,
        Kind::Tuple => {
            write_items(out, "(", value, if value.len() == Some(1) { ",)" } else { ")" }, depth)?;
        }
        Kind::Dict => {
            out.push('{');
            for (n, key) in value.try_iter()?.enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                let item = value.as_object().and_then(|object| object.get_value(&key)).unwrap_or_default();
                write_repr(out, &item, depth + 1)?;
            }
            out.push('}');
        }
        Kind::View => {
            let view = value.downcast_object_ref::<View>().ok_or_else(|| wrong(value, "object cannot be printed"))?;
            let _ = write!(out, "dict_{}", view.name);
            write_items(out, "([", value, "])", depth)?;
        }
        Kind::Other if type_name(value).ends_with("Namespace") => {
            let pairs = value.as_object().and_then(|object| object.try_iter_pairs()).into_iter().flatten();
            out.push_str("<Namespace ");
            write_repr(out, &Value::from_pairs(pairs), depth + 1)?;
            out.push('>');
        }
        Kind::Range | Kind::Generator | Kind::Method | Kind::Other => {
            let _ = write!(out, "{value}");
        }
    }
    Ok(())
}

fn write_items(out: &mut String, open: &str, value: &Value, close: &str, depth: usize) -> Result<()> {
    out.push_str(open);
    for (n, item) in value.try_iter()?.enumerate() {
        out.push_str(if n > 0 { ", " } else { "" });
        write_repr(out, &item, depth + 1)?;
    }
    out.push_str(close);
    Ok(())
}

/// `str.isprintable` of one character. The standard library escapes the same categories; after a letter, since a mark
/// that combines is escaped where it stands first.
pub(super) fn printable(c: char) -> bool {
    let mut pair = [0; 8];
    pair[0] = b'a';
    let length = 1 + c.encode_utf8(&mut pair[1..]).len();
    matches!(c, '\'' | '"' | '\\')
        || str::from_utf8(&pair[..length]).is_ok_and(|pair| pair.escape_debug().eq(pair.chars()))
}

/// A string as Python shows it inside a list: single quotes unless that takes escapes.
fn quote(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if printable(c) => out.push(c),
            c => escape(out, c),
        }
    }
    out.push(quote);
}

/// A character by its number.
pub(super) fn escape(out: &mut String, c: char) {
    let code = u32::from(c);
    let _ = match code {
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

fn quote_bytes(out: &mut String, bytes: &[u8]) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { b'"' } else { b'\'' };
    out.extend(['b', quote.into()]);
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte if byte == quote => out.extend(['\\', byte.into()]),
            b' '..=b'~' => out.push(byte.into()),
            byte => escape(out, byte.into()),
        }
    }
    out.push(quote.into());
}

/// The items of a lazy filter: gone once they were read.
#[derive(Debug)]
pub(super) struct Generator {
    name: &'static str,
    items: Mutex<Vec<Value>>,
}

impl Generator {
    pub(super) fn value(name: &'static str, items: Vec<Value>) -> Value {
        Value::from_object(Self { name, items: Mutex::new(items) })
    }

    fn take(&self) -> Vec<Value> {
        self.items.lock().map(|mut items| std::mem::take(&mut *items)).unwrap_or_default()
    }

    /// The first item alone.
    pub(super) fn next(&self) -> Option<Value> {
        let mut items = self.items.lock().ok()?;
        if items.is_empty() { None } else { Some(items.remove(0)) }
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.take())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} at {ADDRESS}>", self.name)
    }
}

/// Result of `keys()`, `values()` or `items()` of a dictionary.
#[derive(Debug)]
pub(super) struct View {
    name: &'static str,
    items: Vec<Value>,
}

impl View {
    pub(super) fn value(name: &'static str, items: Vec<Value>) -> Value {
        Value::from_object(Self { name, items })
    }
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }
}

/// `range(start, stop, step)`.
#[derive(Debug)]
pub(super) struct Range {
    start: i128,
    stop: i128,
    step: i128,
    length: usize,
}

/// The sandbox's limit.
const MAX_RANGE: i128 = 100_000;

impl Range {
    pub(super) fn value(start: i128, stop: i128, step: i128) -> Result<Value> {
        // Far from the bounds of i128, so that no difference overflows.
        if [start, stop, step].iter().any(|n| n.unsigned_abs() > 1 << 100) {
            return Err(error("the numbers of range() are too large"));
        }
        let length = match step {
            0 => return Err(error("range() arg 3 must not be zero")),
            step if step > 0 && start < stop => (stop - start - 1) / step + 1,
            step if step < 0 && start > stop => (start - stop - 1) / -step + 1,
            _ => 0,
        };
        if length > MAX_RANGE {
            return Err(error(format!("range too big: the sandbox allows {MAX_RANGE} items")));
        }
        Ok(Value::from_object(Self { start, stop, step, length: length as usize }))
    }

    pub(super) fn slice(&self, start: isize, stop: isize, step: isize) -> Result<Value> {
        let at = |n: isize| self.start + n as i128 * self.step;
        Self::value(at(start), at(stop), self.step.saturating_mul(step as i128))
    }

    pub(super) fn bound(&self, name: &str) -> Value {
        int_value(match name {
            "start" => self.start,
            "stop" => self.stop,
            _ => self.step,
        })
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let n = key.as_usize().filter(|&n| n < self.length)?;
        Some(int_value(self.start + n as i128 * self.step))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.length)
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { start, stop, step, .. } = **self;
        if step == 1 { write!(f, "range({start}, {stop})") } else { write!(f, "range({start}, {stop}, {step})") }
    }
}

/// A group of the filter `groupby`: a pair whose halves have names.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) grouper: Value,
    pub(super) list: Value,
}

impl Object for Group {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_usize(), key.as_str()) {
            (Some(0), _) | (_, Some("grouper")) => Some(self.grouper.clone()),
            (Some(1), _) | (_, Some("list")) => Some(self.list.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

/// A method that was looked up and not called.
#[derive(Debug)]
pub(super) struct Method {
    receiver: Value,
    name: String,
}

impl Method {
    pub(super) fn value(receiver: &Value, name: &str) -> Value {
        Value::from_object(Self { receiver: receiver.clone(), name: name.to_owned() })
    }
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value> {
        let call = [&[self.receiver.clone(), Value::from(self.name.as_str())], args].concat();
        state.apply_filter(CALL, &call)
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&*self.name, kind(&self.receiver).name()) {
            // The sandbox has functions of its own in their place.
            ("format" | "format_map", "str") => write!(f, "<function str.{} at {ADDRESS}>", self.name),
            (name, receiver) => write!(f, "<built-in method {name} of {receiver} object at {ADDRESS}>"),
        }
    }
}

/// A tuple.
pub(super) fn tuple(items: Vec<Value>) -> Value {
    Value::from(Tuple::from(items))
}

/// A sequence of the same type as `like`.
pub(super) fn sequence_like(like: &Value, items: Vec<Value>) -> Value {
    if kind(like) == Kind::Tuple { tuple(items) } else { Value::from(items) }
}

/// The type of an object of the engine, which has no other name here.
fn type_name(value: &Value) -> &'static str {
    value.as_object().map_or("", DynObject::type_name)
}

/// Macros, functions and methods: what a template can call.
pub(super) fn callable(value: &Value) -> bool {
    let called = ["Macro", "BoxedFunction", "Cycler", "Joiner"].iter().any(|name| type_name(value).ends_with(name));
    // Jinja2's undefined can be called as well, and fails then.
    called || matches!(kind(value), Kind::Method | Kind::Undefined)
}
