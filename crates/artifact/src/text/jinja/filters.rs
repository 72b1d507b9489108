//! Jinja2's filters.

use std::cmp::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, State, Value};

use super::access::{Access, access};
use super::arguments::{Arguments, Bound};
use super::markup::html;
use super::methods::{self, pairs, parse_float, parse_int, soft_str};
use super::value::{
    Dict, Generator, Group, Kind, Number, Result, equal, error, hashable, index, int, int_value, iterate, kind, length,
    less, number, repr, sort, str, text, tuple, wrong,
};
use super::{attributes, format, json, operators};

type Filter = fn(&Value, &Bound) -> Result<Value>;
type Variadic = fn(&mut State<'_, '_>, &Value, &[Value]) -> Result<Value>;

/// Name, parameters behind the value, how many of them are required, and what it does.
static FILTERS: &[(&str, &str, usize, Filter)] = &[
    ("abs", "", 0, |v, _| match number(v) {
        Some(Number::Int(n)) => Ok(int_value(n.saturating_abs())),
        Some(Number::Float(x)) => Ok(x.abs().into()),
        None => Err(wrong(v, "object has no absolute value")),
    }),
    ("attr", "name", 1, attr),
    ("batch", "linecount fill_with", 1, batch),
    ("capitalize", "", 0, |v, _| Ok(methods::capitalize(&str(v)?).into())),
    ("center", "width", 0, |v, a| {
        let text = str(v)?;
        let missing = methods::missing(&text, a.given(0).unwrap_or(&int_value(80)))?;
        let left = missing / 2 + (missing & (missing + text.chars().count()) & 1);
        Ok(format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left)).into())
    }),
    ("count", "", 0, |v, _| length(v).map(Value::from)),
    ("d", "default_value boolean", 0, default),
    ("default", "default_value boolean", 0, default),
    ("dictsort", "case_sensitive by reverse", 0, dictsort),
    ("e", "", 0, |v, _| escape(v)),
    ("escape", "", 0, |v, _| escape(v)),
    ("filesizeformat", "binary", 0, filesizeformat),
    ("first", "", 0, first),
    ("float", "default", 0, |v, a| match (kind(v), number(v)) {
        (Kind::Undefined, _) => Err(wrong(v, "value is no number")),
        (_, Some(number)) => Ok(number.float().into()),
        _ => {
            let parsed = v.as_str().and_then(parse_float).map(Value::from);
            Ok(parsed.unwrap_or_else(|| a.given(0).cloned().unwrap_or(Value::from(0.0))))
        }
    }),
    ("forceescape", "", 0, |v, _| Ok(Value::from_safe_string(html(&str(v)?)))),
    ("groupby", "attribute default case_sensitive", 1, groupby),
    ("indent", "width first blank", 0, indent),
    ("int", "default base", 0, to_int),
    ("items", "", 0, |v, _| {
        let pairs = if v.is_undefined() { Vec::new() } else { pairs(v)? };
        let items = pairs.into_iter().map(|(key, value)| tuple(vec![key, value])).collect();
        Ok(Generator::value("generator object do_items", items))
    }),
    ("join", "d attribute", 0, |v, a| {
        let getter = Getter::of(a.some(1), false)?;
        let mut out = String::new();
        let separator = a.given(0).map_or(Ok(String::new()), str)?;
        for (n, item) in iterate(v)?.iter().enumerate() {
            out.push_str(if n > 0 { &separator } else { "" });
            out.push_str(&str(&getter.get(item)?)?);
        }
        Ok(out.into())
    }),
    ("last", "", 0, |v, _| match kind(v) {
        Kind::Generator => Err(wrong(v, "object is not reversible")),
        _ => Ok(iterate(v)?.pop().unwrap_or_default()),
    }),
    ("length", "", 0, |v, _| length(v).map(Value::from)),
    ("list", "", 0, |v, _| iterate(v).map(Value::from)),
    ("lower", "", 0, |v, _| Ok(str(v)?.to_lowercase().into())),
    ("max", "case_sensitive attribute", 0, |v, a| extreme(v, a, less)),
    ("min", "case_sensitive attribute", 0, |v, a| extreme(v, a, |best, candidate| less(candidate, best))),
    ("pprint", "", 0, |v, _| Ok(pretty(v, 0, 0)?.into())),
    ("random", "", 0, |v, _| {
        if !kind(v).is_sequence() {
            return Err(wrong(v, "object has no items to choose from"));
        }
        let items = iterate(v)?;
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos() as usize);
        Ok(items.get(seed % items.len().max(1)).cloned().unwrap_or_default())
    }),
    ("replace", "old new count", 2, |v, a| {
        let count = a.some(2).map_or(Ok(-1), index)?;
        Ok(methods::replace(&str(v)?, &str(&a.value(0))?, &str(&a.value(1))?, count).into())
    }),
    ("reverse", "", 0, reverse),
    ("round", "precision method", 0, round),
    ("safe", "", 0, |v, _| Ok(Value::from_safe_string(str(v)?))),
    ("slice", "slices fill_with", 1, slice),
    ("sort", "reverse case_sensitive attribute", 0, |v, a| {
        let getter = Getter::several(a.some(2), !a.flag(1))?;
        let mut keyed = Vec::new();
        for item in iterate(v)? {
            keyed.push((getter.key(&item)?, item));
        }
        sort(&mut keyed, a.flag(0))?;
        Ok(keyed.into_iter().map(|(_, item)| item).collect::<Vec<_>>().into())
    }),
    ("string", "", 0, |v, _| soft_str(v)),
    ("striptags", "", 0, |v, _| Ok(striptags(&str(v)?).into())),
    ("sum", "attribute start", 0, |v, a| {
        let getter = Getter::of(a.some(0), false)?;
        let mut total = a.given(1).cloned().unwrap_or(int_value(0));
        if kind(&total) == Kind::Str {
            return Err(error("sum() can't sum strings"));
        }
        for item in iterate(v)? {
            total = operators::binary("+", &total, &getter.get(&item)?)?;
        }
        Ok(total)
    }),
    ("title", "", 0, |v, _| Ok(title(&str(v)?).into())),
    ("tojson", json::PARAMETERS, 0, json::dump),
    ("trim", "chars", 0, |v, a| {
        let chars = a.some(0).map(text).transpose()?;
        Ok(methods::trim(&str(v)?, chars, true, true).into())
    }),
    ("truncate", "length killwords end leeway", 0, truncate),
    ("unique", "case_sensitive attribute", 0, |v, a| {
        let getter = Getter::of(a.some(1), !a.flag(0))?;
        let mut seen = Dict::new();
        let mut items = Vec::new();
        for item in iterate(v)? {
            let key = getter.get(&item)?;
            hashable(&key)?;
            if seen.insert(key, Value::UNDEFINED).is_none() {
                items.push(item);
            }
        }
        Ok(Generator::value("generator object sync_do_unique", items))
    }),
    ("upper", "", 0, |v, _| Ok(str(v)?.to_uppercase().into())),
    ("urlencode", "", 0, urlencode),
    ("wordcount", "", 0, |v, _| {
        let text = str(v)?;
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        Ok(words.filter(|word| !word.is_empty()).count().into())
    }),
    ("wordwrap", "width break_long_words wrapstring break_on_hyphens", 0, wordwrap),
    ("xmlattr", "autospace", 0, |v, a| {
        let mut attributes = Vec::new();
        for (key, value) in pairs(v)? {
            if value.is_none() || value.is_undefined() {
                continue;
            }
            let key = text(&key)?;
            if key.contains([' ', '\t', '\n', '\r', '\x0b', '\x0c', '/', '>', '=']) {
                return Err(error("invalid character in attribute name"));
            }
            attributes.push(format!("{}=\"{}\"", html(key), str(&escape(&value)?)?));
        }
        let spaced = !attributes.is_empty() && a.given(0).is_none_or(Value::is_true);
        Ok(format!("{}{}", if spaced { " " } else { "" }, attributes.join(" ")).into())
    }),
];

