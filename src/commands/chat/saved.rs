//! Conversations as files.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use mtplx_engine::chat::Role;
use mtplx_engine::settings::Overrides;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use super::dialog::{Dialog, message};
use super::settings;
use crate::error::{Exit, Failure};
use crate::input;

/// The version of the form.
const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    schema: u32,
    /// The model that answered, for people.
    model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    messages: Vec<SavedMessage>,
    #[serde(default)]
    settings: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedMessage {
    role: SavedRole,
    content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
}

#[derive(Serialize, Deserialize, PartialEq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum SavedRole {
    User,
    Assistant,
}

/// A conversation that was read.
pub struct Loaded {
    pub dialog: Dialog,
    pub overrides: Overrides,
    /// The model that it was held with.
    pub model: String,
}

/// The file that was meant: `~/` is the home folder.
pub fn place(typed: &str) -> PathBuf {
    let home = typed.strip_prefix("~/").and_then(|rest| Some(etcetera::home_dir().ok()?.join(rest)));
    home.unwrap_or_else(|| typed.into())
}

/// Writes a conversation, whole or not at all.
///
/// # Errors
/// What the system says.
pub fn save(path: &Path, model: &str, dialog: &Dialog, overrides: &Overrides) -> Result<(), Failure> {
    let messages = dialog.messages.iter().map(|message| SavedMessage {
        role: if message.role == Role::Assistant { SavedRole::Assistant } else { SavedRole::User },
        content: message.content.clone(),
        reasoning: message.reasoning.clone(),
    });
    let saved = Saved {
        schema: SCHEMA,
        model: model.to_owned(),
        system: dialog.system.clone(),
        messages: messages.collect(),
        settings: settings::to_json(overrides),
    };
    write(path, &saved).map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))
}

fn write(path: &Path, saved: &Saved) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // Readable by its owner alone, as a conversation should be.
    let mut file = NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut file, saved)?;
    file.write_all(b"\n")?;
    file.persist(path)?;
    Ok(())
}

/// Reads a conversation. `now` is what it does not state.
///
/// # Errors
/// The file cannot be read, or is no conversation; says the field.
pub fn load(path: &Path, now: &Overrides) -> Result<Loaded, Failure> {
    let fault = |what: String| {
        Failure::new(Exit::File, format!("{}: {what}", path.display())).hint("/load reads what /save wrote")
    };
    let saved: Saved = serde_json::from_str(&input::from_file(path)?).map_err(|error| fault(error.to_string()))?;
    if saved.schema != SCHEMA {
        return Err(fault(format!("schema: {}: this version reads {SCHEMA}", saved.schema)));
    }
    let mut overrides = now.clone();
    settings::from_json(&saved.settings, &mut overrides).map_err(|what| fault(format!("settings: {what}")))?;
    let mut dialog = Dialog { system: saved.system, messages: Vec::new() };
    for (place, saved) in saved.messages.into_iter().enumerate() {
        let expected = if place % 2 == 0 { SavedRole::User } else { SavedRole::Assistant };
        if saved.role != expected {
            let expected = if place % 2 == 0 { "user" } else { "assistant" };
            return Err(fault(format!("messages[{place}]: role: {expected} was expected")));
        }
        let role = if place % 2 == 0 { Role::User } else { Role::Assistant };
        dialog.messages.push(message(role, saved.content, saved.reasoning));
    }
    if dialog.messages.len() % 2 == 1 {
        return Err(fault("messages: the last one has no answer".to_owned()));
    }
    Ok(Loaded { dialog, overrides, model: saved.model })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialog() -> Dialog {
        let mut dialog = Dialog { system: Some("be brief".to_owned()), messages: Vec::new() };
        dialog.ask("a\n\u{1b}\"");
        dialog.answer("b".to_owned(), Some("hm".to_owned()));
        dialog
    }

    #[test]
    fn a_conversation_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a chat.json");
        let overrides = Overrides { temperature: Some(0.7), ..Overrides::default() };
        save(&path, "o/n", &dialog(), &overrides).unwrap();
        save(&path, "o/n", &dialog(), &overrides).unwrap();
        let loaded = load(&path, &Overrides::default()).unwrap();
        assert_eq!((loaded.dialog, loaded.model.as_str()), (dialog(), "o/n"));
        assert_eq!(loaded.overrides.temperature, Some(0.7));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn what_cannot_be_written_says_where() {
        let error = save(Path::new("/no/such/folder/x.json"), "m", &dialog(), &Overrides::default()).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/folder/x.json: "), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        let user = r#"{"role":"user","content":"a"}"#;
        let answer = r#"{"role":"assistant","content":"b"}"#;
        let file = |messages: &str, more: &str| format!(r#"{{"schema":1,"model":"m","messages":[{messages}]{more}}}"#);
        for (text, named) in [
            ("{", "EOF"),
            ("[]", "expected"),
            (r#"{"schema":2,"model":"m","messages":[]}"#, "schema: 2"),
            (&file(answer, ""), "messages[0]: role: user was expected"),
            (&file(&format!("{user},{user}"), ""), "messages[1]: role: assistant"),
            (&file(user, ""), "no answer"),
            (&file("", r#","settings":{"top-p":7}"#), "settings: top-p 7"),
            (&file("", r#","colour":1"#), "colour"),
        ] {
            std::fs::write(&path, text).unwrap();
            let Err(error) = load(&path, &Overrides::default()) else { panic!("{text}") };
            assert!(error.to_string().contains("x.json: ") && error.to_string().contains(named), "{error}");
        }
        std::fs::write(&path, b"\xff").unwrap();
        assert!(load(&path, &Overrides::default()).is_err_and(|error| error.to_string().contains("UTF-8")));
    }
}
