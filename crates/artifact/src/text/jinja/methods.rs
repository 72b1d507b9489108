//! Methods of Python's types that the sandbox allows: none that changes its receiver.

use minijinja::{Error, State, Value};

use super::access::{Access, DICT, FLOAT, INT, SEQUENCE, STR, access};
use super::arguments::{Arguments, Bound};
use super::value::{
    Dict, Kind, Number, Result, View, equal, error, hashable, index, int, int_value, iterate, kind, lookup, number,
    printable, str, text, tuple, wrong,
};
use super::{attributes, float_repr, format};

/// `receiver.name(arguments)`.
pub(super) fn call(state: &mut State<'_, '_>, receiver: &Value, name: &str, arguments: &[Value]) -> Result<Value> {
    let kind = kind(receiver);
    if kind == Kind::Other {
        return receiver.call_method(state, name, arguments);
    }
    if kind == Kind::Str && matches!(name, "format" | "format_map") {
        return format_method(receiver, name, Arguments::of(arguments));
    }
    if let Some((_, _, parameters, required, function)) = find(kind, name) {
        return function(receiver, &Arguments::of(arguments).bind(name, parameters, *required)?);
    }
    if kind == Kind::Undefined {
        return Err(error(format!("undefined has no method '{name}'")));
    }
    let unknown = || error(format!("'{}' object has no method '{name}' that a template may call", kind.name()));
    match access(kind, name) {
        Access::None if kind == Kind::Dict => match lookup(receiver, &Value::from(name))? {
            Some(value) => value.call(state, arguments),
            None => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

fn format_method(receiver: &Value, name: &str, mut arguments: Arguments) -> Result<Value> {
    let mapping = (name == "format_map").then(|| arguments.positional.pop()).flatten();
    if name == "format_map" && (mapping.is_none() || !arguments.positional.is_empty() || !arguments.named.is_empty()) {
        return Err(error("format_map() takes exactly one argument"));
    }
    let named = |name: &str| match &mapping {
        Some(mapping) => lookup(mapping, &Value::from(name)).ok().flatten(),
        None => arguments.named.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone()),
    };
    let fields = format::Fields { positional: &arguments.positional, named: &named };
    format::fields(text(receiver)?, &fields).map(Value::from)
}

type Function = fn(&Value, &Bound) -> Result<Value>;
type Entry = (&'static [Kind], &'static str, &'static str, usize, Function);

fn find(kind: Kind, name: &str) -> Option<&'static Entry> {
    METHODS.iter().find(|(kinds, known, ..)| *known == name && kinds.contains(&kind))
}

/// Types, name, parameters, how many of them are required, and what it does.
static METHODS: &[Entry] = &[
    (STR, "capitalize", "", 0, |s, _| Ok(capitalize(text(s)?).into())),
    (STR, "casefold", "", 0, |s, _| Ok(text(s)?.to_lowercase().replace('ß', "ss").replace('ς', "σ").into())),
    (STR, "center", "_width _fillchar", 1, |s, a| pad(s, a, |missing, width| missing / 2 + (missing & width & 1))),
    (STR, "count", "_sub _start _end", 1, |s, a| {
        let found = Window::of(s, a)?.map_or(0, |window| match text(&a.value(0)) {
            Ok("") => window.text.chars().count() + 1,
            Ok(part) => window.text.matches(part).count(),
            Err(_) => 0,
        });
        Ok(found.into())
    }),
    (STR, "encode", "encoding errors", 0, encode),
    (STR, "endswith", "_suffix _start _end", 1, |s, a| affix(s, a, |text, part| text.ends_with(part))),
    (STR, "expandtabs", "tabsize", 0, |s, a| expand_tabs(text(s)?, a.given(0).map_or(Ok(8), index)?).map(Value::from)),
    (STR, "find", "_sub _start _end", 1, |s, a| Ok(position(s, a, false)?.map_or(Value::from(-1), Value::from))),
    (STR, "index", "_sub _start _end", 1, |s, a| Ok(position(s, a, false)?.ok_or_else(absent)?.into())),
    (STR, "isalnum", "", 0, |s, _| every(s, |c| c.is_alphabetic() || c.is_numeric())),
    (STR, "isalpha", "", 0, |s, _| every(s, char::is_alphabetic)),
    (STR, "isascii", "", 0, |s, _| Ok(text(s)?.is_ascii().into())),
    (STR, "isdecimal", "", 0, |s, _| every(s, is_decimal)),
    (STR, "isdigit", "", 0, |s, _| every(s, |c| is_decimal(c) || is_superscript(c))),
    (STR, "isidentifier", "", 0, |s, _| {
        let text = text(s)?;
        let begins = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
        Ok((begins && text.chars().all(|c| c.is_alphabetic() || is_decimal(c) || c == '_')).into())
    }),
    (STR, "islower", "", 0, |s, _| Ok(is_case(text(s)?, char::is_lowercase).into())),
    (STR, "isnumeric", "", 0, |s, _| every(s, char::is_numeric)),
    (STR, "isprintable", "", 0, |s, _| Ok(text(s)?.chars().all(printable).into())),
    (STR, "isspace", "", 0, |s, _| every(s, is_space)),
    (STR, "istitle", "", 0, |s, _| Ok(is_title(text(s)?).into())),
    (STR, "isupper", "", 0, |s, _| Ok(is_case(text(s)?, char::is_uppercase).into())),
    (STR, "join", "_iterable", 1, |s, a| {
        let items = iterate(&a.value(0))?;
        let items = items.iter().map(text).collect::<Result<Vec<_>>>()?;
        Ok(items.join(text(s)?).into())
    }),
    (STR, "ljust", "_width _fillchar", 1, |s, a| pad(s, a, |_, _| 0)),
    (STR, "lower", "", 0, |s, _| Ok(text(s)?.to_lowercase().into())),
    (STR, "lstrip", "_chars", 0, |s, a| strip(s, a, true, false)),
    (STR, "maketrans", "_x _y _z", 1, make_translation),
    (STR, "partition", "_sep", 1, |s, a| partition(s, a, false)),
    (STR, "removeprefix", "_prefix", 1, |s, a| {
        let text_ = text(s)?;
        Ok(text_.strip_prefix(text(&a.value(0))?).unwrap_or(text_).into())
    }),
    (STR, "removesuffix", "_suffix", 1, |s, a| {
        let text_ = text(s)?;
        Ok(text_.strip_suffix(text(&a.value(0))?).unwrap_or(text_).into())
    }),
    (STR, "replace", "_old _new _count", 2, |s, a| {
        let count = a.given(2).map_or(Ok(-1), index)?;
        Ok(replace(text(s)?, text(&a.value(0))?, text(&a.value(1))?, count).into())
    }),
    (STR, "rfind", "_sub _start _end", 1, |s, a| Ok(position(s, a, true)?.map_or(Value::from(-1), Value::from))),
    (STR, "rindex", "_sub _start _end", 1, |s, a| Ok(position(s, a, true)?.ok_or_else(absent)?.into())),
    (STR, "rjust", "_width _fillchar", 1, |s, a| pad(s, a, |missing, _| missing)),
    (STR, "rpartition", "_sep", 1, |s, a| partition(s, a, true)),
    (STR, "rsplit", "sep maxsplit", 0, |s, a| split(s, a, true)),
    (STR, "rstrip", "_chars", 0, |s, a| strip(s, a, false, true)),
    (STR, "split", "sep maxsplit", 0, |s, a| split(s, a, false)),
    (STR, "splitlines", "keepends", 0, |s, a| {
        Ok(lines(text(s)?, a.flag(0)).into_iter().map(Value::from).collect::<Vec<_>>().into())
    }),
    (STR, "startswith", "_prefix _start _end", 1, |s, a| affix(s, a, |text, part| text.starts_with(part))),
    (STR, "strip", "_chars", 0, |s, a| strip(s, a, true, true)),
    (STR, "swapcase", "", 0, |s, _| {
        let swapped =
            |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
        Ok(text(s)?.chars().map(swapped).collect::<String>().into())
    }),
    (STR, "title", "", 0, |s, _| Ok(title(text(s)?).into())),
    (STR, "translate", "_table", 1, translate),
    (STR, "upper", "", 0, |s, _| Ok(text(s)?.to_uppercase().into())),
    (STR, "zfill", "_width", 1, |s, a| {
        let text = text(s)?;
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let missing = missing(text, &a.value(0))?;
        Ok(format!("{}{}{digits}", &text[..text.len() - digits.len()], "0".repeat(missing)).into())
    }),
    (&[Kind::Bytes], "decode", "encoding errors", 0, |bytes, _| {
        let decoded =
            str::from_utf8(bytes.as_bytes().unwrap_or_default()).map_err(|_| error("the bytes are not UTF-8"))?;
        Ok(decoded.into())
    }),
    (SEQUENCE, "count", "_value", 1, |list, a| {
        let mut count = 0;
        for item in iterate(list)? {
            count += usize::from(equal(&item, &a.value(0))?);
        }
        Ok(count.into())
    }),
    (SEQUENCE, "index", "_value _start _stop", 1, |list, a| {
        let items = iterate(list)?;
        let (start, stop) = range_of(items.len(), a)?;
        for (at, item) in items.iter().enumerate().take(stop).skip(start) {
            if equal(item, &a.value(0))? {
                return Ok(at.into());
            }
        }
        Err(error("the value is not in the list"))
    }),
    (&[Kind::List], "copy", "", 0, |list, _| iterate(list).map(Value::from)),
    (DICT, "copy", "", 0, |dict, _| Ok(Value::from_pairs(pairs(dict)?))),
    (DICT, "fromkeys", "_iterable _value", 1, |_, a| {
        let value = a.given(1).cloned().unwrap_or_else(|| Value::from(()));
        let keys = iterate(&a.value(0))?;
        keys.iter().try_for_each(hashable)?;
        Ok(Value::from_object(keys.into_iter().map(|key| (key, value.clone())).collect::<Dict>()))
    }),
    (DICT, "get", "_key _default", 1, |dict, a| {
        let default = || a.given(1).cloned().unwrap_or_else(|| Value::from(()));
        Ok(lookup(dict, &a.value(0))?.unwrap_or_else(default))
    }),
    (DICT, "items", "", 0, |dict, _| {
        Ok(View::value("items", pairs(dict)?.into_iter().map(|(key, value)| tuple(vec![key, value])).collect()))
    }),
    (DICT, "keys", "", 0, |dict, _| Ok(View::value("keys", iterate(dict)?))),
    (DICT, "values", "", 0, |dict, _| {
        Ok(View::value("values", pairs(dict)?.into_iter().map(|(_, value)| value).collect()))
    }),
    (INT, "bit_length", "", 0, |n, _| Ok((128 - int(n)?.unsigned_abs().leading_zeros()).into())),
    (INT, "bit_count", "", 0, |n, _| Ok(int(n)?.unsigned_abs().count_ones().into())),
    (INT, "conjugate", "", 0, |n, _| int(n).map(int_value)),
    (INT, "as_integer_ratio", "", 0, |n, _| Ok(tuple(vec![int_value(int(n)?), 1.into()]))),
    (INT, "to_bytes", "length byteorder", 0, |n, a| {
        let size = usize::try_from(a.given(0).map_or(Ok(1), index)?).unwrap_or(0);
        let bytes = u128::try_from(int(n)?).map_err(|_| error("can't convert negative int to unsigned"))?.to_be_bytes();
        let used = bytes.iter().position(|&b| b != 0).map_or(0, |at| bytes.len() - at);
        if used > size || size > bytes.len() {
            return Err(error("int too big to convert"));
        }
        let mut bytes = bytes[bytes.len() - size..].to_vec();
        if a.given(1).and_then(Value::as_str) == Some("little") {
            bytes.reverse();
        }
        Ok(Value::from_bytes(bytes))
    }),
    (FLOAT, "is_integer", "", 0, |x, _| Ok(float(x).is_some_and(|x| x.fract() == 0.0).into())),
    (FLOAT, "conjugate", "", 0, |x, _| Ok(x.clone())),
    (FLOAT, "hex", "", 0, |x, _| Ok(hex(float(x).unwrap_or(0.0)).into())),
    (FLOAT, "as_integer_ratio", "", 0, |x, _| integer_ratio(float(x).unwrap_or(f64::NAN))),
];

fn absent() -> Error {
    error("substring not found")
}

fn float(value: &Value) -> Option<f64> {
    match number(value) {
        Some(Number::Float(x)) => Some(x),
        _ => None,
    }
}

pub(super) fn pairs(dict: &Value) -> Result<Vec<(Value, Value)>> {
    let pairs = dict.as_object().filter(|_| kind(dict) == Kind::Dict).and_then(|object| object.try_iter_pairs());
    Ok(pairs.ok_or_else(|| wrong(dict, "object has no items"))?.collect())
}

pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn is_decimal(c: char) -> bool {
    // The blocks of decimal digits that text is likely to hold, each ten in a row.
    const ZEROS: [u32; 20] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xf20,
        0x1040, 0x17e0, 0x1810, 0xff10,
    ];
    ZEROS.iter().any(|zero| u32::from(c).wrapping_sub(*zero) < 10)
}

fn is_superscript(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨')
}

fn every(value: &Value, holds: fn(char) -> bool) -> Result<Value> {
    let text = text(value)?;
    Ok((!text.is_empty() && text.chars().all(holds)).into())
}

/// `islower` or `isupper`: there are letters with a case, and all of them have this one.
pub(super) fn is_case(text: &str, holds: fn(char) -> bool) -> bool {
    let mut cased = text.chars().filter(|c| c.is_lowercase() || c.is_uppercase()).peekable();
    cased.peek().is_some() && cased.all(holds)
}

fn is_title(text: &str) -> bool {
    let mut after_cased = false;
    let mut any = false;
    for c in text.chars() {
        let (upper, lower) = (c.is_uppercase(), c.is_lowercase());
        if (upper && after_cased) || (lower && !after_cased) {
            return false;
        }
        after_cased = upper || lower;
        any |= after_cased;
    }
    any
}

/// A character at the beginning of a word: one capital, where its capital is several letters.
fn title_case(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        _ => {
            let mut out = String::new();
            let mut after_cased = false;
            for c in c.to_uppercase() {
                if after_cased {
                    out.extend(c.to_lowercase())
                } else {
                    out.push(c)
                }
                after_cased |= c.is_uppercase();
            }
            out
        }
    }
}

pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| title_case(first) + &chars.as_str().to_lowercase())
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_cased = false;
    for c in text.chars() {
        if after_cased {
            out.extend(c.to_lowercase())
        } else {
            out.push_str(&title_case(c))
        }
        after_cased = c.is_lowercase() || c.is_uppercase();
    }
    out
}

pub(super) fn replace(text: &str, old: &str, new: &str, count: isize) -> String {
    match usize::try_from(count) {
        Ok(count) => text.replacen(old, new, count),
        Err(_) => text.replace(old, new),
    }
}

/// Characters that are missing to a width.
pub(super) fn missing(text: &str, width: &Value) -> Result<usize> {
    let width = index(width)?.max(0) as usize;
    if width > 64 << 20 {
        return Err(error("the width is too large"));
    }
    Ok(width.saturating_sub(text.chars().count()))
}

fn pad(value: &Value, arguments: &Bound, left: fn(usize, usize) -> usize) -> Result<Value> {
    let text = text(value)?;
    let fill = arguments.given(1).map_or(Ok(" "), self::text)?;
    if fill.chars().count() != 1 {
        return Err(error("the fill character must be exactly one character long"));
    }
    let missing = missing(text, &arguments.value(0))?;
    let left = left(missing, missing + text.chars().count());
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)).into())
}

