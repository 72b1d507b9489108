//! Settings of `serve`: a TOML file under the environment under the command line.
//!
//! The file's values become the defaults of the flags, so that one parser checks all three, and clap's own order decides.

use std::fs;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use toml_edit::{Document, Item, Value};

use crate::args::is_setting;
use crate::error::{Exit, Failure};
use crate::state_dirs;

/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;
/// Nearest keys are those that are at least so alike (Jaro-Winkler).
const ALIKE: f64 = 0.7;

/// A setting of a file.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    key: String,
    values: Vec<String>,
    line: usize,
}

/// A file of settings.
#[derive(Debug, Default)]
pub struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// A setting, its value and where that comes from.
#[derive(Debug, PartialEq)]
pub struct Shown {
    pub key: String,
    pub values: Vec<String>,
    pub source: String,
}

impl ConfigFile {
    /// The file that is named, or else the user's, if there is one.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, or has a key or value that is no setting: file, line, key and value.
    pub fn find(named: Option<&Path>, serve: &Command) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => match state_dirs::config_folder().map(|folder| folder.join("config.toml")) {
                Some(path) if path.exists() => path,
                _ => return Ok(Self::default()),
            },
        };
        let unreadable = |what: String| {
            Failure::new(Exit::Usage, format!("{}: {what}", path.display()))
                .hint("--config names a TOML file with settings")
        };
        let size = fs::metadata(&path).map_err(|error| unreadable(error.to_string()))?.len();
        if size > MAX_FILE {
            return Err(unreadable(format!("{size} bytes; a file of settings has at most {MAX_FILE}")));
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&path, &text, serve)
    }

    fn parse(path: &Path, text: &str, serve: &Command) -> Result<Self, Failure> {
        let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let wrong = |line: usize, what: String| {
            Failure::new(Exit::Usage, format!("{}:{line}: {what}", path.display()))
                .hint("keys are the flags of `mtplx serve --help` without their dashes")
        };
        let document = Document::parse(text)
            .map_err(|error| wrong(error.span().map_or(1, |span| line_of(span.start)), error.message().to_owned()))?;
        let mut entries = Vec::new();
        for (key, item) in document.as_table().iter() {
            let span = document.as_table().key(key).and_then(toml_edit::Key::span);
            let line = span.map_or(1, |span| line_of(span.start));
            if !keys(serve).any(|known| known == key) {
                let nearest = keys(serve).map(|known| (strsim::jaro_winkler(&known, key), known));
                let nearest = nearest.filter(|(alike, _)| *alike >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
                let advice = nearest.map_or_else(String::new, |(_, known)| format!("; did you mean \"{known}\"?"));
                return Err(wrong(line, format!("unknown key \"{key}\"{advice}")));
            }
            let values = texts(item)
                .ok_or_else(|| wrong(line, format!("{key}: expected a text, a number or a list of them")))?;
            let entry = Entry { key: key.to_owned(), values, line };
            // The parser of the flag says what is wrong with a value.
            let alone = with_entry(serve.clone(), &entry);
            alone.try_get_matches_from(["serve"]).map_err(|error| wrong(line, reason(&error, &entry)))?;
            entries.push(entry);
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    /// Its path; `None` where there is no file.
    pub fn path(&self) -> Option<&Path> {
        (!self.path.as_os_str().is_empty()).then_some(&*self.path)
    }

    /// True where the file has a value for `key`.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// `serve` with the file's values as defaults.
    pub fn under(&self, serve: Command) -> Command {
        self.entries.iter().fold(serve, with_entry)
    }

    /// Every setting, from matches of the command that [`ConfigFile::under`] made.
    pub fn shown(&self, serve: &Command, matches: &ArgMatches) -> Vec<Shown> {
        let shown = |argument: &clap::Arg| {
            let key = argument.get_long()?.to_owned();
            let id = argument.get_id().as_str();
            let values: Vec<String> = matches
                .get_raw(id)
                .map(|values| values.map(|value| value.to_string_lossy().into_owned()).collect())
                .unwrap_or_default();
            let entry = self.entries.iter().find(|entry| entry.key == key);
            let source = match (matches.value_source(id), entry) {
                (Some(ValueSource::CommandLine), _) => format!("--{key}"),
                (Some(ValueSource::EnvVariable), _) => {
                    argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
                }
                (Some(_), Some(entry)) => format!("{}:{}", self.path.display(), entry.line),
                _ => "default".to_owned(),
            };
            let values = if key == "api-key" && !values.is_empty() { vec!["(hidden)".to_owned()] } else { values };
            Some(Shown { key, values, source })
        };
        let settings = serve.get_arguments().filter(|argument| argument.get_long().is_some_and(is_setting));
        settings.filter_map(shown).collect()
    }
}

fn keys(serve: &Command) -> impl Iterator<Item = String> + '_ {
    serve.get_arguments().filter_map(|argument| argument.get_long()).filter(|long| is_setting(long)).map(str::to_owned)
}

fn with_entry(serve: Command, entry: &Entry) -> Command {
    serve.mut_args(|argument| {
        if argument.get_long() == Some(&entry.key) { argument.default_values(entry.values.clone()) } else { argument }
    })
}

/// A value as it would be typed.
fn texts(item: &Item) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(number) => Some(number.value().to_string()),
        Value::Boolean(on) => Some(on.value().to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::InlineTable(_) => None,
    };
    match item.as_value()? {
        Value::Array(list) => list.iter().map(text).collect(),
        value => Some(vec![text(value)?]),
    }
}

