//! Anthropic's Messages API: `/v1/messages` and `/v1/messages/count_tokens`, as Claude Code speaks it.
//!
//! Where Anthropic and this server differ:
//!
//! * `max_tokens` may be absent: the context is the bound. `0` is taken as well, as Anthropic does.
//! * A last message by the assistant is history like any other: the answer begins a turn and does not continue that
//!   message. Anthropic's newer models refuse such a prefill.
//! * Blocks of hosted tools in the history (`server_tool_use`, `web_search_tool_result`, `mcp_tool_use` …) are passed
//!   over. So are `redacted_thinking` and unknown blocks without `text`.
//! * A `tool_result` with `is_error` begins with `Error: ` unless its text says so itself: templates have no place for
//!   the flag.
//! * The signature of a `thinking` block is a constant, and no signature is checked.
//! * An answer without text is one empty text block: clients read the first block unasked.

mod content;
mod fold;
mod partial;
mod request;
#[cfg(test)]
mod tests;
mod writer;

pub use fold::Fold;
pub use request::{Parsed, count_response, parse, parse_count};
pub use writer::Writer;