/// The character positions of `_start _end`, the second and third argument.
fn range_of(length: usize, arguments: &Bound) -> Result<(usize, usize)> {
    let bound = |at: usize, default: usize| -> Result<usize> {
        let Some(value) = arguments.some(at) else { return Ok(default) };
        let n = index(value)?;
        Ok(if n < 0 { (n + length as isize).max(0) as usize } else { n as usize })
    };
    Ok((bound(1, 0)?, bound(2, length)?.min(length)))
}

/// The part of a text that a search looks at.
struct Window<'a> {
    text: &'a str,
    /// Characters before it.
    before: usize,
}

impl<'a> Window<'a> {
    /// `None` where nothing can be found, not even an empty string.
    fn of(value: &'a Value, arguments: &Bound) -> Result<Option<Self>> {
        let whole = text(value)?;
        if kind(&arguments.value(0)) != Kind::Tuple {
            text(&arguments.value(0))?;
        }
        let length = whole.chars().count();
        let (start, end) = range_of(length, arguments)?;
        if start > end {
            return Ok(None);
        }
        let byte = |at: usize| whole.char_indices().nth(at).map_or(whole.len(), |(byte, _)| byte);
        Ok(Some(Self { text: &whole[byte(start)..byte(end)], before: start }))
    }
}

