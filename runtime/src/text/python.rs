//! What chat templates expect of Python: how values print, `json.dumps`, `strftime`.
//!
//! Templates are written against Jinja2 in Python; a tool's arguments must come out letter for letter as they did in
//! training.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// `str(value)`.
pub(super) fn str(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => repr(value),
    }
}

/// `repr(value)`, near enough for what templates print: booleans, numbers, lists and dictionaries.
fn repr(value: &Value) -> String {
    let list = |open: &str, close: &str| -> Option<String> {
        let mut items = Vec::new();
        for item in value.try_iter().ok()? {
            items.push(match value.kind() {
                ValueKind::Map => format!("{}: {}", repr(&item), repr(&value.get_item(&item).ok()?)),
                _ => repr(&item),
            });
        }
        Some(format!("{open}{}{close}", items.join(", ")))
    };
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq => list("[", "]").unwrap_or_default(),
        ValueKind::Map => list("{", "}").unwrap_or_default(),
        _ => value.to_string(),
    }
}

/// A string as Python shows it inside a list: single quotes unless that takes escapes.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// The filter `tojson` as transformers defines it: `json.dumps` with `ensure_ascii=False`, nothing escaped for HTML.
pub(super) fn tojson(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    let _: Option<bool> = options.get("ensure_ascii")?;
    let sort: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;

    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut tree = serde_json::to_value(value).map_err(failed)?;
    if sort == Some(true) {
        tree.sort_all_objects();
    }
    let mut out = Vec::new();
    match indent.filter(|indent| !indent.is_none() && !indent.is_undefined()) {
        Some(indent) => {
            let width = usize::try_from(indent)?.min(16);
            let spaces = " ".repeat(width);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            tree.serialize(&mut Serializer::with_formatter(&mut out, formatter)).map_err(failed)?;
        }
        None => {
            let formatter = match separators.as_deref() {
                Some([comma, colon]) => Separated { comma: comma.clone(), colon: colon.clone() },
                _ => Separated { comma: ", ".to_owned(), colon: ": ".to_owned() },
            };
            tree.serialize(&mut Serializer::with_formatter(&mut out, formatter)).map_err(failed)?;
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned().into())
}

/// Python's compact layout has spaces where serde_json's has none.
struct Separated {
    comma: String,
    colon: String,
}

impl Formatter for Separated {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.comma.as_bytes()) }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.comma.as_bytes()) }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(self.colon.as_bytes())
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// `strftime` in UTC, the directives that templates use; others stay as they are.
pub(super) fn strftime(time: SystemTime, format: &str) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        let bare = directive == Some('-'); // `%-d`: without the leading zero
        if bare {
            directive = chars.next();
        }
        let mut two = |n: u64| if bare { write!(out, "{n}") } else { write!(out, "{n:02}") };
        let _ = match directive {
            Some('Y') => write!(out, "{year}"),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('H') => two(hour),
            Some('I') => two((hour + 11) % 12 + 1),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => out.write_str(if hour < 12 { "AM" } else { "PM" }),
            Some('B') => out.write_str(month_name),
            Some('b') => out.write_str(&month_name[..3]),
            Some('A') => out.write_str(day_name),
            Some('a') => out.write_str(&day_name[..3]),
            Some('%') => out.write_char('%'),
            Some(other) => write!(out, "%{other}"),
            None => out.write_char('%'),
        };
    }
    out
}

/// Days since 1970 to year, month, day (Howard Hinnant's `civil_from_days`, for days after 1970).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(strftime(at(0), "%Y-%m-%d %H:%M:%S %a"), "1970-01-01 00:00:00 Thu");
        assert_eq!(strftime(at(1_709_210_096), "%d %B %Y, %-I:%M %p, %A %%"), "29 February 2024, 12:34 PM, Thursday %");
        assert_eq!(strftime(at(4_102_444_799), "%y%m%d%H%M%S%q%"), "991231235959%q%");
    }

    #[test]
    fn values_print_as_python_prints_them() {
        let value = Value::from_serialize(serde_json::json!({"a": [true, null, 1, 1.5, "it's", "\n"], "b": {}}));
        assert_eq!(str(&value), r#"{'a': [True, None, 1, 1.5, "it's", '\n'], 'b': {}}"#);
        assert_eq!(str(&Value::from("it's")), "it's");
        assert_eq!(str(&Value::UNDEFINED), "");
    }
}
