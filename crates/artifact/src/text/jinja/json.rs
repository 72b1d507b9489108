//! The filter `tojson` as transformers defines it: `json.dumps`, not for HTML.

use std::fmt::Write as _;

use minijinja::Value;

use super::arguments::Bound;
use super::float_repr;
use super::methods::pairs;
use super::value::{Kind, Number, Result, error, iterate, kind, number, sort, text, wrong};

const DEPTH: usize = 900;
/// Widest indentation of one level.
const INDENT: usize = 1 << 10;

/// Parameters of the filter, behind the value.
pub(super) const PARAMETERS: &str = "ensure_ascii indent separators sort_keys";

struct Writer {
    out: String,
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
}

pub(super) fn dump(value: &Value, arguments: &Bound) -> Result<Value> {
    let indent = match arguments.some(1) {
        None => None,
        Some(text_) if kind(text_) == Kind::Str => Some(text(text_)?.to_owned()),
        Some(width) => {
            let width = super::value::index(width)?.max(0) as usize;
            if width > INDENT {
                return Err(error("the indentation is too wide"));
            }
            Some(" ".repeat(width))
        }
    };
    let (item, key) = match arguments.some(2) {
        Some(separators) => match &iterate(separators)?[..] {
            [item, key] => (text(item)?.to_owned(), text(key)?.to_owned()),
            _ => return Err(error("separators must be two strings")),
        },
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let mut writer =
        Writer { out: String::new(), ascii: arguments.flag(0), indent, item, key, sorted: arguments.flag(3) };
    writer.value(value, 0)?;
    Ok(writer.out.into())
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        if depth > DEPTH {
            return Err(error("a value is nested too deeply for JSON"));
        }
        match kind(value) {
            Kind::Str => self.string(text(value)?),
            Kind::List | Kind::Tuple => {
                let items = iterate(value)?;
                self.container(['[', ']'], &items, depth, |writer, item| writer.value(item, depth + 1))?;
            }
            Kind::Dict => {
                let mut pairs = pairs(value)?;
                if self.sorted {
                    let mut keyed = pairs.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                    sort(&mut keyed, false)?;
                    pairs = keyed;
                }
                self.container(['{', '}'], &pairs, depth, |writer, (key, value)| {
                    match kind(key) {
                        Kind::Str => writer.string(text(key)?),
                        Kind::None | Kind::Bool | Kind::Int | Kind::Float => {
                            let key = scalar(key)?;
                            writer.string(&key);
                        }
                        other => {
                            return Err(error(format!(
                                "keys must be str, int, float, bool or None, not {}",
                                other.name()
                            )));
                        }
                    }
                    let colon = writer.key.clone();
                    writer.out.push_str(&colon);
                    writer.value(value, depth + 1)
                })?;
            }
            _ => self.out.push_str(&scalar(value)?),
        }
        Ok(())
    }

    fn container<T>(
        &mut self,
        [open, close]: [char; 2],
        items: &[T],
        depth: usize,
        mut write: impl FnMut(&mut Self, &T) -> Result<()>,
    ) -> Result<()> {
        self.out.push(open);
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                let separator = self.item.clone();
                self.out.push_str(&separator);
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn string(&mut self, text: &str) {
        let out = &mut self.out;
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn scalar(value: &Value) -> Result<String> {
    Ok(match (kind(value), number(value)) {
        (Kind::None, _) => "null".to_owned(),
        (Kind::Bool, _) => value.is_true().to_string(),
        (_, Some(Number::Int(n))) => n.to_string(),
        (_, Some(Number::Float(x))) => match x {
            x if x.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "Infinity".to_owned(),
            f64::NEG_INFINITY => "-Infinity".to_owned(),
            x => float_repr::float(x),
        },
        _ => return Err(wrong(value, "object is not JSON serializable")),
    })
}
