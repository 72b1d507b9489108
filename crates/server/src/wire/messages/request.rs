//! Requests: settings, system prompt and tools.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::content;
use crate::wire::field::{self, Field};
use crate::wire::history::{BETWEEN_PARAGRAPHS, History, append, part_text, required_messages};
use crate::wire::internal::{Conversation, Failure, GenerationRequest, Prompt, Role, Tool};
use crate::wire::options;
use crate::wire::tools::Tools;

/// Begin of a line that Claude Code puts before its system prompt. Its nonce changes with every request and would end
/// the prefix that prompts share (vllm-mlx#277, vllm#36829, ollama#14918).
const BILLING_HEADER: &str = "x-anthropic-billing-header:";

/// A request for a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The request.
    pub request: GenerationRequest,
}

/// A request for a message.
///
/// # Errors
/// A body that is no JSON, a field of another type or out of its range, and one that is not supported yet.
pub fn parse(body: &[u8]) -> Result<Parsed, Failure> {
    let value = field::read(body)?;
    let root = Field::root(&value)?;
    refuse_constraints(&root)?;
    read(&root)
}

/// A request for the number of a prompt's tokens.
///
/// Forced tools and formats are taken here: they do not change the prompt.
///
/// # Errors
/// As [`parse`].
pub fn parse_count(body: &[u8]) -> Result<Parsed, Failure> {
    let value = field::read(body)?;
    read(&Field::root(&value)?)
}

/// The answer of `count_tokens`. Clients refuse further fields.
#[must_use]
pub fn count_response(tokens: u64) -> Value {
    json!({ "input_tokens": tokens })
}

fn read(root: &Field<'_>) -> Result<Parsed, Failure> {
    let mut options = options::options(root)?;
    options.max_tokens = root.opt("max_tokens", |field| field.integer(1..=u64::MAX))?;
    options.stop = root.opt("stop_sequences", options::stops)?.unwrap_or_default();
    let mut conversation = Conversation::default();
    options::reasoning(root, &mut conversation)?;
    let choice = root.get("tool_choice");
    if let Some(choice) = &choice {
        choice.object()?;
        conversation.single_call = choice.opt("disable_parallel_tool_use", Field::flag)?.unwrap_or(false);
    }
    let tools = root.opt("tools", read_tools)?.unwrap_or_default();
    if choice.as_ref().map(Field::kind).transpose()? != Some("none") {
        conversation.tools = tools;
    }
    let mut history = History::default();
    if let Some(text) = root.opt("system", system)?.filter(|text| !text.is_empty()) {
        history.push(Role::System, text);
    }
    for message in required_messages(root)? {
        content::read(&message, &mut history)?;
    }
    conversation.messages = history.into_messages();
    Ok(Parsed {
        request: GenerationRequest {
            model: options::model(root)?,
            prompt: Prompt::Conversation(conversation),
            options,
            stream: options::stream(root, false)?,
        },
    })
}

/// The system prompt without Claude Code's billing header.
fn system(field: &Field<'_>) -> Result<String, Failure> {
    let mut text = String::new();
    for block in field.parts("a string, or a list of blocks")? {
        append(&mut text, &without_billing_header(part_text(&block)?), BETWEEN_PARAGRAPHS);
    }
    Ok(text)
}

/// A text without lines that are billing headers, and without the blank lines that these leave at its begin.
fn without_billing_header(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_header = |line: &&str| line.trim_start().starts_with(BILLING_HEADER);
    if !text.lines().any(|line| is_header(&line)) {
        return text;
    }
    let kept: Vec<&str> = text.split('\n').filter(|line| !is_header(line)).collect();
    kept.join("\n").trim_start_matches(['\n', '\r']).to_owned().into()
}

/// Tools that the client runs. Anthropic's own are passed over: nothing here can run a search, and the model does not
/// know the schemas that Anthropic keeps for `bash_…` and `text_editor_…`.
fn read_tools(field: &Field<'_>) -> Result<Vec<Tool>, Failure> {
    let mut tools = Tools::default();
    for tool in field.items()? {
        tool.object()?;
        if matches!(tool.kind()?, "" | "custom" | "function") {
            tools.function(&tool, None, "input_schema")?;
        }
    }
    Ok(tools.list)
}

/// Refuses forced tools and formats, which need a grammar.
fn refuse_constraints(root: &Field<'_>) -> Result<(), Failure> {
    if let Some(choice) = root.get("tool_choice") {
        choice.object()?;
        let kind = choice.require("type", "\"auto\" or \"none\"")?;
        match kind.text()? {
            "auto" | "none" => {}
            forced @ ("any" | "tool") => {
                let remedy = "send type \"auto\" and ask for the call in the prompt";
                return Err(choice.wrong(format!("{forced:?}: forced tool calls are not supported yet; {remedy}")));
            }
            _ => return Err(kind.unexpected("\"auto\" or \"none\"")),
        }
    }
    // The name that the field had in beta is the second.
    let format = root.get("output_config").and_then(|config| config.get("format"));
    format.or_else(|| root.get("output_format")).as_ref().map_or(Ok(()), options::refuse_format)
}