/// Filters that take any arguments.
static VARIADIC: &[(&str, Variadic)] = &[
    ("format", |_, v, rest| {
        let arguments = Arguments::of(rest);
        let values = match (arguments.positional.is_empty(), arguments.named.is_empty()) {
            (_, true) => tuple(arguments.positional),
            (true, false) => Value::from_pairs(arguments.named),
            _ => return Err(error("can't handle positional and keyword arguments at the same time")),
        };
        format::percent(&str(v)?, &values).map(Value::from)
    }),
    ("map", map),
    ("reject", |state, v, rest| select(state, v, rest, false, false)),
    ("rejectattr", |state, v, rest| select(state, v, rest, true, false)),
    ("select", |state, v, rest| select(state, v, rest, false, true)),
    ("selectattr", |state, v, rest| select(state, v, rest, true, true)),
];

pub(super) fn is_known(name: &str) -> bool {
    FILTERS.iter().any(|(known, ..)| *known == name) || VARIADIC.iter().any(|(known, _)| *known == name)
}

pub(super) fn install(environment: &mut Environment<'static>) {
    for (name, parameters, required, filter) in FILTERS {
        add(environment, name, move |_, value, rest| {
            filter(value, &Arguments::of(rest).bind(name, parameters, *required)?)
        });
    }
    for (name, filter) in VARIADIC {
        add(environment, name, *filter);
    }
}