fn position(value: &Value, arguments: &Bound, last: bool) -> Result<Option<usize>> {
    let Some(window) = Window::of(value, arguments)? else { return Ok(None) };
    let part = arguments.value(0);
    let part = text(&part)?;
    let found = if last { window.text.rfind(part) } else { window.text.find(part) };
    Ok(found.map(|byte| window.before + window.text[..byte].chars().count()))
}

fn affix(value: &Value, arguments: &Bound, holds: fn(&str, &str) -> bool) -> Result<Value> {
    let candidates = match arguments.value(0) {
        tuple if kind(&tuple) == Kind::Tuple => iterate(&tuple)?,
        one => vec![one],
    };
    let window = Window::of(value, arguments)?;
    for candidate in &candidates {
        let candidate = text(candidate)?;
        if window.as_ref().is_some_and(|window| holds(window.text, candidate)) {
            return Ok(true.into());
        }
    }
    Ok(false.into())
}

fn strip(value: &Value, arguments: &Bound, left: bool, right: bool) -> Result<Value> {
    let chars = arguments.some(0).map(text).transpose()?;
    Ok(trim(text(value)?, chars, left, right).into())
}

/// The text without the characters of a set, or white space, at its ends.
pub(super) fn trim<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let drop = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(drop) } else { text };
    if right { text.trim_end_matches(drop) } else { text }
}

