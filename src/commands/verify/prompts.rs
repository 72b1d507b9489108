//! What a verification is measured with.

use std::path::Path;

use mtplx_runtime::text::{Message, RenderInput};
use serde_json::Value;

use crate::error::{Exit, Failure};
use mtplx_engine::ModelText;

/// Largest file of prompts.
const LIMIT: u64 = 16 << 20;
/// Longest line of it. A token is a few bytes, so that this is no limit for a prompt of [`TOKENS`].
const LINE: usize = 64 << 10;
/// Longest prompt: every gate goes through all of it, and says no more for it.
const TOKENS: usize = 4096;

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

/// The tokens of the first `most` prompts: those of `file`, or the built-in ones.
///
/// # Errors
/// The file cannot be read, holds no prompt of two tokens or more, or one that is too long; the tokenizer or the chat template fails.
pub fn encode(file: Option<&Path>, most: usize, text: &ModelText) -> anyhow::Result<Vec<Vec<u32>>> {
    let Some(file) = file else {
        return BUILTIN.iter().take(most).map(|&(kind, prompt)| tokens(text, kind, prompt)).collect();
    };
    let mut prompts = Vec::new();
    for (line, prompt) in read(file)? {
        // One token is nothing to go on from, and is passed over.
        if prompts.len() == most {
            break;
        }
        let tokens = tokens(text, Kind::Text, &prompt)?;
        if tokens.len() > TOKENS {
            let what = format!("line {line}: {} tokens: expected at most {TOKENS}", tokens.len());
            return Err(refused(file, &what, SHORTEN).into());
        }
        if tokens.len() >= 2 {
            prompts.push(tokens);
        }
    }
    if prompts.is_empty() {
        return Err(refused(
            file,
            "no prompt of two tokens or more",
            "a few words make a prompt; without --prompts a few are built in",
        )
        .into());
    }
    Ok(prompts)
}

const SHORTEN: &str = "cut the prompt: a few hundred tokens show as much, and take less time";

fn refused(file: &Path, what: &str, hint: &str) -> Failure {
    Failure::new(Exit::File, format!("{}: {what}", file.display())).hint(hint)
}

fn tokens(text: &ModelText, kind: Kind, prompt: &str) -> anyhow::Result<Vec<u32>> {
    let Some(template) = text.template.as_ref().filter(|_| matches!(kind, Kind::Chat)) else {
        return Ok(text.tokenizer.encode(prompt, true)?);
    };
    let messages = [Message::new("user", prompt)];
    let input = RenderInput {
        messages: &messages,
        add_generation_prompt: true,
        enable_thinking: None,
        tools: None,
        kwargs: None,
    };
    Ok(text.tokenizer.encode(&template.render(&input)?, false)?)
}

/// The prompts of a file, each with the number of its line.
fn read(file: &Path) -> Result<Vec<(usize, String)>, Failure> {
    const HINT: &str = "a prompt a line, or JSON Lines: a string, or an object with `prompt` or `text`";
    let damaged = |what: String| refused(file, &what, HINT);
    let metadata = std::fs::metadata(file).map_err(|error| damaged(error.to_string()))?;
    if !metadata.is_file() {
        return Err(damaged("not a regular file".to_owned()));
    }
    let size = metadata.len();
    if size > LIMIT {
        return Err(damaged(format!("{size} bytes: expected at most {LIMIT}")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| damaged(error.to_string()))?;
    let mut prompts = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        if line.len() > LINE {
            let what = format!("line {number}: {} bytes: expected at most {LINE}", line.len());
            return Err(refused(file, &what, SHORTEN));
        }
        prompts.push((number, prompt(line).map_err(|what| damaged(format!("line {number}: {what}")))?));
    }
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
            let read = super::read(&file);
            read.map_err(|error| error.to_string().replace(&file.display().to_string(), "FILE"))
        };
        let lines = "plain text\n\n\"a\\nb\"\n{\"prompt\": \"c\"}\n{\"id\": 3, \"text\": \"d\"}\n\"Well,\" he said\n";
        let expected = [(1, "plain text"), (3, "a\nb"), (4, "c"), (5, "d"), (6, "\"Well,\" he said")];
        assert_eq!(read(lines).unwrap(), expected.map(|(line, prompt)| (line, prompt.to_owned())));
        assert_eq!(read("\n").unwrap_err(), "FILE: no prompt in it");
        assert_eq!(read("x\n{\"a\": 1}").unwrap_err(), "FILE: line 2: an object without a string `prompt` or `text`");
        assert!(read("{\"a\"").unwrap_err().starts_with("FILE: line 1: not JSON"));
        let long = format!("x\n{}\n", "y ".repeat(super::LINE));
        assert_eq!(read(&long).unwrap_err(), "FILE: line 2: 131072 bytes: expected at most 65536");
    }
}
