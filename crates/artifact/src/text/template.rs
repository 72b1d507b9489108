//! The checkpoint's chat template: messages to the text that the model was trained to continue.
//!
//! Templates are downloaded programs written for Jinja2 in Python. They run with fuel, a recursion limit, no way to files or
//! other templates, and in a thread of their own with a budget: fuel counts instructions and the bytes that they make, and
//! knows nothing of a list that holds itself twice, forty levels deep.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use minijinja::value::Serde;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::Tokenizer;
use super::error::{TextError, shorten};
use super::files::{CHAT_TEMPLATE, TEMPLATE_LIMIT, TOKENIZER_CONFIG, TextFiles, limited};
use super::jinja::{REFUSED, Templates};
use crate::memory::{Budget, Exceeded, within};

/// For one rendering. A conversation of a thousand messages takes about a hundred thousand instructions; 64 bytes of text
/// that an instruction makes count as another one.
const FUEL: u64 = 4_000_000;
const RECURSION_LIMIT: usize = 100;
/// For one rendering, beside what the messages take: many times what a full context needs.
const MEMORY: usize = 128 << 20;
/// A thousand messages take milliseconds; a loaded machine and a debug build take their time.
const TIME: Duration = Duration::from_secs(20);
/// A loop can nest a list into itself as often as fuel allows, and dropping that takes a stack frame a level. Address
/// space only: pages that are not touched cost nothing.
const STACK: usize = 512 << 20;

const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// A compiled chat template, or a few of them by purpose.
#[derive(Debug, Clone)]
pub struct ChatTemplate(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    templates: Templates,
    file: &'static str,
    /// Special tokens by the names that templates know them by.
    tokens: Vec<(String, String)>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: Cow<'static, str>,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: &'static str, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// What a template is rendered with.
#[derive(Debug, Clone, Copy)]
pub struct RenderInput<'a, M = Message> {
    /// The conversation: [`Message`], or anything that serializes to objects with `role` and `content`.
    pub messages: &'a [M],
    /// Whether to end with the beginning of the assistant's answer.
    pub add_generation_prompt: bool,
    /// Whether the model should think first; `None` leaves it to the template.
    pub enable_thinking: Option<bool>,
    /// Descriptions of tools, as JSON schemas.
    pub tools: Option<&'a Json>,
    /// Further variables, none of which replaces one of the above.
    pub kwargs: Option<&'a Map<String, Json>>,
}

impl<'a, M> RenderInput<'a, M> {
    /// A conversation without an answer, tools or variables.
    pub fn new(messages: &'a [M]) -> Self {
        Self { messages, add_generation_prompt: false, enable_thinking: None, tools: None, kwargs: None }
    }
}

impl ChatTemplate {
    /// The template of a checkpoint, if it has one: `chat_template.jinja`, else `chat_template` in
    /// `tokenizer_config.json` (a string, or a list of named ones).
    ///
    /// # Errors
    /// The template does not compile, or the field holds something else.
    pub fn find(files: &TextFiles<'_>, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        Self::with_tokens(files, Some(tokenizer))
    }

    /// The same where there may be no tokenizer to ask for its special tokens.
    pub(super) fn with_tokens(files: &TextFiles<'_>, tokenizer: Option<&Tokenizer>) -> Result<Option<Self>, TextError> {
        let (file, templates) = match files.chat_template.as_deref() {
            Some(source) => (CHAT_TEMPLATE, vec![(DEFAULT.to_owned(), source.to_owned())]),
            None => (TOKENIZER_CONFIG, named(&files.tokenizer_config()?)?),
        };
        if templates.is_empty() {
            return Ok(None);
        }
        let mut sources = Vec::new();
        for (name, source) in templates {
            sources.push((name, limited(file, &source, TEMPLATE_LIMIT)?.to_owned()));
        }
        let compiled = bounded(file, move || {
            let mut templates = Templates::new(FUEL, RECURSION_LIMIT);
            sources.into_iter().try_for_each(|(name, source)| templates.add(name, &source))?;
            Ok(templates)
        })?;
        Ok(Some(Self(Arc::new(Compiled { templates: compiled, file, tokens: special_tokens(files, tokenizer) }))))
    }

    /// Source of the template that a conversation with tools is rendered with.
    pub fn source(&self) -> &str {
        self.0.templates.source(TOOL_USE, DEFAULT)
    }

