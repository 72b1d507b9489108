//! From a dialect's request to the engine's: names, prompts, settings. All that is wrong with a request is found here, before any answer.

use mtplx_engine::output::OutputSplitter;
use mtplx_engine::settings::{Depth, ModelDefaults, Overrides, PromptMode, Settings};
use mtplx_engine::{ChatFormat, ChatPrompt, Request, RequestError};
use mtplx_runtime::speculative::{Rule, SequenceError};
use mtplx_runtime::text::TextError;

use crate::host::Model;
use crate::wire::internal::{
    Acceptance, Conversation, Failure, FailureKind, GenerationRequest, MtpOptions, Options, Prompt, RawPrompt,
};

/// Remark on tools that reach no model.
const TOOLS_IGNORED: &str = "the model's chat template does not show tools to the model";

/// Requests of one answer, ready for the engine.
pub struct Prepared {
    /// A request for each prompt.
    pub requests: Vec<Request>,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// A remark for the client and the log.
    pub warning: Option<&'static str>,
}

/// Settings of the server where a request states none.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Drafting and acceptance.
    pub overrides: Overrides,
    /// Tokens of reasoning at most.
    pub think_budget: Option<usize>,
    /// The depth that was found best on this machine.
    pub tuned_depth: Option<usize>,
}

/// Prepares a request for `model`.
///
/// # Errors
/// The chat template refuses the messages, the prompt is too long, a value is out of the model's range.
pub fn prepare(request: &GenerationRequest, model: &Model, defaults: &Defaults) -> Result<Prepared, Failure> {
    let mut warning = None;
    let prompts: Vec<(Vec<u32>, usize, Option<OutputSplitter>)> = match &request.prompt {
        Prompt::Conversation(conversation) => {
            let prompt = conversation_prompt(conversation, model)?;
            warning = prompt.tools_ignored.then_some(TOOLS_IGNORED);
            vec![(prompt.tokens, prompt.answer_tokens, Some(prompt.splitter))]
        }
        Prompt::Raw(prompts) => {
            let tokens = prompts.iter().map(|prompt| raw_prompt(prompt, model));
            tokens.map(|tokens| Ok((tokens?, 0, None))).collect::<Result<_, Failure>>()?
        }
    };
    let single_call = matches!(&request.prompt, Prompt::Conversation(conversation) if conversation.single_call);
    let settings = settings(&request.options, model, defaults, &request.prompt)?;
    let budget = request.options.max_thinking_tokens.map(clamp).or(defaults.think_budget);
    let mut requests = Vec::new();
    let mut prompt_tokens = 0;
    for (tokens, answer_tokens, splitter) in prompts {
        prompt_tokens += tokens.len() as u64;
        let context = model.info.model.context;
        if tokens.len() >= context {
            return Err(failure(&RequestError::ContextExceeded { prompt: tokens.len(), context }));
        }
        requests.push(Request {
            logprobs: request.options.logprobs,
            special_text: splitter.is_some(),
            output: splitter,
            answer_tokens,
            single_call,
            thinking_budget: budget,
            ..Request::new(tokens, &settings)
        });
    }
    Ok(Prepared { requests, prompt_tokens, warning })
}

/// The number of a conversation's tokens.
///
/// # Errors
/// The chat template refuses the messages.
pub fn count(conversation: &Conversation, model: &Model) -> Result<u64, Failure> {
    Ok(conversation_prompt(conversation, model)?.tokens.len() as u64)
}

fn conversation_prompt(conversation: &Conversation, model: &Model) -> Result<ChatPrompt, Failure> {
    let Some(chat) = &model.chat else {
        let message = format!("{}: this model has no chat template; /v1/completions takes raw text", model.label);
        return Err(Failure::new(FailureKind::Invalid, message));
    };
    let prompt = ChatFormat::prompt(chat, conversation).map_err(|error| match error {
        // The text is the request's, and so is what its template says of it.
        TextError::Template { what, .. } => {
            Failure::invalid("messages", format!("messages: the chat template does not take them: {what}"))
        }
        other => Failure::new(FailureKind::Internal, other.to_string()),
    })?;
    if prompt.tokens.is_empty() {
        return Err(Failure::invalid("messages", "messages: the prompt has no tokens"));
    }
    Ok(prompt)
}

