//! Raw input of a custom tool, taken out of the model's JSON while it streams.

use crate::wire::tools::custom_input;

/// Reader of `{"input": "…"}` in pieces.
///
/// It gives the string's text as soon as it is known. JSON that does not begin so is kept to the end and then read as a
/// whole: pieces that were given always make up the input.
#[derive(Debug, Default)]
pub(crate) struct RawInput {
    state: State,
    /// Arguments as far as they came, up to the string's begin; all of them where that is not found.
    arguments: String,
    /// The input so far.
    input: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the string.
    #[default]
    Begin,
    /// In the string.
    Text,
    /// Behind a backslash.
    Escape,
    /// In `\uXXXX`: digits so far and their value, with the high surrogate before them.
    Unicode { digits: u8, value: u32, high: Option<u32> },
    /// Behind a high surrogate, where another escape should be.
    Low { high: u32, backslash: bool },
    /// Behind the string.
    Behind,
}

impl RawInput {
    /// Takes a piece of the arguments; gives the text that it adds.
    pub fn push(&mut self, piece: &str) -> String {
        let before = self.input.len();
        for character in piece.chars() {
            self.take(character);
        }
        self.input[before..].to_owned()
    }

    /// The text that is known only now that no more pieces come.
    pub fn finish(&mut self) -> String {
        let before = self.input.len();
        match self.state {
            State::Begin => self.input.push_str(&custom_input(&self.arguments)),
            State::Unicode { high: Some(_), .. } | State::Low { .. } => self.input.push(char::REPLACEMENT_CHARACTER),
            _ => {}
        }
        self.state = State::Behind;
        self.input[before..].to_owned()
    }

    /// The input so far.
    pub fn input(&self) -> &str {
        &self.input
    }

    fn take(&mut self, character: char) {
        match self.state {
            State::Begin => {
                self.arguments.push(character);
                if character == '"' && is_begin(&self.arguments) {
                    self.state = State::Text;
                }
            }
            State::Text => match character {
                '"' => self.state = State::Behind,
                '\\' => self.state = State::Escape,
                _ => self.input.push(character),
            },
            State::Escape => self.escape(character, None),
            State::Unicode { digits, value, high } => match character.to_digit(16) {
                Some(digit) => self.digit(digits + 1, value * 16 + digit, high),
                // No JSON: the escape becomes one character, and the text goes on.
                None => {
                    self.state = State::Text;
                    self.input.push(char::REPLACEMENT_CHARACTER);
                    self.take(character);
                }
            },
            State::Low { high, backslash: false } if character == '\\' => {
                self.state = State::Low { high, backslash: true };
            }
            State::Low { high, backslash: true } => self.escape(character, Some(high)),
            State::Low { .. } => {
                self.input.push(char::REPLACEMENT_CHARACTER);
                self.state = State::Text;
                self.take(character);
            }
            State::Behind => {}
        }
    }

    /// Takes the character behind a backslash.
    fn escape(&mut self, character: char, high: Option<u32>) {
        if character == 'u' {
            self.state = State::Unicode { digits: 0, value: 0, high };
            return;
        }
        if high.is_some() {
            self.input.push(char::REPLACEMENT_CHARACTER);
        }
        self.input.push(match character {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            other => other,
        });
        self.state = State::Text;
    }

    fn digit(&mut self, digits: u8, value: u32, high: Option<u32>) {
        if digits < 4 {
            self.state = State::Unicode { digits, value, high };
            return;
        }
        let is_low = (0xdc00..0xe000).contains(&value);
        let value = match high {
            Some(high) if is_low => 0x10000 + ((high - 0xd800) << 10) + (value - 0xdc00),
            Some(_) => {
                self.input.push(char::REPLACEMENT_CHARACTER);
                value
            }
            None => value,
        };
        self.state = if (0xd800..0xdc00).contains(&value) {
            State::Low { high: value, backslash: false }
        } else {
            self.input.push(char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER));
            State::Text
        };
    }
}

/// True for `{"input": "` with any white space in it.
fn is_begin(arguments: &str) -> bool {
    let mut rest = arguments.trim_start();
    for token in ["{", "\"input\"", ":", "\""] {
        let Some(behind) = rest.strip_prefix(token) else { return false };
        rest = behind.trim_start();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&str]) -> (String, String) {
        let mut raw = RawInput::default();
        let mut text: String = pieces.iter().map(|piece| raw.push(piece)).collect();
        text.push_str(&raw.finish());
        (text, raw.input().to_owned())
    }

    #[test]
    fn strings_come_out_raw() {
        for (arguments, expected) in [
            (r#"{"input": "*** Begin\n\"a\"\\"}"#, "*** Begin\n\"a\"\\"),
            (r#"{ "input" : "\u00e9\ud83d\ude00\/\t"}"#, "é😀/\t"),
            (r#"{"input": "a\ud83d"}"#, "a\u{fffd}"),
            (r#"{"input": "a\ud83d\n\ud83db\ud83d\u0041"}"#, "a\u{fffd}\n\u{fffd}b\u{fffd}A"),
            (r#"{"input": "cut \"#, "cut "),
            (r#"{"input": "", "more": 1}"#, ""),
            (r#"{"patch": "a\nb"}"#, "a\nb"),
            (r#"{"more": 1, "input": "a"}"#, "a"),
            (r#"{"input": 5}"#, r#"{"input": 5}"#),
            (r#""a""#, "a"),
            ("*** Begin Patch", "*** Begin Patch"),
            ("", ""),
        ] {
            assert_eq!(read(&[arguments]), (expected.to_owned(), expected.to_owned()), "{arguments}");
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(input in any::<String>(), ascii in any::<bool>(), cut in any::<prop::sample::Index>()) {
            let mut arguments = serde_json::json!({ "input": input }).to_string();
            if ascii {
                let escaped = |character: char| {
                    let mut units = [0; 2];
                    character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>()
                };
                let show = |c: char| if c.is_ascii() { c.to_string() } else { escaped(c) };
                arguments = arguments.chars().map(show).collect();
            }
            let at = cut.index(arguments.len() + 1);
            prop_assume!(arguments.is_char_boundary(at));
            let (head, tail) = arguments.split_at(at);
            prop_assert_eq!(read(&[head, tail]), (input.clone(), input));
        }

        #[test]
        fn no_text_panics(text in r#"\{"input": ?"[\\u0-9a-fDd8"é]{0,40}"#) {
            read(&[&text]);
        }
    }
}