/// The parser's reason, in words that fit a file.
fn reason(error: &clap::Error, entry: &Entry) -> String {
    let value = entry.values.join(", ");
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    let possible = error.get(clap::error::ContextKind::ValidValue).map(|valid| format!(": expected one of {valid}"));
    format!("{} = {value:?}{}", entry.key, source.or(possible).unwrap_or_else(|| ": not a value of it".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::command;

    fn serve() -> Command {
        command().find_subcommand("serve").unwrap().clone()
    }

    fn refused(text: &str) -> String {
        ConfigFile::parse(Path::new("c.toml"), text, &serve()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_file_names_line_key_and_value() {
        insta::assert_snapshot!(refused("port = 1\nprot = 2\n"), @r#"c.toml:2: unknown key "prot"; did you mean "port"?"#);
        insta::assert_snapshot!(refused("zzzz = 2\n"), @r#"c.toml:1: unknown key "zzzz""#);
        insta::assert_snapshot!(refused("\nprint-config = true"), @r#"c.toml:2: unknown key "print-config""#);
        insta::assert_snapshot!(refused("port = 70000"), @r#"c.toml:1: port = "70000": 70000 is not in 0..=65535"#);
        insta::assert_snapshot!(refused("log-format = \"xml\""), @r#"c.toml:1: log-format = "xml": expected one of text, json"#);
        insta::assert_snapshot!(refused("idle-unload = -1"), @r#"c.toml:1: idle-unload = "-1": expected minutes, more than 0"#);
        insta::assert_snapshot!(refused("[serve]\nport = 1"), @r#"c.toml:1: unknown key "serve"; did you mean "served-name"?"#);
        insta::assert_snapshot!(refused("host = { a = 1 }"), @"c.toml:1: host: expected a text, a number or a list of them");
        assert!(refused("a = \n").starts_with("c.toml:1: "), "{}", refused("a = \n"));
        assert!(refused("port = 1\nport = 2\n").starts_with("c.toml:2: "));
    }

    #[test]
    fn flags_win_over_variables_and_those_over_the_file() {
        let text = "port = 1\nmax-queue = 2\nserved-name = [\"a\", \"b\"]\nno-mtp = true\napi-key = \"secret\"\n";
        let file = ConfigFile::parse(Path::new("c.toml"), text, &serve()).unwrap();
        let command = file.under(serve());
        // A variable that no process here has set, and one that every process has.
        let command = command.mut_args(|argument| match argument.get_long() {
            Some("max-body") => argument.env("PATH_LENGTH_OF_NOBODY"),
            Some("host") => argument.env("PATH"),
            _ => argument.env(None::<&str>),
        });
        let matches = command.clone().try_get_matches_from(["serve", "--port", "3"]).unwrap();
        let shown = file.shown(&command, &matches);
        let find = |key: &str| shown.iter().find(|shown| shown.key == key).unwrap();
        assert_eq!((find("port").values.join(","), &*find("port").source), ("3".to_owned(), "--port"));
        assert_eq!(find("host").source, "PATH");
        assert_eq!((find("max-queue").values.join(","), &*find("max-queue").source), ("2".to_owned(), "c.toml:2"));
        assert_eq!(find("served-name").values, ["a", "b"]);
        assert_eq!((find("no-mtp").values.join(","), &*find("no-mtp").source), ("true".to_owned(), "c.toml:4"));
        assert_eq!(find("api-key").values, ["(hidden)"]);
        assert_eq!(find("max-body").source, "default");
        assert!(matches.get_flag("no_mtp"));
    }
}
