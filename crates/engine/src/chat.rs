//! Conversations: messages and tools to a prompt, as a chat template takes them.
//!
//! Templates differ in what they take. Two of the differences are found by rendering a known conversation once, when a model is opened:
//! the form of a call's arguments ([`OutputFormat::arguments`]), and system messages behind the first. A special token that a message
//! contains is text: it is broken up before rendering, so that it cannot open a turn.

use std::borrow::Cow;
use std::sync::Arc;

use mtplx_runtime::text::{ChatTemplate, RenderInput, TextError, Tokenizer};
use serde_json::{Map, Value, json};

use crate::output::{ArgumentsAs, OutputFormat, OutputSplitter, ToolSchema};

/// Markers of reasoning: a template looks for them in an assistant's message.
const THINK: [&str; 2] = ["<think>", "</think>"];
/// Characters of private use, one of which breaks special tokens up.
const BREAKS: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{f8ff}';
/// Text that is found again in a rendered probe.
const PROBE: &str = "probe 7f3a";

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// System, or developer.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its author.
    pub role: Role,
    /// Its text.
    pub content: String,
    /// Reasoning of an assistant's message.
    pub reasoning: Option<String>,
    /// Calls of an assistant's message.
    pub calls: Vec<Call>,
    /// The call that a tool's result answers.
    pub call_id: Option<String>,
    /// The tool's name, for a result.
    pub name: Option<String>,
}

/// A call of a tool in the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its id, as sent.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Arguments as sent: JSON text as a rule, but anything may come.
    pub arguments: String,
}

/// A tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name for the model.
    pub name: String,
    /// Its use.
    pub description: Option<String>,
    /// JSON Schema of its arguments: an object with `type`.
    pub parameters: Value,
    /// True for a tool that takes one string rather than JSON: the model sees a function with the one property `input`.
    pub custom: bool,
}

/// Messages and tools.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// Messages in the order sent.
    pub messages: Vec<Message>,
    /// Tools that may be called.
    pub tools: Vec<Tool>,
    /// True where one call at most is wanted.
    pub single_call: bool,
    /// Reasoning before the answer; the template's own choice where `None`.
    pub thinking: Option<bool>,
    /// Further variables of the chat template.
    pub template_kwargs: Map<String, Value>,
}

/// A prompt, and how to read the output behind it.
#[derive(Debug, Clone)]
pub struct ChatPrompt {
    /// Tokens of the prompt.
    pub tokens: Vec<u32>,
    /// Tokens at its end that begin the answer.
    pub answer_tokens: usize,
    /// Reader of the output.
    pub splitter: OutputSplitter,
    /// True where the template did not show a tool to the model.
    pub tools_ignored: bool,
}

/// A chat template, with everything that was found out of it.
#[derive(Debug, Clone)]
pub struct ChatFormat {
    template: ChatTemplate,
    tokenizer: Arc<Tokenizer>,
    output: OutputFormat,
    /// True where the template takes system messages anywhere.
    later_system: bool,
    special: Vec<String>,
}

impl ChatFormat {
    /// Probes `template`.
    pub fn new(template: ChatTemplate, tokenizer: Arc<Tokenizer>) -> Self {
        let render = |messages: &Value| {
            let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
            template.render(&RenderInput::new(messages)).ok()
        };
        let output = OutputFormat::detect(template.source(), render);
        let later = render(&json!([
            {"role": "system", "content": "A."},
            {"role": "user", "content": "B."},
            {"role": "assistant", "content": "C."},
            {"role": "system", "content": PROBE},
            {"role": "user", "content": "D."},
        ]));
        let later_system = later.is_some_and(|text| text.contains(PROBE));
        let special = tokenizer.special_tokens().filter(|token| token.chars().nth(1).is_some()).collect();
        Self { template, tokenizer, output, later_system, special }
    }

    /// The format of the output.
    pub fn output(&self) -> OutputFormat {
        self.output
    }

