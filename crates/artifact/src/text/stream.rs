//! From tokens to text that streams: detokenizer and stop strings in one.
//!
//! Knows nothing of models. Tokens are taken one at a time, so what a round drew beyond a stop string is dropped and the result does not
//! depend on how deep the rounds were.

use std::ops::Deref;

use super::detokenize::Detokenizer;
use super::error::TextError;
use super::stop::{StopMatcher, StopOutput};
use super::tokenizer::Tokenizer;

/// Why a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The model drew a stop token, the last of the tokens.
    StopToken,
    /// A stop string appeared.
    StopString,
    /// As many tokens as were asked for, or as the context holds.
    Length,
    /// The user interrupted.
    Interrupted,
}

/// A text that is being generated. `T` is a reference to the tokenizer, or an `Arc` of it.
#[derive(Debug)]
pub struct TextStream<T> {
    detokenizer: Detokenizer<T>,
    stops: StopMatcher,
}

impl<T: Deref<Target = Tokenizer>> TextStream<T> {
    /// A text that `detokenizer` writes and that the first of `stop_strings` ends, which is not part of it.
    pub fn new<'s>(detokenizer: Detokenizer<T>, stop_strings: impl IntoIterator<Item = &'s str>) -> Self {
        Self { detokenizer, stops: StopMatcher::new(stop_strings) }
    }

    /// Adds a token and returns the text that is decided now, and the stop string that ended it.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<StopOutput, TextError> {
        Ok(self.stops.push(&self.detokenizer.push(id)?))
    }

    /// Text that was held back: the tokens are over.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<StopOutput, TextError> {
        let mut found = self.stops.push(&self.detokenizer.finish()?);
        if found.stopped.is_none() {
            found.text.push_str(&self.stops.finish());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::byte_level;
    use super::*;

    /// The text of `text`'s tokens, the pieces that were shown, and the stop string that ended it after how many tokens.
    fn play(text: &str, stops: &[&str]) -> (String, Vec<String>, Option<(usize, usize)>) {
        let tokenizer = byte_level();
        let mut stream = TextStream::new(Detokenizer::new(&tokenizer), stops.iter().copied());
        let mut shown = Vec::new();
        for (place, id) in tokenizer.encode(text, false).unwrap().into_iter().enumerate() {
            let found = stream.push(id).unwrap();
            shown.push(found.text);
            if let Some(stop) = found.stopped {
                return (shown.concat(), shown, Some((stop, place + 1)));
            }
        }
        let found = stream.finish().unwrap();
        shown.push(found.text);
        (shown.concat(), shown, found.stopped.map(|stop| (stop, usize::MAX)))
    }

    #[test]
    fn a_stop_string_ends_the_text_where_it_is_complete() {
        let (text, _, stopped) = play("let né = 1;\n\nlet", &["xyz", "\n\n"]);
        assert_eq!((text.as_str(), stopped), ("let né = 1;", Some((1, "let né = 1;\n\n".len()))));
    }

    #[test]
    fn text_that_was_held_back_is_shown_at_the_end() {
        let (text, shown, stopped) = play("a\n", &["\n\n"]);
        assert_eq!((text.as_str(), stopped), ("a\n", None));
        assert_eq!(shown, ["a", "", "\n"]);
    }

    #[test]
    fn special_tokens_have_text_where_they_are_kept() {
        let tokenizer = byte_level();
        let ids = [64, 258];
        let text = |detokenizer: Detokenizer<&Tokenizer>| {
            let mut stream = TextStream::new(detokenizer, []);
            ids.iter().map(|&id| stream.push(id).unwrap().text).collect::<String>()
        };
        let kept = text(Detokenizer::new(&tokenizer).with_special());
        assert_eq!(kept, text(Detokenizer::new(&tokenizer)) + tokenizer.token(258).unwrap().as_str());
    }
}
