//! Calls whose arguments are JSON: DeepSeek's, and Hermes' with the name inside.

use serde_json::{Map, Value};

use super::json::{Fed, JsonStream};
use super::markup::MAX_KEY;
use super::schema::ToolSchema;
use super::{Sink, Step};

/// A DeepSeek call behind its header: one JSON object.
#[derive(Debug, Clone)]
pub(super) struct JsonCall {
    json: JsonStream,
}

impl JsonCall {
    /// A call whose [`super::Piece::Call`] was emitted.
    pub(super) fn new() -> Self {
        Self { json: JsonStream::new() }
    }

    pub(super) fn step(&mut self, c: char, sink: &mut Sink<'_>) -> Step {
        match stream_arguments(&mut self.json, c, sink) {
            Fed::More => Step::More,
            Fed::Complete => {
                sink.end_of_call(true);
                Step::Ended(String::new())
            }
            Fed::Invalid => {
                let rest = format!("{}{c}", self.json.held());
                sink.end_of_call(false);
                Step::Ended(rest)
            }
        }
    }

    pub(super) fn cut(&self, sink: &mut Sink<'_>) {
        sink.arguments(self.json.held());
        sink.end_of_call(false);
    }
}

/// A Hermes call: an object with the members `name` and `arguments`, in any order. Other members are dropped.
///
/// The call is emitted when the name is known and the arguments have begun; up to there the text is kept, since it may
/// have to come back as text.
#[derive(Debug, Clone)]
pub(super) struct HermesCall {
    /// Text from the start marker on, until the call is emitted.
    raw: String,
    phase: Phase,
    /// Index of the tool.
    tool: Option<usize>,
    /// Arguments in front of the name.
    early_arguments: Option<String>,
    emitted: bool,
    /// True if the call's arguments are whole.
    whole: bool,
}

/// Element of the object that comes next.
#[derive(Debug, Clone)]
enum Phase {
    Start,
    /// A key, or the object's end.
    Key,
    /// Inside a key or value; its JSON so far.
    Inside(Member, JsonStream, String),
    Colon(Member),
    /// The value's first character.
    Value(Member),
    Separator,
}

/// Part of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Key,
    Name,
    Arguments,
    Other,
}

impl HermesCall {
    /// A call behind `opening`, its start marker.
    pub(super) fn new(opening: String) -> Self {
        Self { raw: opening, phase: Phase::Start, tool: None, early_arguments: None, emitted: false, whole: false }
    }

    /// True if the call was emitted.
    pub(super) fn emitted(&self) -> bool {
        self.emitted
    }

    pub(super) fn step(&mut self, c: char, tools: &[ToolSchema], sink: &mut Sink<'_>) -> Step {
        // Nothing but the character behind a number ends it.
        if let Phase::Inside(Member::Other, json, text) = &mut self.phase
            && json.ends_number(c)
            && json.finish(text)
        {
            self.phase = Phase::Separator;
        }
        let taken = match &self.phase {
            Phase::Inside(..) => self.inside(c, tools, sink),
            _ if c.is_ascii_whitespace() => true,
            Phase::Separator if c == '}' => {
                return if self.end(tools, sink) { Step::Ended(String::new()) } else { self.broken(c, sink) };
            }
            _ => self.structure(c, tools, sink),
        };
        if !taken {
            return self.broken(c, sink);
        }
        if !self.emitted {
            self.raw.push(c);
        }
        Step::More
    }

    pub(super) fn cut(self, sink: &mut Sink<'_>) -> Option<String> {
        if !self.emitted {
            return Some(self.raw);
        }
        if let Phase::Inside(Member::Arguments, json, _) = &self.phase {
            sink.arguments(json.held());
        }
        sink.end_of_call(self.whole);
        None
    }

    /// Everything between keys and values.
    fn structure(&mut self, c: char, tools: &[ToolSchema], sink: &mut Sink<'_>) -> bool {
        self.phase = match (&self.phase, c) {
            (Phase::Start, '{') | (Phase::Separator, ',') => Phase::Key,
            (Phase::Key, '"') => self.begin(Member::Key),
            (Phase::Colon(member), ':') => Phase::Value(*member),
            (Phase::Value(member), _) => self.begin(*member),
            _ => return false,
        };
        !matches!(self.phase, Phase::Inside(..)) || self.inside(c, tools, sink)
    }

    fn begin(&self, member: Member) -> Phase {
        Phase::Inside(member, JsonStream::new(), String::new())
    }

