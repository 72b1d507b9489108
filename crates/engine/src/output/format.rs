//! Formats of tool calls and reasoning, read from a chat template.

use serde_json::{Value, json};

use super::markup::{END_THINK, THINK, ToolFormat};

/// Form in which a template takes the arguments of calls in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArgumentsAs {
    /// A mapping.
    #[default]
    Object,
    /// A string of JSON.
    Text,
}

/// Format of a model's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputFormat {
    /// Markup of tool calls; `None` if the template has none that is known.
    pub tools: Option<ToolFormat>,
    /// True if the model can reason between `<think>` and `</think>`.
    pub reasoning: bool,
    /// Form of arguments in the history.
    pub arguments: ArgumentsAs,
}

const PROBE_TOOL: &str = "probe_tool";
const PROBE_KEY: &str = "probe_key";
const PROBE_VALUE: &str = "probe value";

impl OutputFormat {
    /// Format of the model with the chat template `source`. `render` renders messages without tools and without a
    /// generation prompt; `None` is a template error.
    ///
    /// The literals of a rendered call decide before those of the source, where a format may only be mentioned.
    pub fn detect(source: &str, render: impl Fn(&Value) -> Option<String>) -> Self {
        let object = render(&probe(json!({ PROBE_KEY: PROBE_VALUE })));
        let text = render(&probe(Value::String(format!("{{\"{PROBE_KEY}\": \"{PROBE_VALUE}\"}}"))));
        let rendered = [&object, &text].into_iter().flatten().find_map(|text| ToolFormat::of_literals(text));
        let tools = rendered.or_else(|| ToolFormat::of_literals(source));
        let arguments = match (usable(object.as_deref(), tools), usable(text.as_deref(), tools)) {
            (true, _) => ArgumentsAs::Object,
            (false, true) => ArgumentsAs::Text,
            // The templates as published.
            (false, false) => match tools {
                Some(ToolFormat::DeepSeekV3 | ToolFormat::DeepSeekV31) => ArgumentsAs::Text,
                _ => ArgumentsAs::Object,
            },
        };
        let reasoning = source.contains(THINK) || source.contains(END_THINK);
        Self { tools, reasoning, arguments }
    }
}

/// A conversation with one call and its result.
fn probe(arguments: Value) -> Value {
    json!([
        {"role": "user", "content": "Probe."},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": PROBE_TOOL, "arguments": arguments}},
        ]},
        {"role": "tool", "tool_call_id": "call_0", "name": PROBE_TOOL, "content": "Result."},
    ])
}

/// True if a rendered call shows its argument as `tools` writes it: in markup of the XML kind without quotes, in JSON
/// with plain double quotes. A string that was encoded once more has backslashes, a mapping that was printed by
/// Python's rules has single quotes.
fn usable(rendered: Option<&str>, tools: Option<ToolFormat>) -> bool {
    let Some(rendered) = rendered else { return false };
    if tools.is_some_and(|tools| tools.xml().is_some()) {
        let quoted = |text: &str| rendered.contains(&format!("{text}\"")) || rendered.contains(&format!("{text}'"));
        // MiniMax puts the key itself into quotes.
        return rendered.contains(PROBE_KEY) && rendered.contains(PROBE_VALUE) && !quoted(PROBE_VALUE);
    }
    rendered.contains(&format!("\"{PROBE_KEY}\"")) && rendered.contains(&format!("\"{PROBE_VALUE}\""))
}
