//! The commands of a chat: their names, their help, and lines that are one.

use super::screen::wrapped;

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    System,
    Set,
    Mtp,
    Think,
    NoThink,
    Reasoning,
    Stats,
    Retry,
    Undo,
    Clear,
    Save,
    Load,
    Show,
    Help,
    Bye,
}

/// A line that was entered.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Nothing but blanks.
    Empty,
    /// Text for the model.
    Message(&'a str),
    /// A command and the text behind its name.
    Command(Command, &'a str),
    /// A name that no command has, and the command whose name is like it.
    Unknown(&'a str, Option<&'static str>),
}

/// A command's names, the first of which is shown, its arguments and its use.
struct Entry {
    command: Command,
    names: &'static [&'static str],
    arguments: &'static str,
    about: &'static str,
}

const fn entry(
    command: Command,
    names: &'static [&'static str],
    arguments: &'static str,
    about: &'static str,
) -> Entry {
    Entry { command, names, arguments, about }
}

const COMMANDS: [Entry; 15] = [
    entry(Command::System, &["/system"], "TEXT", "set the system message; \"\" removes it"),
    entry(Command::Set, &["/set"], "[NAME VALUE]", "change a setting; alone: all of them and their sources"),
    entry(Command::Mtp, &["/mtp"], "on|off|N", "draft with the MTP head; off decodes plainly; N tokens a round"),
    entry(Command::Think, &["/think"], "on|off", "ask for answers with or without reasoning"),
    entry(Command::NoThink, &["/nothink"], "", "the same as /think off"),
    entry(Command::Reasoning, &["/reasoning"], "", "show the reasoning of the last answer"),
    entry(Command::Stats, &["/stats"], "[on|off]", "figures of the last answer, or of each from now on"),
    entry(Command::Retry, &["/retry", "/regenerate"], "", "answer the last message again"),
    entry(Command::Undo, &["/undo"], "", "take the last message and its answer back"),
    entry(Command::Clear, &["/clear"], "", "forget all messages; settings and system message stay"),
    entry(Command::Save, &["/save"], "FILE", "write messages and settings to a JSON file"),
    entry(Command::Load, &["/load"], "FILE", "go on from such a file"),
    entry(Command::Show, &["/show"], "", "the model and the conversation"),
    entry(Command::Help, &["/help", "/?"], "", "this list"),
    entry(Command::Bye, &["/bye", "/exit", "/quit"], "", "leave (also Ctrl-D)"),
];

/// Keys, and what they do.
const KEYS: [(&str, &str); 5] = [
    ("Ctrl-C", "stop the answer; at the prompt: drop the line"),
    ("Alt-Enter, Ctrl-J", "a new line; so does \\ at the end of one"),
    ("\"\"\"", "begins and ends a message of several lines"),
    ("Up, Ctrl-R", "earlier lines; one that begins with a space is not kept"),
    ("Tab", "completes commands, settings and files"),
];

/// Columns that a description takes at least where it stands beside its command.
const BESIDE: usize = 24;

/// Names that begin with `start`, one for each command.
pub fn beginning_with(start: &str) -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().filter_map(move |entry| entry.names.iter().copied().find(|name| name.starts_with(start)))
}

/// Reads a line. A slash followed by anything but letters begins a message, such as a path; so does a space before a slash.
pub fn read(line: &str) -> Line<'_> {
    let text = line.trim_end();
    if text.trim_start().is_empty() {
        return Line::Empty;
    }
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let is_name = |name: &str| name == "/?" || !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic());
    if !name.starts_with('/') || !is_name(if name == "/?" { name } else { &name[1..] }) {
        return Line::Message(line);
    }
    match COMMANDS.iter().find(|entry| entry.names.contains(&name)) {
        Some(entry) => Line::Command(entry.command, rest.trim_start()),
        None => {
            let names = COMMANDS.iter().flat_map(|entry| entry.names.iter().copied());
            let likeness = names.map(|other| (strsim::jaro(name, other), other));
            let likest = likeness.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(likeness, _)| *likeness > 0.8);
            Line::Unknown(name, likest.map(|(_, other)| other))
        }
    }
}

/// Lines of help on commands and keys, no wider than `width` where that is possible.
pub fn help(width: usize) -> Vec<String> {
    let commands = COMMANDS.iter().map(|entry| (format!("{} {}", entry.names[0], entry.arguments), entry.about));
    let keys = KEYS.iter().map(|&(keys, about)| (keys.to_owned(), about));
    let rows: Vec<(String, &str)> = commands.chain([(String::new(), "")]).chain(keys).collect();
    let column = rows.iter().map(|(name, _)| name.trim_end().chars().count()).max().unwrap_or(0);
    let beside = width.saturating_sub(column + 4);
    let mut lines = Vec::new();
    for (name, about) in &rows {
        let name = name.trim_end();
        // A narrow terminal has no room for two columns.
        let (indent, room) = if beside >= BESIDE { (column + 4, beside) } else { (6, width.saturating_sub(6)) };
        let about = wrapped(about, room).join(&format!("\n{:indent$}", ""));
        lines.push(match name {
            "" => String::new(),
            name if beside >= BESIDE => format!("  {name:column$}  {about}"),
            name => format!("  {name}\n{:indent$}{about}", ""),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        for (line, expected) in [
            ("", Line::Empty),
            (" \n", Line::Empty),
            ("hello", Line::Message("hello")),
            ("/bye", Line::Command(Command::Bye, "")),
            ("/exit \n", Line::Command(Command::Bye, "")),
            ("/?", Line::Command(Command::Help, "")),
            ("/system be brief", Line::Command(Command::System, "be brief")),
            ("/system\nbe\nbrief", Line::Command(Command::System, "be\nbrief")),
            ("/set  top-p 0.9", Line::Command(Command::Set, "top-p 0.9")),
            ("/usr/bin/env is there", Line::Message("/usr/bin/env is there")),
            ("/", Line::Message("/")),
            ("// a comment", Line::Message("// a comment")),
            (" /bye", Line::Message(" /bye")),
            ("/retyr", Line::Unknown("/retyr", Some("/retry"))),
            ("/xyzzy", Line::Unknown("/xyzzy", None)),
        ] {
            assert_eq!(read(line), expected, "{line:?}");
        }
    }

    #[test]
    fn every_command_is_found_by_its_names_and_in_the_help() {
        let help = help(120).join("\n");
        for entry in &COMMANDS {
            assert!(
                help.contains(&format!("  {} ", entry.names[0])) && help.contains(entry.about),
                "{:?}",
                entry.names
            );
            for name in entry.names {
                assert_eq!(read(name), Line::Command(entry.command, ""));
            }
        }
        assert_eq!(beginning_with("/s").collect::<Vec<_>>(), ["/system", "/set", "/stats", "/save", "/show"]);
        assert_eq!(beginning_with("/ex").collect::<Vec<_>>(), ["/exit"]);
    }

    #[test]
    fn help_fits_a_narrow_terminal() {
        for width in [40, 60, 80, 100] {
            let help = help(width).join("\n");
            assert_eq!(help.lines().find(|line| line.chars().count() > width), None, "{width}");
        }
    }
}
