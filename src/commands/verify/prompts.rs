//! What a verification is measured with.

use std::path::Path;

use mtplx_runtime::text::{Message, RenderInput};
use serde_json::Value;

use crate::engine::TextSide;
use crate::error::{Exit, Failure};

/// Largest file of prompts.
const LIMIT: u64 = 16 << 20;

/// Code, prose, and questions for models with a chat template: what drafting is used for, and easy as well as hard to
/// draft.
const BUILTIN: [(Kind, &str); 8] = [
    (
        Kind::Text,
        "use std::collections::HashMap;\n\n/// Counts how often each word occurs.\npub fn count(text: &str) -> HashMap<&str, usize> {\n    let mut counts = HashMap::new();\n",
    ),
    (Kind::Chat, "Write a function that reverses a linked list, and say how it works."),
    (
        Kind::Text,
        "The harbour was quiet that morning. A single boat lay at the pier, and nobody had seen its owner since",
    ),
    (
        Kind::Text,
        "def fibonacci(n: int) -> int:\n    \"\"\"Returns the n-th Fibonacci number.\"\"\"\n    if n < 2:\n        return n\n",
    ),
    (Kind::Chat, "Name three rivers of Europe and the seas they flow into."),
    (Kind::Text, "{\"name\": \"example\", \"version\": \"1.0.0\", \"dependencies\": {\"alpha\": \"^2.1.0\", \"beta\":"),
    (Kind::Text, "1, 2, 4, 8, 16, 32, 64, 128,"),
    (Kind::Chat, "Explain to a child why the sky is blue."),
];

#[derive(Clone, Copy)]
enum Kind {
    /// To be continued.
    Text,
    /// To be answered, where the model has a chat template.
    Chat,
}

/// The prompts' tokens: those of `file`, or the built-in ones.
///
/// # Errors
/// The file cannot be read or holds no prompt; the tokenizer or the chat template fails.
pub fn encode(file: Option<&Path>, text: &TextSide) -> anyhow::Result<Vec<Vec<u32>>> {
    let Some(file) = file else {
        return BUILTIN.iter().map(|&(kind, prompt)| tokens(text, kind, prompt)).collect();
    };
    let prompts = read(file)?;
    prompts.iter().map(|prompt| tokens(text, Kind::Text, prompt)).collect()
}

fn tokens(text: &TextSide, kind: Kind, prompt: &str) -> anyhow::Result<Vec<u32>> {
    let Some(template) = text.template.as_ref().filter(|_| matches!(kind, Kind::Chat)) else {
        return Ok(text.tokenizer.encode(prompt, true)?);
    };
    let messages = [Message::new("user", prompt)];
    let input = RenderInput { messages: &messages, add_generation_prompt: true, enable_thinking: None, tools: None };
    Ok(text.tokenizer.encode(&template.render(&input)?, false)?)
}

fn read(file: &Path) -> Result<Vec<String>, Failure> {
    const HINT: &str = "a prompt a line, or JSON Lines: a string, or an object with `prompt` or `text`";
    let name = file.display();
    let damaged = |what: String| Failure::new(Exit::File, format!("{name}: {what}")).hint(HINT);
    let size = std::fs::metadata(file).map_err(|error| damaged(error.to_string()))?.len();
    if size > LIMIT {
        return Err(damaged(format!("{size} bytes: expected at most {LIMIT}")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| damaged(error.to_string()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let prompts =
        lines.map(|(index, line)| prompt(line).map_err(|what| damaged(format!("line {}: {what}", index + 1))));
    let prompts = prompts.collect::<Result<Vec<String>, Failure>>()?;
    if prompts.is_empty() { Err(damaged("no prompt in it".to_owned())) } else { Ok(prompts) }
}

/// The prompt of a line.
fn prompt(line: &str) -> Result<String, String> {
    if !line.starts_with(['{', '"']) {
        return Ok(line.to_owned());
    }
    match serde_json::from_str(line) {
        Ok(Value::String(prompt)) => Ok(prompt),
        Ok(Value::Object(fields)) => {
            let text = fields.get("prompt").or_else(|| fields.get("text")).and_then(Value::as_str);
            text.map(str::to_owned).ok_or_else(|| "an object without a string `prompt` or `text`".to_owned())
        }
        Ok(_) => Err("neither a string nor an object".to_owned()),
        // A line of code or of prose may begin like JSON.
        Err(_) if line.starts_with('"') => Ok(line.to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_are_prompts() {
        let read = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("prompts");
            std::fs::write(&file, text).unwrap();
            super::read(&file).map_err(|error| error.to_string().replace(&file.display().to_string(), "FILE"))
        };
        let lines = "plain text\n\n\"a\\nb\"\n{\"prompt\": \"c\"}\n{\"id\": 3, \"text\": \"d\"}\n\"Well,\" he said\n";
        assert_eq!(read(lines).unwrap(), ["plain text", "a\nb", "c", "d", "\"Well,\" he said"]);
        assert_eq!(read("\n").unwrap_err(), "FILE: no prompt in it");
        assert_eq!(read("x\n{\"a\": 1}").unwrap_err(), "FILE: line 2: an object without a string `prompt` or `text`");
        assert!(read("{\"a\"").unwrap_err().starts_with("FILE: line 1: not JSON"));
    }
}