fn raw_prompt(prompt: &RawPrompt, model: &Model) -> Result<Vec<u32>, Failure> {
    let tokens = match prompt {
        RawPrompt::Tokens(tokens) => tokens.clone(),
        RawPrompt::Text(text) => (model.text.tokenizer.encode(text, true))
            .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?,
    };
    if tokens.is_empty() {
        return Err(Failure::invalid("prompt", "prompt: no tokens; send at least one"));
    }
    let vocab = model.info.model.vocab_size;
    match tokens.iter().find(|&&token| token as usize >= vocab) {
        None => Ok(tokens),
        Some(token) => {
            Err(Failure::invalid("prompt", format!("prompt: {token}: not one of the model's {vocab} tokens")))
        }
    }
}

fn settings(options: &Options, model: &Model, defaults: &Defaults, prompt: &Prompt) -> Result<Settings, Failure> {
    let MtpOptions { enabled, depth, acceptance, .. } = options.mtp;
    let depth = match (enabled, depth) {
        (Some(false), _) => Some(Depth::Fixed(0)),
        (_, Some(depth)) => Some(Depth::Fixed(depth)),
        (_, None) => defaults.overrides.depth,
    };
    let acceptance = acceptance.map(|acceptance| match acceptance {
        Acceptance::Rejection => Rule::Rejection,
        Acceptance::Coupled => Rule::Coupled,
    });
    let overrides = Overrides {
        temperature: options.temperature,
        top_p: options.top_p,
        top_k: options.top_k,
        min_p: options.min_p,
        repetition_penalty: options.repetition_penalty,
        presence_penalty: options.presence_penalty,
        frequency_penalty: options.frequency_penalty,
        logit_bias: options.logit_bias.clone(),
        depth,
        acceptance: acceptance.or(defaults.overrides.acceptance),
        draft_vocab: defaults.overrides.draft_vocab,
        seed: options.seed,
        // An answer ends by itself; the bound of a request is an upper one, which the engine lowers to the context's.
        max_tokens: Some(options.max_tokens.map_or(usize::MAX, clamp)),
        stop: options.stop.clone(),
        ignore_eos: options.ignore_eos,
        prompt_mode: Some(match prompt {
            Prompt::Conversation(_) => PromptMode::Chat,
            Prompt::Raw(_) => PromptMode::Raw,
        }),
        thinking: None,
    };
    let stated = stated(model, defaults);
    let settings = resolve(&overrides, stated)?;
    settings
        .sampling()
        .validate(model.info.model.vocab_size)
        .map_err(|error| failure(&SequenceError::from(error).into()))?;
    Ok(settings)
}

/// Settings of a request that states none.
///
/// # Errors
/// A file of the model has a value that is out of range.
pub fn model_settings(model: &Model, defaults: &Defaults) -> Result<Settings, Failure> {
    resolve(&defaults.overrides, stated(model, defaults))
}

/// Settings that the model's files and this machine's measurements state.
fn stated<'a>(model: &'a Model, defaults: &Defaults) -> ModelDefaults<'a> {
    ModelDefaults {
        contract: model.contract.as_ref(),
        generation_config: model.text.generation_config.as_ref(),
        max_depth: model.info.head_depth.unwrap_or(0),
        tuned_depth: defaults.tuned_depth,
        has_chat_template: model.chat.is_some(),
    }
}

fn resolve(overrides: &Overrides, stated: ModelDefaults<'_>) -> Result<Settings, Failure> {
    Settings::resolve(overrides, stated, &mut Vec::new())
        .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))
}

fn clamp(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// An engine's error as the answer to a request.
pub fn failure(error: &RequestError) -> Failure {
    let kind = match error {
        &RequestError::ContextExceeded { prompt, context } => FailureKind::ContextExceeded { prompt, context },
        RequestError::Busy { .. } => FailureKind::Busy,
        RequestError::Sequence(
            SequenceError::EmptyPrompt | SequenceError::UnknownToken { .. } | SequenceError::Params(_),
        ) => FailureKind::Invalid,
        RequestError::Sequence(_) | RequestError::Text(_) | RequestError::Panicked => FailureKind::Internal,
        RequestError::Ended => return crate::host::dead(),
    };
    let message = match error {
        // Clients know it by OpenAI's own words.
        RequestError::ContextExceeded { prompt, context } => format!(
            "This model's maximum context length is {context} tokens, and the prompt has {prompt}; shorten the conversation, or compact it"
        ),
        RequestError::Busy { .. } => format!("{error}; try again later"),
        _ => error.to_string(),
    };
    Failure::new(kind, message)
}
