//! What is read while measuring: built-in texts, or the user's own.

use mtplx_runtime::text::Tokenizer;

use crate::args::MethodArgs;
use crate::error::Failure;
use crate::input;

/// Prose, code, a list and a dialogue, written for this purpose: acceptance depends on the kind of text.
pub(super) const BUILT_IN: [&str; 6] = [
    include_str!("texts/lighthouse.txt"),
    include_str!("texts/stack.rs.txt"),
    include_str!("texts/words.py.txt"),
    include_str!("texts/bread.txt"),
    include_str!("texts/repair.txt"),
    include_str!("texts/tides.txt"),
];

/// Texts as tokens; at least one, and none is empty.
pub struct Texts {
    tokens: Vec<Vec<u32>>,
    /// Where they come from, for the report.
    pub source: String,
}

impl Texts {
    /// The user's text, or the built-in ones.
    ///
    /// # Errors
    /// The text cannot be read or is empty; the tokenizer fails.
    pub fn of(args: &MethodArgs, tokenizer: &Tokenizer) -> anyhow::Result<Self> {
        let (texts, source) = match (&args.prompt, &args.file) {
            (Some(text), _) => (vec![text.clone()], "--prompt".to_owned()),
            (_, Some(path)) => (vec![input::from_file(path)?], path.display().to_string()),
            _ => (BUILT_IN.map(|text| text.trim_end().to_owned()).to_vec(), "built-in texts".to_owned()),
        };
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text, true)).collect::<Result<_, _>>()?;
        let tokens: Vec<Vec<u32>> = tokens.into_iter().filter(|tokens| !tokens.is_empty()).collect();
        if tokens.is_empty() {
            return Err(
                Failure::usage("the text has no tokens", "give some text, or leave it to the built-in ones").into()
            );
        }
        Ok(Self { tokens, source })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Text `index`, cut to `most` tokens.
    pub fn text(&self, index: usize, most: usize) -> &[u32] {
        let tokens = &self.tokens[index % self.tokens.len()];
        &tokens[..tokens.len().min(most)]
    }

    /// Exactly `length` tokens: all texts from the `start`-th on, over and over.
    pub fn fill(&self, start: usize, length: usize) -> Vec<u32> {
        let from = start % self.tokens.len();
        self.tokens.iter().cycle().skip(from).flatten().copied().take(length).collect()
    }
}
