//! Bytes of a token by itself, as its vocabulary spells them.

use tokenizers::DecoderWrapper;

/// A vocabulary's spelling of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Each byte is a character: GPT-2's table.
    ByteLevel,
    /// Bytes without a character are `<0xHH>`, spaces `▁`.
    ByteFallback,
    /// As it is read.
    Plain,
}

impl Spelling {
    /// The spelling that a decoder undoes.
    pub(super) fn of(decoder: Option<&DecoderWrapper>) -> Self {
        match decoder {
            Some(DecoderWrapper::ByteLevel(_)) => Self::ByteLevel,
            Some(DecoderWrapper::ByteFallback(_) | DecoderWrapper::Metaspace(_)) => Self::ByteFallback,
            Some(DecoderWrapper::Sequence(list)) => {
                let spellings = list.get_decoders().iter().map(|decoder| Self::of(Some(decoder)));
                spellings.into_iter().find(|spelling| *spelling != Self::Plain).unwrap_or(Self::Plain)
            }
            _ => Self::Plain,
        }
    }

    /// The bytes of a token.
    pub(super) fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => token.chars().flat_map(byte_of).collect(),
            Self::ByteFallback => {
                let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => token.replace('▁', " ").into_bytes(),
                }
            }
            Self::Plain => token.as_bytes().to_vec(),
        }
    }
}

/// The byte that a character of GPT-2's table stands for; a character outside it is its own UTF-8.
///
/// Printable bytes stand for themselves, and the others, in their order, are the characters from U+0100 on
/// (`bytes_to_unicode` of GPT-2's encoder.py).
fn byte_of(c: char) -> Vec<u8> {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(c);
    let byte = match u8::try_from(code) {
        Ok(byte) if printable(byte) => Some(byte),
        Ok(_) => None,
        Err(_) => code.checked_sub(0x100).and_then(|n| (0..=0xff).filter(|&byte| !printable(byte)).nth(n as usize)),
    };
    byte.map_or_else(|| c.to_string().into_bytes(), |byte| vec![byte])
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::byte_level;
    use super::*;

    #[test]
    fn tokens_of_a_text_have_its_bytes() {
        let tokenizer = byte_level();
        let text = "né = \u{1F600}\n\t\0\u{7f}\u{a0}\u{ad}";
        let ids = tokenizer.encode(text, false).unwrap();
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.bytes(id)).collect();
        assert_eq!(bytes, text.as_bytes());
        // A special token is itself.
        assert_eq!(tokenizer.bytes(258), tokenizer.token(258).unwrap().into_bytes());
    }

    #[test]
    fn spellings() {
        assert_eq!(Spelling::ByteLevel.bytes("Ġa"), b" a");
        assert_eq!(Spelling::ByteFallback.bytes("<0x0A>"), b"\n");
        assert_eq!(Spelling::ByteFallback.bytes("▁the"), b" the");
        assert_eq!(Spelling::ByteFallback.bytes("<0xZZ>"), b"<0xZZ>");
        assert_eq!(Spelling::Plain.bytes("▁"), "▁".as_bytes());
    }
}
