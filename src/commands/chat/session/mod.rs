//! A chat: the model, the conversation, the settings, and what commands do with them.

mod adjust;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use mtplx_engine::settings::{Overrides, Settings, SettingsWarning, Source};
use mtplx_engine::{DraftSettings, Engine, Request, RequestError};
use mtplx_runtime::artifact::size_shown;
use mtplx_runtime::mlx;
use mtplx_runtime::speculative::SpeculationStats;
use mtplx_runtime::text::Ending;

use super::answer::{Answer, stream};
use super::dialog::{Dialog, Form};
use super::screen::Screen;
use super::stop::Stop;
use super::{saved, settings};
use crate::commands::run::{StatsDocument, figures};
use crate::error::{Failure, report};

/// Next steps where the context is full.
const FULL: &str = "/undo takes the last message back, /clear begins anew, /save FILE keeps the conversation";

/// A chat.
pub struct Session<W> {
    engine: Engine,
    form: Form,
    overrides: Overrides,
    dialog: Dialog,
    pub screen: Screen<W>,
    stop: Arc<Stop>,
    figures: Option<Figures>,
    figures_of_each: bool,
    /// The file that this conversation was written to or read from.
    pub file: Option<PathBuf>,
}

/// Figures of an answer.
struct Figures {
    stats: SpeculationStats,
    tokens: usize,
    prompt: usize,
    cached: usize,
}

/// The way an answer went.
enum Outcome {
    Answered,
    /// It was stopped before it began.
    Nothing,
    Refused(anyhow::Error),
}

impl<W: Write> Session<W> {
    /// A chat without messages.
    pub fn new(
        engine: Engine,
        form: Form,
        overrides: Overrides,
        system: Option<String>,
        screen: Screen<W>,
        stop: Arc<Stop>,
        figures_of_each: bool,
    ) -> Self {
        let dialog = Dialog { system, messages: Vec::new() };
        Self { engine, form, overrides, dialog, screen, stop, figures: None, figures_of_each, file: None }
    }

    /// True where the model answers messages, false where it continues text.
    pub fn chats(&self) -> bool {
        matches!(self.form, Form::Chat(_))
    }

    /// True where there is text to go on from.
    pub fn has_messages(&self) -> bool {
        !self.dialog.messages.is_empty()
    }

