//! Items of the input: messages, calls, results and reasoning.

use serde_json::Value;

use crate::wire::field::Field;
use crate::wire::history::{BETWEEN_PARAGRAPHS, BETWEEN_PARTS, History, append, arguments, content_text};
use crate::wire::internal::{Failure, Role};
use crate::wire::tools::{Tools, custom_arguments};

/// Text of `instructions`: a string, or items with text.
///
/// # Errors
/// Other values.
pub(super) fn instructions(field: &Field<'_>) -> Result<String, Failure> {
    if field.value().is_string() {
        return content_text(field, BETWEEN_PARAGRAPHS);
    }
    let mut text = String::new();
    for item in field.items()? {
        append(&mut text, &content_text(&item, BETWEEN_PARAGRAPHS)?, BETWEEN_PARAGRAPHS);
    }
    Ok(text)
}

/// Adds the input to the history, and tools that it brings to `tools`.
///
/// # Errors
/// Input without an item that a model can read, an item without the fields of its type, a reference to a stored item,
/// and media.
pub(super) fn read(input: &Field<'_>, history: &mut History, tools: &mut Tools) -> Result<(), Failure> {
    if let Some(text) = input.value().as_str() {
        if text.is_empty() {
            return Err(input.unexpected("a string that is not empty, or a list of items"));
        }
        history.push(Role::User, text.to_owned());
        return Ok(());
    }
    let before = history.len();
    for item in input.items()? {
        read_item(&item, history, tools)?;
    }
    if history.len() == before {
        return Err(input.refused("no item holds anything that a model can read; send a message"));
    }
    Ok(())
}

fn read_item(item: &Field<'_>, history: &mut History, tools: &mut Tools) -> Result<(), Failure> {
    item.object()?;
    match item.kind()? {
        "message" => message(item, history),
        "" if item.get("role").is_some() => message(item, history),
        "function_call" => {
            let name = item.require_text("name", "the tool's name")?;
            let name = tools.flat(item.opt("namespace", Field::text)?, name);
            add_call(item, name, arguments(item.get("arguments").as_ref()), history)
        }
        "custom_tool_call" => {
            let name = item.require_text("name", "the tool's name")?;
            let name = tools.flat(item.opt("namespace", Field::text)?, name);
            let input = item.opt("input", Field::text)?.unwrap_or_default();
            add_call(item, name, custom_arguments(input), history)
        }
        // Tools that OpenAI defines and the client runs. Codex answers them with `function_call_output`.
        kind @ ("local_shell_call" | "shell_call" | "apply_patch_call" | "tool_search_call") => {
            let action = ["action", "operation", "arguments"].into_iter().find_map(|key| item.get(key));
            let name = kind.trim_end_matches("_call").to_owned();
            add_call(item, name, arguments(action.as_ref()), history)
        }
        "function_call_output"
        | "custom_tool_call_output"
        | "local_shell_call_output"
        | "shell_call_output"
        | "apply_patch_call_output" => {
            let output = item.opt("output", output_text)?.unwrap_or_default();
            history.result(call_id(item)?, None, output);
            Ok(())
        }
        "tool_search_output" => {
            item.opt("tools", |list| tools.add(list))?;
            history.result(call_id(item)?, None, String::new());
            Ok(())
        }
        "additional_tools" => item.opt("tools", |list| tools.add(list)).map(|_| ()),
        "reasoning" => reasoning(item, history),
        "item_reference" | "" => Err(item.wrong(
            "a reference to an item, and this server stores none; send the item itself (some clients do with `store: \
             false`)",
        )),
        // Items of hosted tools, compacted history, and types of tomorrow.
        _ => Ok(()),
    }
}

fn message(item: &Field<'_>, history: &mut History) -> Result<(), Failure> {
    const ROLES: &str = "\"user\", \"assistant\", \"system\" or \"developer\"";
    let role = item.require("role", ROLES)?;
    let text = |separator| {
        let content = item.opt("content", |content| content_text(content, separator));
        content.map(Option::unwrap_or_default)
    };
    match role.text()? {
        "user" => history.push(Role::User, text(BETWEEN_PARTS)?),
        "system" | "developer" => history.push(Role::System, text(BETWEEN_PARAGRAPHS)?),
        "assistant" => history.text(&text(BETWEEN_PARTS)?),
        _ => return Err(role.unexpected(ROLES)),
    }
    Ok(())
}

fn add_call(item: &Field<'_>, name: String, arguments: String, history: &mut History) -> Result<(), Failure> {
    let id = match call_id(item)? {
        Some(id) => id,
        None => item.require_text("call_id", "the call's id")?,
    };
    history.call(id, name, arguments);
    Ok(())
}

/// The id that a call and its result share; the item's own where a client sends no other.
fn call_id<'a>(item: &Field<'a>) -> Result<Option<&'a str>, Failure> {
    let id = item.get("call_id").or_else(|| item.get("id"));
    id.as_ref().map(Field::text).transpose()
}

/// Output of a tool: a string, parts, an object with its text under `content`, or JSON of any other kind.
///
/// A list whose parts are no objects is JSON, as is a list of the outputs of `shell_call`.
fn output_text(output: &Field<'_>) -> Result<String, Failure> {
    let is_part = |part: &Value| part.is_string() || part.get("type").is_some();
    match output.value() {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) if parts.iter().all(|part| part.is_null() || is_part(part)) => {
            content_text(output, BETWEEN_PARTS)
        }
        Value::Object(object) if object.contains_key("content") || object.contains_key("type") => {
            content_text(output, BETWEEN_PARTS)
        }
        value => Ok(value.to_string()),
    }
}

/// Reasoning of the assistant's turn: the raw text, else its summary.
fn reasoning(item: &Field<'_>, history: &mut History) -> Result<(), Failure> {
    for key in ["content", "summary"] {
        let text = item.opt(key, |content| content_text(content, BETWEEN_PARTS))?.unwrap_or_default();
        if !text.is_empty() {
            history.reasoning(&text);
            break;
        }
    }
    Ok(())
}
