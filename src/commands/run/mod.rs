//! `mtplx run`: settings, then the engine, then what people or programs read.

mod document;
mod footer;
mod generation;
mod prompt;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mtplx_engine::settings::{Depth, ModelDefaults};
use mtplx_engine::{Engine, Limits, LoadSpec, Request, RequestError};
use mtplx_runtime::artifact::Area;
use mtplx_runtime::mlx;
use mtplx_runtime::text::Ending;

use self::document::Document;
pub(super) use self::document::StatsDocument;
pub(super) use self::footer::lines as figures;
pub(super) use self::generation::Interrupt;
use super::chat::chat;
use crate::args::RunArgs;
use crate::error::{Exit, stderr, warn};
use crate::model;
use crate::terminal::{Progress, TextOut};
use crate::tuned;

/// Generates; without a prompt on a terminal, chats.
pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let prompted = args.prompt.is_some() || args.file.is_some() || args.prompt_ids.is_some();
    if !prompted && !args.json && io::stdin().is_terminal() && io::stdout().is_terminal() {
        return chat(&args.into());
    }
    // Everything that can be refused is refused before the weights are read.
    model::choose_device(args.model.device.device)?;
    let input = prompt::read(args)?;
    let mut opened = model::open(&args.model.model)?;
    let with_template = !args.template.raw && args.prompt_ids.is_none();
    if !with_template {
        opened = opened.without(Area::Template);
    }
    let trunk_only = args.drafting.no_mtp;
    opened.admit(trunk_only, args.model.evidence.into())?;
    let mut warnings = model::warnings(&opened, trunk_only);
    let text = opened.text(with_template)?;
    let defaults = ModelDefaults {
        contract: opened.assessment.contract.as_ref(),
        generation_config: text.generation_config.as_ref(),
        max_depth: if trunk_only { 0 } else { opened.architecture()?.descriptor().max_depth },
        tuned_depth: tuned::depth_for(&opened.checkpoint, &mut warnings),
        has_chat_template: text.template.is_some(),
    };
    let mut settings = args.settings(defaults, &mut warnings)?;
    let prompt = prompt::encode(args, &input, &settings, &text, &mut warnings)?;
    let draft_vocab = model::draft_vocab(&args.drafting.vocab, &text.tokenizer)?;
    if let Some(context) = opened.context() {
        let room = room(prompt.len(), context)?;
        if args.length.max_tokens.is_some_and(|wanted| wanted > room) {
            let what = format!("-n {}: the context of {context} tokens has room for {room}", settings.max_tokens.value);
            warnings.push(what);
        }
    }
    warnings.iter().for_each(|warning| warn(warning));

    let interrupt = on_interrupt()?;
    let memory = model::fit(&opened, prompt.len() + settings.max_tokens.value, trunk_only);
    let memory = memory.map_or(String::new(), |says| format!(" ({says})"));
    let progress = Progress::start(format!("loading {}{memory}", opened.checkpoint.label()), args.json);
    // One text has nothing to share.
    let limits = Limits { kept: Some(0), ..Limits::default() };
    let spec = LoadSpec { trunk_only, draft_vocab, limits, ..LoadSpec::new(opened, text) };
    let engine = Engine::load(spec, &mut |_| {})?;
    drop(progress);

    let info = engine.info();
    settings.draft_vocab.value = info.draft_vocab;
    let room = room(prompt.len(), info.model.context)?;
    settings.max_tokens.value = settings.max_tokens.value.min(room);
    settings.mtp_depth_max.value = settings.mtp_depth_max.value.min(info.head_depth.unwrap_or(0));

    let request = Request::new(prompt, &settings);
    let mut out = TextOut::new();
    let progress = Progress::start("reading the prompt", args.json);
    let mut progress = Some(progress);
    let generated = generation::generate(
        &engine,
        request.clone(),
        &interrupt,
        |done, all| {
            progress.iter().for_each(|progress| progress.update(done, all));
            if done == all {
                progress = None;
            }
        },
        |piece| if args.json { Ok(()) } else { out.write(piece) },
    )?;
    if !args.json {
        out.finish()?;
    }
    let interrupted = generated.ending == Ending::Interrupted;
    let plain = match settings.mtp_depth.value {
        _ if !args.stats || interrupted => None,
        // Nothing was drafted: this was plain decoding.
        Depth::Fixed(0) => None,
        _ => {
            let _progress = Progress::start("plain decoding, for comparison", args.json);
            generation::plain(&engine, request.clone(), generated.token_ids.len(), &interrupt)?
        }
    };

    let document = Document::new(&engine, &settings, &request.prompt, &generated, plain.as_ref(), &warnings);
    if args.json {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &document)?;
        writeln!(out)?;
        out.flush()?;
    } else {
        footer::write(&mut stderr(), &document)?;
    }
    // Set as well if it was the comparison that was interrupted.
    Ok(if interrupt.is_set() { Exit::Interrupted } else { Exit::Done })
}

/// Tokens that the context holds behind a prompt of so many.
fn room(prompt: usize, context: usize) -> Result<usize, RequestError> {
    let room = context.checked_sub(prompt).filter(|&room| room > 0);
    room.ok_or(RequestError::ContextExceeded { prompt, context })
}

/// The first Ctrl-C ends what is running after its round; the second ends the program, whatever it is doing.
///
/// `ctrlc` because it is the same on every system and needs no signal-safe code here: a flag is all there is to set.
pub(super) fn on_interrupt() -> anyhow::Result<Interrupt> {
    let flag = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::Relaxed) {
            mlx::exit(Exit::Interrupted as u8);
        }
    })?;
    Ok(Interrupt(flag))
}
