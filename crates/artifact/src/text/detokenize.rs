//! Tokens to text, a token at a time: never half a character, never a replacement for one that is still being written.
//!
//! A token's text depends on its neighbours: a character's bytes may lie in several tokens, and sentencepiece decoders
//! strip the space of whatever comes first. So a window of recent tokens is decoded as a whole, and what it says beyond
//! the text already shown is new (the prefix-decode method of vLLM and text-generation-inference). The window starts
//! where the text was complete and so stays a few tokens long.
//!
//! For byte-level tokenizers the pieces add up to exactly the text of all tokens decoded at once. A decoder with byte
//! fallback replaces a whole run of byte tokens when one of them turns out invalid, those already shown included; here
//! what was shown stands.

use std::ops::Deref;

use super::error::TextError;
use super::tokenizer::Tokenizer;

const REPLACEMENT: char = '\u{fffd}';
/// An unfinished character has at most three bytes, and a decoder shows at most one replacement for each.
const LONGEST_UNFINISHED: usize = 3;
/// A window longer than this (a run of invalid bytes) is cut down to its last [`KEPT`] tokens.
const LONG: usize = 32;
const KEPT: usize = 8;

/// Turns a stream of tokens into a stream of text. `T` is a reference to the tokenizer, or an `Arc` of it.
#[derive(Debug)]
pub struct Detokenizer<T> {
    tokenizer: T,
    /// True where special tokens have text too.
    keeps_special: bool,
    window: Vec<u32>,
    /// How many of the window's tokens were there when its text was last complete.
    complete: usize,
    /// What of the window's text was already given out.
    shown: String,
}

impl<T: Deref<Target = Tokenizer>> Detokenizer<T> {
    /// A detokenizer at the beginning of a text.
    pub fn new(tokenizer: T) -> Self {
        Self { tokenizer, keeps_special: false, window: Vec::new(), complete: 0, shown: String::new() }
    }

    /// A detokenizer for what follows `prompt`: only the continuation is given out, but a space that it begins with
    /// survives, and a character that the prompt left unfinished is given out once it is finished.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn after(tokenizer: T, prompt: &[u32]) -> Result<Self, TextError> {
        let mut this = Self::new(tokenizer);
        let known = prompt.iter().copied().filter(|&id| this.shows(id)).rev().take(KEPT);
        this.window = known.collect();
        this.window.reverse();
        let text = this.decode()?;
        this.shown = text[..decided(&text)].to_owned();
        this.complete = this.window.len();
        Ok(this)
    }

    /// The same with the text of special tokens, by which a reader tells reasoning and tool calls apart.
    #[must_use]
    pub fn with_special(self) -> Self {
        Self { keeps_special: true, ..self }
    }

    /// Adds a token and returns the text that is decided now: often that token's, sometimes none, sometimes more.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        if !self.shows(id) {
            return Ok(String::new());
        }
        self.window.push(id);
        let mut text = self.decode()?;
        if !text.starts_with(&self.shown) {
            // The decoder changed its mind about what was shown (byte fallback): go on behind it.
            self.window.drain(..self.complete);
            self.restart();
            text = self.decode()?;
        }
        let end = decided(&text).max(self.shown.len());
        let new = text[self.shown.len()..end].to_owned();
        self.shown.push_str(&new);
        if end == text.len() && !new.is_empty() {
            // Complete: the tokens since the last such point are context enough for what follows.
            self.window.drain(..self.complete);
            self.complete = self.window.len();
            self.shown = self.decode()?;
        } else if self.window.len() > LONG {
            self.shorten(&text[end..])?;
        }
        Ok(new)
    }

    /// What is still held back, as it is: the text is over.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, TextError> {
        let text = self.decode()?;
        let rest = text.get(self.shown.len()..).unwrap_or_default().to_owned();
        self.window.clear();
        self.restart();
        Ok(rest)
    }

    /// Whether a token can have text at all; special ones and ids without a token do not.
    fn shows(&self, id: u32) -> bool {
        (self.keeps_special || !self.tokenizer.is_special(id)) && self.tokenizer.token(id).is_some()
    }

    fn decode(&self) -> Result<String, TextError> {
        self.tokenizer.decode(&self.window, !self.keeps_special)
    }

    fn restart(&mut self) {
        self.complete = 0;
        self.shown.clear();
    }

    /// Keeps a run of tokens that never completes a character from being decoded over and over.
    ///
    /// UTF-8 finds its place again after at most three bytes, so the last tokens end in the same `held` text.
    fn shorten(&mut self, held: &str) -> Result<(), TextError> {
        let tail = self.window[self.window.len() - KEPT..].to_vec();
        let text = self.tokenizer.decode(&tail, !self.keeps_special)?;
        if let Some(shown) = text.strip_suffix(held) {
            self.shown = shown.to_owned();
            self.window = tail;
            self.complete = 0;
        }
        Ok(())
    }
}

