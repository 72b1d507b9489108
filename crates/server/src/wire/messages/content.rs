//! Messages of the history: blocks become text, reasoning, calls and results.

use crate::wire::field::Field;
use crate::wire::history::{BETWEEN_PARAGRAPHS, BETWEEN_PARTS, History, append, arguments, content_text, part_text};
use crate::wire::internal::{Failure, Role};

/// Adds a message to the history.
///
/// # Errors
/// A message without a role, a block without the fields of its type, and media.
pub(super) fn read(message: &Field<'_>, history: &mut History) -> Result<(), Failure> {
    const ROLES: &str = "\"user\", \"assistant\" or \"system\"";
    message.object()?;
    let role = message.require("role", ROLES)?;
    let content = message.get("content");
    match role.text()? {
        "user" => user(content.as_ref(), history),
        "assistant" => assistant(content.as_ref(), history),
        // Its position stays: at the top it would move the prompt's head every turn (claude-code#63469, ollama#18431).
        "system" | "developer" => {
            let text = content.map(|content| content_text(&content, BETWEEN_PARAGRAPHS)).transpose()?;
            history.push(Role::System, text.unwrap_or_default());
            Ok(())
        }
        _ => Err(role.unexpected(ROLES)),
    }
}

/// Blocks of a content; one text block for a string.
fn blocks<'a>(content: Option<&Field<'a>>) -> Result<Vec<Field<'a>>, Failure> {
    content.map_or_else(|| Ok(Vec::new()), |content| content.parts("a string, or a list of blocks"))
}

/// The type of a block; a bare string is text.
fn kind<'a>(block: &Field<'a>) -> Result<&'a str, Failure> {
    if block.value().is_string() {
        return Ok("text");
    }
    block.object()?;
    block.kind()
}

/// Results become messages of their own, and the text around them stays where it is.
fn user(content: Option<&Field<'_>>, history: &mut History) -> Result<(), Failure> {
    let before = history.len();
    let mut text = String::new();
    for block in blocks(content)? {
        if kind(&block)? == "tool_result" {
            if !text.is_empty() {
                history.push(Role::User, std::mem::take(&mut text));
            }
            result(&block, history)?;
        } else {
            append(&mut text, &part_text(&block)?, BETWEEN_PARTS);
        }
    }
    if !text.is_empty() || history.len() == before {
        history.push(Role::User, text);
    }
    Ok(())
}

fn result(block: &Field<'_>, history: &mut History) -> Result<(), Failure> {
    let mut text = block.opt("content", |content| content_text(content, BETWEEN_PARTS))?.unwrap_or_default();
    if block.opt("is_error", Field::flag)?.unwrap_or(false) && !says_error(&text) {
        text.insert_str(0, if text.is_empty() { "Error" } else { "Error: " });
    }
    history.result(block.opt("tool_use_id", Field::text)?, None, text);
    Ok(())
}

/// True for a text that begins with the word, as those of Claude Code do: `Error: …`, `<tool_use_error>…`.
fn says_error(text: &str) -> bool {
    let begins = |word: &str| text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
    begins("error") || begins("<tool_use_error>")
}

fn assistant(content: Option<&Field<'_>>, history: &mut History) -> Result<(), Failure> {
    // Even a message without blocks is a turn.
    history.assistant();
    for block in blocks(content)? {
        match kind(&block)? {
            "thinking" => history.reasoning(block.opt("thinking", Field::text)?.unwrap_or_default()),
            "tool_use" => {
                let id = block.require_text("id", "the call's id")?;
                let name = block.require_text("name", "the tool's name")?;
                history.call(id, name.to_owned(), arguments(block.get("input").as_ref()));
            }
            // Encrypted reasoning, and hosted tools, whose results are encrypted as well.
            "redacted_thinking" | "server_tool_use" | "mcp_tool_use" | "mcp_tool_result" => {}
            kind if kind.ends_with("_tool_result") => {}
            _ => history.text(&part_text(&block)?),
        }
    }
    Ok(())
}
