//! Words for a server that answers: the address, a request to try, and what to set in coding agents.

use std::io::{self, Write};

use serde_json::json;

use crate::commands::serve::Ready;
use crate::error::one_line;

/// Tokens of the shortest first prompt of the agents named here (docs/clients.md).
const FIRST_PROMPT: usize = 10_000;

/// Writes them.
///
/// # Errors
/// Standard output is gone.
pub fn write(out: &mut impl Write, server: &Ready<'_>) -> io::Result<()> {
    let Ready { url, chats, context, has_key, .. } = *server;
    // A folder's name may hold anything.
    let (name, word) = (one_line(server.name), quoted(&one_line(server.name)));
    let key = if has_key { " -H 'Authorization: Bearer KEY'" } else { "" };
    let (path, body) = if chats {
        let messages = json!([{"role": "user", "content": "Write a haiku about winter."}]);
        ("chat/completions", json!({"messages": messages, "max_tokens": 200}))
    } else {
        ("completions", json!({"prompt": "fn main() {", "max_tokens": 64}))
    };
    writeln!(out, "\n{name} is ready: {url}\n")?;
    writeln!(out, "Ask it:")?;
    writeln!(out, "  curl {url}/v1/{path} -H 'Content-Type: application/json'{key} -d '{body}'\n")?;
    writeln!(out, "Coding agents (docs/clients.md):")?;
    writeln!(out, "  Claude Code  ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN=KEY \\")?;
    writeln!(out, "               ANTHROPIC_MODEL={word} CLAUDE_CODE_MAX_CONTEXT_TOKENS={context} claude")?;
    writeln!(
        out,
        "  Codex CLI    ~/.codex/config.toml: model = \"{name}\", model_context_window = {context}; a provider with"
    )?;
    writeln!(out, "               base_url = \"{url}/v1\", wire_api = \"responses\"")?;
    writeln!(
        out,
        "  opencode     ~/.config/opencode/opencode.json: model \"mtplx/{name}\", limit.context {context}; a provider with"
    )?;
    writeln!(out, "               npm \"@ai-sdk/openai-compatible\", baseURL \"{url}/v1\"")?;
    if context < FIRST_PROMPT {
        writeln!(
            out,
            "  Their first prompts have {FIRST_PROMPT} tokens and more: this model's context, {context}, holds none."
        )?;
    }
    writeln!(out, "\nCtrl-C stops it.\n")?;
    out.flush()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_a_shell() {
        assert_eq!(["o/n-1.5", "my model", "it's"].map(quoted), ["o/n-1.5", "'my model'", r"'it'\''s'"]);
    }

    fn written(chats: bool, context: usize, has_key: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, &Ready { url: "http://localhost:8000", name: "o/n", chats, context, has_key }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_chat_model_is_asked_by_a_message_and_a_base_model_by_a_text() {
        let chat = written(true, 262_144, false);
        assert!(chat.contains("/v1/chat/completions -H") && !chat.contains("Authorization"), "{chat}");
        assert!(!chat.contains("holds none"), "{chat}");
        let base = written(false, 2048, true);
        assert!(base.contains("/v1/completions -H") && base.contains("-H 'Authorization: Bearer KEY'"), "{base}");
        assert!(base.contains("holds none"), "{base}");
        for text in [chat, base] {
            assert!(["Claude Code", "Codex", "opencode"].iter().all(|agent| text.contains(agent)), "{text}");
        }
    }
}