/// Adds a filter that gets its arguments as they are.
pub(super) fn add<F>(environment: &mut Environment<'static>, name: &'static str, filter: F)
where
    F: Fn(&mut State<'_, '_>, &Value, &[Value]) -> Result<Value> + Send + Sync + 'static,
{
    environment.add_filter(name, move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
        let values = arguments.into_values();
        let (value, rest) = values.split_first().ok_or_else(|| error("a filter needs a value"))?;
        filter(state, value, rest)
    });
}

/// Adds a test that gets its arguments as they are.
pub(super) fn add_test<F>(environment: &mut Environment<'static>, name: &'static str, test: F)
where
    F: Fn(&State<'_, '_>, &Value, &[Value]) -> Result<bool> + Send + Sync + 'static,
{
    environment.add_test(name, move |state: &State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
        let values = arguments.into_values();
        let (value, rest) = values.split_first().ok_or_else(|| error("a test needs a value"))?;
        test(state, value, rest)
    });
}

/// Lookup of a filter's `attribute` in an item: a path such as `function.name` or `0.id`.
struct Getter {
    paths: Vec<Vec<Value>>,
    lower: bool,
}

impl Getter {
    fn of(attribute: Option<&Value>, lower: bool) -> Result<Self> {
        Ok(Self { paths: vec![path(attribute)?], lower })
    }

    /// Paths apart by commas.
    fn several(attribute: Option<&Value>, lower: bool) -> Result<Self> {
        let paths = match attribute.and_then(Value::as_str) {
            Some(attributes) => {
                attributes.split(',').map(|one| path(Some(&Value::from(one)))).collect::<Result<_>>()?
            }
            None => vec![path(attribute)?],
        };
        Ok(Self { paths, lower })
    }

    fn along(&self, path: &[Value], item: &Value) -> Result<Value> {
        let mut value = item.clone();
        for part in path {
            value = attributes::item(&value, part)?;
        }
        Ok(match value.as_str() {
            Some(text) if self.lower => text.to_lowercase().into(),
            _ => value,
        })
    }

    fn get(&self, item: &Value) -> Result<Value> {
        self.along(&self.paths[0], item)
    }

    /// The values of all paths.
    fn key(&self, item: &Value) -> Result<Value> {
        Ok(self.paths.iter().map(|path| self.along(path, item)).collect::<Result<Vec<_>>>()?.into())
    }
}

fn path(attribute: Option<&Value>) -> Result<Vec<Value>> {
    let part = |part: &str| match part.parse::<i64>() {
        Ok(n) if part.bytes().all(|b| b.is_ascii_digit()) => n.into(),
        _ => Value::from(part),
    };
    Ok(match attribute {
        None => Vec::new(),
        Some(attribute) => match attribute.as_str() {
            Some(path) => path.split('.').map(part).collect(),
            None => vec![attribute.clone()],
        },
    })
}

fn attr(value: &Value, arguments: &Bound) -> Result<Value> {
    let name = arguments.value(0);
    // Items are no attributes here.
    if kind(value) == Kind::Dict && access(Kind::Dict, text(&name)?) == Access::None {
        return Ok(Value::UNDEFINED);
    }
    attributes::attribute(value, text(&name)?)
}

