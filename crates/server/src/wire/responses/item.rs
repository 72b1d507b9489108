//! Items of the output, and the names of their events.

use serde_json::{Map, Value, json};

use crate::wire::raw_input::RawInput;
use crate::wire::tools::Name;

/// An item that is open; there is never more than one.
#[derive(Debug)]
pub(super) struct Item {
    pub id: String,
    pub kind: Kind,
    /// Text so far: of the part, or arguments. Raw input is in [`Kind::Custom`].
    pub text: String,
    /// Log-probabilities of an answer's tokens.
    pub logprobs: Vec<Value>,
}

/// The kind of an item.
#[derive(Debug)]
pub(super) enum Kind {
    /// One part of text.
    Part(Part),
    /// A call of a function.
    Function(Callee),
    /// A call of a tool that takes raw text.
    Custom(Callee, RawInput),
}

/// The part of an item with text; there is always one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Reasoning in full.
    Reasoning,
    /// Reasoning as a summary, which some clients show alone.
    Summary,
    /// The answer.
    Message,
}

/// The tool of a call.
#[derive(Debug)]
pub(super) struct Callee {
    pub call_id: String,
    pub name: String,
    pub namespace: Option<String>,
}

impl Callee {
    /// The tool that the model knows as `flat`; the model may also have made one up.
    pub(super) fn new(call_id: &str, flat: &str, name: Option<&Name>) -> Self {
        Self {
            call_id: call_id.to_owned(),
            name: name.map_or(flat, |name| &name.name).to_owned(),
            namespace: name.and_then(|name| name.namespace.clone()),
        }
    }
}

/// Names of a part's events.
pub(super) struct PartEvents {
    pub added: &'static str,
    pub delta: &'static str,
    pub text_done: &'static str,
    pub part_done: &'static str,
    /// The field with the part's index.
    pub index: &'static str,
}

/// Names of the events of a call.
pub(super) struct CallEvents {
    pub delta: &'static str,
    pub done: &'static str,
    /// The field with the whole text.
    pub text: &'static str,
}

/// Events of reasoning in full.
const REASONING: PartEvents = PartEvents {
    added: "response.content_part.added",
    delta: "response.reasoning_text.delta",
    text_done: "response.reasoning_text.done",
    part_done: "response.content_part.done",
    index: "content_index",
};

/// Events of a summary.
const SUMMARY: PartEvents = PartEvents {
    added: "response.reasoning_summary_part.added",
    delta: "response.reasoning_summary_text.delta",
    text_done: "response.reasoning_summary_text.done",
    part_done: "response.reasoning_summary_part.done",
    index: "summary_index",
};

/// Events of an answer.
const MESSAGE: PartEvents = PartEvents {
    added: "response.content_part.added",
    delta: "response.output_text.delta",
    text_done: "response.output_text.done",
    part_done: "response.content_part.done",
    index: "content_index",
};

/// Events of a function's call.
const FUNCTION: CallEvents = CallEvents {
    delta: "response.function_call_arguments.delta",
    done: "response.function_call_arguments.done",
    text: "arguments",
};

/// Events of a call with raw text.
const CUSTOM: CallEvents = CallEvents {
    delta: "response.custom_tool_call_input.delta",
    done: "response.custom_tool_call_input.done",
    text: "input",
};

impl Part {
    /// The names of the part's events.
    pub(super) fn events(self) -> &'static PartEvents {
        match self {
            Self::Reasoning => &REASONING,
            Self::Summary => &SUMMARY,
            Self::Message => &MESSAGE,
        }
    }

    /// The begin of the item's id.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Reasoning | Self::Summary => "rs",
            Self::Message => "msg",
        }
    }
}

impl Item {
    /// An item without text.
    pub(super) fn new(id: String, kind: Kind) -> Self {
        Self { id, kind, text: String::new(), logprobs: Vec::new() }
    }

    /// The item's part with its text so far.
    pub(super) fn part(&self, part: Part) -> Value {
        match part {
            Part::Reasoning => json!({"type": "reasoning_text", "text": self.text}),
            Part::Summary => json!({"type": "summary_text", "text": self.text}),
            Part::Message => {
                json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs})
            }
        }
    }

    /// The names of a call's events.
    pub(super) fn call_events(&self) -> &'static CallEvents {
        if matches!(self.kind, Kind::Custom(..)) { &CUSTOM } else { &FUNCTION }
    }

    /// The arguments or the raw input.
    pub(super) fn arguments(&self) -> &str {
        match &self.kind {
            Kind::Custom(_, raw) => raw.input(),
            Kind::Part(_) | Kind::Function(_) => &self.text,
        }
    }

    /// The item with its status: `in_progress`, `completed` or `incomplete`.
    pub(super) fn value(&self, status: &str) -> Value {
        let part = match &self.kind {
            Kind::Part(part) => *part,
            Kind::Function(callee) => return self.call("function_call", status, callee),
            Kind::Custom(callee, _) => return self.call("custom_tool_call", status, callee),
        };
        // The part of an item that begins has an event of its own.
        let parts = if self.text.is_empty() { json!([]) } else { json!([self.part(part)]) };
        match part {
            Part::Reasoning => {
                json!({"id": self.id, "type": "reasoning", "status": status, "summary": [], "content": parts})
            }
            Part::Summary => json!({"id": self.id, "type": "reasoning", "status": status, "summary": parts}),
            Part::Message => {
                json!({"id": self.id, "type": "message", "status": status, "role": "assistant", "content": parts})
            }
        }
    }

    fn call(&self, kind: &str, status: &str, callee: &Callee) -> Value {
        let mut item = Map::new();
        for (key, value) in [
            ("id", json!(self.id)),
            ("type", json!(kind)),
            ("status", json!(status)),
            ("call_id", json!(callee.call_id)),
            ("name", json!(callee.name)),
            (self.call_events().text, json!(self.arguments())),
        ] {
            item.insert(key.to_owned(), value);
        }
        if let Some(namespace) = &callee.namespace {
            item.insert("namespace".to_owned(), json!(namespace));
        }
        Value::Object(item)
    }
}
