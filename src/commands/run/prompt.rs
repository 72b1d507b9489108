//! Where the prompt comes from, and how it becomes tokens.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use mtplx_runtime::text::{Message, RenderInput};

use crate::args::RunArgs;
use crate::engine::TextSide;
use crate::error::{Exit, Failure};
use crate::settings::{PromptMode, Settings};

/// More text than any context holds.
const LIMIT: u64 = 64 << 20;
const EXAMPLE: &str = "say what to continue: `mtplx run 'fn main() {'`, or `mtplx run -` to read standard input";

/// The prompt's text; empty when it is given as ids.
///
/// # Errors
/// There is none, it is empty, or it cannot be read.
pub fn read(args: &RunArgs) -> Result<String, Failure> {
    let text = match (&args.prompt, &args.file, &args.prompt_ids) {
        (_, _, Some(ids)) if ids.is_empty() => return Err(Failure::usage("the prompt is empty", EXAMPLE)),
        (_, _, Some(_)) => return Ok(String::new()),
        (_, Some(path), _) => from_file(path)?,
        (Some(prompt), _, _) if prompt != "-" => prompt.clone(),
        (None, _, _) if io::stdin().is_terminal() => return Err(Failure::usage("there is no prompt", EXAMPLE)),
        _ => limited(io::stdin().lock(), "standard input")?,
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
    side: &TextSide,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Vec<u32>> {
    let tokens = match (settings.prompt_mode.value, &side.template) {
        (PromptMode::Ids, _) => args.prompt_ids.clone().unwrap_or_default(),
        (PromptMode::Chat, Some(template)) => {
            let system = args.system.iter().map(|text| Message::new("system", text.as_str()));
            let messages: Vec<Message> = system.chain([Message::new("user", text)]).collect();
            let render = |enable_thinking| {
                let messages = &messages[..];
                template.render(&RenderInput { messages, add_generation_prompt: true, enable_thinking, tools: None })
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

/// A text file's contents.
///
/// # Errors
/// It cannot be read, is too long, or is no UTF-8.
pub fn from_file(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    limited(file, &name)
}

fn limited(source: impl Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    source.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Failure::usage(format!("{name}: more than {} MiB", LIMIT >> 20), "shorten the prompt"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(Exit::File, format!("{name}: not UTF-8 text (byte {at})")).hint("convert it to UTF-8")
    })
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::File, format!("{name}: {error}")).hint("the text is read from there")
}
