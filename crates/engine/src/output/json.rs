//! JSON that arrives in pieces: checked as it comes, and emitted only as far as it can still be closed.

/// Depth of arrays and objects in each other. Readers refuse deeper ones (serde_json at 128).
const MAX_DEPTH: usize = 100;

/// An incremental JSON checker.
///
/// Output is always a prefix of a JSON text that [`JsonStream::close`] can complete: literals, numbers, escapes and
/// commas are held until they are whole.
///
/// Two errors that models make inside strings are repaired, since ending a call over them would lose its end: raw
/// control characters are escaped, and the backslash of an unknown escape (`\d`) is doubled. Half of a surrogate pair
/// becomes U+FFFD, because readers refuse it.
#[derive(Debug, Clone)]
pub(super) struct JsonStream {
    /// Open containers, outermost first; true for an object.
    stack: Vec<bool>,
    expect: Expect,
    /// Text that is not decided yet.
    held: String,
}

/// Element of the grammar that may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    FirstItem,
    FirstKey,
    Key,
    Colon,
    Separator,
    String { key: bool },
    Number,
    Literal,
    Nothing,
}

/// Result of one character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    /// The value is not complete.
    More,
    /// The character completed the value. A number alone is never complete by itself: see [`JsonStream::finish`].
    Complete,
    /// The character cannot come here. It was not taken.
    Invalid,
}

impl JsonStream {
    /// A checker for one value.
    pub(super) fn new() -> Self {
        Self { stack: Vec::new(), expect: Expect::Value, held: String::new() }
    }

    /// Takes one character. Decided text is appended to `out`.
    pub(super) fn feed(&mut self, c: char, out: &mut String) -> Fed {
        let taken = match self.expect {
            Expect::String { key } => {
                self.string(c, key, out);
                true
            }
            Expect::Literal => self.literal(c, out),
            Expect::Number if is_number_char(c) => {
                self.held.push(c);
                true
            }
            Expect::Number => self.end_number(out) && self.structure(c, out),
            _ => self.structure(c, out),
        };
        match (taken, self.expect) {
            (false, _) => Fed::Invalid,
            (true, Expect::Nothing) => Fed::Complete,
            (true, _) => Fed::More,
        }
    }

    /// Ends the text: true if the value is complete.
    pub(super) fn finish(&mut self, out: &mut String) -> bool {
        if self.expect == Expect::Number && self.stack.is_empty() && !self.end_number(out) {
            return false;
        }
        self.expect == Expect::Nothing
    }

    /// Text that completes the output as JSON: every output is the beginning of some. What is held is left out; a key
    /// without a value gets `null`.
    #[cfg(test)]
    pub(super) fn close(&self, out: &mut String) {
        let in_object = self.stack.last() != Some(&false);
        match self.expect {
            Expect::String { key: true } => out.push_str("\":null"),
            Expect::String { key: false } => out.push('"'),
            Expect::Colon => out.push_str(":null"),
            Expect::Value | Expect::Number | Expect::Literal if in_object => out.push_str("null"),
            _ => {}
        }
        out.extend(self.stack.iter().rev().map(|object| if *object { '}' } else { ']' }));
    }

    /// Text that was taken and is not decided.
    pub(super) fn held(&self) -> &str {
        &self.held
    }

    /// True if `c` stands behind a number that is the whole value.
    pub(super) fn ends_number(&self, c: char) -> bool {
        self.expect == Expect::Number && self.stack.is_empty() && !is_number_char(c)
    }

    /// Everything outside of strings, numbers and literals.
    fn structure(&mut self, c: char, out: &mut String) -> bool {
        match (self.expect, c) {
            (_, ' ' | '\t' | '\n' | '\r') if self.held.is_empty() => out.push(c),
            // Behind a comma that is not decided.
            (_, ' ' | '\t' | '\n' | '\r') => self.held.push(c),
            (Expect::FirstItem, ']') | (Expect::FirstKey, '}') => self.pop(c, out),
            (Expect::Separator, ']') if self.stack.last() == Some(&false) => self.pop(c, out),
            (Expect::Separator, '}') if self.stack.last() == Some(&true) => self.pop(c, out),
            (Expect::Separator, ',') => {
                self.held.push(c);
                self.expect = if self.stack.last() == Some(&true) { Expect::Key } else { Expect::Value };
            }
            (Expect::FirstKey | Expect::Key, '"') => self.begin(c, Expect::String { key: true }, out),
            (Expect::Colon, ':') => self.begin(c, Expect::Value, out),
            (Expect::Value | Expect::FirstItem, _) => return self.value(c, out),
            _ => return false,
        }
        true
    }

