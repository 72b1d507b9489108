//! A prompt, fed once: every gate goes on from here, and only the loop itself feeds it again.

use mlx_rs::ops::concatenate;
use mlx_rs::transforms::eval;

use super::error::VerifyError;
use super::host::{rows, table, token_array, values};
use crate::cache::{Cache, Prefix};
use crate::model::Trunk;
use crate::{Array, Result};

/// Tokens fed at once.
const CHUNK: usize = 512;
/// Rows of logits read back at once.
const BLOCK: usize = 16;

/// What plain decoding knows behind a prompt.
pub(super) struct Prompt {
    /// Two or more.
    pub(super) tokens: Vec<u32>,
    /// All of them.
    cache: Prefix,
    /// The trunk's hidden states, `[tokens, hidden]`.
    pub(super) hidden: Array,
}

impl Prompt {
    pub(super) fn feed(trunk: &dyn Trunk, tokens: Vec<u32>) -> Result<Self> {
        let mut cache = trunk.new_cache();
        let mut parts = Vec::new();
        for chunk in tokens.chunks(CHUNK) {
            let hidden = trunk.append(&token_array(chunk), &mut cache)?;
            eval(cache.arrays().chain([&hidden]))?;
            parts.push(hidden);
        }
        let hidden = match &parts[..] {
            [only] => only.clone(),
            parts => concatenate(&parts.iter().collect::<Vec<_>>(), 0)?,
        };
        Ok(Self { tokens, cache: cache.freeze()?, hidden })
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// A cache that holds the prompt.
    pub(super) fn cache(&self) -> Cache {
        self.cache.fork()
    }

    /// The prompt's rows.
    pub(super) fn prefix(&self) -> &Prefix {
        &self.cache
    }

    /// Tells `note` plain decoding's logits for every token of `text`, each read before that token is fed: one by one, or
    /// (`at_once`) all of them in one pass.
    pub(super) fn judge(
        &self,
        trunk: &dyn Trunk,
        text: &[u32],
        at_once: bool,
        mut note: impl FnMut(usize, &[f32]) -> std::result::Result<(), VerifyError>,
    ) -> std::result::Result<(), VerifyError> {
        let mut cache = self.cache();
        let mut hidden = self.last()?;
        if !at_once {
            for index in 0..text.len() {
                if index > 0 {
                    hidden = trunk.append(&token_array(&text[index - 1..index]), &mut cache)?;
                }
                note(index, &values(&trunk.logits(&hidden)?)?)?;
            }
            return Ok(());
        }
        if text.len() > 1 {
            hidden = concatenate(&[&hidden, &trunk.append(&token_array(&text[..text.len() - 1]), &mut cache)?], 0)?;
        }
        for start in (0..text.len()).step_by(BLOCK) {
            let stop = (start + BLOCK).min(text.len());
            let logits = trunk.logits(&rows(&hidden, start as i32, stop as i32)?)?;
            for (index, logits) in (start..).zip(table(&logits)?) {
                note(index, &logits)?;
            }
        }
        Ok(())
    }

    /// The last hidden state, `[1, hidden]`: the next token's logits are read from it.
    pub(super) fn last(&self) -> Result<Array> {
        let end = self.hidden.dim(0);
        rows(&self.hidden, end - 1, end)
    }
}
