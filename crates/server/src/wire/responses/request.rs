//! Requests.

use serde_json::{Map, Value};

use super::echo;
use super::input;
use crate::wire::field::{self, Field};
use crate::wire::history::History;
use crate::wire::internal::{Conversation, Failure, GenerationRequest, Options, Prompt, Role};
use crate::wire::options;
use crate::wire::tools::{Name, Tools};

/// A request for a response.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The request.
    pub request: GenerationRequest,
    /// Fields of the request that every response repeats.
    pub(super) echo: Map<String, Value>,
    /// Names of the tools.
    pub(super) names: Vec<Name>,
    /// True where reasoning is to be written as a summary.
    pub(super) summary: bool,
}

/// A request for a response.
///
/// # Errors
/// A body that is no JSON, a field of another type or out of its range, and one that is not supported.
pub fn parse(body: &[u8]) -> Result<Parsed, Failure> {
    let value = field::read(body)?;
    let root = Field::root(&value)?;
    refuse(&root)?;
    let mut conversation = Conversation {
        single_call: !root.opt("parallel_tool_calls", Field::flag)?.unwrap_or(true),
        ..Conversation::default()
    };
    options::reasoning(&root, &mut conversation)?;
    let mut tools = Tools::default();
    root.opt("tools", |list| tools.add(list))?;
    let mut history = History::default();
    if let Some(instructions) = root.opt("instructions", input::instructions)?.filter(|text| !text.is_empty()) {
        history.push(Role::System, instructions);
    }
    input::read(&root.require("input", "a string or a list of items")?, &mut history, &mut tools)?;
    root.opt("tool_choice", |choice| tools.choose(choice))?;
    conversation.messages = history.into_messages();
    conversation.tools = tools.list;
    Ok(Parsed {
        request: GenerationRequest {
            model: options::model(&root)?,
            prompt: Prompt::Conversation(conversation),
            options: read_options(&root)?,
            stream: options::stream(&root, false)?,
        },
        echo: echo::fields(&root),
        names: tools.names,
        summary: root.get("reasoning").is_some_and(|reasoning| {
            reasoning.get("summary").or_else(|| reasoning.get("generate_summary")).is_some_and(|summary| {
                // Codex writes `none` where its user wants no summary.
                summary.value() != "none"
            })
        }),
    })
}

fn read_options(root: &Field<'_>) -> Result<Options, Failure> {
    let mut options = options::options(root)?;
    options.max_tokens = root.opt("max_output_tokens", |field| field.integer(1..=u64::MAX))?;
    options.stop = root.opt("stop", options::stops)?.unwrap_or_default();
    let top = root.opt("top_logprobs", options::top_logprobs)?;
    let include = root.opt("include", Field::items)?.unwrap_or_default();
    let included = include.iter().any(|field| field.value() == "message.output_text.logprobs");
    options.logprobs = top.or(included.then_some(0));
    Ok(options)
}

/// Refuses fields that need a store or a grammar.
fn refuse(root: &Field<'_>) -> Result<(), Failure> {
    for name in ["previous_response_id", "conversation", "prompt"] {
        if let Some(field) = root.get(name) {
            return Err(field.refused("this server stores nothing; leave the field out and send the whole input"));
        }
    }
    if let Some(field) = root.get("background").filter(|field| field.value() != false) {
        return Err(field.refused("nothing runs in the background here; leave the field out and read the stream"));
    }
    let format = root.get("text").and_then(|text| text.get("format"));
    format.as_ref().map_or(Ok(()), options::refuse_format)
}
