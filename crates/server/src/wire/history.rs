//! Conversation of a request: messages that are put together from parts.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use crate::wire::field::Field;
use crate::wire::internal::{Call, Failure, Message, Role};

/// Separator of the text parts of one message. Agents put a reminder and the user's words into parts of their own.
pub(crate) const BETWEEN_PARTS: &str = "\n";
/// Separator of the parts of a system prompt, which are paragraphs.
pub(crate) const BETWEEN_PARAGRAPHS: &str = "\n\n";

/// Messages as they come in.
#[derive(Debug, Default)]
pub(crate) struct History {
    messages: Vec<Message>,
    /// Tools by the ids of their calls, for the results.
    tools: HashMap<String, String>,
}

impl History {
    /// Adds a message of its own.
    pub fn push(&mut self, role: Role, content: String) {
        self.messages.push(message(role, content));
    }

    /// The assistant's message that is last, or a new one.
    ///
    /// Reasoning, text and calls of one turn are items of their own in the Responses API, and the Messages API may
    /// split a turn. Templates know one message a turn.
    pub fn assistant(&mut self) -> &mut Message {
        if self.messages.last().is_none_or(|last| last.role != Role::Assistant) {
            self.push(Role::Assistant, String::new());
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }

    /// Adds text to the assistant's message.
    pub fn text(&mut self, text: &str) {
        append(&mut self.assistant().content, text, BETWEEN_PARTS);
    }

    /// Adds reasoning to the assistant's message; none where it is empty, as in blocks that hold a signature alone.
    pub fn reasoning(&mut self, text: &str) {
        if !text.is_empty() {
            append(self.assistant().reasoning.get_or_insert_default(), text, BETWEEN_PARTS);
        }
    }

    /// Adds a call to the assistant's message.
    pub fn call(&mut self, id: &str, name: String, arguments: String) {
        self.tools.insert(id.to_owned(), name.clone());
        self.assistant().calls.push(Call { id: id.to_owned(), name, arguments });
    }

    /// Adds the result of a call. The tool is the one that was called, where `name` does not say it.
    pub fn result(&mut self, call_id: Option<&str>, name: Option<&str>, content: String) {
        let called = || call_id.and_then(|id| self.tools.get(id)).cloned();
        let name = name.map(str::to_owned).or_else(called);
        let call_id = call_id.map(str::to_owned);
        self.messages.push(Message { call_id, name, ..message(Role::Tool, content) });
    }

    /// Number of messages so far.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// The messages.
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }
}

fn message(role: Role, content: String) -> Message {
    Message { role, content, reasoning: None, calls: Vec::new(), call_id: None, name: None }
}

/// Elements of the field `messages`; at least one.
pub(crate) fn required_messages<'a>(root: &Field<'a>) -> Result<Vec<Field<'a>>, Failure> {
    let field = root.require("messages", "a list of messages")?;
    let messages = field.items()?;
    if messages.is_empty() {
        return Err(field.unexpected("at least one message"));
    }
    Ok(messages)
}

/// Adds a part to a text, with the separator where both say something.
pub(crate) fn append(text: &mut String, part: &str, separator: &str) {
    if !text.is_empty() && !part.is_empty() {
        text.push_str(separator);
    }
    text.push_str(part);
}

/// Text of a content that is a string, one part, or a list of parts.
pub(crate) fn content_text(content: &Field<'_>, separator: &str) -> Result<String, Failure> {
    if content.value().is_object() {
        // By itself an object is a part only where it says which, or has a part's text.
        if ["type", "text", "content"].iter().all(|field| content.get(field).is_none()) {
            return Err(content.unexpected("a string, or a list of parts"));
        }
        return part_text(content).map(Cow::into_owned);
    }
    let mut text = String::new();
    for part in content.parts("a string, or a list of parts")? {
        append(&mut text, &part_text(&part)?, separator);
    }
    Ok(text)
}

/// Text of one part: its `text`, else that of its `content`, as in `search_result`.
///
/// Parts of unknown types without either are passed over, since agents bring new ones with each release. Images,
/// documents and sounds are errors: without them the model would answer another question.
pub(crate) fn part_text<'a>(part: &Field<'a>) -> Result<Cow<'a, str>, Failure> {
    if let Some(text) = part.value().as_str() {
        return Ok(text.into());
    }
    part.object()?;
    let key = match part.kind()? {
        "text" | "input_text" | "output_text" => return Ok(part.require_text("text", "a string")?.into()),
        media @ ("image" | "image_url" | "input_image" | "document" | "file" | "input_file" | "audio"
        | "input_audio" | "video" | "video_url" | "input_video" | "container_upload") => {
            let message = format!("models are text-only; send text in place of this part of type {media:?}");
            return Err(part.wrong(message));
        }
        "refusal" => "refusal",
        // Claude Code's search for tools answers with references; the tool itself is in the list.
        "tool_reference" => "tool_name",
        _ => "text",
    };
    match (part.opt(key, Field::text)?, part.get("content")) {
        (Some(text), _) => Ok(text.into()),
        (None, Some(content)) => content_text(&content, BETWEEN_PARTS).map(Cow::Owned),
        (None, None) => Ok("".into()),
    }
}

/// Arguments of a call as text: a string as it is, JSON as JSON.
pub(crate) fn arguments(value: Option<&Field<'_>>) -> String {
    match value.map(Field::value) {
        None => "{}".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}