    /// The conversation as text.
    ///
    /// # Errors
    /// The template fails, refuses the messages (`raise_exception`), or wants more time or memory than any honest one.
    pub fn render<M: Serialize + Sync>(&self, input: &RenderInput<'_, M>) -> Result<String, TextError> {
        let wanted = if input.tools.is_some() { TOOL_USE } else { DEFAULT };
        let mut variables = vec![
            ("messages", Value::from(Serde(input.messages))),
            ("add_generation_prompt", input.add_generation_prompt.into()),
            // Python's side passes None for these, which templates test with `if tools`.
            ("tools", Value::from(Serde(input.tools))),
            ("documents", Value::from(())),
        ];
        // Templates ask `enable_thinking is defined`.
        variables.extend(input.enable_thinking.map(|on| ("enable_thinking", on.into())));
        let kwargs: Vec<(String, Value)> =
            input.kwargs.into_iter().flatten().map(|(name, value)| (name.clone(), Value::from(Serde(value)))).collect();
        let compiled = Arc::clone(&self.0);
        // Deeply nested values that a hostile template built are dropped in there, too.
        bounded(self.0.file, move || {
            // The last of one name wins.
            let kwargs = kwargs.iter().map(|(name, value)| (&**name, value.clone()));
            let tokens = compiled.tokens.iter().map(|(name, token)| (&**name, Value::from(token)));
            let all = kwargs.chain(tokens).chain(variables);
            compiled.templates.render(wanted, DEFAULT, Value::from_pairs(all))
        })
    }
}

/// Runs the engine within its budget.
fn bounded<T, F>(file: &'static str, call: F) -> Result<T, TextError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    let budget = Budget { memory: MEMORY, time: TIME, stack: STACK };
    let failed = |what: String| TextError::Template { file, line: None, what };
    within(budget, move || call().map_err(|error| describe(file, &error))).unwrap_or_else(|exceeded| {
        Err(failed(match exceeded {
            Exceeded::Memory => format!("gave up: more than {} MB of memory", MEMORY >> 20),
            Exceeded::Time => format!("gave up after {} seconds", TIME.as_secs()),
            Exceeded::Panicked => "the template engine failed".to_owned(),
            Exceeded::NoThread => "no thread to run the template in".to_owned(),
        }))
    })
}

/// The tokens that the tokenizer's configuration names: what transformers hands to a template by `special_tokens_map`.
fn special_tokens(files: &TextFiles<'_>, tokenizer: Option<&Tokenizer>) -> Vec<(String, String)> {
    let config = files.tokenizer_config().unwrap_or_default();
    let text = |value: &Json| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
    let named = config.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
    let mut tokens: Vec<_> = named.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
    // The tokenizer may know these two from elsewhere.
    let known = [
        ("bos_token", tokenizer.and_then(Tokenizer::bos_token)),
        ("eos_token", tokenizer.and_then(Tokenizer::eos_token)),
    ];
    tokens.extend(known.into_iter().filter_map(|(name, token)| Some((name.to_owned(), token?.to_owned()))));
    tokens
}

/// `chat_template`: a string, or a list of `{name, template}`.
fn named(config: &Json) -> Result<Vec<(String, String)>, TextError> {
    let bad = |value: &Json| TextError::Field {
        file: TOKENIZER_CONFIG,
        field: "chat_template",
        value: shorten(value),
        what: "a template or a list of {name, template} was expected",
    };
    match config.get("chat_template") {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::String(source)) => Ok(vec![(DEFAULT.to_owned(), source.clone())]),
        Some(Json::Array(list)) => {
            let entry = |entry: &Json| {
                let text = |key| entry.get(key).and_then(Json::as_str).map(str::to_owned);
                text("name").zip(text("template")).ok_or_else(|| bad(entry))
            };
            let mut list = list.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
            if let [only] = &mut list[..] {
                only.0 = DEFAULT.to_owned();
            }
            Ok(list)
        }
        Some(other) => Err(bad(other)),
    }
}

