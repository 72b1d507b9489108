//! Commands that change what answers are asked for with: system message, settings, drafting, reasoning.

use std::io::{self, Write};

use super::Session;
use crate::commands::chat::dialog::Dialog;
use crate::commands::chat::settings;
use crate::error::report;

impl<W: Write> Session<W> {
    /// Shows or sets the system message.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn system(&mut self, text: &str) -> io::Result<()> {
        if !self.chats() {
            return self.screen.note("a text that is continued has no system message");
        }
        match text {
            "" => match self.dialog.system.clone() {
                Some(system) => self.screen.lines(&system),
                None => self.screen.note("no system message; /system TEXT sets one"),
            },
            "\"\"" => {
                self.dialog.system = None;
                self.screen.note("no system message from the next answer on")
            }
            text => {
                self.dialog.system = Some(text.to_owned());
                self.screen.note("the system message holds from the next answer on")
            }
        }
    }

    /// Shows all settings, or sets one.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn set(&mut self, arguments: &str) -> io::Result<()> {
        // Ollama's `/set parameter NAME VALUE`.
        let arguments = arguments.strip_prefix("parameter ").unwrap_or(arguments).trim_start();
        let (name, value) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
        match (name, value.trim()) {
            ("", _) => return self.show_settings(None),
            ("system", text) => return self.system(text),
            ("think", _) => return self.think("on"),
            ("nothink", _) => return self.think("off"),
            (name, "") => return self.show_settings(Some(name)),
            _ => {}
        }
        match settings::set(&mut self.overrides, name, value) {
            Ok(name) => self.show_settings(Some(name)),
            Err(what) => self.refuse(what, "/set shows all settings"),
        }
    }

    fn show_settings(&mut self, only: Option<&str>) -> io::Result<()> {
        let resolved = match self.settings() {
            Ok((resolved, _)) => resolved,
            Err(error) => {
                report(&error);
                return Ok(());
            }
        };
        let rows = settings::shown(&resolved, self.tokens_by_context(&resolved));
        let names = rows.iter().map(|[name, ..]| name.len()).max().unwrap_or(0);
        let shown = rows.iter().filter(|[name, ..]| only.is_none_or(|only| only == name));
        let text: Vec<String> =
            shown.map(|[name, value, source]| format!("{name:names$}  {value}  ({source})")).collect();
        match (text.is_empty(), only) {
            (true, Some(name)) => self.refuse(format!("{name}: no such setting"), "/set shows all settings"),
            _ => self.screen.lines(&text.join("\n")),
        }
    }

    /// Shows or sets how deep is drafted.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn mtp(&mut self, typed: &str) -> io::Result<()> {
        let Some(most) = self.engine.info().head_depth else {
            return self.screen.note("this model was loaded without a draft head: it decodes plainly");
        };
        if !typed.is_empty() {
            match settings::depth(typed) {
                Ok(depth) => self.overrides.depth = depth,
                Err(what) => return self.refuse(format!("/mtp {what}"), "/help lists the commands"),
            }
            let clipped = self.settings().map(|(_, warnings)| !warnings.is_empty()).unwrap_or(false);
            if clipped {
                self.screen.note(&format!("this model drafts at most {most} tokens a round"))?;
            }
        }
        self.show_settings(Some("/mtp"))
    }

    /// Shows or sets reasoning.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn think(&mut self, typed: &str) -> io::Result<()> {
        if !self.chats() {
            return self.screen.note("a text that is continued has no reasoning");
        }
        if !typed.is_empty() {
            match settings::switch(typed) {
                Ok(on) => self.overrides.thinking = on,
                Err(what) => return self.refuse(format!("/think {what}"), "/help lists the commands"),
            }
            let mut probe = Dialog::default();
            probe.ask("x");
            let tokens = |on| probe.prompt(&self.form, Some(on)).ok().map(|prompt| prompt.tokens);
            if tokens(true).is_some() && tokens(true) == tokens(false) {
                self.screen.note("this model's chat template writes the same prompt either way")?;
            }
        }
        self.show_settings(Some("/think"))
    }
}
