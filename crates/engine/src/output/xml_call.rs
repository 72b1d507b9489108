//! Calls with one element an argument, turned into a JSON object as they come.

use std::collections::HashSet;

use serde_json::Value;

use super::json::{Fed, JsonStream, Quotes, escape_into};
use super::markup::{MAX_KEY, XmlMarkup};
use super::pattern::{MAX_BLANKS, Rest, Stop, any_of, is_blank, literal};
use super::schema::{Types, property_types};
use super::{Sink, Step};

/// Python's spellings of JSON literals, which models pick up from templates that print values by `str`.
const PYTHON_LITERALS: [(&str, &str, Types); 3] =
    [("True", "true", Types::BOOLEAN), ("False", "false", Types::BOOLEAN), ("None", "null", Types::NULL)];

/// A call behind its header.
///
/// A value ends at its end marker if another argument or the call's end follows; otherwise the marker is part of the
/// value (vllm#40861). Of an argument that comes twice the first counts: a second member of that name would leave the
/// choice to the reader of the JSON.
#[derive(Debug, Clone)]
pub(super) struct XmlCall {
    markup: &'static XmlMarkup,
    keys: HashSet<String>,
    phase: Phase,
    /// Text that is not decided yet.
    held: String,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Between two arguments.
    Between,
    Key,
    /// Between a key and its value's start marker.
    BeforeValue(String),
    Value(Argument),
}

impl XmlCall {
    /// A call whose [`super::Piece::Call`] was emitted.
    pub(super) fn new(markup: &'static XmlMarkup) -> Self {
        Self { markup, keys: HashSet::new(), phase: Phase::Between, held: String::new() }
    }

    pub(super) fn step(&mut self, c: char, parameters: &Value, sink: &mut Sink<'_>) -> Step {
        self.held.push(c);
        let markup = self.markup;
        // The character that decides a value's end is part of the next marker.
        if !self.end_of_value(sink) {
            return Step::More;
        }
        match &mut self.phase {
            Phase::Between => match any_of(&self.held, &[markup.key_open, markup.call_close, markup.block_close]) {
                Ok((0, _)) => {
                    self.held.clear();
                    self.phase = Phase::Key;
                }
                Ok(_) => {
                    sink.arguments(if self.keys.is_empty() { "{}" } else { "}" });
                    sink.end_of_call(true);
                    return Step::Ended(String::new());
                }
                Err(Stop::More) => {}
                Err(Stop::Mismatch) => return self.broken(sink),
            },
            Phase::Key => {
                if let Some(key) = self.held.strip_suffix(markup.key_close) {
                    let key = key.trim().to_owned();
                    self.held.clear();
                    match markup.value_open {
                        Some(_) => self.phase = Phase::BeforeValue(key),
                        None => self.begin_value(&key, parameters, sink),
                    }
                } else if c == '\n' || self.held.len() > MAX_KEY {
                    return self.broken(sink);
                }
            }
            Phase::BeforeValue(key) => match any_of(&self.held, markup.value_open.as_slice()) {
                Ok(_) => {
                    let key = std::mem::take(key);
                    self.held.clear();
                    self.begin_value(&key, parameters, sink);
                }
                Err(Stop::More) => {}
                Err(Stop::Mismatch) => return self.broken(sink),
            },
            Phase::Value(_) => {}
        }
        Step::More
    }

    /// Reads the held text as a value's. False while that is the innermost element.
    fn end_of_value(&mut self, sink: &mut Sink<'_>) -> bool {
        let Phase::Value(argument) = &mut self.phase else { return true };
        if argument.skips_newline && self.held == "\n" {
            argument.skips_newline = false;
            self.held.clear();
        }
        while !self.held.is_empty() {
            match value_end(&self.held, self.markup) {
                Ok(rest) => {
                    argument.end(sink);
                    self.held = rest.to_owned();
                    self.phase = Phase::Between;
                    return true;
                }
                Err(Stop::More) => return false,
                Err(Stop::Mismatch) => argument.push(self.held.remove(0), sink),
            }
        }
        false
    }

    /// Ends the call at the end of the output.
    pub(super) fn cut(mut self, sink: &mut Sink<'_>) {
        if let Phase::Value(argument) = &mut self.phase {
            match value_close(&self.held, self.markup) {
                Ok(_) => argument.end(sink),
                Err(_) => {
                    self.held.chars().for_each(|c| argument.push(c, sink));
                    argument.cut(sink);
                }
            }
        } else if self.keys.is_empty() {
            sink.arguments("{");
        }
        sink.end_of_call(false);
    }

    fn begin_value(&mut self, key: &str, parameters: &Value, sink: &mut Sink<'_>) {
        let first = self.keys.is_empty();
        let form = if self.keys.insert(key.to_owned()) {
            let mut json = String::from(if first { "{\"" } else { ",\"" });
            key.chars().for_each(|c| escape_into(c, &mut json, Quotes::Escape));
            json.push_str("\":");
            sink.arguments(&json);
            Form::new(property_types(parameters, key), sink)
        } else {
            Form::Dropped
        };
        self.phase = Phase::Value(Argument { skips_newline: self.markup.padded, form });
    }