fn describe(file: &'static str, error: &Error) -> TextError {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("gave up after {FUEL} instructions"),
        (_, Some(detail)) if detail.starts_with(REFUSED) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let what = what.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    TextError::Template { file, line: error.line(), what }
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::{byte_level, byte_level_json};
    use super::*;

    fn template(source: &str) -> Result<ChatTemplate, TextError> {
        let files = TextFiles { chat_template: Some(source.to_owned().into()), ..TextFiles::default() };
        ChatTemplate::find(&files, &byte_level()).map(Option::unwrap)
    }

    fn render(source: &str, messages: &[Message], thinking: Option<bool>) -> Result<String, String> {
        let input =
            RenderInput { messages, add_generation_prompt: true, enable_thinking: thinking, tools: None, kwargs: None };
        template(source).and_then(|t| t.render(&input)).map_err(|e| e.to_string())
    }

    fn user(text: &str) -> Vec<Message> {
        vec![Message::new("user", text)]
    }

    /// The constructs of Qwen3's template, in words of our own.
    const THINKING: &str = r#"
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, seen=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.seen and message.role == "user" and message.content is string and not message.content.startswith('<tool>') %}
        {%- set ns.seen = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "system" and loop.first %}{% continue %}{% endif %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- else %}
        {{- '<think>\n' }}
    {%- endif %}
{%- endif %}
"#;

    #[test]
    fn a_thinking_template() {
        let messages = [
            Message::new("system", "Be brief."),
            Message::new("user", "1+1?"),
            Message::new("assistant", "<think>\nhm\n</think>\n\n2"),
            Message::new("user", "a < b && 'c'"),
        ];
        let head = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n\
            <|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\na < b && 'c'<|im_end|>\n<|im_start|>assistant\n";
        let text = |thinking| render(THINKING, &messages, thinking).unwrap();
        assert_eq!(text(None), format!("{head}<think>\n"));
        assert_eq!(text(Some(true)), format!("{head}<think>\n"));
        assert_eq!(text(Some(false)), format!("{head}<think>\n\n</think>\n\n"));
    }

    #[test]
    fn blocks_take_no_lines() {
        let source = "{% for m in messages %}\n  {% if true %}\n[{{ m.role }}]\n  {% endif %}\n{% endfor %}\n";
        assert_eq!(render(source, &user("x"), None).unwrap(), "[user]\n");
        let source = "{%- generation -%}  {{ messages[0]['content'] }}  {%- endgeneration -%} !";
        assert_eq!(render(source, &user("x"), None).unwrap(), "x!");
    }

    #[test]
    fn json_and_values_as_python_writes_them() {
        let tools =
            serde_json::json!([{"type": "function", "function": {"name": "né", "strict": true, "z": 1, "a": []}}]);
        let input = RenderInput {
            messages: &user("x"),
            add_generation_prompt: false,
            enable_thinking: None,
            tools: Some(&tools),
            kwargs: None,
        };
        let text = |source| template(source).unwrap().render(&input).unwrap();
        assert_eq!(
            text("{% for t in tools %}{{ t | tojson }}{% endfor %}"),
            r#"{"type": "function", "function": {"name": "né", "strict": true, "z": 1, "a": []}}"#
        );
        assert_eq!(text("{{ {'a': '<b>'} | tojson(indent=2) }}"), "{\n  \"a\": \"<b>\"\n}");
        assert_eq!(text("{{ tools[0].function.strict }} {{ none }} {{ true | string }}"), "True None True");
        assert_eq!(text("{{ [1, 'a']|tojson(separators=(',', ':')) }}"), r#"[1,"a"]"#);
        assert_eq!(
            text("{% for k, v in tools[0].items() %}{{ k }} {% endfor %}{{ strftime_now('%Y') | length }}"),
            "type function 4"
        );
        assert_eq!(text("{{ bos_token is defined }}{{ documents is none }}"), "FalseTrue");
    }

    #[test]
    fn one_of_several_by_name() {
        let config =
            r#"{"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}"#;
        let files = TextFiles { tokenizer_config: Some(config.into()), ..TextFiles::default() };
        let template = ChatTemplate::find(&files, &byte_level()).unwrap().unwrap();
        let tools = serde_json::json!([]);
        let text = |tools| {
            let messages: &[Message] = &[];
            template
                .render(&RenderInput {
                    messages,
                    add_generation_prompt: true,
                    enable_thinking: None,
                    tools,
                    kwargs: None,
                })
                .unwrap()
        };
        assert_eq!((text(None), text(Some(&tools))), ("d".into(), "t".into()));
    }

    #[test]
    fn special_tokens_of_the_tokenizer() {
        let files = TextFiles {
            tokenizer: Some(byte_level_json().into()),
            tokenizer_config: Some(
                r#"{"eos_token": "<|im_end|>", "bos_token": {"content": "<|endoftext|>"}, "pad_token": "<pad>", "unk_token": null,
                    "image_token": {"content": "<i>"},
                    "chat_template": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ image_token }}{{ unk_token is defined }}"}"#
                    .into(),
            ),
            ..TextFiles::default()
        };
        let template = ChatTemplate::find(&files, &Tokenizer::new(&files).unwrap()).unwrap().unwrap();
        let input = RenderInput {
            messages: &user("x"),
            add_generation_prompt: true,
            enable_thinking: None,
            tools: None,
            kwargs: None,
        };
        assert_eq!(template.render(&input).unwrap(), "<|endoftext|><|im_end|><pad><i>False");
    }

    #[test]
    fn errors_name_file_and_line() {
        let error = |source: &str| render(source, &user("x"), None).unwrap_err();
        assert!(error("a\n{% if %}").starts_with("chat_template.jinja: line 2: syntax error: "));
        assert_eq!(
            error("\n\n{{ raise_exception('roles\nmust alternate') }}"),
            "chat_template.jinja: line 3: the template refuses these messages: roles must alternate"
        );
        assert!(error("{{ nothing.at.all }}").ends_with("line 1: invalid operation: undefined has no attribute 'at'"));
        let long = error(&"x".repeat(TEMPLATE_LIMIT + 1));
        assert_eq!(long, "chat_template.jinja: 262145 bytes, more than the limit of 262144");
    }

    #[test]
    fn templates_that_grow_without_end() {
        let error = |source: &str| render(source, &user("x"), None).unwrap_err();
        let doubling = |start: &str, step: &str, end: &str| {
            format!(
                "{{% set ns = namespace(x={start}) %}}{{% for i in range(60) %}}{{% set ns.x = {step} %}}{{% endfor %}}{end}"
            )
        };
        for (start, step, end) in [
            ("'ab'", "ns.x + ns.x", "{{ ns.x }}"),
            ("'ab'", "ns.x ~ ns.x", "{{ ns.x|length }}"),
            ("'ab'", "ns.x * 2", ""),
            ("'ab'", "ns.x.replace('a', ns.x)", ""),
            ("'ab'", "[ns.x, ns.x]|join(ns.x)", ""),
            ("[1]", "[ns.x, ns.x]", "{{ ns.x }}"),
            ("[1]", "[ns.x, ns.x]", "{{ ns.x|tojson }}"),
            ("[1]", "(ns.x + ns.x)|list", "{{ ns.x|length }}"),
            ("[1]", "ns.x + ns.x", "{{ ns.x == ns.x + [1] }}"),
            ("'ab'", "ns.x.center(ns.x|length * 2)", ""),
            ("'ab'", "'%s%s' % (ns.x, ns.x)", ""),
            ("'ab'", "'{0}{0}'.format(ns.x)", ""),
            ("'a b'", "(ns.x.split() + ns.x.split())|join(' ')", ""),
            ("['a']", "ns.x|batch(1)|list + ns.x", "{{ ns.x }}"),
            ("'a'", "ns.x|indent(ns.x, true) ~ ns.x", ""),
            ("'a'", "ns.x.translate({97: ns.x ~ ns.x})", ""),
            ("'a'", "ns.x|replace('a', ns.x ~ 'aa')", ""),
            ("'a'", "[ns.x, ns.x]|tojson(indent=ns.x)", ""),
        ] {
            let error = error(&doubling(start, step, end));
            let bounded = ["more than 128 MB of memory", "too large", "after 4000000 instructions"];
            assert!(bounded.iter().any(|end| error.ends_with(end)), "{step}{end}: {error}");
        }
        // The next one is rendered as if nothing had been.
        assert_eq!(render("{{ messages[0].content }}", &user("x"), None).as_deref(), Ok("x"));
    }

    #[test]
    fn hostile_templates_end() {
        let error = |source: &str| render(source, &user("x"), None).unwrap_err();
        let endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
        assert!(error(endless).ends_with("gave up after 4000000 instructions"));
        assert!(error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").contains("recursion limit"));
        assert!(error("{% include '/etc/passwd' %}").contains("template not found"));
        assert!(error("{% import 'x' as y %}").contains("template not found"));
        assert!(error("{{ 'x' * 10000000000 }}").contains("too large"));
        let loud = "{% set x = 'x' * 1000000 %}{% for i in range(1000) %}{{ x }}{% endfor %}";
        assert!(!error(loud).is_empty());
        let deep = "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}done";
        assert_eq!(render(deep, &user("x"), None).as_deref(), Ok("done"));
        assert!(error("{%}{{ 'x' }}").contains("syntax error"));
        let _ = render(&format!("{}1{}", "(".repeat(50_000), ")".repeat(50_000)), &user("x"), None);
    }
}