    /// One character of a key or value.
    fn inside(&mut self, c: char, tools: &[ToolSchema], sink: &mut Sink<'_>) -> bool {
        let Phase::Inside(member, json, text) = &mut self.phase else { return false };
        let streams =
            *member == Member::Arguments && (self.emitted || (text.is_empty() && c == '{' && self.tool.is_some()));
        if streams {
            if let (false, Some(tool)) = (self.emitted, self.tool.and_then(|index| tools.get(index))) {
                self.emitted = true;
                self.raw = String::new();
                sink.call(&tool.name);
            }
            return match stream_arguments(json, c, sink) {
                Fed::More => true,
                Fed::Complete => {
                    self.whole = true;
                    self.phase = Phase::Separator;
                    true
                }
                Fed::Invalid => false,
            };
        }
        let member = *member;
        match json.feed(c, text) {
            Fed::More => match member {
                // A quote that nothing closes must not swallow the rest of the output.
                Member::Key => c != '\n' && text.len() <= MAX_KEY,
                Member::Name => text.contains('\\') || may_be_name(text, tools),
                Member::Arguments | Member::Other => true,
            },
            Fed::Complete => {
                let text = std::mem::take(text);
                self.phase = Phase::Separator;
                self.whole_member(member, &text, tools, sink)
            }
            Fed::Invalid => false,
        }
    }

    /// Takes a key or value. False where it makes the text no call.
    fn whole_member(&mut self, member: Member, text: &str, tools: &[ToolSchema], sink: &mut Sink<'_>) -> bool {
        match member {
            Member::Key => {
                let member = match text {
                    "\"name\"" if self.tool.is_none() => Member::Name,
                    "\"arguments\"" if self.early_arguments.is_none() && !self.emitted => Member::Arguments,
                    _ => Member::Other,
                };
                self.phase = Phase::Colon(member);
            }
            Member::Name => {
                let Ok(name) = serde_json::from_str::<String>(text) else { return false };
                self.tool = tools.iter().position(|tool| tool.name == name);
                return self.tool.is_some() && (self.early_arguments.is_none() || self.emit_early(tools, sink));
            }
            Member::Arguments => {
                let Some(object) = arguments_object(text) else { return false };
                self.early_arguments = Some(object);
                return self.tool.is_none() || self.emit_early(tools, sink);
            }
            Member::Other => {}
        }
        true
    }

    /// Emits the call with arguments that were kept.
    fn emit_early(&mut self, tools: &[ToolSchema], sink: &mut Sink<'_>) -> bool {
        let Some(tool) = self.tool.and_then(|index| tools.get(index)) else { return false };
        sink.call(&tool.name);
        sink.arguments(self.early_arguments.as_deref().unwrap_or("{}"));
        self.emitted = true;
        self.whole = true;
        self.raw = String::new();
        true
    }

    /// Ends the call at the object's end. False if it has no name.
    fn end(&mut self, tools: &[ToolSchema], sink: &mut Sink<'_>) -> bool {
        if !self.emitted && !self.emit_early(tools, sink) {
            return false;
        }
        sink.end_of_call(true);
        true
    }

    /// Ends the call in front of `c`.
    fn broken(&mut self, c: char, sink: &mut Sink<'_>) -> Step {
        if !self.emitted {
            return Step::Rejected(std::mem::take(&mut self.raw));
        }
        let mut rest = String::new();
        if let Phase::Inside(Member::Arguments, json, _) = &self.phase {
            rest.push_str(json.held());
        }
        rest.push(c);
        // With whole arguments only the object around them is broken.
        sink.end_of_call(self.whole);
        Step::Ended(rest)
    }
}

fn stream_arguments(json: &mut JsonStream, c: char, sink: &mut Sink<'_>) -> Fed {
    let mut text = String::new();
    let fed = json.feed(c, &mut text);
    sink.arguments(&text);
    fed
}

/// True if `text`, an unfinished JSON string without escapes, can become the name of a tool.
fn may_be_name(text: &str, tools: &[ToolSchema]) -> bool {
    match text.strip_prefix('"') {
        Some(text) => tools.iter().any(|tool| tool.name.starts_with(text)),
        None => false,
    }
}

/// Arguments' object in the JSON `text`: itself, the content of a string (some models encode twice), `{}` for null.
fn arguments_object(text: &str) -> Option<String> {
    match serde_json::from_str(text).ok()? {
        Value::Object(_) => Some(text.to_owned()),
        Value::Null => Some("{}".to_owned()),
        Value::String(inner) => serde_json::from_str::<Map<String, Value>>(&inner).is_ok().then_some(inner),
        _ => None,
    }
}