fn batch(value: &Value, arguments: &Bound) -> Result<Value> {
    let size = index(&arguments.value(0))?;
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for item in iterate(value)? {
        match rows.last_mut() {
            Some(row) if row.len() as isize != size => row.push(item),
            _ => rows.push(vec![item]),
        }
    }
    // A size that is never reached but by the empty list which Python begins with.
    if size == 0 && !rows.is_empty() {
        rows = rows.into_iter().flatten().map(|item| vec![item]).collect();
        rows.insert(0, Vec::new());
    }
    if let (Some(fill), Some(row)) = (arguments.some(1), rows.last_mut()) {
        let missing = usize::try_from(size - row.len() as isize).unwrap_or(0);
        if missing > 4 << 20 {
            return Err(error("the batches are too long"));
        }
        row.extend(std::iter::repeat_n(fill.clone(), missing));
    }
    Ok(Generator::value("generator object do_batch", rows.into_iter().map(Value::from).collect()))
}

fn slice(value: &Value, arguments: &Bound) -> Result<Value> {
    let items = iterate(value)?;
    let slices = index(&arguments.value(0))?;
    if slices == 0 {
        return Err(error("integer division or modulo by zero"));
    }
    let slices = slices.max(0) as usize;
    if slices > 4 << 20 {
        return Err(error("there are too many slices"));
    }
    let mut rows = Vec::with_capacity(slices);
    let mut rest = &items[..];
    for number in 0..slices {
        let longer = number < items.len() % slices;
        let (row, after) = rest.split_at(items.len() / slices + usize::from(longer));
        rest = after;
        let mut row = row.to_vec();
        row.extend(arguments.some(1).filter(|_| !longer).cloned());
        rows.push(Value::from(row));
    }
    Ok(Generator::value("generator object sync_do_slice", rows))
}

fn default(value: &Value, arguments: &Bound) -> Result<Value> {
    let replaced = value.is_undefined() || (arguments.flag(1) && !value.is_true());
    Ok(if replaced { arguments.given(0).cloned().unwrap_or_else(|| "".into()) } else { value.clone() })
}

fn dictsort(value: &Value, arguments: &Bound) -> Result<Value> {
    let by_value = match arguments.given(1).map(text).transpose()? {
        None | Some("key") => false,
        Some("value") => true,
        Some(_) => return Err(error("you can only sort by either \"key\" or \"value\"")),
    };
    let mut keyed = Vec::new();
    for (key, item) in pairs(value)? {
        let by = if by_value { &item } else { &key };
        let by = match by.as_str() {
            Some(text) if !arguments.flag(0) => text.to_lowercase().into(),
            _ => by.clone(),
        };
        keyed.push((by, tuple(vec![key, item])));
    }
    sort(&mut keyed, arguments.flag(2))?;
    Ok(keyed.into_iter().map(|(_, pair)| pair).collect::<Vec<_>>().into())
}

fn escape(value: &Value) -> Result<Value> {
    Ok(if value.is_safe() { value.clone() } else { Value::from_safe_string(html(&str(value)?)) })
}

fn filesizeformat(value: &Value, arguments: &Bound) -> Result<Value> {
    let parsed = number(value).map(Number::float).or_else(|| value.as_str().and_then(parse_float));
    let bytes = parsed.ok_or_else(|| wrong(value, "object is no size"))?;
    let binary = arguments.flag(0);
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes.trunc()).into());
    }
    let prefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let n = (0..prefixes.len() - 1).find(|n| bytes < base.powi(*n as i32 + 2)).unwrap_or(prefixes.len() - 1);
    let prefix = if binary { format!("{}i", prefixes[n].to_uppercase()) } else { prefixes[n].to_owned() };
    Ok(format!("{:.1} {prefix}B", base * bytes / base.powi(n as i32 + 2)).into())
}

fn first(value: &Value, _: &Bound) -> Result<Value> {
    Ok(match value.downcast_object_ref::<Generator>() {
        Some(generator) => generator.next().unwrap_or_default(),
        None => match kind(value) {
            Kind::Str => text(value)?.chars().next().map(Value::from).unwrap_or_default(),
            _ => iterate(value)?.into_iter().next().unwrap_or_default(),
        },
    })
}

