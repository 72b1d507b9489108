//! Numbers as text, and Python's two formatting languages: `'%s' % x` and `'{}'.format(x)`.

use minijinja::Value;

use super::attributes;
use super::float_repr::{digits, float, not_finite, positional, scientific};
use super::value::{Kind, Number, Result, error, index, kind, lookup, number, repr, str, wrong};

/// The largest width and precision: the standard library formats no more digits.
const WIDEST: usize = u16::MAX as usize;

/// A float by one of the conversions `e`, `f`, `g` (or `%`, a percentage), without a sign.
fn converted(x: f64, conversion: char, precision: Option<usize>, alternate: bool) -> String {
    let x = x.abs();
    let lower = conversion.to_ascii_lowercase();
    let text = if !x.is_finite() {
        let text = not_finite(x).to_owned();
        if lower == '%' { text + "%" } else { text }
    } else {
        let places = precision.unwrap_or(6);
        match lower {
            'f' => format!("{x:.places$}") + if alternate && places == 0 { "." } else { "" },
            '%' => format!("{:.places$}%", x * 100.0),
            'e' => {
                let (_, digits, exponent) = digits(&format!("{x:.places$e}"));
                scientific("", &digits, exponent)
            }
            _ => general(x, places.max(1), alternate, false),
        }
    };
    if conversion.is_ascii_uppercase() { text.to_uppercase() } else { text }
}

/// The conversion `g`; `pointed` as a spec with a precision and no type has it: never without a digit behind the point.
fn general(x: f64, precision: usize, alternate: bool, pointed: bool) -> String {
    let (_, mut digits, exponent) = digits(&format!("{x:.*e}", precision - 1));
    if !alternate {
        digits.truncate(digits.trim_end_matches('0').len().max(1));
    }
    let top = i32::try_from(precision).unwrap_or(i32::MAX) - i32::from(pointed);
    if exponent < -4 || exponent >= top.max(i32::from(!pointed)) {
        return scientific("", &digits, exponent);
    }
    let text = positional(&digits, exponent);
    if pointed && !text.contains('.') { text + ".0" } else { text }
}

/// Digits of an integer in a base, without a sign.
fn in_base(n: u128, base: char) -> String {
    match base {
        'b' => format!("{n:b}"),
        'o' => format!("{n:o}"),
        'x' => format!("{n:x}"),
        'X' => format!("{n:X}"),
        _ => n.to_string(),
    }
}

/// A format spec: `[[fill]align][sign][z][#][0][width][grouping][.precision][type]`.
#[derive(Debug, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zeros: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    conversion: Option<char>,
}

impl Spec {
    fn parse(spec: &str) -> Result<Self> {
        let chars: Vec<char> = spec.chars().collect();
        let mut rest = &chars[..];
        let mut parsed = Self::default();
        let is_align = |c: Option<&char>| c.is_some_and(|c| "<>=^".contains(*c));
        if is_align(rest.get(1)) {
            (parsed.fill, parsed.align) = (Some(rest[0]), Some(rest[1]));
            rest = &rest[2..];
        } else if is_align(rest.first()) {
            parsed.align = Some(rest[0]);
            rest = &rest[1..];
        }
        let one_of = |rest: &mut &[char], set: &str| {
            let found = rest.first().copied().filter(|c| set.contains(*c));
            *rest = &rest[usize::from(found.is_some())..];
            found
        };
        parsed.sign = one_of(&mut rest, "+- ");
        one_of(&mut rest, "z");
        parsed.alternate = one_of(&mut rest, "#").is_some();
        parsed.zeros = one_of(&mut rest, "0").is_some();
        parsed.width = size(&mut rest)?.unwrap_or(0);
        parsed.grouping = one_of(&mut rest, ",_");
        if one_of(&mut rest, ".").is_some() {
            parsed.precision = Some(size(&mut rest)?.ok_or_else(|| error("format specifier missing precision"))?);
        }
        parsed.conversion = rest.first().copied();
        if rest.len() > 1 {
            return Err(error(format!("invalid format specifier '{spec}'")));
        }
        Ok(parsed)
    }