    /// First character of a value.
    fn value(&mut self, c: char, out: &mut String) -> bool {
        match c {
            '{' | '[' if self.stack.len() == MAX_DEPTH => return false,
            '{' => {
                self.stack.push(true);
                self.begin(c, Expect::FirstKey, out);
            }
            '[' => {
                self.stack.push(false);
                self.begin(c, Expect::FirstItem, out);
            }
            '"' => self.begin(c, Expect::String { key: false }, out),
            't' | 'f' | 'n' | '-' | '0'..='9' => {
                // A comma in front is decided: closing writes `null` or nothing in place of the token, and an array
                // may not end in a comma.
                self.held.push(c);
                self.expect = if matches!(c, 't' | 'f' | 'n') { Expect::Literal } else { Expect::Number };
            }
            _ => return false,
        }
        true
    }

    fn begin(&mut self, c: char, next: Expect, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
        out.push(c);
        self.expect = next;
    }

    fn pop(&mut self, c: char, out: &mut String) {
        self.stack.pop();
        out.push(c);
        self.after_value();
    }

    fn after_value(&mut self) {
        self.expect = if self.stack.is_empty() { Expect::Nothing } else { Expect::Separator };
    }

    /// Inside a string.
    fn string(&mut self, c: char, key: bool, out: &mut String) {
        match c {
            _ if !self.held.is_empty() => self.escape(c, key, out),
            '\\' => self.held.push(c),
            '"' => {
                out.push(c);
                if key { self.expect = Expect::Colon } else { self.after_value() }
            }
            _ => escape_into(c, out, Quotes::Keep),
        }
    }

    /// Inside an escape or a surrogate pair of them, which `held` has from its backslash on.
    fn escape(&mut self, c: char, key: bool, out: &mut String) {
        const REPLACEMENT: &str = "\\ufffd";
        let continues = match self.held.len() {
            1 => matches!(c, 'u' | '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't'),
            6 => c == '\\',
            7 => c == 'u',
            _ => c.is_ascii_hexdigit(),
        };
        if continues {
            self.held.push(c);
        }
        let (first, second) = (code_unit(&self.held, 2), code_unit(&self.held, 8));
        let whole = match self.held.len() {
            2 => c != 'u',
            6 => !matches!(first, Some(0xd800..0xdc00)),
            12 => matches!(second, Some(0xdc00..0xe000)),
            _ => false,
        };
        if continues && whole {
            let half = self.held.len() == 6 && matches!(first, Some(0xdc00..0xe000));
            out.push_str(if half { REPLACEMENT } else { &self.held });
            self.held.clear();
        } else if !continues || self.held.len() == 12 {
            // The escape is unknown, or the first half of a pair that has no second.
            let held = std::mem::take(&mut self.held);
            let rest = if first.is_some() {
                out.push_str(REPLACEMENT);
                &held[6..]
            } else {
                out.push('\\');
                out.push_str(&held);
                ""
            };
            rest.chars().chain((!continues).then_some(c)).for_each(|c| self.string(c, key, out));
        }
    }

    fn literal(&mut self, c: char, out: &mut String) -> bool {
        self.held.push(c);
        let token = self.held.trim_start_matches([',', ' ', '\t', '\n', '\r']);
        let Some(word) = ["true", "false", "null"].iter().find(|w| w.starts_with(token)) else {
            self.held.pop();
            return false;
        };
        if word.len() == token.len() {
            out.push_str(&self.held);
            self.held.clear();
            self.after_value();
        }
        true
    }

    /// Emits the held number, if it is one.
    fn end_number(&mut self, out: &mut String) -> bool {
        let token = self.held.trim_start_matches([',', ' ', '\t', '\n', '\r']);
        // Not finite: 1e400, which readers refuse.
        if !is_number(token) || !token.parse::<f64>().is_ok_and(f64::is_finite) {
            return false;
        }
        out.push_str(&self.held);
        self.held.clear();
        self.after_value();
        true
    }
}

/// Four hexadecimal digits at byte `at`.
fn code_unit(text: &str, at: usize) -> Option<u32> {
    u32::from_str_radix(text.get(at..at + 4)?, 16).ok()
}

fn is_number_char(c: char) -> bool {
    matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')
}

/// True for a number in JSON's grammar.
fn is_number(token: &str) -> bool {
    let token = token.strip_prefix('-').unwrap_or(token);
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match token.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (token, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// Treatment of quotes and backslashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They are escaped: the text is no JSON yet.
    Escape,
    /// They stay: the text is from a JSON string.
    Keep,
}

/// Appends `c` as the inside of a JSON string.
pub(super) fn escape_into(c: char, out: &mut String, quotes: Quotes) {
    match c {
        '"' | '\\' if quotes == Quotes::Escape => out.extend(['\\', c]),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        _ => out.push(c),
    }
}
