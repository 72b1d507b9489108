//! The small files beside the weights that say how text is handled, as text: who reads them is not decided here.

use std::borrow::Cow;

use serde_json::Value;

use super::error::{TextError, shorten};
use crate::{Checkpoint, json};

/// The largest tokenizer in use (a 256k vocabulary with its merges) is about 35 MB.
const TOKENIZER_LIMIT: usize = 128 << 20;
/// `tokenizer_config.json` repeats every added token; a few thousand of them make about a megabyte.
const CONFIG_LIMIT: usize = 8 << 20;
/// The longest published chat templates are about 20 kB.
pub(super) const TEMPLATE_LIMIT: usize = 256 << 10;

pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(super) const GENERATION_CONFIG: &str = "generation_config.json";
pub(super) const CONFIG: &str = "config.json";
pub(super) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
pub(super) const ADDED_TOKENS: &str = "added_tokens.json";
pub(super) const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The files' contents, each if it is there.
#[derive(Debug, Clone, Default)]
pub struct TextFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: Option<Cow<'a, str>>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<Cow<'a, str>>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<Cow<'a, str>>,
    /// `added_tokens.json`.
    pub added_tokens: Option<Cow<'a, str>>,
    /// `generation_config.json`.
    pub generation_config: Option<Cow<'a, str>>,
    /// `config.json`.
    pub config: Option<Cow<'a, str>>,
    /// `chat_template.jinja`.
    pub chat_template: Option<Cow<'a, str>>,
}

impl<'a> TextFiles<'a> {
    /// The files of a checkpoint.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn of(checkpoint: &'a Checkpoint) -> Result<Self, TextError> {
        Ok(Self {
            tokenizer: checkpoint.text_file(TOKENIZER)?,
            tokenizer_config: checkpoint.text_file(TOKENIZER_CONFIG)?,
            special_tokens_map: checkpoint.text_file(SPECIAL_TOKENS_MAP)?,
            added_tokens: checkpoint.text_file(ADDED_TOKENS)?,
            generation_config: checkpoint.text_file(GENERATION_CONFIG)?,
            config: checkpoint.text_file(CONFIG)?,
            chat_template: checkpoint.text_file(CHAT_TEMPLATE)?,
        })
    }

    /// `tokenizer.json`, which there must be.
    pub(super) fn tokenizer(&self) -> Result<&str, TextError> {
        let text = self.tokenizer.as_deref().ok_or(TextError::Missing { file: TOKENIZER })?;
        limited(TOKENIZER, text.strip_prefix('\u{feff}').unwrap_or(text), TOKENIZER_LIMIT)
    }

    pub(super) fn tokenizer_config(&self) -> Result<Value, TextError> {
        object(TOKENIZER_CONFIG, self.tokenizer_config.as_deref())
    }

    pub(super) fn special_tokens_map(&self) -> Result<Value, TextError> {
        object(SPECIAL_TOKENS_MAP, self.special_tokens_map.as_deref())
    }

    pub(super) fn added_tokens(&self) -> Result<Value, TextError> {
        object(ADDED_TOKENS, self.added_tokens.as_deref())
    }

    pub(super) fn generation_config(&self) -> Result<Value, TextError> {
        object(GENERATION_CONFIG, self.generation_config.as_deref())
    }

    pub(super) fn config(&self) -> Result<Value, TextError> {
        object(CONFIG, self.config.as_deref())
    }
}

/// `text`, unless it is too long.
pub(super) fn limited<'t>(file: &'static str, text: &'t str, limit: usize) -> Result<&'t str, TextError> {
    if text.len() > limit {
        return Err(TextError::TooLarge { file, bytes: text.len(), limit });
    }
    Ok(text)
}

/// A JSON object; an absent file is an empty one.
fn object(file: &'static str, text: Option<&str>) -> Result<Value, TextError> {
    let Some(text) = text else {
        return Ok(Value::Object(serde_json::Map::new()));
    };
    let value: Value = json::from_slice(limited(file, text, CONFIG_LIMIT)?.as_bytes())
        .map_err(|error| TextError::Malformed { file, what: error.to_string() })?;
    if !value.is_object() {
        return Err(TextError::Malformed { file, what: format!("an object was expected, not {}", shorten(&value)) });
    }
    Ok(value)
}
