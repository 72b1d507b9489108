//! Tests of the splitter over all its formats.

mod calls;
mod format;
mod json;
mod properties;
mod rules;
mod samples;
mod schema;

use serde_json::{Value, json};

use super::{ArgumentsAs, OutputFormat, OutputSplitter, Piece, ToolFormat, ToolSchema};

const ALL: [ToolFormat; 6] = [
    ToolFormat::Hermes,
    ToolFormat::QwenXml,
    ToolFormat::Glm,
    ToolFormat::DeepSeekV3,
    ToolFormat::DeepSeekV31,
    ToolFormat::MiniMax,
];

/// Prompt that opens reasoning.
const THINKS: &str = "<|im_start|>assistant\n<think>\n";
/// Prompt that leaves reasoning to the model.
const ANSWERS: &str = "<|im_start|>assistant\n";

fn format(tools: ToolFormat) -> OutputFormat {
    OutputFormat { tools: Some(tools), reasoning: true, arguments: ArgumentsAs::Object }
}

fn tools() -> Vec<ToolSchema> {
    let tool = |name: &str, parameters: Value| ToolSchema { name: name.to_owned(), parameters };
    vec![
        tool("get", json!({"type": "object", "properties": {}})),
        tool(
            "get_weather",
            json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}),
        ),
        tool(
            "write",
            json!({"type": "object", "properties": {
                "path": {"type": "string"},
                "content": {"type": "string"},
                "options": {"type": "object"},
                "lines": {"type": ["array", "null"]},
                "append": {"type": "boolean"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            }}),
        ),
    ]
}

/// Splits `pieces` of one text.
fn split<'t>(tools: ToolFormat, prompt: &str, pieces: impl IntoIterator<Item = &'t str>) -> Vec<Piece> {
    let mut splitter = OutputSplitter::new(&format(tools), prompt, &self::tools());
    let mut out = Vec::new();
    for piece in pieces {
        let mut decided = Vec::new();
        splitter.push(piece, &mut decided);
        out.append(&mut decided);
    }
    splitter.finish(true, &mut out);
    merged(out)
}

/// Pieces with neighbours of one kind joined.
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (all.last_mut(), piece) {
            (Some(Piece::Text(a)), Piece::Text(b))
            | (Some(Piece::Reasoning(a)), Piece::Reasoning(b))
            | (Some(Piece::Arguments(a)), Piece::Arguments(b)) => a.push_str(&b),
            (_, piece) => all.push(piece),
        }
    }
    all
}

/// Pieces in one line: text as it is, `(reasoning)`, `[call arguments]`, and `[call arguments` `~]` for a call that is
/// not complete.
fn show(pieces: &[Piece]) -> String {
    let shown = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Reasoning(text) => format!("({text})"),
        Piece::Call { name } => format!("[{name} "),
        Piece::Arguments(json) => json.clone(),
        Piece::EndOfCall { complete } => if *complete { "]" } else { "~]" }.to_owned(),
    });
    shown.collect()
}

/// Texts and arguments of `pieces` in one string, without the borders of calls.
fn texts(pieces: &[Piece]) -> String {
    let texts = pieces.iter().filter_map(|piece| match piece {
        Piece::Text(text) | Piece::Reasoning(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Arguments of the calls in `pieces`, and their completeness. Fails where a call does not end before the next.
fn arguments(pieces: &[Piece]) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    let mut open: Option<String> = None;
    for piece in pieces {
        match piece {
            Piece::Text(_) | Piece::Reasoning(_) => assert!(open.is_none(), "text inside a call: {pieces:?}"),
            Piece::Call { .. } => assert!(open.replace(String::new()).is_none(), "call inside a call: {pieces:?}"),
            Piece::Arguments(json) => open.as_mut().expect("arguments outside of a call").push_str(json),
            Piece::EndOfCall { complete } => all.push((open.take().expect("end without a call"), *complete)),
        }
    }
    assert!(open.is_none(), "call without an end: {pieces:?}");
    all
}

/// Positions at which `text` can be cut.
fn cuts(text: &str) -> Vec<usize> {
    (0..=text.len()).filter(|i| text.is_char_boundary(*i)).collect()
}
