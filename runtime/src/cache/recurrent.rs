//! The state of one recurrent layer, and how it goes back to an earlier row.
//!
//! A recurrent layer overwrites its state, so it cannot simply forget rejected rows. While it runs over pending rows
//! it leaves a [`Tape`]: what it takes to compute the state after any of them from the state before them.

use std::fmt;

use crate::{Array, Result};

/// What a layer notes while it runs over pending rows.
pub trait Tape: Send {
    /// The states after the first `keep` pending rows, `keep` from 1 to all of them.
    fn states_after(&self, keep: usize) -> Result<Vec<Array>>;
}

/// The states of one recurrent layer; empty before the first row.
#[derive(Default)]
pub struct RecurrentCache {
    states: Vec<Array>,
    tape: Option<Box<dyn Tape>>,
}

impl RecurrentCache {
    /// The states after the committed rows; empty before the first.
    pub fn states(&self) -> &[Array] {
        &self.states
    }

    /// Leaves the tape of the pending rows.
    pub fn record(&mut self, tape: impl Tape + 'static) {
        self.tape = Some(Box::new(tape));
    }

    /// A cache with `states`.
    pub(super) fn after_rows(states: Vec<Array>) -> Self {
        Self { states, tape: None }
    }

    /// The states after `keep` pending rows; `None` where nothing changes.
    pub(super) fn after(&self, keep: usize) -> Result<Option<Vec<Array>>> {
        if keep == 0 {
            return Ok(None);
        }
        let tape = self.tape.as_ref();
        let tape = tape.ok_or_else(|| crate::Error::cache("a recurrent layer left no tape for its pending rows"))?;
        tape.states_after(keep).map(Some)
    }

    pub(super) fn commit(&mut self, states: Option<Vec<Array>>) {
        self.tape = None;
        if let Some(states) = states {
            self.states = states;
        }
    }
}

impl fmt::Debug for RecurrentCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecurrentCache").field("states", &self.states).field("pending", &self.tape.is_some()).finish()
    }
}
