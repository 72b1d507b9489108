//! Lines from the terminal: edited, completed, kept from one chat to the next.

use std::fs;
use std::io;
use std::path::PathBuf;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler, Helper,
    KeyEvent, Movement, RepeatCount,
};

use super::{command, settings};
use crate::state_dirs::StateDirs;

const PROMPT: &str = ">>> ";
const MORE: &str = "... ";
/// Begins and ends a message of several lines.
const QUOTE: &str = "\"\"\"";
/// Lines that are kept.
const HISTORY: usize = 1000;

/// Input of one prompt.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A line, or several that belong together.
    Text(String),
    /// Ctrl-C where nothing was typed.
    Interrupt,
    /// Bytes that are no UTF-8, behind lines that belong to the same message.
    NotText(String),
    /// A message whose next line did not come.
    Unfinished(String),
    /// No more is to come.
    End,
}

/// The line editor.
pub struct LineEditor {
    editor: Editor<Words, FileHistory>,
    history: Option<PathBuf>,
}

impl LineEditor {
    /// With the user's earlier lines, where they can be read.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn new() -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Words { files: FilenameCompleter::new() }));
        for key in [KeyEvent::ctrl('J'), KeyEvent::alt('\r')] {
            editor.bind_sequence(key, Cmd::Newline);
        }
        editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(DropLine)));
        let history = StateDirs::of_user().history().map(PathBuf::from);
        // A home that cannot be read or written keeps nobody from typing.
        if let Some(path) = &history {
            let _ = path.parent().map(fs::create_dir_all);
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// Reads a message or command, beginning with `initial`.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn read(&mut self, initial: &str) -> rustyline::Result<Input> {
        let mut text = match self.line(PROMPT, initial)? {
            Input::Text(text) => text,
            other => return Ok(other),
        };
        while let Some(begun) = text.strip_suffix('\\') {
            let begun = begun.to_owned();
            match self.line(MORE, "")? {
                Input::Text(more) => text = begun + "\n" + &more,
                Input::NotText(_) => return Ok(Input::NotText(begun)),
                Input::Interrupt => return Ok(Input::Interrupt),
                Input::End | Input::Unfinished(_) => return Ok(Input::Unfinished(begun)),
            }
        }
        // What cannot be kept is typed again.
        let _ = self.editor.add_history_entry(text.as_str());
        if let Some(path) = &self.history {
            let _ = self.editor.append_history(path);
        }
        Ok(Input::Text(unquoted(&text)))
    }

    /// Asks a question; no where it is not answered.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn agrees(&mut self, question: &str) -> rustyline::Result<bool> {
        let Input::Text(answer) = self.line(&format!("{question} [y/N] "), "")? else { return Ok(false) };
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    fn line(&mut self, prompt: &str, initial: &str) -> rustyline::Result<Input> {
        match self.editor.readline_with_initial(prompt, (initial, "")) {
            Ok(text) => Ok(Input::Text(text)),
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupt),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Ok(Input::NotText(String::new()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Ctrl-C drops a line that was begun.
struct DropLine;

impl ConditionalEventHandler for DropLine {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        (!context.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}

/// The text that is quoted over several lines: a message, or what follows a command.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let start = text.find(QUOTE)?;
    let before = &text[..start];
    let is_command = before.starts_with('/') && before.trim_end().bytes().skip(1).all(|b| b.is_ascii_alphabetic());
    (before.trim().is_empty() || is_command).then(|| (before, &text[start + QUOTE.len()..]))
}

/// `text` without its quotes, and without the line ends next to them.
fn unquoted(text: &str) -> String {
    let inner = quoted(text).and_then(|(before, rest)| Some((before, rest.trim_end().strip_suffix(QUOTE)?)));
    let Some((before, inner)) = inner else { return text.to_owned() };
    let inner = inner.strip_prefix('\n').unwrap_or(inner);
    let inner = inner.strip_suffix('\n').unwrap_or(inner);
    // A message in quotes is one, also if it begins like a command.
    let guard = if before.trim().is_empty() && inner.starts_with('/') { " " } else { "" };
    format!("{}{guard}{inner}", before.trim_start())
}

/// Completion, and where a message ends.
struct Words {
    files: FilenameCompleter,
}

impl Helper for Words {}
impl Highlighter for Words {}
impl Hinter for Words {
    type Hint = String;
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let open = quoted(context.input()).is_some_and(|(_, rest)| !rest.trim_end().ends_with(QUOTE));
        Ok(if open { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..pos];
        if ["/save ", "/load "].iter().any(|command| before.starts_with(command)) {
            return self.files.complete(line, pos, context);
        }
        let (start, words) = words_for(before);
        Ok((start, words.into_iter().map(|word| Pair { display: word.clone(), replacement: word }).collect()))
    }
}

/// Words that complete what stands before the cursor, and where the completed one begins.
fn words_for(before: &str) -> (usize, Vec<String>) {
    let start = before.rfind(' ').map_or(0, |space| space + 1);
    let typed = &before[start..];
    let earlier: Vec<&str> = before[..start].split_whitespace().collect();
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let words = match earlier[..] {
        [] if typed.starts_with('/') => command::beginning_with(typed).map(str::to_owned).collect(),
        ["/set"] => owned(&settings::NAMES),
        ["/set", name] => settings::values_of(name),
        ["/mtp"] => owned(&["on", "off", "auto"]),
        ["/think" | "/stats"] => owned(&["on", "off"]),
        _ => Vec::new(),
    };
    (start, words.into_iter().filter(|word| word.starts_with(typed)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_lines_together() {
        for (text, open, expected) in [
            ("a", false, "a"),
            ("a \"\"\"b", false, "a \"\"\"b"),
            ("\"\"\"", true, "\"\"\""),
            ("\"\"\"a", true, "\"\"\"a"),
            ("\"\"\"\na\n\nb\n\"\"\"", false, "a\n\nb"),
            ("\"\"\"a\nb\"\"\" ", false, "a\nb"),
            ("\"\"\"\n/bye\n\"\"\"", false, " /bye"),
            ("/system \"\"\"\na", true, "/system \"\"\"\na"),
            ("/system \"\"\"\na\nb\"\"\"", false, "/system a\nb"),
            ("\"\"\"\"\"\"", false, ""),
        ] {
            let is_open = quoted(text).is_some_and(|(_, rest)| !rest.trim_end().ends_with(QUOTE));
            assert_eq!((is_open, unquoted(text).as_str()), (open, expected), "{text:?}");
        }
    }

    #[test]
    fn commands_and_settings_are_completed() {
        for (before, start, words) in [
            ("/sy", 0, &["/system"][..]),
            ("/s", 0, &["/system", "/set", "/stats", "/save", "/show"]),
            ("/set te", 5, &["temperature"]),
            ("/set acceptance c", 16, &["coupled"]),
            ("/set seed ", 10, &["default"]),
            ("/mtp o", 5, &["on", "off"]),
            ("hello /s", 6, &[]),
            ("", 0, &[]),
        ] {
            assert_eq!(words_for(before), (start, words.iter().map(|&word| word.to_owned()).collect()), "{before:?}");
        }
    }
}