    /// The prompt of a conversation, up to the beginning of the model's answer.
    ///
    /// # Errors
    /// The template refuses the conversation; the tokenizer fails.
    pub fn prompt(&self, conversation: &Conversation) -> Result<ChatPrompt, TextError> {
        let breaker = Breaker::new(&self.special, conversation);
        let messages = self.messages(conversation, &breaker);
        let schemas: Vec<ToolSchema> = conversation
            .tools
            .iter()
            .map(|tool| ToolSchema { name: tool.name.clone(), parameters: tool.parameters.clone() })
            .collect();
        let tools: Vec<Value> = conversation.tools.iter().map(|tool| breaker.value(&described(tool))).collect();
        let tools = (!tools.is_empty()).then_some(Value::Array(tools));
        let mut kwargs = conversation.template_kwargs.clone();
        if let Some(on) = conversation.thinking {
            // DeepSeek's name for it.
            kwargs.entry("thinking").or_insert(Value::Bool(on));
        }
        let render = |messages: &[Value], add_generation_prompt| {
            self.template.render(&RenderInput {
                messages,
                add_generation_prompt,
                enable_thinking: conversation.thinking,
                tools: tools.as_ref(),
                kwargs: Some(&kwargs),
            })
        };
        let mut messages = messages;
        let rendered = match render(&messages, true) {
            // Some templates look for a question; a client that has compacted its history sends none.
            Err(error) if conversation.messages.iter().all(|message| message.role != Role::User) => {
                let behind_system = usize::from(messages.first().is_some_and(|first| first["role"] == "system"));
                messages.insert(behind_system, json!({"role": "user", "content": ""}));
                render(&messages, true).map_err(|_| error)?
            }
            rendered => rendered?,
        };
        let encode = |text: &str| -> Result<Vec<u32>, TextError> {
            let parts = text.split(breaker.with).filter(|part| !part.is_empty());
            Ok(parts.map(|part| self.tokenizer.encode(part, false)).collect::<Result<Vec<_>, _>>()?.concat())
        };
        let tokens = encode(&rendered)?;
        // A template that fails without the answer's beginning leaves it unknown: then a conversation that goes on may find less.
        let without = render(&messages, false).unwrap_or_default();
        let begun = rendered.strip_prefix(without.as_str()).filter(|_| !without.is_empty()).unwrap_or_default();
        let answer_tokens = encode(begun)?.len();
        let splitter = OutputSplitter::new(&self.output, &rendered, &schemas);
        let tools_ignored = conversation.tools.iter().any(|tool| !rendered.contains(&tool.name));
        Ok(ChatPrompt { tokens, answer_tokens, splitter, tools_ignored })
    }

    /// Messages as the template takes them.
    fn messages(&self, conversation: &Conversation, breaker: &Breaker<'_>) -> Vec<Value> {
        let leading = conversation.messages.iter().take_while(|message| message.role == Role::System).count();
        let (first, rest) = conversation.messages.split_at(leading);
        let mut messages = Vec::new();
        if !first.is_empty() {
            let texts: Vec<&str> = first.iter().map(|message| message.content.as_str()).collect();
            messages.push(json!({"role": "system", "content": breaker.text(&texts.join("\n\n"))}));
        }
        messages.extend(rest.iter().map(|message| self.message(message, breaker)));
        messages
    }