fn partition(value: &Value, arguments: &Bound, last: bool) -> Result<Value> {
    let (whole, separator) = (text(value)?, arguments.value(0));
    let separator = text(&separator)?;
    if separator.is_empty() {
        return Err(error("empty separator"));
    }
    let found = if last { whole.rsplit_once(separator) } else { whole.split_once(separator) };
    let parts = match found {
        Some((before, after)) => [before, separator, after],
        None if last => ["", "", whole],
        None => [whole, "", ""],
    };
    Ok(tuple(parts.map(Value::from).to_vec()))
}

fn split(value: &Value, arguments: &Bound, from_right: bool) -> Result<Value> {
    let whole = text(value)?;
    let limit = usize::try_from(arguments.given(1).map_or(Ok(-1), index)?).unwrap_or(usize::MAX - 1);
    let separator = arguments.some(0).map(text).transpose()?;
    let parts: Vec<&str> = match separator {
        Some("") => return Err(error("empty separator")),
        Some(separator) if from_right => {
            let mut parts: Vec<&str> = whole.rsplitn(limit + 1, separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => whole.splitn(limit + 1, separator).collect(),
        None => words(whole, limit, from_right),
    };
    Ok(parts.into_iter().map(Value::from).collect::<Vec<_>>().into())
}

/// Parts between runs of white space; the last one keeps the rest once `limit` splits were made.
pub(super) fn words(text: &str, limit: usize, from_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = trim(text, None, !from_right, from_right);
    while !rest.is_empty() {
        if parts.len() == limit {
            parts.push(rest);
            break;
        }
        let (part, after) = if from_right {
            let start = rest.char_indices().rev().find(|(_, c)| is_space(*c)).map_or(0, |(at, c)| at + c.len_utf8());
            (&rest[start..], &rest[..start])
        } else {
            rest.split_at(rest.find(is_space).unwrap_or(rest.len()))
        };
        parts.push(part);
        rest = trim(after, None, !from_right, from_right);
    }
    if from_right {
        parts.reverse();
    }
    parts
}

/// `str.splitlines`.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(at) = rest.find(ends) else {
            lines.push(rest);
            break;
        };
        let width =
            if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(1, char::len_utf8) };
        lines.push(&rest[..if keep_ends { at + width } else { at }]);
        rest = &rest[at + width..];
    }
    lines
}

