//! Requests.

use serde_json::Value;

use crate::wire::field::{self, Field};
use crate::wire::internal::{Failure, GenerationRequest, Prompt, RawPrompt};
use crate::wire::options;

/// Prompts of one request at most.
const MAX_PROMPTS: usize = 64;
/// Tokens at most where the request does not say, as OpenAI has it.
const DEFAULT_MAX_TOKENS: u64 = 16;
/// Shapes of `prompt`.
const PROMPTS: &str = "a string, a list of strings, or lists of token ids";

/// A request of this dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The request.
    pub request: GenerationRequest,
    /// Prompts of the request.
    pub prompts: usize,
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
    let prompts = prompts(&root.require("prompt", PROMPTS)?)?;
    root.opt("response_format", options::refuse_format)?;
    for key in ["n", "best_of"] {
        options::only_one(&root, key)?;
    }
    root.opt("echo", refuse_echo)?;
    root.opt("suffix", refuse_suffix)?;

    let mut options = options::options(&root)?;
    options.stop = root.opt("stop", options::stops)?.unwrap_or_default();
    options.logprobs = root.opt("logprobs", options::top_logprobs)?;
    let max_tokens = root.opt("max_tokens", |field| field.integer(1..=u64::MAX))?;
    options.max_tokens = Some(max_tokens.unwrap_or(DEFAULT_MAX_TOKENS));

    let count = prompts.len();
    let request = GenerationRequest {
        model: options::model(&root)?,
        prompt: Prompt::Raw(prompts),
        options,
        stream: options::stream(&root, false)?,
    };
    Ok(Parsed { request, prompts: count, include_usage: options::include_usage(&root)? })
}

fn refuse_echo(echo: &Field<'_>) -> Result<(), Failure> {
    if echo.flag()? {
        return Err(echo.refused("not supported; put the prompt before the text yourself"));
    }
    Ok(())
}

fn refuse_suffix(suffix: &Field<'_>) -> Result<(), Failure> {
    if !suffix.text()?.is_empty() {
        return Err(suffix.refused("not supported; write the model's own infill markers in `prompt`"));
    }
    Ok(())
}

/// Prompts: a string, strings, tokens, or lists of tokens.
fn prompts(field: &Field<'_>) -> Result<Vec<RawPrompt>, Failure> {
    let values = match field.value() {
        Value::String(text) => return Ok(vec![RawPrompt::Text(text.clone())]),
        Value::Array(values) => values,
        _ => return Err(field.unexpected(PROMPTS)),
    };
    if values.first().is_some_and(Value::is_number) {
        return Ok(vec![RawPrompt::Tokens(tokens(field, values)?)]);
    }
    if values.is_empty() || values.len() > MAX_PROMPTS {
        return Err(field.miscounted(values.len(), format!("1 to {MAX_PROMPTS} prompts")));
    }
    let prompt = |(index, value)| {
        let field = field.element(index, value);
        match value {
            Value::String(text) => Ok(RawPrompt::Text(text.clone())),
            Value::Array(values) => Ok(RawPrompt::Tokens(tokens(&field, values)?)),
            _ => Err(field.unexpected("a string, or a list of token ids")),
        }
    };
    // No null is passed over: each prompt's place is its text's.
    values.iter().enumerate().map(prompt).collect()
}

fn tokens(field: &Field<'_>, values: &[Value]) -> Result<Vec<u32>, Failure> {
    if values.is_empty() {
        return Err(field.miscounted(0, "at least one token id"));
    }
    let token = |(index, value): (usize, &Value)| match value.as_u64().map(u32::try_from) {
        Some(Ok(token)) => Ok(token),
        // Only an error needs a path: a prompt has a hundred thousand tokens.
        _ => field.element(index, value).integer(0..=u32::MAX),
    };
    values.iter().enumerate().map(token).collect()
}
