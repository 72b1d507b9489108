//! A conversation, and its prompt: through the chat template, or as one text that goes on.

use std::sync::Arc;

use mtplx_engine::ChatFormat;
use mtplx_engine::chat::{Conversation, Message, Role};
use mtplx_engine::output::OutputSplitter;
use mtplx_runtime::text::{TextError, Tokenizer};

/// The way from a conversation to a prompt.
pub enum Form {
    /// Messages, through the chat template.
    Chat(Box<ChatFormat>),
    /// Text that the model continues.
    Text(Arc<Tokenizer>),
}

/// A conversation. Messages of the user's and answers alternate, but where an answer is yet to come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dialog {
    /// The system message.
    pub system: Option<String>,
    /// The messages.
    pub messages: Vec<Message>,
}

/// Tokens, and how to read the answer to them.
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// Tokens at its end that begin the answer.
    pub answer_tokens: usize,
    /// Reader of reasoning.
    pub splitter: Option<OutputSplitter>,
}

impl Dialog {
    /// Adds a message of the user's.
    pub fn ask(&mut self, text: impl Into<String>) {
        self.messages.push(message(Role::User, text.into(), None));
    }

    /// Adds an answer.
    pub fn answer(&mut self, text: String, reasoning: Option<String>) {
        self.messages.push(message(Role::Assistant, text, reasoning));
    }

    /// Takes the last message of the user's back, and the answer to it.
    pub fn undo(&mut self) -> Option<String> {
        let last = self.messages.iter().rposition(|message| message.role == Role::User)?;
        self.messages.drain(last..).next().map(|message| message.content)
    }

    /// Takes the last answer back; nothing where there is none.
    pub fn take_answer(&mut self) -> Option<Message> {
        self.messages.pop_if(|message| message.role == Role::Assistant)
    }

    /// The last answer.
    pub fn last_answer(&self) -> Option<&Message> {
        self.messages.iter().rfind(|message| message.role == Role::Assistant)
    }

    /// The prompt for the next answer.
    ///
    /// # Errors
    /// The template refuses the conversation; the tokenizer fails.
    pub fn prompt(&self, form: &Form, thinking: Option<bool>) -> Result<Prompt, TextError> {
        match form {
            Form::Chat(format) => {
                let system = self.system.iter().map(|text| message(Role::System, text.clone(), None));
                let messages = system.chain(self.messages.iter().cloned()).collect();
                let conversation = Conversation { messages, thinking, ..Conversation::default() };
                let prompt = format.prompt(&conversation)?;
                let (tokens, answer_tokens) = (prompt.tokens, prompt.answer_tokens);
                Ok(Prompt { tokens, answer_tokens, splitter: Some(prompt.splitter) })
            }
            Form::Text(tokenizer) => {
                let tokens = tokenizer.encode(&self.text(), true)?;
                Ok(Prompt { tokens, answer_tokens: 0, splitter: None })
            }
        }
    }

    /// The conversation as one text, in which what the user wrote begins on a line of its own.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for message in &self.messages {
            let own = message.role == Role::User && !message.content.is_empty();
            if own && !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&message.content);
        }
        text
    }
}

/// A message without calls.
pub fn message(role: Role, content: String, reasoning: Option<String>) -> Message {
    Message { role, content, reasoning, calls: Vec::new(), call_id: None, name: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_back() {
        let mut dialog = Dialog::default();
        assert_eq!((dialog.undo(), dialog.take_answer()), (None, None));
        dialog.ask("a");
        dialog.answer("b".to_owned(), None);
        dialog.ask("c");
        assert_eq!(dialog.take_answer(), None, "there is none yet");
        assert_eq!(dialog.undo().as_deref(), Some("c"));
        assert_eq!(dialog.take_answer().map(|message| message.content).as_deref(), Some("b"));
        assert_eq!(dialog.messages.len(), 1);
        dialog.answer("d".to_owned(), None);
        assert_eq!((dialog.undo().as_deref(), dialog.messages.len()), (Some("a"), 0));
    }

    #[test]
    fn text_goes_on_line_by_line() {
        let mut dialog = Dialog::default();
        dialog.ask("fn main() {");
        dialog.answer("\n    f();".to_owned(), None);
        dialog.ask("}");
        dialog.answer("\n".to_owned(), None);
        dialog.ask("");
        dialog.answer("// end".to_owned(), None);
        assert_eq!(dialog.text(), "fn main() {\n    f();\n}\n// end");
    }
}