fn groupby(value: &Value, arguments: &Bound) -> Result<Value> {
    let default = arguments.some(1);
    let parts = path(arguments.some(0))?;
    let at = |item: &Value| {
        let mut found = item.clone();
        for part in &parts {
            found = attributes::item(&found, part)?;
            if let (true, Some(default)) = (found.is_undefined(), default) {
                found = default.clone();
            }
        }
        Ok::<_, minijinja::Error>(found)
    };
    let key = |item: &Value| {
        let found = at(item)?;
        Ok::<_, minijinja::Error>(match found.as_str() {
            Some(text) if !arguments.flag(2) => text.to_lowercase().into(),
            _ => found,
        })
    };
    let mut keyed = Vec::new();
    for item in iterate(value)? {
        keyed.push((key(&item)?, item));
    }
    sort(&mut keyed, false)?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in keyed {
        match groups.last_mut() {
            Some((known, items)) if equal(known, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let group = |(key, items): (Value, Vec<Value>)| {
        let grouper = if arguments.flag(2) { key } else { at(&items[0])? };
        Ok(Value::from_object(Group { grouper, list: items.into() }))
    };
    Ok(groups.into_iter().map(group).collect::<Result<Vec<_>>>()?.into())
}

fn indent(value: &Value, arguments: &Bound) -> Result<Value> {
    let indentation = match arguments.given(0) {
        Some(width) if kind(width) == Kind::Str => text(width)?.to_owned(),
        width => {
            let width = width.map_or(Ok(4), index)?.max(0) as usize;
            if width > 1 << 16 {
                return Err(error("the indentation is too wide"));
            }
            " ".repeat(width)
        }
    };
    let text = text(value)?.to_owned() + "\n";
    let lines = methods::lines(&text, false);
    let mut out = if arguments.flag(1) { indentation.clone() } else { String::new() };
    for (n, line) in lines.iter().enumerate() {
        if n > 0 {
            out.push('\n');
            out.push_str(if line.is_empty() && !arguments.flag(2) { "" } else { &indentation });
        }
        out.push_str(line);
    }
    Ok(out.into())
}

fn to_int(value: &Value, arguments: &Bound) -> Result<Value> {
    let base = arguments.given(1).map_or(Ok(10), int)?;
    let truncated = |x: f64| (x.is_finite() && x.abs() < 1e38).then(|| int_value(x.trunc() as i128));
    let parsed = match (kind(value), number(value)) {
        (Kind::Undefined, _) => return Err(wrong(value, "value is no number")),
        (_, Some(Number::Int(n))) => Some(int_value(n)),
        (_, Some(Number::Float(x))) if x.is_infinite() => {
            return Err(error("cannot convert float infinity to integer"));
        }
        (_, Some(Number::Float(x))) => truncated(x),
        (Kind::Str, _) => {
            let text = text(value)?;
            let whole = u32::try_from(base).ok().and_then(|base| parse_int(text, base)).map(int_value);
            whole.or_else(|| parse_float(text).and_then(truncated))
        }
        _ => None,
    };
    Ok(parsed.unwrap_or_else(|| arguments.given(0).cloned().unwrap_or(int_value(0))))
}

fn extreme(value: &Value, arguments: &Bound, better: fn(&Value, &Value) -> Result<bool>) -> Result<Value> {
    let getter = Getter::of(arguments.some(1), !arguments.flag(0))?;
    let mut best: Option<(Value, Value)> = None;
    for item in iterate(value)? {
        let key = getter.get(&item)?;
        match &best {
            Some((known, _)) if !better(known, &key)? => {}
            _ => best = Some((key, item)),
        }
    }
    Ok(best.map(|(_, item)| item).unwrap_or_default())
}

/// `pprint.pformat` at its width of 80; long strings stay in one piece.
fn pretty(value: &Value, column: usize, allowance: usize) -> Result<String> {
    const WIDTH: usize = 80;
    let value = &sorted_keys(value, 0)?;
    let line = repr(value)?;
    if line.chars().count() + column + allowance <= WIDTH {
        return Ok(line);
    }
    let separator = format!(",\n{}", " ".repeat(column + 1));
    match kind(value) {
        Kind::List | Kind::Tuple if length(value)? > 0 => {
            let items = iterate(value)?;
            let count = items.len();
            let (open, close) = match kind(value) {
                Kind::List => ("[", "]"),
                _ => ("(", if count == 1 { ",)" } else { ")" }),
            };
            let item = |(n, item): (usize, &Value)| {
                pretty(item, column + 1, if n + 1 == count { allowance + close.len() } else { 1 })
            };
            let items = items.iter().enumerate().map(item).collect::<Result<Vec<_>>>()?;
            Ok(format!("{open}{}{close}", items.join(&separator)))
        }
        Kind::Dict => {
            let pairs = pairs(value)?;
            let count = pairs.len();
            let item = |(n, (key, item)): (usize, &(Value, Value))| {
                let key = repr(key)?;
                let column = column + key.chars().count() + 3;
                Ok(format!("{key}: {}", pretty(item, column, if n + 1 == count { allowance + 1 } else { 1 })?))
            };
            let items = pairs.iter().enumerate().map(item).collect::<Result<Vec<_>>>()?;
            Ok(format!("{{{}}}", items.join(&separator)))
        }
        _ => Ok(line),
    }
}

/// The value with every dictionary in the order of its keys, where they have one.
fn sorted_keys(value: &Value, depth: usize) -> Result<Value> {
    if depth > 900 {
        return Err(error("a value is nested too deeply to print"));
    }
    Ok(match kind(value) {
        Kind::List | Kind::Tuple => {
            let items = iterate(value)?.iter().map(|item| sorted_keys(item, depth + 1)).collect::<Result<Vec<_>>>()?;
            super::value::sequence_like(value, items)
        }
        Kind::Dict => {
            let mut pairs = pairs(value)?;
            let mixed = pairs.clone();
            if sort(&mut pairs, false).is_err() {
                // Keys without an order among them are sorted by their types first.
                pairs = mixed;
                pairs.sort_by_key(|(key, _)| kind(key).name());
                for group in pairs.chunk_by_mut(|(a, _), (b, _)| kind(a) == kind(b)) {
                    let mut sorted = group.to_vec();
                    if sort(&mut sorted, false).is_ok() {
                        group.clone_from_slice(&sorted);
                    }
                }
            }
            let inner = |(key, item): (Value, Value)| Ok((key, sorted_keys(&item, depth + 1)?));
            Value::from_pairs(pairs.into_iter().map(inner).collect::<Result<Vec<_>>>()?)
        }
        _ => value.clone(),
    })
}

fn reverse(value: &Value, _: &Bound) -> Result<Value> {
    let mut items = iterate(value)?;
    items.reverse();
    let name = match kind(value) {
        Kind::Str => return Ok(text(value)?.chars().rev().collect::<String>().into()),
        Kind::Generator => return Ok(items.into()),
        Kind::List => "list_reverseiterator object",
        Kind::Range => "range_iterator object",
        Kind::Dict => "dict_reversekeyiterator object",
        _ => "reversed object",
    };
    Ok(Generator::value(name, items))
}

fn round(value: &Value, arguments: &Bound) -> Result<Value> {
    let precision = arguments.given(0).map_or(Ok(0), index)?.clamp(-400, 400) as i32;
    let method = arguments.given(1).map_or(Ok("common"), text)?;
    if !matches!(method, "common" | "ceil" | "floor") {
        return Err(error("method must be common, ceil or floor"));
    }
    let number = number(value).ok_or_else(|| wrong(value, "object cannot be rounded"))?;
    if method != "common" {
        let scale = 10f64.powi(precision);
        let scaled = number.float() * scale;
        if !scaled.is_finite() {
            return Err(error("the number is too large to round"));
        }
        return Ok((if method == "ceil" { scaled.ceil() } else { scaled.floor() } / scale).into());
    }
    match number {
        Number::Int(n) if precision >= 0 => Ok(int_value(n)),
        Number::Int(n) => {
            let Some(scale) = 10i128.checked_pow(precision.unsigned_abs()) else { return Ok(int_value(0)) };
            let (quotient, rest) = (n.div_euclid(scale), n.rem_euclid(scale));
            let up = match rest.cmp(&(scale - rest)) {
                Ordering::Less => false,
                Ordering::Equal => quotient % 2 != 0,
                Ordering::Greater => true,
            };
            let rounded = (quotient + i128::from(up)).checked_mul(scale);
            rounded.map(int_value).ok_or_else(|| error("the result is too large an integer"))
        }
        Number::Float(x) if !x.is_finite() => Ok(x.into()),
        Number::Float(x) if precision >= 0 => {
            let places = precision as usize;
            Ok(format!("{x:.places$}").parse::<f64>().unwrap_or(x).into())
        }
        Number::Float(x) => {
            let scale = 10f64.powi(-precision);
            Ok(((x / scale).round_ties_even() * scale).into())
        }
    }
}

fn striptags(text: &str) -> String {
    let without = |text: &str, open: &str, close: &str| {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, tag)) = rest.split_once(open) {
            let Some((_, after)) = tag.split_once(close) else { break };
            out.push_str(before);
            rest = after;
        }
        out + rest
    };
    let text = without(&without(text, "<!--", "-->"), "<", ">");
    let text = methods::words(&text, usize::MAX, false).join(" ");
    let named = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", "\u{a0}"),
        ("&amp;", "&"),
    ];
    named.iter().fold(text, |text, (entity, c)| text.replace(entity, c))
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut beginning = true;
    for c in text.chars() {
        if beginning {
            out.extend(c.to_uppercase())
        } else {
            out.extend(c.to_lowercase())
        }
        beginning = methods::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    out
}

fn truncate(value: &Value, arguments: &Bound) -> Result<Value> {
    let limit = arguments.given(0).map_or(Ok(255), index)?;
    let end = arguments.given(2).map_or(Ok("..."), text)?;
    let leeway = arguments.some(3).map_or(Ok(5), index)?;
    let kept = limit - end.chars().count() as isize;
    if kept < 0 || leeway < 0 {
        return Err(error("the length is too small"));
    }
    if length(value)? as isize <= limit + leeway {
        return Ok(value.clone());
    }
    let cut: String = text(value)?.chars().take(kept as usize).collect();
    let cut = match cut.rsplit_once(' ') {
        Some((before, _)) if !arguments.flag(1) => before,
        _ => &cut,
    };
    Ok(format!("{cut}{end}").into())
}

fn urlencode(value: &Value, _: &Bound) -> Result<Value> {
    let quote = |value: &Value, safe: &str, space: &str| -> Result<String> {
        let mut out = String::new();
        for byte in str(value)?.bytes() {
            match byte {
                b' ' => out.push_str(space),
                byte if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) || safe.as_bytes().contains(&byte) => {
                    out.push(byte.into())
                }
                byte => out.push_str(&format!("%{byte:02X}")),
            }
        }
        Ok(out)
    };
    let pair = |key: &Value, value: &Value| Ok(format!("{}={}", quote(key, "", "+")?, quote(value, "", "+")?));
    let parts: Vec<String> = match kind(value) {
        Kind::Dict => pairs(value)?.iter().map(|(key, value)| pair(key, value)).collect::<Result<_>>()?,
        Kind::List | Kind::Tuple | Kind::Undefined | Kind::View | Kind::Generator | Kind::Range => {
            let one = |item: &Value| match &iterate(item)?[..] {
                [key, value] => pair(key, value),
                _ => Err(error("a pair was expected")),
            };
            iterate(value)?.iter().map(one).collect::<Result<_>>()?
        }
        _ => return quote(value, "/", "%20").map(Value::from),
    };
    Ok(parts.join("&").into())
}

