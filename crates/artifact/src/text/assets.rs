//! The text side of a checkpoint as a whole: each part as far as its files could be read, and everything that is wrong.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::TextError;
use super::files::{
    ADDED_TOKENS, CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, SPECIAL_TOKENS_MAP, TOKENIZER, TOKENIZER_CONFIG, TextFiles,
};
use super::{ChatTemplate, Message, RenderInput, Tokenizer};
use crate::{Area, Checkpoint, ErrorKind, Fault, Finding, Hint};

/// Tokenizer, chat template and generation settings.
#[derive(Debug, Clone, Default)]
pub struct TextAssets {
    /// Text to tokens and back; `None` where its files are at fault.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// Conversations to text; `None` where there is none, or where it is at fault.
    pub template: Option<ChatTemplate>,
    /// `generation_config.json`, where it is an object.
    pub generation_config: Option<Map<String, Value>>,
    faults: Vec<Fault>,
    findings: Vec<Finding>,
    /// The hint for a missing file of an interrupted download.
    download: Option<Hint>,
}

impl TextAssets {
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
            special_tokens_map: text(SPECIAL_TOKENS_MAP),
            added_tokens: text(ADDED_TOKENS),
            generation_config: text(GENERATION_CONFIG),
            // What is wrong with it is the model's fault, not the text's.
            config: checkpoint.whole().config.then(|| text(CONFIG)).flatten(),
            chat_template: text(CHAT_TEMPLATE),
        };
        let mut side = Self { download: checkpoint.incomplete_download(), ..Self::default() };
        for (name, error) in &unreadable {
            side.note(if *name == CHAT_TEMPLATE { Area::Template } else { Area::Text }, error);
        }
        side.read(&files, |name| unreadable.iter().all(|(lost, _)| *lost != name));
        side
    }

    /// Reads each part alone, so that no fault hides another; `there` tells whether a file could be opened, or is absent.
    fn read(&mut self, files: &TextFiles<'_>, there: impl Fn(&str) -> bool) {
        if let Err(error) = files.tokenizer_config() {
            self.note(Area::Text, &error);
        }
        match files.generation_config() {
            Ok(Value::Object(fields)) => self.generation_config = files.generation_config.is_some().then_some(fields),
            Ok(_) => {}
            Err(error) => self.note(Area::Text, &error),
        }
        let mut tokenizer = None;
        if there(TOKENIZER) {
            tokenizer = Tokenizer::new(files).map_err(|error| self.note(Area::Text, &error)).ok();
        }
        if there(CHAT_TEMPLATE) && there(TOKENIZER_CONFIG) {
            match ChatTemplate::with_tokens(files, tokenizer.as_ref()) {
                Ok(template) => self.template = template,
                Err(error) => self.note(Area::Template, &error),
            }
        }
        if let (Some(tokenizer), Some(template)) = (&mut tokenizer, &self.template) {
            let end = end_of_turn(template, tokenizer);
            end.into_iter().for_each(|id| tokenizer.ends_with(id));
        }
        self.findings = tokenizer.as_ref().map(|tokenizer| tokenizer.findings().to_vec()).unwrap_or_default();
        self.tokenizer = tokenizer.map(Arc::new);
    }

    /// Remarks that keep nothing from running.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What is wrong, each once.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Adds what only the program knows to be wrong.
    pub fn fault(&mut self, kind: ErrorKind, what: String, hint: impl Into<Hint>) {
        self.faults.push(Fault { area: Area::Text, kind, what, hint: hint.into() });
    }

    fn note(&mut self, area: Area, error: &TextError) {
        let what = error.to_string();
        if self.faults.iter().all(|fault| fault.what != what) {
            let download = self.download.clone().filter(|_| error.kind() == ErrorKind::Missing);
            let hint = download.unwrap_or_else(|| error.hint());
            self.faults.push(Fault { area, kind: error.kind(), what, hint });
        }
    }
}

/// The special token that `template` puts behind an assistant's text: at the conversation's end or, where nothing stands
/// there, before the next message.
fn end_of_turn(template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<u32> {
    const ANSWER: &str = "qxzjanswerqxzj";
    let messages = [Message::new("user", "a"), Message::new("assistant", ANSWER), Message::new("user", "b")];
    let behind = |messages: &[Message]| {
        let input =
            RenderInput { messages, add_generation_prompt: false, enable_thinking: None, tools: None, kwargs: None };
        let text = template.render(&input).ok()?;
        Some(text.rsplit_once(ANSWER)?.1.trim_start().to_owned())
    };
    let last = behind(&messages[..2])?;
    let text = if last.is_empty() { behind(&messages)? } else { last };
    tokenizer.encode(&text, false).ok()?.first().copied().filter(|&id| tokenizer.is_special(id))
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::{byte_level_json, files};
    use super::*;

    #[test]
    fn a_turn_s_end_by_the_template() {
        let ends = |template: &str| {
            let files = TextFiles { chat_template: Some(template.into()), ..files(byte_level_json()) };
            let mut side = TextAssets::default();
            side.read(&files, |_| true);
            assert_eq!(side.faults(), []);
            side.tokenizer.unwrap().eos_ids().to_vec()
        };
        let of = |message: &str| format!("{{% for m in messages %}}{message}{{% endfor %}}");
        for (template, expected) in [
            (of("<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"), vec![258]),
            (of("{{ m.content }}\n<|im_end|>"), vec![258]),
            (of("{{ m.content | trim }}{% if m.role == 'assistant' %}<|endoftext|>{% endif %}"), vec![256]),
            // No token ends an answer, but the next message's beginning does.
            (of("<|im_start|>{{ m.role }}\n{{ m.content }}"), vec![257]),
            (of("{{ m.role }}: {{ m.content }}\n"), vec![]),
            (of("{{ m.content }}.<|im_end|>"), vec![]),
            (of("{{ m.role }}<|im_end|>"), vec![]),
            ("{{ raise_exception('no') }}".to_owned(), vec![]),
            (of("{% if m.role == 'assistant' %}{{ raise_exception('no') }}{% endif %}<|im_end|>"), vec![]),
        ] {
            assert_eq!(ends(&template), expected, "{template}");
        }
    }
}