    /// Sends a message; returns it where it was not answered.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn send(&mut self, text: &str) -> io::Result<Option<String>> {
        self.dialog.ask(text);
        let outcome = self.answer()?;
        if let Outcome::Refused(error) = &outcome {
            report(error);
        }
        match outcome {
            Outcome::Answered => Ok(None),
            Outcome::Nothing | Outcome::Refused(_) => Ok(self.dialog.undo()),
        }
    }

    /// Answers the last message again. The answer that was there comes back where there is no other.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn retry(&mut self) -> io::Result<()> {
        let Some(before) = self.dialog.take_answer() else {
            return self.screen.note("there is no answer yet");
        };
        if self.overrides.seed.is_some() {
            self.screen
                .note("the seed is set: the same again, but for what was changed; /set seed default draws another")?;
        }
        match self.answer()? {
            Outcome::Answered => return Ok(()),
            Outcome::Nothing => {}
            Outcome::Refused(error) => drop(report(&error)),
        }
        self.dialog.messages.push(before);
        self.screen.note("the answer from before is kept")
    }

    /// Answers the last message.
    fn answer(&mut self) -> io::Result<Outcome> {
        // From here on, Ctrl-C stops the answer: a long conversation takes a while to become tokens.
        let cancel = self.stop.answering();
        let request = match self.request() {
            Ok(request) => Request { cancel, ..request },
            Err(error) => {
                self.stop.reading();
                return Ok(Outcome::Refused(error));
            }
        };
        let prompt = request.prompt.len();
        let answer = stream(&self.engine, request, &mut self.screen);
        self.stop.reading();
        let Answer { text, reasoning, end } = answer?;
        let nothing = text.is_empty() && reasoning.is_none();
        let end = match end {
            Ok(end) => end,
            Err(error) if nothing => return Ok(Outcome::Refused(error.into())),
            Err(error) => {
                report(&error.into());
                self.dialog.answer(text, reasoning);
                self.screen.note("(the answer ends here; /retry asks for another)")?;
                return Ok(Outcome::Answered);
            }
        };
        if nothing && end.ending == Ending::Interrupted {
            self.screen.note("(stopped before the answer began)")?;
            return Ok(Outcome::Nothing);
        }
        self.dialog.answer(text, reasoning);
        let context = self.engine.info().model.context;
        match end.ending {
            Ending::Interrupted => self.screen.note("(stopped)")?,
            Ending::Length if prompt + end.tokens >= context => {
                self.screen.note(&format!("(the context of {context} tokens is full: {FULL})"))?;
            }
            Ending::Length => {
                let more = if self.chats() { "/set max-tokens N allows more" } else { "Enter goes on" };
                self.screen.note(&format!("(ended after {} tokens; {more})", end.tokens))?;
            }
            Ending::StopToken if nothing => self.screen.note("(the model ended its answer at once)")?,
            Ending::StopToken | Ending::StopString => {}
        }
        self.figures = Some(Figures { stats: end.stats, tokens: end.tokens, prompt, cached: end.cached_tokens });
        if self.figures_of_each {
            self.stats()?;
        }
        Ok(Outcome::Answered)
    }

    /// The request for an answer to the conversation as it is.
    fn request(&self) -> anyhow::Result<Request> {
        let mut settings = self.settings()?.0;
        let prompt = self.dialog.prompt(&self.form, settings.thinking.value)?;
        let (tokens, context) = (prompt.tokens.len(), self.engine.info().model.context);
        let Some(room) = context.checked_sub(tokens).filter(|&room| room > 0) else {
            let error = RequestError::ContextExceeded { prompt: tokens, context };
            return Err(Failure::usage(error.to_string(), FULL).into());
        };
        let by_context = self.tokens_by_context(&settings);
        settings.max_tokens.value = if by_context { room } else { settings.max_tokens.value.min(room) };
        let drafts = self.engine.info().head_depth.is_some();
        let request = Request::new(prompt.tokens, &settings);
        let drafts: Option<DraftSettings> = request.drafts.clone().filter(|_| drafts);
        // Markers of reasoning are special tokens.
        let special_text = prompt.splitter.is_some();
        Ok(Request { output: prompt.splitter, special_text, answer_tokens: prompt.answer_tokens, drafts, ..request })
    }

    /// The settings as they are now, and what was not taken as it was stated.
    fn settings(&self) -> anyhow::Result<(Settings, Vec<SettingsWarning>)> {
        let mut warnings = Vec::new();
        let settings = Settings::resolve(&self.overrides, self.engine.defaults(), &mut warnings)?;
        Ok((settings, warnings))
    }

    /// True where an answer may take what the context holds. A text that is continued might never end by itself.
    fn tokens_by_context(&self, settings: &Settings) -> bool {
        self.chats() && settings.max_tokens.source == Source::Default
    }

    /// Shows the reasoning of the last answer.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn reasoning(&mut self) -> io::Result<()> {
        match self.dialog.last_answer().and_then(|answer| answer.reasoning.clone()) {
            Some(reasoning) => self.screen.lines(&reasoning),
            None => self.screen.note("the last answer has no reasoning"),
        }
    }

    /// Shows the figures of the last answer, or switches those of each on or off.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn stats_command(&mut self, typed: &str) -> io::Result<()> {
        match (typed, settings::switch(typed)) {
            ("", _) if self.figures.is_none() => self.screen.note("there is no answer yet"),
            ("", _) => self.stats(),
            (_, Ok(on)) => {
                self.figures_of_each = on.unwrap_or(false);
                let words =
                    if self.figures_of_each { "figures behind each answer" } else { "no figures behind answers" };
                self.screen.note(words)
            }
            (_, Err(what)) => self.refuse(format!("/stats {what}"), "/stats shows those of the last answer"),
        }
    }

    fn stats(&mut self) -> io::Result<()> {
        let Some(Figures { stats, tokens, prompt, cached }) = &self.figures else { return Ok(()) };
        let mut lines = figures(&StatsDocument::new(*tokens, stats, None), *prompt);
        let context = self.engine.info().model.context;
        let kept =
            if *cached > 0 { format!("; {cached} tokens of the prompt were read before") } else { String::new() };
        lines.push(format!("context {} of {context} tokens{kept}", prompt + tokens));
        lines.iter().try_for_each(|line| self.screen.note(line))
    }

    /// Takes the last message back.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn undo(&mut self) -> io::Result<()> {
        match self.dialog.undo() {
            Some(text) => {
                let first = text.lines().next().unwrap_or_default();
                let short: String = first.chars().take(50).collect();
                let more = if short.len() < text.len() { "..." } else { "" };
                self.screen.note(&format!("taken back: {short}{more}"))
            }
            None => self.screen.note("there is no message to take back"),
        }
    }

    /// Forgets all messages.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn clear(&mut self) -> io::Result<()> {
        let messages = self.dialog.messages.len();
        self.dialog.messages.clear();
        self.figures = None;
        self.file = None;
        self.screen.note(&format!("{} forgotten; settings and system message stay", counted(messages)))
    }

    /// Writes the conversation to `path`.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn save(&mut self, path: PathBuf) -> io::Result<()> {
        let replaced = if path.exists() { "replaced" } else { "written" };
        match saved::save(&path, self.engine.label(), &self.dialog, &self.overrides) {
            Ok(()) => {
                let messages = counted(self.dialog.messages.len());
                self.screen.note(&format!("{}: {replaced}, {messages} and the settings", path.display()))?;
                self.file = Some(path);
                Ok(())
            }
            Err(failure) => {
                report(&failure.into());
                Ok(())
            }
        }
    }

    /// Goes on from the conversation in `path`.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn load(&mut self, path: PathBuf) -> io::Result<()> {
        let loaded = match saved::load(&path, &self.overrides) {
            Ok(loaded) => loaded,
            Err(failure) => {
                report(&failure.into());
                return self.screen.note("nothing was changed");
            }
        };
        let other = loaded.model != self.engine.label();
        let held = if other { format!(", held with {}", loaded.model) } else { String::new() };
        (self.dialog, self.overrides, self.figures) = (loaded.dialog, loaded.overrides, None);
        self.screen.note(&format!(
            "{}: {} messages and the settings{held}",
            path.display(),
            self.dialog.messages.len()
        ))?;
        self.file = Some(path);
        Ok(())
    }

    /// Shows the model and the conversation.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn show(&mut self) -> io::Result<()> {
        let (info, model) = (self.engine.info(), self.engine.model());
        let head =
            info.head_depth.map_or_else(|| "none loaded".to_owned(), |depth| format!("up to {depth} tokens a round"));
        let form = if self.chats() { "messages, by the chat template" } else { "text that is continued" };
        let messages = counted(self.dialog.messages.len());
        let rows = [
            ("model", self.engine.label().to_owned()),
            ("verdict", model.assessment.verdict.to_string()),
            ("architecture", info.descriptor.id.to_owned()),
            (
                "weights",
                format!("{} on the {}", size_shown(info.model.weight_bytes as u64), mlx::default_device().name()),
            ),
            ("draft head", head),
            ("context", format!("{} tokens", info.model.context)),
            ("conversation", format!("{messages}; {form}")),
        ];
        let text: Vec<String> = rows.iter().map(|(name, value)| format!("{name:12}  {value}")).collect();
        self.screen.lines(&text.join("\n"))
    }

    /// Says that a command was not followed.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn refuse(&mut self, what: impl Into<String>, hint: &str) -> io::Result<()> {
        self.screen.end_line()?;
        report(&Failure::usage(what, hint).into());
        Ok(())
    }
}

fn counted(messages: usize) -> String {
    format!("{messages} message{}", if messages == 1 { "" } else { "s" })
}
