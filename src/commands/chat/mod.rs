//! `mtplx chat`: a conversation in the terminal.

mod answer;
mod command;
mod dialog;
mod editor;
mod saved;
mod screen;
mod session;
mod settings;
mod stop;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;

use anyhow::Context as _;
use mtplx_engine::settings::PromptMode;
use mtplx_engine::{ChatFormat, Engine, Limits, LoadSpec};
use mtplx_runtime::artifact::Area;

use self::command::{Command, Line};
use self::dialog::Form;
use self::editor::{Input, LineEditor};
use self::screen::Screen;
use self::session::Session;
use self::stop::{LEAVE, Stop};
use crate::args::ChatArgs;
use crate::error::{Exit, Failure, warn};
use crate::model;
use crate::terminal::Progress;
use crate::tuned;

/// Tokens of context that memory is held against before loading, where the model has as many.
const CONTEXT: usize = 4096;

/// Chats until the user leaves.
pub fn chat(args: &ChatArgs) -> anyhow::Result<Exit> {
    for (terminal, name) in [(io::stdin().is_terminal(), "input"), (io::stdout().is_terminal(), "output")] {
        if !terminal {
            let what = format!("a chat needs a terminal, and standard {name} is none");
            return Err(Failure::usage(
                what,
                "`mtplx run 'PROMPT'` answers one prompt, `mtplx run -` one on standard input",
            )
            .into());
        }
    }
    let stop = Stop::listen()?;
    let mut session = load(args, Arc::clone(&stop))?;
    let mut editor = LineEditor::new().context("the terminal")?;
    stop.reading();
    let mut offered = String::new();
    loop {
        let line = match editor.read(&std::mem::take(&mut offered)).context("the terminal")? {
            Input::Text(line) => line,
            Input::Interrupt => {
                session.screen.note(LEAVE)?;
                continue;
            }
            Input::NotText(begun) => {
                offered = begun;
                session.refuse("the line is not UTF-8 text", "nothing was sent; set the terminal to UTF-8")?;
                continue;
            }
            Input::Unfinished(begun) => {
                offered = begun;
                continue;
            }
            Input::End => return Ok(Exit::Done),
        };
        match command::read(&line) {
            // The model goes on by itself.
            Line::Empty if !session.chats() && session.has_messages() => drop(session.send("")?),
            Line::Empty => {}
            Line::Message(text) => {
                let text = if session.chats() { text.trim() } else { text };
                // A space keeps a slash from beginning a command.
                let text = if text.starts_with(" /") { &text[1..] } else { text };
                offered = session.send(text)?.unwrap_or_default();
            }
            Line::Command(Command::Bye, _) => return Ok(Exit::Done),
            Line::Command(command, rest) => follow(&mut session, &mut editor, command, rest)?,
            Line::Unknown(name, like) => {
                let like = like.map_or_else(String::new, |like| format!("; {like} is one"));
                let hint = "/help lists them; a message may begin with a space before the slash";
                session.refuse(format!("{name}: no such command{like}"), hint)?;
            }
        }
    }
}

/// Does what a command says.
fn follow<W: Write>(
    session: &mut Session<W>,
    editor: &mut LineEditor,
    command: Command,
    rest: &str,
) -> anyhow::Result<()> {
    match command {
        Command::System => session.system(rest)?,
        Command::Set => session.set(rest)?,
        Command::Mtp => session.mtp(rest)?,
        Command::Think => session.think(rest)?,
        Command::NoThink => session.think("off")?,
        Command::Reasoning => session.reasoning()?,
        Command::Stats => session.stats_command(rest)?,
        Command::Retry => session.retry()?,
        Command::Undo => session.undo()?,
        Command::Clear => session.clear()?,
        Command::Save | Command::Load if rest.is_empty() => {
            session.refuse("the name of a file was expected", "/save FILE writes it, /load FILE reads it")?;
        }
        Command::Save => {
            let path = saved::place(rest);
            let known = session.file.as_ref() == Some(&path);
            let free = known
                || !path.exists()
                || editor.agrees(&format!("{}: replace it?", path.display())).context("the terminal")?;
            if free { session.save(path)? } else { session.screen.note("nothing was written")? }
        }
        Command::Load => session.load(saved::place(rest))?,
        Command::Show => session.show()?,
        Command::Help => {
            let help = command::help(session.screen.columns()).join("\n");
            session.screen.lines(&help)?;
        }
        // Left where the line was read.
        Command::Bye => {}
    }
    Ok(())
}

/// Loads the model, and says what can be done with it.
fn load(args: &ChatArgs, stop: Arc<Stop>) -> anyhow::Result<Session<io::Stdout>> {
    model::choose_device(args.model.device.device)?;
    let mut opened = model::open(args.model())?;
    if args.template.raw {
        opened = opened.without(Area::Template);
    }
    let trunk_only = args.drafting.no_mtp;
    opened.admit(trunk_only, args.model.evidence.into())?;
    let mut warnings = model::warnings(&opened, trunk_only);
    let text = opened.text(!args.template.raw)?;
    let tuned_depth = tuned::depth_for(&opened.checkpoint, &mut warnings);
    let draft_vocab = model::draft_vocab(&args.drafting.vocab, &text.tokenizer)?;
    let tokens = opened.context().map_or(CONTEXT, |context| context.min(CONTEXT));
    let memory = model::fit(&opened, tokens, trunk_only).map_or_else(String::new, |says| format!(" ({says})"));
    let progress = Progress::start(format!("loading {}{memory}", opened.checkpoint.label()), false);
    let limits = Limits { running: 1, waiting: 1, ..Limits::default() };
    let spec = LoadSpec { trunk_only, draft_vocab, tuned_depth, limits, ..LoadSpec::new(opened, text) };
    let engine = Engine::load(spec, &mut |_| {})?;
    drop(progress);
    // The head that was loaded bounds the depth.
    let (overrides, settings) = args.settings(engine.defaults(), &mut warnings)?;
    warnings.iter().for_each(|warning| warn(warning));

    let size = || {
        let (columns, rows) = terminal_size::terminal_size()?;
        Some((usize::from(columns.0), usize::from(rows.0)))
    };
    let mut screen = Screen::stdout(Box::new(size));
    screen.note(&format!("{}; /help lists the commands, {LEAVE}", engine.label()))?;
    let form = match (settings.prompt_mode.value, engine.text().template.clone()) {
        (PromptMode::Chat, Some(template)) => {
            Form::Chat(Box::new(ChatFormat::new(template, Arc::clone(&engine.text().tokenizer))))
        }
        (_, template) => {
            let why = match template {
                _ if args.template.raw => "--raw",
                None => "it has no chat template",
                Some(_) => "mtplx_runtime.json asks for raw text; --chat sends messages",
            };
            screen.note(&format!(
                "The model continues the text that you type ({why}): each line goes behind the text so far, Enter alone goes on."
            ))?;
            Form::Text(Arc::clone(&engine.text().tokenizer))
        }
    };
    Ok(Session::new(engine, form, overrides, args.template.system.clone(), screen, stop, args.stats))
}