    /// `body` at the spec's width; `sign` goes before zeros that fill it up.
    fn pad(&self, sign: &str, body: &str, default: char) -> String {
        let align = self.align.unwrap_or(if self.zeros && default == '>' { '=' } else { default });
        let fill = self.fill.unwrap_or(if self.zeros { '0' } else { ' ' });
        let missing = self.width.saturating_sub(sign.chars().count() + body.chars().count());
        let filled = |count: usize| String::from_iter(std::iter::repeat_n(fill, count));
        match align {
            '<' => format!("{sign}{body}{}", filled(missing)),
            '^' => format!("{}{sign}{body}{}", filled(missing / 2), filled(missing - missing / 2)),
            '=' => format!("{sign}{}{body}", filled(missing)),
            _ => format!("{}{sign}{body}", filled(missing)),
        }
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.sign) {
            (true, _) => "-",
            (false, Some('+')) => "+",
            (false, Some(' ')) => " ",
            _ => "",
        }
    }

    /// The digits before the point in groups; zeros that fill the width up are grouped as well.
    fn grouped(&self, body: &str, size: usize, room: usize) -> String {
        let Some(separator) = self.grouping else { return body.to_owned() };
        let end = body.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(body.len());
        let (whole, rest) = body.split_at(end);
        let mut digits: Vec<char> = whole.chars().collect();
        if self.zeros && self.align.is_none() {
            let wide = |count: usize| count + (count - 1) / size + rest.chars().count();
            while wide(digits.len().max(1)) < room {
                digits.insert(0, '0');
            }
        }
        let mut out = String::new();
        for (n, digit) in digits.iter().enumerate() {
            if n > 0 && (digits.len() - n).is_multiple_of(size) {
                out.push(separator);
            }
            out.push(*digit);
        }
        out + rest
    }
}

/// Leading digits as a size.
fn size(rest: &mut &[char]) -> Result<Option<usize>> {
    let count = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, after) = rest.split_at(count);
    *rest = after;
    if digits.is_empty() {
        return Ok(None);
    }
    match String::from_iter(digits).parse() {
        Ok(size) if size <= WIDEST => Ok(Some(size)),
        _ => Err(error("too many decimal digits in format string")),
    }
}

/// `format(value, spec)`.
pub(super) fn format(value: &Value, spec: &str) -> Result<String> {
    if spec.is_empty() {
        return str(value);
    }
    let unknown = |spec: &Spec| {
        let code = spec.conversion.unwrap_or_default();
        error(format!("unknown format code '{code}' for object of type '{}'", kind(value).name()))
    };
    match (kind(value), number(value)) {
        (Kind::Str, _) => {
            let spec = Spec::parse(spec)?;
            if spec.sign.is_some() || spec.alternate || spec.grouping.is_some() || spec.align == Some('=') {
                return Err(error("this format is not allowed for strings"));
            }
            if !matches!(spec.conversion, None | Some('s')) {
                return Err(unknown(&spec));
            }
            let text = str(value)?;
            Ok(spec.pad("", &cut(&text, spec.precision), '<'))
        }
        (_, Some(number)) => {
            let spec = Spec::parse(spec)?;
            match (number, spec.conversion) {
                (Number::Int(n), None | Some('d' | 'n' | 'b' | 'o' | 'x' | 'X' | 'c')) => {
                    if spec.precision.is_some() {
                        return Err(error("precision not allowed in integer format specifier"));
                    }
                    format_int(&spec, n)
                }
                (_, None | Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' | 'n')) => {
                    Ok(format_float(&spec, number.float()))
                }
                _ => Err(unknown(&spec)),
            }
        }
        _ => Err(wrong(value, "object does not support a format specifier")),
    }
}

fn cut(text: &str, precision: Option<usize>) -> String {
    match precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    }
}

fn format_int(spec: &Spec, n: i128) -> Result<String> {
    let base = spec.conversion.unwrap_or('d');
    if base == 'c' {
        let c = u32::try_from(n).ok().and_then(char::from_u32).ok_or_else(|| error("%c arg not in range(0x110000)"))?;
        return Ok(spec.pad("", &c.to_string(), '<'));
    }
    if spec.grouping == Some(',') && !matches!(base, 'd') {
        return Err(error(format!("cannot specify ',' with '{base}'")));
    }
    let prefix =
        if spec.alternate && base.is_ascii() && "boxX".contains(base) { format!("0{base}") } else { String::new() };
    let sign = format!("{}{prefix}", spec.sign(n < 0));
    let room = spec.width.saturating_sub(sign.len());
    let body = spec.grouped(&in_base(n.unsigned_abs(), base), if base == 'd' { 3 } else { 4 }, room);
    Ok(spec.pad(&sign, &body, '>'))
}

fn format_float(spec: &Spec, x: f64) -> String {
    let body = match spec.conversion {
        None => match spec.precision {
            Some(precision) if x.is_finite() => general(x.abs(), precision.max(1), spec.alternate, true),
            _ => float(x.abs()),
        },
        Some(conversion) => {
            converted(x, if conversion == 'n' { 'g' } else { conversion }, spec.precision, spec.alternate)
        }
    };
    let sign = spec.sign(x.is_sign_negative() && !x.is_nan());
    let room = spec.width.saturating_sub(sign.len());
    spec.pad(sign, &spec.grouped(&body, 3, room), '>')
}

