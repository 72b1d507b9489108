//! Mutations of well-formed files: a small stand-in for a fuzzer, the same on every machine.
//!
//! Knows that the files are mostly JSON or templates: besides bytes it changes numbers and strings, and it repeats, removes and
//! exchanges pieces between quotes, brackets and commas.

use super::super::Rng;

/// Values that break things.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "2",
    "65536",
    "2147483648",
    "4294967296",
    "9007199254740993",
    "18446744073709551615",
    "1e308",
    "1e999",
    "-0.0",
    "0.5",
    "null",
];
const WORDS: [&str; 22] = [
    "../",
    "/etc/passwd",
    "\\u0000",
    "\\ud800",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "[[[[[[[[",
    "{\"a\":",
    "true",
    "\u{202e}",
    "\u{1b}[2J",
    "{%",
    "%}",
    "{{",
    "}}",
    " + x",
    " * 99999",
    "|tojson",
    "é",
];

/// An endless row of mutations.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    rng: Rng,
    current: Vec<u8>,
    /// The last few mutations begin from one another: some faults take more than one change.
    depth: usize,
}

impl Mutator {
    /// Mutations of `seeds`, of which there is at least one.
    pub fn new<S: AsRef<[u8]>>(seeds: &[S], seed: u64) -> Self {
        let seeds = seeds.iter().map(|seed| seed.as_ref().to_vec()).collect();
        Self { seeds, rng: Rng::new(seed), current: Vec::new(), depth: 0 }
    }

    /// The next one.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer")]
    pub fn next(&mut self) -> &[u8] {
        if self.depth == 0 {
            let seed = self.rng.below(self.seeds.len());
            self.current = self.seeds[seed].clone();
            self.depth = 1 + self.rng.below(12);
        }
        self.depth -= 1;
        self.change();
        &self.current
    }

    fn change(&mut self) {
        let bytes = &mut self.current;
        let rng = &mut self.rng;
        if bytes.is_empty() {
            bytes.push(b'{');
        }
        let at = rng.below(bytes.len());
        match rng.below(9) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = rng.bits() as u8,
            2 => bytes.truncate(at),
            3 => insert(bytes, at, WORDS[rng.below(WORDS.len())].as_bytes()),
            4 => {
                let range = number_near(bytes, at);
                let number = NUMBERS[rng.below(NUMBERS.len())];
                bytes.splice(range, number.bytes());
            }
            5 => {
                let range = piece(bytes, at);
                bytes.drain(range);
            }
            6 => {
                let copy = bytes[piece(bytes, at)].to_vec();
                let times = 1 + rng.below(3);
                insert(bytes, at, &copy.repeat(times));
            }
            7 => {
                let from = rng.below(bytes.len());
                let copy = bytes[piece(bytes, from)].to_vec();
                let range = piece(bytes, at);
                bytes.splice(range, copy);
            }
            // The length before a header, and whatever else is binary.
            _ => {
                let end = bytes.len().min(8);
                for byte in &mut bytes[..end] {
                    if rng.below(3) == 0 {
                        *byte = rng.bits() as u8;
                    }
                }
            }
        }
        bytes.truncate(1 << 16);
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// What lies between the separators around a place.
fn piece(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let separates = |byte: &u8| b"\",:[]{}%|\n".contains(byte);
    let start = bytes[..at].iter().rposition(separates).map_or(0, |i| i + 1);
    let end = bytes[at..].iter().position(separates).map_or(bytes.len(), |i| at + i);
    start.min(end)..end
}

/// The digits at or after a place, or nothing there.
fn number_near(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|i| at + i) else { return at..at };
    let end = bytes[start..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |i| start + i);
    start..end
}