    /// Ends the call where its markup is malformed, which is never inside a value.
    fn broken(&mut self, sink: &mut Sink<'_>) -> Step {
        sink.end_of_call(false);
        Step::Ended(std::mem::take(&mut self.held))
    }
}

/// Matches a value's end, with its newline, in front of the argument or end marker that has to follow.
fn value_end<'t>(text: &'t str, markup: &XmlMarkup) -> Rest<'t> {
    let rest = value_close(text, markup)?;
    any_of(rest, &[markup.key_open, markup.call_close, markup.block_close]).map(|_| rest)
}

fn value_close<'t>(text: &'t str, markup: &XmlMarkup) -> Rest<'t> {
    let text = match text.strip_prefix('\n') {
        Some(rest) if markup.padded => rest,
        _ => text,
    };
    literal(text, markup.value_close)
}

/// Value of an argument.
#[derive(Debug, Clone)]
struct Argument {
    /// True while a newline that belongs to the markup may come.
    skips_newline: bool,
    form: Form,
}

/// Form of a value in the arguments.
#[derive(Debug, Clone)]
enum Form {
    /// A second value for one key.
    Dropped,
    /// A string, emitted as it comes.
    String,
    /// A value that is JSON so far. It is kept, since it is a string if it turns out not to be JSON.
    Open(OpenValue),
}

#[derive(Debug, Clone)]
struct OpenValue {
    /// Types that the schema allows.
    types: Types,
    raw: String,
    /// True from the first character on that is no blank.
    began: bool,
    /// The text read as JSON, and the JSON; `None` where it is none.
    json: Option<(JsonStream, String)>,
}

impl Form {
    fn new(types: Types, sink: &mut Sink<'_>) -> Self {
        if types == Types::STRING {
            sink.arguments("\"");
            return Self::String;
        }
        Self::Open(OpenValue {
            types,
            raw: String::new(),
            began: false,
            json: Some((JsonStream::new(), String::new())),
        })
    }
}

impl Argument {
    fn push(&mut self, c: char, sink: &mut Sink<'_>) {
        self.skips_newline = false;
        match &mut self.form {
            Form::Dropped => {}
            Form::String => emit_string(c.encode_utf8(&mut [0; 4]), sink),
            Form::Open(value) => {
                if !value.push(c) {
                    sink.arguments("\"");
                    emit_string(&value.raw, sink);
                    self.form = Form::String;
                }
            }
        }
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        match &mut self.form {
            Form::Dropped => {}
            Form::String => sink.arguments("\""),
            Form::Open(value) => match value.json() {
                Some(json) => sink.arguments(&json),
                None => {
                    sink.arguments("\"");
                    emit_string(&value.raw, sink);
                    sink.arguments("\"");
                }
            },
        }
    }

    /// Emits what there is of an unfinished value.
    fn cut(&mut self, sink: &mut Sink<'_>) {
        if let Form::Open(value) = &self.form {
            match &value.json {
                Some((json, text)) => {
                    sink.arguments(text.trim_start());
                    sink.arguments(json.held());
                }
                None => {
                    sink.arguments("\"");
                    emit_string(&value.raw, sink);
                }
            }
        }
    }
}

impl OpenValue {
    /// Takes a character. False if the value can only be a string.
    fn push(&mut self, c: char) -> bool {
        // Where strings are allowed, JSON of a type that is not is text: a `5` for "string or null".
        let begins = !self.began && !is_blank(c);
        self.began |= begins;
        if begins && self.types.allow(Types::STRING) {
            let other = Types::of_first_char(c);
            if other == Types::STRING || !self.types.allow(other) {
                self.json = None;
            }
        }
        self.raw.push(c);
        if let Some((json, text)) = &mut self.json
            && json.feed(c, text) == Fed::Invalid
        {
            self.json = None;
        }
        self.json.is_some() || self.python_literal(|literal, text| literal.starts_with(text)).is_some()
    }

    /// JSON of the whole value; `None` for a string.
    fn json(&mut self) -> Option<String> {
        if let Some((json, text)) = &mut self.json
            && json.finish(text)
        {
            return Some(text.trim().to_owned());
        }
        self.python_literal(|literal, text| literal == text).map(str::to_owned)
    }

    fn python_literal(&self, matches: impl Fn(&str, &str) -> bool) -> Option<&'static str> {
        // A bound on the work for one character.
        let text = if self.raw.len() <= MAX_BLANKS { self.raw.trim() } else { return None };
        let found =
            PYTHON_LITERALS.iter().find(|(literal, _, types)| self.types.allow(*types) && matches(literal, text));
        found.map(|(_, json, _)| *json)
    }
}

fn emit_string(text: &str, sink: &mut Sink<'_>) {
    let mut json = String::with_capacity(text.len());
    text.chars().for_each(|c| escape_into(c, &mut json, Quotes::Escape));
    sink.arguments(&json);
}
