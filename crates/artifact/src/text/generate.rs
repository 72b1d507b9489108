//! From rounds of tokens to text that streams: detokenizer and stop strings over whatever yields tokens.
//!
//! Knows nothing of models: the rounds come from a closure, which keeps the speculative loop out and lets tests play it.
//! Tokens are taken one at a time, so what a round drew beyond a stop string is dropped and the result does not depend on
//! how deep the rounds were.

use super::detokenize::Detokenizer;
use super::error::TextError;
use super::stop::StopMatcher;
use super::tokenizer::Tokenizer;

/// What a text is generated with, beside its tokens.
#[derive(Debug, Clone, Default)]
pub struct TextOptions<'a> {
    /// The prompt that the text continues, so that a leading space survives; empty for a text of its own.
    pub context: &'a [u32],
    /// Strings that end the text; they are not part of it.
    pub stop_strings: &'a [String],
}

/// What one round yields.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// New tokens, the stop token included if there is one.
    pub tokens: Vec<u32>,
    /// Set if these were the last.
    pub ending: Option<Ending>,
}

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

/// A generated text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The text, without the stop token or stop string that ended it.
    pub text: String,
    /// The tokens, up to and including the one that ended the text.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub ending: Ending,
    /// Which of the stop strings ended it.
    pub stop_string: Option<usize>,
}

/// Calls `next` until the text ends and `show` with each piece of text once it is decided.
///
/// # Errors
/// Those of `next` and `show`, and a decoder's.
pub fn generate<E: From<TextError>>(
    tokenizer: &Tokenizer,
    options: &TextOptions<'_>,
    mut next: impl FnMut() -> Result<Step, E>,
    mut show: impl FnMut(&str) -> Result<(), E>,
) -> Result<Generated, E> {
    let mut detokenizer = Detokenizer::after(tokenizer, options.context)?;
    let mut stops = StopMatcher::new(options.stop_strings.iter().map(String::as_str));
    let mut text = String::new();
    let mut token_ids = Vec::new();
    let mut give = |text: &mut String, piece: &str| {
        text.push_str(piece);
        if piece.is_empty() { Ok(()) } else { show(piece) }
    };
    loop {
        let step = next()?;
        let count = step.tokens.len();
        for (i, id) in step.tokens.into_iter().enumerate() {
            token_ids.push(id);
            if step.ending == Some(Ending::StopToken) && i + 1 == count {
                break; // Shown nowhere, whether or not the tokenizer calls it special.
            }
            let found = stops.push(&detokenizer.push(id)?);
            give(&mut text, &found.text)?;
            if found.stopped.is_some() {
                return Ok(Generated { text, token_ids, ending: Ending::StopString, stop_string: found.stopped });
            }
        }
        let Some(ending) = step.ending else { continue };
        let found = stops.push(&detokenizer.finish()?);
        give(&mut text, &found.text)?;
        if found.stopped.is_some() {
            return Ok(Generated { text, token_ids, ending: Ending::StopString, stop_string: found.stopped });
        }
        give(&mut text, &stops.finish())?;
        return Ok(Generated { text, token_ids, ending, stop_string: None });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::byte_level;
    use super::*;

    /// Plays `text` in rounds of `width` tokens, then `ending`.
    fn play(text: &str, width: usize, stops: &[&str], ending: Ending) -> (Generated, Vec<String>) {
        let tokenizer = byte_level();
        let mut ids = tokenizer.encode(text, false).unwrap();
        if ending == Ending::StopToken {
            ids.push(258);
        }
        let stop_strings: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let options = TextOptions { context: &[], stop_strings: &stop_strings };
        let (mut at, mut shown) = (0, Vec::new());
        let next = || -> Result<Step, TextError> {
            let end = (at + width).min(ids.len());
            let step = Step { tokens: ids[at..end].to_vec(), ending: (end == ids.len()).then_some(ending) };
            at = end;
            Ok(step)
        };
        let show = |piece: &str| {
            shown.push(piece.to_owned());
            Ok(())
        };
        let generated = generate(&tokenizer, &options, next, show).unwrap();
        (generated, shown)
    }

    #[test]
    fn the_width_of_rounds_does_not_show() {
        let reference = play("let né = 1;\n\nlet", 1, &["\n\n"], Ending::Length).0;
        assert_eq!(reference.text, "let né = 1;");
        assert_eq!(reference.ending, Ending::StopString);
        assert_eq!(reference.token_ids.len(), "let né = 1;\n\n".len());
        for width in 2..9 {
            let (generated, shown) = play("let né = 1;\n\nlet", width, &["\n\n"], Ending::Length);
            assert_eq!(generated, reference);
            assert_eq!(shown.concat(), reference.text);
        }
    }

    #[test]
    fn what_was_held_back_is_shown_at_the_end() {
        let (generated, shown) = play("a\n", 1, &["\n\n"], Ending::Length);
        assert_eq!((generated.text.as_str(), shown.concat().as_str()), ("a\n", "a\n"));
    }

    #[test]
    fn a_stop_token_counts_but_does_not_show() {
        let generated = play("ab", 3, &[], Ending::StopToken).0;
        assert_eq!((generated.text.as_str(), generated.token_ids.last()), ("ab", Some(&258)));
        assert_eq!(generated.ending, Ending::StopToken);
    }

    #[test]
    fn an_error_of_the_sink_ends_it() {
        let tokenizer = byte_level();
        let next = || Ok(Step { tokens: vec![64], ending: None });
        let show = |_: &str| Err(TextError::Missing { file: "sink" });
        assert!(generate(&tokenizer, &TextOptions::default(), next, show).is_err());
    }
}