/// `template % values`.
pub(super) fn percent(template: &str, values: &Value) -> Result<String> {
    let is_tuple = kind(values) == Kind::Tuple;
    let arguments: Vec<Value> = if is_tuple { values.try_iter()?.collect() } else { vec![values.clone()] };
    let mut arguments = arguments.into_iter();
    let mut out = String::new();
    let chars: Vec<char> = template.chars().collect();
    let mut rest = &chars[..];
    while let [c, after @ ..] = rest {
        rest = after;
        if *c != '%' {
            out.push(*c);
            continue;
        }
        let mut next = || arguments.next().ok_or_else(|| error("not enough arguments for format string"));
        let mut argument = None;
        if let ['(', after @ ..] = rest {
            let end = after.iter().position(|&c| c == ')').ok_or_else(|| error("incomplete format key"))?;
            let key = Value::from(String::from_iter(&after[..end]));
            if kind(values) != Kind::Dict {
                return Err(error("format requires a mapping"));
            }
            argument = Some(lookup(values, &key)?.ok_or_else(|| error(format!("no key {key:?} to format")))?);
            rest = &after[end + 1..];
        }
        let mut spec = Spec::default();
        let flags = rest.iter().take_while(|c| "#0- +".contains(**c)).count();
        for flag in &rest[..flags] {
            match flag {
                '#' => spec.alternate = true,
                '0' => spec.zeros = true,
                '-' => spec.align = Some('<'),
                '+' => spec.sign = Some('+'),
                _ => spec.sign = spec.sign.or(Some(' ')),
            }
        }
        rest = &rest[flags..];
        let mut star = |rest: &mut &[char]| {
            if let ['*', after @ ..] = *rest {
                *rest = after;
                return index(&next()?).map(Some);
            }
            Ok(size(rest)?.map(|size| size as isize))
        };
        if let Some(width) = star(&mut rest)? {
            spec.align = if width < 0 { Some('<') } else { spec.align };
            spec.width = width.unsigned_abs();
        }
        if let ['.', after @ ..] = rest {
            rest = after;
            spec.precision = Some(star(&mut rest)?.unwrap_or(0).max(0) as usize);
        }
        if spec.width.max(spec.precision.unwrap_or(0)) > WIDEST {
            return Err(error("width or precision too big"));
        }
        rest = &rest[rest.iter().take_while(|c| "hlL".contains(**c)).count()..];
        let [conversion, after @ ..] = rest else { return Err(error("incomplete format")) };
        rest = after;
        if *conversion == '%' {
            out.push('%');
            continue;
        }
        let argument = match argument {
            Some(argument) => argument,
            None => next()?,
        };
        out.push_str(&converted_argument(&mut spec, *conversion, &argument)?);
    }
    let left_over = arguments.next().is_some();
    // Whatever can be subscripted counts as a mapping, which need not be used up.
    let mapping = matches!(kind(values), Kind::Dict | Kind::List | Kind::Range | Kind::Bytes | Kind::Undefined);
    if left_over && (is_tuple || !mapping) {
        return Err(error("not all arguments converted during string formatting"));
    }
    Ok(out)
}

fn converted_argument(spec: &mut Spec, conversion: char, argument: &Value) -> Result<String> {
    let needs_number =
        || error(format!("%{conversion} format: a real number is required, not {}", kind(argument).name()));
    if spec.align == Some('<') {
        spec.zeros = false;
    }
    match conversion {
        's' | 'r' | 'a' => {
            let text = match conversion {
                's' => str(argument)?,
                'r' => repr(argument)?,
                _ => ascii(argument)?,
            };
            spec.zeros = false;
            Ok(spec.pad("", &cut(&text, spec.precision), '>'))
        }
        'c' => {
            let text = match (argument.as_str(), number(argument)) {
                (Some(text), _) if text.chars().count() == 1 => text.to_owned(),
                (None, Some(Number::Int(n))) => u32::try_from(n)
                    .ok()
                    .and_then(char::from_u32)
                    .ok_or_else(|| error("%c arg not in range"))?
                    .to_string(),
                _ => return Err(error("%c requires int or char")),
            };
            spec.zeros = false;
            Ok(spec.pad("", &text, '>'))
        }
        'd' | 'i' | 'u' | 'o' | 'x' | 'X' => {
            let n = match number(argument).ok_or_else(needs_number)? {
                Number::Int(n) => n,
                Number::Float(x) if x.is_finite() && "diu".contains(conversion) => x.trunc() as i128,
                Number::Float(_) => return Err(needs_number()),
            };
            let mut body = in_base(n.unsigned_abs(), conversion);
            let digits = spec.precision.unwrap_or(0);
            body.insert_str(0, &"0".repeat(digits.saturating_sub(body.len())));
            let prefix =
                if spec.alternate && "oxX".contains(conversion) { format!("0{conversion}") } else { String::new() };
            Ok(spec.pad(&format!("{}{prefix}", spec.sign(n < 0)), &body, '>'))
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let x = number(argument).ok_or_else(needs_number)?.float();
            let body = converted(x, conversion, spec.precision, spec.alternate);
            Ok(spec.pad(spec.sign(x.is_sign_negative() && !x.is_nan()), &body, '>'))
        }
        other => Err(error(format!("unsupported format character '{other}'"))),
    }
}