fn expand_tabs(text: &str, size: isize) -> Result<String> {
    let size = usize::try_from(size).unwrap_or(0);
    if size.saturating_mul(text.matches('\t').count()) > 64 << 20 {
        return Err(error("the tabs are too wide"));
    }
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size == 0 => {}
            '\t' => {
                let width = size - column % size;
                out.extend(std::iter::repeat_n(' ', width));
                column += width;
            }
            c => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(out)
}

fn encode(value: &Value, arguments: &Bound) -> Result<Value> {
    let encoding = arguments.given(0).map_or(Ok("utf-8"), text)?.to_lowercase().replace(['_', '-'], "");
    let text = text(value)?;
    let limit = match &*encoding {
        "utf8" => return Ok(Value::from_bytes(text.as_bytes().to_vec())),
        "ascii" => 0x80,
        "latin1" | "iso88591" => 0x100,
        _ => return Err(error(format!("unknown encoding: {encoding}"))),
    };
    let byte = |c: char| u8::try_from(u32::from(c)).ok().filter(|b| u32::from(*b) < limit);
    let bytes: Option<Vec<u8>> = text.chars().map(byte).collect();
    bytes.map(Value::from_bytes).ok_or_else(|| error(format!("the text has no encoding in {encoding}")))
}

fn make_translation(_: &Value, arguments: &Bound) -> Result<Value> {
    let code = |c: char| Value::from(u32::from(c));
    let Some(to) = arguments.given(1) else {
        let mut table = Vec::new();
        for (key, value) in pairs(&arguments.value(0))? {
            let key = match key.as_str() {
                Some(key) => {
                    let mut chars = key.chars();
                    let (Some(c), None) = (chars.next(), chars.next()) else {
                        return Err(error("string keys in translate table must be of length 1"));
                    };
                    code(c)
                }
                None => int_value(int(&key)?),
            };
            table.push((key, value));
        }
        return Ok(Value::from_pairs(table));
    };
    let from = arguments.value(0);
    let (from, to): (Vec<char>, Vec<char>) = (text(&from)?.chars().collect(), text(to)?.chars().collect());
    if from.len() != to.len() {
        return Err(error("the first two maketrans arguments must have equal length"));
    }
    let mut table: Dict = from.into_iter().zip(to).map(|(from, to)| (code(from), code(to))).collect();
    let deleted = arguments.given(2).map_or(Ok(""), text)?;
    table.extend(deleted.chars().map(|c| (code(c), Value::from(()))));
    Ok(Value::from_object(table))
}