    fn message(&self, message: &Message, breaker: &Breaker<'_>) -> Value {
        let mut fields = Map::new();
        let mut content = message.content.clone();
        let role = match message.role {
            Role::System if self.later_system => "system",
            // A template that takes a system message first only: the text stays where it is.
            Role::System | Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        fields.insert("role".to_owned(), role.into());
        if message.role == Role::Assistant {
            if let Some(reasoning) = &message.reasoning {
                fields.insert("reasoning_content".to_owned(), breaker.text(reasoning).into());
            }
            let calls = message.calls.iter().map(|call| self.call(call, &mut content, breaker));
            let calls: Vec<Value> = calls.collect();
            if !calls.is_empty() {
                fields.insert("tool_calls".to_owned(), calls.into());
            }
            fields.insert("content".to_owned(), breaker.answer(&content).into());
        } else {
            fields.insert("content".to_owned(), breaker.text(&content).into());
        }
        let optional = [("tool_call_id", &message.call_id), ("name", &message.name)];
        for (field, value) in optional {
            if let Some(value) = value {
                fields.insert(field.to_owned(), breaker.text(value).into());
            }
        }
        Value::Object(fields)
    }

    /// A call. Arguments that are no object leave `{}` in their place and go behind the message's text.
    fn call(&self, call: &Call, content: &mut String, breaker: &Breaker<'_>) -> Value {
        let arguments = match (self.output.arguments, serde_json::from_str(&call.arguments)) {
            (ArgumentsAs::Text, _) => breaker.text(&call.arguments).into(),
            (ArgumentsAs::Object, Ok(object @ Value::Object(_))) => breaker.value(&object),
            (ArgumentsAs::Object, _) => {
                if !call.arguments.trim().is_empty() {
                    let break_before = if content.is_empty() { "" } else { "\n" };
                    content.push_str(break_before);
                    content.push_str(&call.arguments);
                }
                Value::Object(Map::new())
            }
        };
        let name = breaker.text(&call.name);
        json!({"id": call.id, "type": "function", "function": {"name": name, "arguments": arguments}})
    }
}

/// A tool as templates print it.
fn described(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), description.as_str().into());
    }
    function.insert("parameters".to_owned(), tool.parameters.clone());
    json!({"type": "function", "function": function})
}

/// Breaks special tokens in a conversation's texts up by a character that none of them contains.
struct Breaker<'a> {
    special: &'a [String],
    with: char,
}

impl<'a> Breaker<'a> {
    fn new(special: &'a [String], conversation: &Conversation) -> Self {
        let within = |c: char| {
            let message = |message: &Message| {
                let calls = message.calls.iter().flat_map(|call| [call.arguments.as_str(), &call.name, &call.id]);
                let own = [
                    Some(&message.content),
                    message.reasoning.as_ref(),
                    message.name.as_ref(),
                    message.call_id.as_ref(),
                ];
                own.into_iter().flatten().map(String::as_str).chain(calls).any(|text| text.contains(c))
            };
            let tool = |tool: &Tool| {
                tool.name.contains(c)
                    || tool.description.as_ref().is_some_and(|text| text.contains(c))
                    || contains(&tool.parameters, c)
            };
            conversation.messages.iter().any(message) || conversation.tools.iter().any(tool)
        };
        // A conversation that holds all of them is broken up by the last.
        let with = BREAKS.into_iter().find(|&c| !within(c)).unwrap_or(*BREAKS.end());
        Self { special, with }
    }

    fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.without(text, &[])
    }

    /// The text of an answer, in which templates look for reasoning.
    fn answer<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.without(text, &THINK)
    }

    fn without<'t>(&self, text: &'t str, kept: &[&str]) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for token in self.special.iter().filter(|token| !kept.contains(&token.as_str())) {
            if text.contains(token.as_str()) {
                let mut broken = token.clone();
                let first = token.chars().next().map_or(0, char::len_utf8);
                broken.insert(first, self.with);
                text = Cow::Owned(text.replace(token.as_str(), &broken));
            }
        }
        text
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(list) => list.iter().map(|value| self.value(value)).collect(),
            Value::Object(map) => {
                let fields = map.iter().map(|(name, value)| (self.text(name).into_owned(), self.value(value)));
                Value::Object(fields.collect())
            }
            other => other.clone(),
        }
    }
}

fn contains(value: &Value, c: char) -> bool {
    match value {
        Value::String(text) => text.contains(c),
        Value::Array(list) => list.iter().any(|value| contains(value, c)),
        Value::Object(map) => map.iter().any(|(name, value)| name.contains(c) || contains(value, c)),
        _ => false,
    }
}
