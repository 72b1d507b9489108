//! Requests.

use crate::wire::chat_history;
use crate::wire::field::{self, Field};
use crate::wire::internal::{Conversation, Failure, GenerationRequest, Prompt};
use crate::wire::options;

/// A request of this dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The request.
    pub request: GenerationRequest,
}

/// The request that a body holds.
///
/// `keep_alive` and `options.num_ctx` are passed over: the model stays loaded, with the context that it has.
///
/// # Errors
/// The first field that is wrong, with its path, its value and what would be right.
pub fn parse(body: &[u8]) -> Result<Parsed, Failure> {
    let value = field::read(body)?;
    let root = Field::root(&value)?;
    let mut conversation = chat_history::conversation(&root)?;
    root.opt("think", |think| read_think(think, &mut conversation))?;
    root.opt("format", options::refuse_format)?;

    let mut options = options::own(&root)?;
    if let Some(object) = root.get("options") {
        object.object()?;
        options::sampler(&object, "repeat_penalty", &mut options)?;
        options.stop = object.opt("stop", options::stops)?.unwrap_or_default();
        // Ollama writes "no bound" as -1, as -2, and as 0.
        let bound = object.opt("num_predict", |field| field.integer(-2..=i64::MAX))?;
        options.max_tokens = bound.and_then(|tokens| u64::try_from(tokens).ok()).filter(|tokens| *tokens > 0);
    }
    options.logprobs = options::chat_logprobs(&root)?;

    let request = GenerationRequest {
        model: options::model(&root)?,
        prompt: Prompt::Conversation(conversation),
        options,
        stream: options::stream(&root, true)?,
    };
    Ok(Parsed { request })
}

/// Reads the switch of reasoning: true, false, or an effort.
fn read_think(think: &Field<'_>, conversation: &mut Conversation) -> Result<(), Failure> {
    match (think.value().as_bool(), think.value().as_str()) {
        (Some(thinking), _) => conversation.thinking = Some(thinking),
        (None, Some(name)) => options::effort(name, conversation),
        (None, None) => return Err(think.unexpected("true, false, or an effort such as \"high\"")),
    }
    Ok(())
}
