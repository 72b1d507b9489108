//! Messages of a request in the shape of OpenAI's chat, which Ollama shares but for some names.

use serde_json::Value;

use crate::wire::field::{Field, one_of};
use crate::wire::history::{BETWEEN_PARTS, History, arguments, content_text, required_messages};
use crate::wire::internal::{Conversation, Failure, Message, Role};
use crate::wire::options;
use crate::wire::tools::{Tools, custom_arguments};

/// Roles by name. `function` is the older name of `tool`.
const ROLES: [(&str, Role); 6] = [
    ("system", Role::System),
    ("developer", Role::System),
    ("user", Role::User),
    ("assistant", Role::Assistant),
    ("tool", Role::Tool),
    ("function", Role::Tool),
];

/// Messages, tools and switches of reasoning.
pub(crate) fn conversation(root: &Field<'_>) -> Result<Conversation, Failure> {
    let mut conversation = Conversation { messages: messages(root)?, ..Conversation::default() };
    options::reasoning(root, &mut conversation)?;
    let mut tools = Tools::default();
    root.opt("tools", |list| tools.add(list))?;
    // The fields that `tools` and `tool_choice` replaced. Calls come back in the new shape only.
    for function in root.opt("functions", Field::items)?.unwrap_or_default() {
        function.object()?;
        tools.function(&function, None, "parameters")?;
    }
    for key in ["tool_choice", "function_call"] {
        root.opt(key, |choice| tools.choose(choice))?;
    }
    conversation.tools = tools.list;
    conversation.single_call = root.opt("parallel_tool_calls", Field::flag)? == Some(false);
    Ok(conversation)
}

fn messages(root: &Field<'_>) -> Result<Vec<Message>, Failure> {
    let mut history = History::default();
    for item in required_messages(root)? {
        message(&item, &mut history)?;
    }
    Ok(history.into_messages())
}

/// Adds a message. Fields that its role does not have are passed over, so that no template sees them.
fn message(message: &Field<'_>, history: &mut History) -> Result<(), Failure> {
    message.object()?;
    let role = message.require("role", &one_of(&ROLES))?.choice(&ROLES)?;
    if let Some(images) = message.get("images")
        && images.value().as_array().is_none_or(|images| !images.is_empty())
    {
        return Err(images.wrong("models are text-only; send text in place of images"));
    }
    let content = content(message)?;
    match role {
        Role::System | Role::User => history.push(role, content),
        Role::Assistant => {
            history.push(role, content);
            assistant(message, history)?;
        }
        Role::Tool => {
            let tool_name = message.opt("tool_name", Field::text)?;
            let name = message.opt("name", Field::text)?.or(tool_name);
            history.result(message.opt("tool_call_id", Field::text)?, name, content);
        }
    }
    Ok(())
}

/// Text of a message, with a line feed between its parts, as vLLM and llama.cpp do.
fn content(message: &Field<'_>) -> Result<String, Failure> {
    let content = message.opt("content", |content| content_text(content, BETWEEN_PARTS))?.unwrap_or_default();
    if !content.is_empty() {
        return Ok(content);
    }
    Ok(message.opt("refusal", Field::text)?.unwrap_or_default().to_owned())
}

/// Adds reasoning and calls to the assistant's message.
fn assistant(message: &Field<'_>, history: &mut History) -> Result<(), Failure> {
    let mut reasoning = "";
    // Clients echo the field that they read, some of them two with one text.
    for key in ["reasoning_content", "reasoning", "thinking"] {
        let found = message.opt(key, Field::text)?.unwrap_or_default();
        if reasoning.is_empty() {
            reasoning = found;
        }
    }
    history.reasoning(reasoning);
    for item in message.opt("tool_calls", Field::items)?.unwrap_or_default() {
        call(&item, history)?;
    }
    if let Some(function) = message.get("function_call") {
        add_call("", &function, history)?;
    }
    Ok(())
}

fn call(call: &Field<'_>, history: &mut History) -> Result<(), Failure> {
    call.object()?;
    let id = call.opt("id", Field::text)?.unwrap_or_default();
    if let Some(custom) = call.get("custom") {
        custom.object()?;
        let name = custom.require_text("name", "the tool's name")?;
        let input = custom.opt("input", Field::text)?.unwrap_or_default();
        history.call(id, name.to_owned(), custom_arguments(input));
        return Ok(());
    }
    add_call(id, &call.require("function", "an object with name and arguments")?, history)
}

fn add_call(id: &str, function: &Field<'_>, history: &mut History) -> Result<(), Failure> {
    function.object()?;
    let name = function.require_text("name", "the tool's name")?;
    let sent = function.get("arguments");
    match &sent {
        Some(field) if !matches!(field.value(), Value::String(_) | Value::Object(_)) => {
            Err(field.unexpected("a string, or an object"))
        }
        _ => {
            history.call(id, name.to_owned(), arguments(sent.as_ref()));
            Ok(())
        }
    }
}
