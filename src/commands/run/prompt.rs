//! Where the prompt comes from, and how it becomes tokens.

use std::io::{self, IsTerminal as _};

use mtplx_engine::ModelText;
use mtplx_engine::settings::{PromptMode, Settings};
use mtplx_runtime::text::{Message, RenderInput};

use crate::args::RunArgs;
use crate::error::Failure;
use crate::input;

const EXAMPLE: &str = "say what to continue: `mtplx run 'fn main() {'`, or `mtplx run -` to read standard input";

/// The prompt's text; empty when it is given as ids.
///
/// # Errors
/// There is none, it is empty, or it cannot be read.
pub fn read(args: &RunArgs) -> Result<String, Failure> {
    let text = match (&args.prompt, &args.file, &args.prompt_ids) {
        (_, _, Some(ids)) if ids.is_empty() => return Err(Failure::usage("the prompt is empty", EXAMPLE)),
        (_, _, Some(_)) => return Ok(String::new()),
        (_, Some(path), _) => input::from_file(path)?,
        (Some(prompt), _, _) if prompt != "-" => prompt.clone(),
        (None, _, _) if io::stdin().is_terminal() => return Err(Failure::usage("there is no prompt", EXAMPLE)),
        _ => input::limited(io::stdin().lock(), "standard input")?,
    };
    if text.is_empty() {
        return Err(Failure::usage("the prompt is empty", EXAMPLE));
    }
    Ok(text)
}

/// The prompt's tokens; what has no effect on them goes into `warnings`.
///
/// # Errors
/// The chat template refuses it, or the tokenizer fails.
pub fn encode(
    args: &RunArgs,
    text: &str,
    settings: &Settings,
    side: &ModelText,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Vec<u32>> {
    let tokens = match (settings.prompt_mode.value, &side.template) {
        (PromptMode::Ids, _) => args.prompt_ids.clone().unwrap_or_default(),
        (PromptMode::Chat, Some(template)) => {
            let system = args.template.system.iter().map(|text| Message::new("system", text.as_str()));
            let messages: Vec<Message> = system.chain([Message::new("user", text)]).collect();
            let render = |enable_thinking| {
                let messages = &messages[..];
                template.render(&RenderInput {
                    messages,
                    add_generation_prompt: true,
                    enable_thinking,
                    tools: None,
                    kwargs: None,
                })
            };
            let rendered = render(settings.thinking.value)?;
            if let Some(on) = settings.thinking.value
                && render(Some(!on)).is_ok_and(|other| other == rendered)
            {
                let flag = if on { "--think" } else { "--no-think" };
                warnings.push(format!("{flag}: this model's chat template writes the same prompt either way"));
            }
            side.tokenizer.encode(&rendered, false)?
        }
        (PromptMode::Chat | PromptMode::Raw, _) => side.tokenizer.encode(text, true)?,
    };
    if tokens.is_empty() {
        return Err(Failure::usage("the prompt has no tokens", EXAMPLE).into());
    }
    Ok(tokens)
}