fn wordwrap(value: &Value, arguments: &Bound) -> Result<Value> {
    let width = arguments.given(0).map_or(Ok(79), index)?;
    if width <= 0 {
        return Err(error("the width must be above zero"));
    }
    let long_words = arguments.given(1).is_none_or(Value::is_true);
    let hyphens = arguments.given(3).is_none_or(Value::is_true);
    let end = arguments.some(2).map_or(Ok("\n"), text)?;
    let lines = methods::lines(text(value)?, false);
    let wrapped: Vec<String> =
        lines.iter().map(|line| wrap(line, width as usize, long_words, hyphens).join(end)).collect();
    Ok(wrapped.join(end).into())
}

/// `textwrap.wrap` of one line.
fn wrap(line: &str, width: usize, long_words: bool, hyphens: bool) -> Vec<String> {
    let chars: Vec<char> = line.chars().collect();
    // Words, runs of white space, and the halves of hyphenated words.
    let mut chunks: Vec<Vec<char>> = Vec::new();
    for (n, &c) in chars.iter().enumerate() {
        let after_hyphen = hyphens
            && n >= 3
            && chars[n - 1] == '-'
            && chars[n - 2].is_alphabetic()
            && chars[n - 3].is_alphanumeric()
            && c.is_alphanumeric()
            && chars.get(n + 1).is_some_and(|c| c.is_alphabetic());
        match chunks.last_mut() {
            Some(chunk) if chunk[0].is_whitespace() == c.is_whitespace() && !after_hyphen => chunk.push(c),
            _ => chunks.push(vec![c]),
        }
    }
    chunks.reverse();
    let mut out: Vec<String> = Vec::new();
    while !chunks.is_empty() {
        let is_blank = |chunk: &Vec<char>| chunk[0].is_whitespace();
        if chunks.last().is_some_and(is_blank) && !out.is_empty() {
            chunks.pop();
        }
        let mut current: Vec<Vec<char>> = Vec::new();
        let mut length = 0;
        while let Some(chunk) = chunks.pop_if(|chunk| length + chunk.len() <= width) {
            length += chunk.len();
            current.push(chunk);
        }
        if let Some(chunk) = chunks.last_mut().filter(|chunk| chunk.len() > width) {
            if long_words {
                let rest = chunk.split_off((width - length).min(chunk.len()));
                let head = std::mem::replace(chunk, rest);
                if !head.is_empty() {
                    current.push(head);
                }
            } else if current.is_empty() {
                current.extend(chunks.pop());
            }
        }
        if current.last().is_some_and(is_blank) {
            current.pop();
        }
        if !current.is_empty() {
            out.push(current.into_iter().flatten().collect());
        }
    }
    out
}

