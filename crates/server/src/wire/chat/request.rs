//! Requests.

use crate::wire::chat_history;
use crate::wire::field::{self, Field};
use crate::wire::internal::{Failure, GenerationRequest, Prompt};
use crate::wire::options;

/// A request of this dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The request.
    pub request: GenerationRequest,
    /// True where a stream ends with a chunk that holds the usage.
    pub include_usage: bool,
}

/// The request that a body holds.
///
/// # Errors
/// The first field that is wrong, with its path, its value and what would be right.
pub fn parse(body: &[u8]) -> Result<Parsed, Failure> {
    let value = field::read(body)?;
    let root = Field::root(&value)?;
    let conversation = chat_history::conversation(&root)?;
    root.opt("response_format", options::refuse_format)?;
    options::only_one(&root, "n")?;

    let mut options = options::options(&root)?;
    options.stop = root.opt("stop", options::stops)?.unwrap_or_default();
    options.logprobs = options::chat_logprobs(&root)?;
    let tokens = |key: &str| root.opt(key, |field| field.integer(1..=u64::MAX));
    let older = tokens("max_tokens")?;
    options.max_tokens = tokens("max_completion_tokens")?.or(older);

    let request = GenerationRequest {
        model: options::model(&root)?,
        prompt: Prompt::Conversation(conversation),
        options,
        stream: options::stream(&root, false)?,
    };
    Ok(Parsed { request, include_usage: options::include_usage(&root)? })
}