fn translate(value: &Value, arguments: &Bound) -> Result<Value> {
    let table = arguments.value(0);
    let mut out = String::new();
    for c in text(value)?.chars() {
        let found = match kind(&table) {
            Kind::Dict => lookup(&table, &Value::from(u32::from(c)))?,
            _ => Some(attributes::item(&table, &Value::from(u32::from(c)))?).filter(|found| !found.is_undefined()),
        };
        match found {
            None => out.push(c),
            Some(to) if to.is_none() => {}
            Some(to) if kind(&to) == Kind::Str => out.push_str(text(&to)?),
            Some(to) => {
                let code = u32::try_from(int(&to)?).ok().and_then(char::from_u32);
                out.push(code.ok_or_else(|| error("character mapping must be in range(0x110000)"))?);
            }
        }
    }
    Ok(out.into())
}

fn hex(x: f64) -> String {
    if !x.is_finite() || x == 0.0 {
        let sign = if x.is_sign_negative() { "-" } else { "" };
        return if x == 0.0 { format!("{sign}0x0.0p+0") } else { float_repr::float(x) };
    }
    let bits = x.to_bits();
    let (exponent, mantissa) = ((bits >> 52 & 0x7ff) as i64, bits & ((1 << 52) - 1));
    let (leading, exponent) = if exponent == 0 { (0, -1022) } else { (1, exponent - 1023) };
    format!("{}0x{leading}.{mantissa:013x}p{exponent:+}", if x < 0.0 { "-" } else { "" })
}

fn integer_ratio(x: f64) -> Result<Value> {
    if !x.is_finite() {
        return Err(error("cannot convert this number to an integer ratio"));
    }
    let (mut numerator, mut denominator) = (x, 1.0);
    while numerator.fract() != 0.0 {
        numerator *= 2.0;
        denominator *= 2.0;
    }
    if numerator.abs() > 1e38 || denominator > 1e38 {
        return Err(error("the ratio's integers are too large"));
    }
    Ok(tuple(vec![int_value(numerator as i128), int_value(denominator as i128)]))
}

/// Python's `int(text, base)`.
pub(super) fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = trim(text, None, true, true);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = |base: u32| match base {
        2 => ["0b", "0B"],
        8 => ["0o", "0O"],
        _ => ["0x", "0X"],
    };
    let (digits, base) = match base {
        0 => [2, 8, 16]
            .into_iter()
            .find_map(|base| Some((prefix(base).iter().find_map(|p| digits.strip_prefix(p))?, base)))
            .unwrap_or((digits, 10)),
        2 | 8 | 16 => (prefix(base).iter().find_map(|p| digits.strip_prefix(p)).unwrap_or(digits), base),
        2..=36 => (digits, base),
        _ => return None,
    };
    let plain = digits.replace('_', "");
    let misplaced = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    if misplaced || plain.starts_with(['+', '-']) {
        return None;
    }
    let n = i128::from_str_radix(&plain, base).ok()?;
    Some(if negative { -n } else { n })
}

/// Python's `float(text)`.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let text = trim(text, None, true, true);
    let misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    let plain = text.replace('_', "").to_lowercase();
    let known = plain.chars().all(|c| c.is_ascii_digit() || "+-.e".contains(c));
    let word = matches!(plain.trim_start_matches(['+', '-']), "inf" | "infinity" | "nan");
    if misplaced || !(known || word) { None } else { plain.parse().ok() }
}

/// `str(value)` as a value; safe strings stay safe.
pub(super) fn soft_str(value: &Value) -> Result<Value> {
    if kind(value) == Kind::Str { Ok(value.clone()) } else { str(value).map(Value::from) }
}

#[cfg(test)]
mod tests {
    use super::super::access::NAMES;
    use super::*;

    #[test]
    fn names_are_those_that_can_be_called() {
        let named: usize = NAMES.iter().map(|(_, names)| names.len()).sum();
        assert_eq!(named, METHODS.len());
        for (kinds, name, ..) in METHODS {
            assert!(NAMES.iter().any(|(of, names)| of == kinds && names.contains(name)), "{name}");
        }
    }
}
