//! The text side of a checkpoint as a whole: each part as far as its files could be read, and everything that is wrong.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::TextError;
use super::files::{CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, TextFiles};
use super::{ChatTemplate, Tokenizer};
use crate::artifact::{Checkpoint, ErrorKind, Fault, Subject};

/// Tokenizer, chat template and generation settings.
#[derive(Debug, Clone, Default)]
pub struct TextSide {
    /// Text to tokens and back; `None` where its files are at fault.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Conversations to text; `None` where there is none, or where it is at fault.
    pub template: Option<ChatTemplate>,
    /// `generation_config.json`, where it is an object.
    pub generation_config: Option<Map<String, Value>>,
    faults: Vec<Fault>,
}

impl TextSide {
    /// Reads a checkpoint's text files. Building a large tokenizer takes up to a few seconds.
    #[must_use]
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let mut unreadable = Vec::new();
        let mut text = |name: &'static str| {
            checkpoint.text_file(name).unwrap_or_else(|error| {
                unreadable.push((name, TextError::from(error)));
                None
            })
        };
        let files = TextFiles {
            tokenizer: text(TOKENIZER),
            tokenizer_config: text(TOKENIZER_CONFIG),
            generation_config: text(GENERATION_CONFIG),
            // What is wrong with it is the model's fault, not the text's.
            config: checkpoint.whole().config.then(|| text(CONFIG)).flatten(),
            chat_template: text(CHAT_TEMPLATE),
        };
        let mut side = Self::default();
        for (name, error) in &unreadable {
            side.note(if *name == CHAT_TEMPLATE { Subject::Template } else { Subject::Text }, error);
        }
        side.read(&files, |name| unreadable.iter().all(|(lost, _)| *lost != name));
        side
    }

    /// Reads each part alone, so that no fault hides another; `there` tells whether a file could be opened, or is absent.
    fn read(&mut self, files: &TextFiles<'_>, there: impl Fn(&str) -> bool) {
        if let Err(error) = files.tokenizer_config() {
            self.note(Subject::Text, &error);
        }
        match files.generation_config() {
            Ok(Value::Object(fields)) => self.generation_config = files.generation_config.is_some().then_some(fields),
            Ok(_) => {}
            Err(error) => self.note(Subject::Text, &error),
        }
        if there(TOKENIZER) {
            match Tokenizer::new(files) {
                Ok(built) => self.tokenizer = Some(Arc::new(built)),
                Err(error) => self.note(Subject::Text, &error),
            }
        }
        if there(CHAT_TEMPLATE) && there(TOKENIZER_CONFIG) {
            match ChatTemplate::with_tokens(files, self.tokenizer.as_deref()) {
                Ok(template) => self.template = template,
                Err(error) => self.note(Subject::Template, &error),
            }
        }
    }

    /// What is wrong, each once.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Adds what only the program knows to be wrong.
    pub fn fault(&mut self, kind: ErrorKind, what: String, hint: &str) {
        self.faults.push(Fault { subject: Subject::Text, kind, what, hint: hint.to_owned() });
    }

    fn note(&mut self, subject: Subject, error: &TextError) {
        let what = error.to_string();
        if self.faults.iter().all(|fault| fault.what != what) {
            self.faults.push(Fault { subject, kind: error.kind(), what, hint: error.hint().to_owned() });
        }
    }
}
