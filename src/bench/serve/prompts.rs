//! Prompts of about a number of tokens, without the server's tokenizer: built-in texts, cut by what the server counts.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::client::{Ask, Client};
use super::fault::Fault;
use crate::bench::texts::BUILT_IN;
use crate::error::{Exit, Failure};
use crate::input;

/// Characters of the two prompts that a server is asked to count first.
const PROBES: [usize; 2] = [160, 800];
/// Characters a token, where a server counts nothing.
const USUAL: f64 = 4.0;
/// Prompts that are counted for each length.
const SAMPLES: u64 = 2;

/// Source of prompts. The same number gives the same prompt.
#[derive(Debug, Clone)]
pub struct Prompts {
    source: Source,
    texts: Texts,
    /// Numbers are taken modulo this.
    distinct: Option<u64>,
}

#[derive(Debug, Clone)]
enum Source {
    File(Vec<String>),
    Made { characters: usize },
}

/// Source of texts: the same seed and number give the same lines, behind the same word where the mark is the same as well.
#[derive(Debug, Clone, Copy)]
pub struct Texts {
    pub seed: u64,
    /// Seed of the first words. A new one keeps a server from knowing the texts of an earlier run.
    pub mark: u64,
}

/// Characters of a text of so many tokens, by two lengths that the server counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    characters: f64,
    /// Tokens that a prompt has beside its text.
    overhead: f64,
    /// False where the server counts nothing.
    pub is_counted: bool,
}

impl Prompts {
    /// Prompts of a file.
    ///
    /// # Errors
    /// It cannot be read, or has no prompts.
    pub fn of_file(path: &Path, texts: Texts, distinct: Option<usize>) -> Result<Self, Failure> {
        let text = input::from_file(path)?;
        let prompts: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(prompt_of_line).collect();
        if prompts.is_empty() {
            return Err(Failure::new(Exit::File, format!("{}: no prompts", path.display()))
                .hint("a file of prompts has one a line"));
        }
        Ok(Self { source: Source::File(prompts), texts, distinct: distinct.map(|distinct| distinct as u64) })
    }

    /// Prompts of so many characters.
    pub fn made(characters: usize, texts: Texts, distinct: Option<usize>) -> Self {
        Self { source: Source::Made { characters }, texts, distinct: distinct.map(|distinct| distinct as u64) }
    }

    /// The place of a prompt's number among the different ones.
    pub fn index(&self, number: u64) -> u64 {
        self.distinct.map_or(number, |distinct| number % distinct)
    }

    /// The prompt of a number.
    pub fn prompt(&self, number: u64) -> String {
        let index = self.index(number);
        match &self.source {
            Source::File(prompts) => prompts[(index % prompts.len() as u64) as usize].clone(),
            Source::Made { characters } => self.texts.text(index, *characters),
        }
    }
}

/// A line's prompt: a field of a JSON object, a JSON string, or the line itself.
fn prompt_of_line(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(fields)) => {
            let text = ["prompt", "text"].iter().find_map(|name| fields.get(*name)?.as_str());
            text.map_or_else(|| line.to_owned(), str::to_owned)
        }
        _ => line.to_owned(),
    }
}

