//! Detection of formats.

use serde_json::Value;

use super::{ArgumentsAs, OutputFormat, ToolFormat};

/// Name, arguments and their kind in a probe's call.
fn call(messages: &Value) -> (&str, &Value) {
    let function = &messages[1]["tool_calls"][0]["function"];
    (function["name"].as_str().expect("name"), &function["arguments"])
}

/// First argument of a mapping; `None` for a string, as of a template that iterates it.
fn item(arguments: &Value) -> Option<(&str, &str)> {
    let (key, value) = arguments.as_object()?.iter().next()?;
    Some((key, value.as_str()?))
}

type Render = fn(&Value) -> Option<String>;

#[test]
fn rendered_calls_decide() {
    let hermes: Render = |messages| {
        let (name, arguments) = call(messages);
        Some(format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"))
    };
    let hermes_text: Render = |messages| {
        let (name, arguments) = call(messages);
        let arguments = arguments.as_str()?;
        Some(format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"))
    };
    let qwen: Render = |messages| {
        let (name, arguments) = call(messages);
        let (key, value) = item(arguments)?;
        Some(format!(
            "<tool_call>\n<function={name}>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>"
        ))
    };
    let glm: Render = |messages| {
        let (name, arguments) = call(messages);
        let (key, value) = item(arguments)?;
        Some(format!("<tool_call>{name}\n<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>"))
    };
    let minimax: Render = |messages| {
        let (name, arguments) = call(messages);
        let (key, value) = item(arguments)?;
        Some(format!(
            "<minimax:tool_call>\n<invoke name=\"{name}\">\n<parameter name=\"{key}\">{value}</parameter>\n</invoke>\n"
        ))
    };
    // A mapping is printed by Python's rules.
    let deepseek_v3: Render = |messages| {
        let (name, arguments) = call(messages);
        let arguments = arguments.as_str().map_or_else(|| arguments.to_string().replace('"', "'"), str::to_owned);
        Some(format!("<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"))
    };
    let deepseek_v31: Render = |messages| {
        let (name, arguments) = call(messages);
        Some(format!("<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{}<｜tool▁call▁end｜>", arguments.as_str()?))
    };
    let cases: [(Render, ToolFormat, ArgumentsAs); 7] = [
        (hermes, ToolFormat::Hermes, ArgumentsAs::Object),
        (hermes_text, ToolFormat::Hermes, ArgumentsAs::Text),
        (qwen, ToolFormat::QwenXml, ArgumentsAs::Object),
        (glm, ToolFormat::Glm, ArgumentsAs::Object),
        (minimax, ToolFormat::MiniMax, ArgumentsAs::Object),
        (deepseek_v3, ToolFormat::DeepSeekV3, ArgumentsAs::Text),
        (deepseek_v31, ToolFormat::DeepSeekV31, ArgumentsAs::Text),
    ];
    for (render, tools, arguments) in cases {
        // The source mentions another format.
        let format = OutputFormat::detect("<tool_call> <function= </think>", render);
        assert_eq!(format, OutputFormat { tools: Some(tools), reasoning: true, arguments });
    }
}

#[test]
fn literals_of_the_source_decide_without_a_rendered_call() {
    let cases = [
        ("'<tool_call>\\n{\"name\": \"' + call.name", Some(ToolFormat::Hermes), ArgumentsAs::Object),
        ("'<tool_call>\\n<function=' + call.name", Some(ToolFormat::QwenXml), ArgumentsAs::Object),
        ("'<tool_call>' + name + '<arg_key>'", Some(ToolFormat::Glm), ArgumentsAs::Object),
        ("'<｜tool▁call▁begin｜>' + type + '```json'", Some(ToolFormat::DeepSeekV3), ArgumentsAs::Text),
        ("'<｜tool▁call▁begin｜>' + name", Some(ToolFormat::DeepSeekV31), ArgumentsAs::Text),
        ("'<minimax:tool_call>'", Some(ToolFormat::MiniMax), ArgumentsAs::Object),
        ("{{ messages }}", None, ArgumentsAs::Object),
    ];
    for (source, tools, arguments) in cases {
        let format = OutputFormat::detect(source, |_| None);
        assert_eq!(format, OutputFormat { tools, reasoning: false, arguments }, "{source}");
    }
}
