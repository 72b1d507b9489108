//! Sequences that give their memory back for a while.
//!
//! A released sequence keeps counts, statistics, randomness and settings, and loses its rows. Its text is read again before it goes on:
//! the same text follows, up to near-ties where rows that were drawn one by one and rows of a prompt are rounded in different ways.

use super::sequence::{Next, Pairs, Result, Sequence, SequenceError, Tail};
use crate::model::MtpModel;

/// The tokens of a released sequence that are in no cache: at most the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    anchor: Option<u32>,
}

impl Released {
    /// Tokens of the text, of so many, that [`Sequence::restore`] reads.
    pub fn rows(&self, tokens: usize) -> usize {
        tokens - usize::from(self.anchor.is_some())
    }
}

impl Sequence {
    /// Drops the rows of trunk and draft head.
    pub fn release(&mut self, model: &MtpModel) -> Released {
        self.ahead = None;
        self.planned = None;
        self.cache = model.trunk.new_cache();
        let head = model.drafter.as_ref().filter(|_| self.draft.is_some());
        self.draft = head.map(|head| head.new_state());
        self.queue.clear();
        self.tail = None;
        Released { anchor: self.anchor.take() }
    }

    /// Reads tokens of its text again, behind those that were read again before.
    ///
    /// # Errors
    /// When MLX fails: it has to be released once more.
    pub fn restore(&mut self, model: &MtpModel, tokens: &[u32]) -> Result<()> {
        let (counts, fed) = (self.counts.clone(), self.fed.take());
        let done = self.feed(model, super::PromptChunk::text(tokens));
        // They were counted when they were new, and this is no prompt's time.
        (self.counts, self.fed) = (counts, fed);
        done
    }

    /// Goes on where it was released; call it when [`Released::rows`] tokens were read again.
    ///
    /// # Errors
    /// Before any token was read again.
    pub fn rejoin(&mut self, released: Released) -> Result<()> {
        let Some(anchor) = released.anchor else { return Ok(()) };
        let tail = self.tail.take().ok_or(SequenceError::Order("a sequence goes on before its text was read again"))?;
        let Tail { hidden, positions } = tail;
        self.queue.push(Pairs { hidden, next: Next::Tokens(vec![anchor]), positions });
        self.anchor = Some(anchor);
        Ok(())
    }
}