fn map(state: &mut State<'_, '_>, value: &Value, rest: &[Value]) -> Result<Value> {
    let mut items = Vec::new();
    if value.is_true() {
        let mut arguments = Arguments::of(rest);
        if let (true, Some(attribute)) = (arguments.positional.is_empty(), arguments.take("attribute")) {
            let default = arguments.take("default").filter(|default| !default.is_none());
            if let Some((unexpected, _)) = arguments.named.first() {
                return Err(error(format!("unexpected keyword argument '{unexpected}'")));
            }
            let parts = path(Some(&attribute).filter(|attribute| !attribute.is_none()))?;
            for mut item in iterate(value)? {
                for part in &parts {
                    item = attributes::item(&item, part)?;
                    if let (true, Some(default)) = (item.is_undefined(), &default) {
                        item = default.clone();
                    }
                }
                items.push(item);
            }
        } else {
            let name = arguments.positional.first().ok_or_else(|| error("map requires a filter argument"))?;
            for item in iterate(value)? {
                let values: Vec<Value> = std::iter::once(item).chain(rest[1..].iter().cloned()).collect();
                items.push(state.apply_filter(known_name(name)?, &values)?);
            }
        }
    }
    Ok(Generator::value("generator object sync_do_map", items))
}

/// A filter's or test's name; the operators of the compiler are none.
fn known_name(name: &Value) -> Result<&str> {
    text(name)
        .and_then(|name| if name.ends_with("()") { Err(error(format!("no filter named '{name}'"))) } else { Ok(name) })
}

fn select(state: &mut State<'_, '_>, value: &Value, rest: &[Value], by_attribute: bool, wanted: bool) -> Result<Value> {
    let mut items = Vec::new();
    if value.is_true() {
        let (getter, rest) = match (by_attribute, rest.split_first()) {
            (false, _) => (Getter::of(None, false)?, rest),
            (true, Some((attribute, rest))) if !attribute.is_kwargs() => (Getter::of(Some(attribute), false)?, rest),
            (true, _) => return Err(error("missing parameter for attribute name")),
        };
        for item in iterate(value)? {
            let tested = getter.get(&item)?;
            let holds = match rest.split_first() {
                Some((name, rest)) if !name.is_kwargs() => {
                    let values: Vec<Value> = std::iter::once(tested).chain(rest.iter().cloned()).collect();
                    state.perform_test(known_name(name)?, &values)?
                }
                _ => tested.is_true(),
            };
            if holds == wanted {
                items.push(item);
            }
        }
    }
    Ok(Generator::value("generator object select_or_reject", items))
}