/// `ascii(value)`.
fn ascii(value: &Value) -> Result<String> {
    let mut out = String::new();
    for c in repr(value)?.chars() {
        if c.is_ascii() { out.push(c) } else { super::value::escape(&mut out, c) }
    }
    Ok(out)
}

/// Arguments of `str.format`.
pub(super) struct Fields<'a> {
    pub(super) positional: &'a [Value],
    pub(super) named: &'a dyn Fn(&str) -> Option<Value>,
}

/// `template.format(...)`.
pub(super) fn fields(template: &str, given: &Fields<'_>) -> Result<String> {
    let mut next = Some(0);
    // The format, a spec's own fields, and their specs, which are empty.
    replace_fields(template, given, &mut next, 3)
}

/// `next`: the number of the next field that has none, or `None` once fields with numbers were met.
fn replace_fields(template: &str, given: &Fields<'_>, next: &mut Option<usize>, depth: usize) -> Result<String> {
    let Some(depth) = depth.checked_sub(1) else { return Err(error("max string recursion exceeded")) };
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
            continue;
        }
        if brace == "}" {
            return Err(error("single '}' encountered in format string"));
        }
        let (field, after) = field(after)?;
        rest = after;
        let (name, spec) = match split_field(field) {
            Some(at) if field[at..].starts_with('!') => {
                let conversion = field[at + 1..].chars().next().ok_or_else(|| error("a conversion is missing"))?;
                let spec = &field[at + 1 + conversion.len_utf8()..];
                if !spec.is_empty() && !spec.starts_with(':') {
                    return Err(error("expected ':' after conversion specifier"));
                }
                ((&field[..at], Some(conversion)), spec.strip_prefix(':').unwrap_or_default())
            }
            Some(at) => ((&field[..at], None), &field[at + 1..]),
            None => ((field, None), ""),
        };
        let value = field_value(name.0, given, next)?;
        let spec = replace_fields(spec, given, next, depth)?;
        let text = match name.1 {
            None => format(&value, &spec)?,
            Some('s') => format(&Value::from(str(&value)?), &spec)?,
            Some('r') => format(&Value::from(repr(&value)?), &spec)?,
            Some('a') => format(&Value::from(ascii(&value)?), &spec)?,
            Some(other) => return Err(error(format!("unknown conversion specifier {other}"))),
        };
        out.push_str(&text);
    }
    out.push_str(rest);
    Ok(out)
}

/// The field that begins here, and what follows its closing brace.
fn field(text: &str) -> Result<(&str, &str)> {
    let mut open = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Ok((&text[..at], &text[at + 1..]));
        }
    }
    Err(error("expected '}' before end of string"))
}

/// End of the field's name: at `!` or `:`, outside of brackets.
fn split_field(field: &str) -> Option<usize> {
    let mut inside = false;
    field.char_indices().find_map(|(at, c)| {
        inside = (inside || c == '[') && c != ']';
        (!inside && matches!(c, '!' | ':')).then_some(at)
    })
}

/// The value of a field such as `0`, `name`, `name.attribute` or `0[key]`.
fn field_value(name: &str, given: &Fields<'_>, next: &mut Option<usize>) -> Result<Value> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut rest) = name.split_at(end);
    let position = if first.is_empty() {
        let position =
            next.ok_or_else(|| error("cannot switch from manual field specification to automatic numbering"))?;
        *next = Some(position + 1);
        Some(position)
    } else {
        let position = first.bytes().all(|b| b.is_ascii_digit()).then(|| first.parse::<usize>().ok()).flatten();
        if position.is_some() {
            if next.is_some_and(|n| n > 0) {
                return Err(error("cannot switch from automatic field numbering to manual field specification"));
            }
            *next = None;
        }
        position
    };
    let found = match position {
        Some(position) => given.positional.get(position).cloned(),
        None => (given.named)(first),
    };
    let mut value = found.ok_or_else(|| error(format!("no value for the field '{first}'")))?;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end == 0 {
                return Err(error("empty attribute in format string"));
            }
            value = attributes::attribute(&value, &after[..end])?;
            rest = &after[end..];
        } else if let Some((key, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let key = match key.parse::<i64>() {
                Ok(n) if key.bytes().all(|b| b.is_ascii_digit()) => Value::from(n),
                _ => Value::from(key),
            };
            value = attributes::item(&value, &key)?;
            rest = after;
        } else {
            return Err(error("a field of the format string is malformed"));
        }
    }
    Ok(value)
}