/// How much of `text` later tokens cannot change: all but the replacements that it ends with.
fn decided(text: &str) -> usize {
    let held = text.chars().rev().take(LONGEST_UNFINISHED).take_while(|&c| c == REPLACEMENT).count();
    text.len() - held * REPLACEMENT.len_utf8()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tokenizer::tests::{byte_id, byte_level, files};
    use super::*;

    fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut detokenizer = Detokenizer::new(tokenizer);
        let mut pieces: Vec<String> = ids.iter().map(|&id| detokenizer.push(id).unwrap()).collect();
        pieces.push(detokenizer.finish().unwrap());
        pieces
    }

    fn bytes(tokenizer: &Tokenizer, bytes: &[u8]) -> Vec<u32> {
        bytes.iter().map(|&b| byte_id(tokenizer, b)).collect()
    }

    #[test]
    fn characters_come_whole() {
        let tokenizer = byte_level();
        let ids = bytes(&tokenizer, "é中🦀!".as_bytes());
        assert_eq!(pieces(&tokenizer, &ids), ["", "é", "", "", "中", "", "", "", "🦀", "!", ""]);
    }

    #[test]
    fn an_unfinished_character_is_replaced_at_the_end_only() {
        let tokenizer = byte_level();
        assert_eq!(pieces(&tokenizer, &bytes(&tokenizer, b"a\xf0\x9f\xa6")), ["a", "", "", "", "\u{fffd}"]);
        assert_eq!(pieces(&tokenizer, &bytes(&tokenizer, b"\xe4\xb8a")), ["", "", "\u{fffd}a", ""]);
    }

    #[test]
    fn a_prompt_s_half_character_is_finished_by_the_continuation() {
        let tokenizer = byte_level();
        let ids = bytes(&tokenizer, "x中y".as_bytes());
        let mut detokenizer = Detokenizer::after(&tokenizer, &ids[..2]).unwrap();
        let out: Vec<String> = ids[2..].iter().map(|&id| detokenizer.push(id).unwrap()).collect();
        assert_eq!(out, ["", "中", "y"]);
    }

    #[test]
    fn a_run_of_invalid_bytes_stays_cheap_and_exact() {
        let tokenizer = byte_level();
        let mut ids = bytes(&tokenizer, &[0x80; 500]);
        ids.extend(bytes(&tokenizer, "🦀".as_bytes()));
        let mut detokenizer = Detokenizer::new(&tokenizer);
        let mut text = String::new();
        for &id in &ids {
            text += &detokenizer.push(id).unwrap();
            assert!(detokenizer.window.len() <= LONG + 1);
        }
        assert_eq!(text + &detokenizer.finish().unwrap(), tokenizer.decode(&ids, true).unwrap());
    }

    /// A sentencepiece-style tokenizer: `▁` for spaces, the first one stripped, bytes as `<0xXX>`.
    fn sentencepiece() -> Tokenizer {
        let mut vocab: Vec<String> = ["<unk>", "▁a", "b", "▁", "c"].map(str::to_owned).to_vec();
        vocab.extend((0..256).map(|b| format!("<0x{b:02X}>")));
        let vocab: serde_json::Map<String, serde_json::Value> =
            vocab.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
        let json = serde_json::json!({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "post_processor": null, "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "vocab": vocab, "merges": []}});
        Tokenizer::new(&files(json.to_string())).unwrap()
    }

    #[test]
    fn spaces_and_fallback_bytes_of_sentencepiece() {
        let tokenizer = sentencepiece();
        let byte = |b: u32| 5 + b;
        let ids = [1, 1, 2, 3, 4, byte(0xe4), byte(0xb8), byte(0xad), 1];
        assert_eq!(pieces(&tokenizer, &ids), ["a", " a", "b", " ", "c", "", "", "中", " a", ""]);
        assert_eq!(pieces(&tokenizer, &ids).concat(), tokenizer.decode(&ids, true).unwrap());

        let mut detokenizer = Detokenizer::after(&tokenizer, &[4]).unwrap();
        assert_eq!(detokenizer.push(1).unwrap(), " a");
    }

    #[test]
    fn what_was_shown_stands_when_a_run_of_fallback_bytes_turns_invalid() {
        let tokenizer = sentencepiece();
        let byte = |b: u32| 5 + b;
        let ids = [byte(0xe4), byte(0xb8), byte(0xad), byte(0xff), 4];
        assert_eq!(pieces(&tokenizer, &ids), ["", "", "中", "", "\u{fffd}c", ""]);
    }

    proptest! {
        #[test]
        fn pieces_add_up(ids in proptest::collection::vec(0u32..262, 0..120)) {
            let tokenizer = byte_level();
            let pieces = pieces(&tokenizer, &ids);
            prop_assert_eq!(pieces.concat(), tokenizer.decode(&ids, true).unwrap());
        }

        #[test]
        fn valid_text_never_shows_a_replacement(text in "\\PC{0,40}") {
            let tokenizer = byte_level();
            let pieces = pieces(&tokenizer, &bytes(&tokenizer, text.as_bytes()));
            prop_assert_eq!(pieces.concat(), text.clone());
            prop_assert!(text.contains(REPLACEMENT) || pieces.last().is_some_and(String::is_empty));
        }

        #[test]
        fn mostly_high_bytes_add_up(raw in proptest::collection::vec(0x70u8..=0xff, 0..200)) {
            let tokenizer = byte_level();
            let ids = bytes(&tokenizer, &raw);
            prop_assert_eq!(pieces(&tokenizer, &ids).concat(), String::from_utf8_lossy(&raw).into_owned());
        }
    }
}
