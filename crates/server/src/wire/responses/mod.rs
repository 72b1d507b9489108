//! OpenAI's Responses API: `/v1/responses`, as Codex speaks it.
//!
//! Where OpenAI and this server differ:
//!
//! * Nothing is stored: `store` is ignored, and fields that need a store are errors: `previous_response_id`,
//!   `conversation`, `prompt`, `background: true`, and items of type `item_reference`.
//! * `encrypted_content` is ignored in the history and never written: reasoning comes in plain text. It is a summary
//!   where `reasoning.summary` asks for one, since such clients show nothing else, and `reasoning_text` where not.
//! * Calls that hosted tools of the client's side made (`local_shell_call`, `shell_call`, `apply_patch_call`,
//!   `tool_search_call`) stay in the history as calls of that name. Other hosted items (`web_search_call`, `mcp_call`,
//!   `compaction` …) are passed over, as are items of unknown types.
//! * Tools of items (`additional_tools`, `tool_search_output`) join those of the request.
//! * `stop` is taken as on the other routes.
//! * A call that the limit cuts has the status `incomplete`, with the arguments that are there.

mod echo;
mod fold;
mod input;
mod item;
mod request;
#[cfg(test)]
mod tests;
mod writer;

pub use fold::Fold;
pub use request::{Parsed, parse};
pub use writer::Writer;