impl Texts {
    /// Runs of lines of the built-in texts, drawn anew for each number, behind a word of its own: no two begin alike.
    pub fn text(&self, number: u64, characters: usize) -> String {
        let mut random = fastrand::Rng::with_seed(mixed(self.seed, number));
        let mut text = format!("{:08x} ", mixed(self.mark, number) >> 32);
        while text.len() < characters {
            let lines: Vec<&str> = BUILT_IN[random.usize(..BUILT_IN.len())].lines().collect();
            let from = random.usize(..lines.len());
            for line in lines.iter().skip(from).take(random.usize(4..16)) {
                text.push_str(line);
                text.push('\n');
            }
        }
        let end = (0..=characters.max(1)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text
    }
}

/// A seed for each number of each seed.
pub fn mixed(seed: u64, number: u64) -> u64 {
    fastrand::Rng::with_seed(fastrand::Rng::with_seed(seed).u64(..).wrapping_add(number)).u64(..)
}

impl Scale {
    /// Has the server count prompts: short ones, then ones of about `tokens`.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn measure(client: &Client, stop: &AtomicBool, texts: Texts, tokens: usize) -> Result<Self, Fault> {
        let counted = |characters: usize| -> Result<Option<f64>, Fault> {
            let mut sum = 0.0;
            for sample in 0..SAMPLES {
                let text = texts.text(u64::MAX - sample, characters);
                let answer = client.ask_until(&Ask::of(text, 1), stop)?;
                match answer.usage {
                    Some(usage) => sum += usage.prompt_tokens as f64,
                    None => return Ok(None),
                }
            }
            Ok(Some(sum / SAMPLES as f64))
        };
        let [short, long] = PROBES;
        let unknown = Self { characters: USUAL, overhead: 0.0, is_counted: false };
        let (Some(few), Some(many)) = (counted(short)?, counted(long)?) else { return Ok(unknown) };
        let guess = Self::through((short, few), (long, many)).unwrap_or(unknown);
        // Long prompts have other texts in them: the scale is the one at the length that is asked for.
        let wanted = guess.characters_of(tokens);
        if wanted <= long {
            return Ok(guess);
        }
        Ok(counted(wanted)?.and_then(|found| Self::through((short, few), (wanted, found))).unwrap_or(guess))
    }

    fn through(short: (usize, f64), long: (usize, f64)) -> Option<Self> {
        let characters = (long.0 - short.0) as f64 / (long.1 - short.1);
        let is_sane = characters.is_finite() && (0.1..=100.0).contains(&characters);
        let overhead = (short.1 - short.0 as f64 / characters).max(0.0);
        is_sane.then_some(Self { characters, overhead, is_counted: true })
    }

    /// Characters of a prompt of so many tokens.
    pub fn characters_of(&self, tokens: usize) -> usize {
        ((tokens as f64 - self.overhead).max(1.0) * self.characters).round() as usize
    }

    /// Characters of a message of so many tokens, behind others.
    pub fn characters_within(&self, tokens: usize) -> usize {
        (tokens as f64 * self.characters).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_its_prompt() {
        let (texts, other) = (Texts { seed: 7, mark: 7 }, Texts { seed: 7, mark: 8 });
        let prompts = Prompts::made(500, texts, Some(3));
        assert_eq!(prompts.prompt(1), prompts.prompt(4));
        assert_eq!(prompts.prompt(1).len(), 500);
        let all: Vec<String> = (0..100).map(|number| texts.text(number, 400)).collect();
        let mut heads: Vec<&str> = all.iter().map(|text| &text[..8]).collect();
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), 100, "no two begin alike");
        assert_eq!(texts.text(5, 400), all[5]);
        assert_ne!(Texts { seed: 8, ..texts }.text(5, 400)[9..], all[5][9..]);
        assert_eq!(texts.text(5, 1).len(), 1);
        let marked = other.text(5, 400);
        assert!(marked[..8] != all[5][..8] && marked[9..] == all[5][9..], "a mark changes the first word alone");
    }

    #[test]
    fn lines_of_a_file() {
        for (line, prompt) in [
            ("plain text", "plain text"),
            ("{\"prompt\": \"a\\nb\"}", "a\nb"),
            ("{\"lang\": \"rust\", \"text\": \"fn\"}", "fn"),
            ("\"string\"", "string"),
            ("17", "17"),
            ("{\"other\": 1}", "{\"other\": 1}"),
        ] {
            assert_eq!(prompt_of_line(line), prompt);
        }
    }

    #[test]
    fn scales() {
        let scale = Scale::through((160, 50.0), (800, 210.0)).unwrap();
        assert_eq!(scale, Scale { characters: 4.0, overhead: 10.0, is_counted: true });
        assert_eq!((scale.characters_of(110), scale.characters_of(3), scale.characters_within(20)), (400, 4, 80));
        assert_eq!(Scale::through((160, 50.0), (800, 50.0)), None);
    }
}
