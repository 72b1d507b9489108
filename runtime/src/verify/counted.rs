//! What a gate costs: passes through trunk and head, counted while a verification runs.
//!
//! On a real model these are all the time there is, so a gate is judged by them before any clock.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cache::Cache;
use crate::model::{Batch, CommittedRows, DraftRow, DraftState, DraftVocabulary, Drafter, MtpModel, Trunk};
use crate::{Array, Result};

/// Counters that the gates share.
#[derive(Debug, Default)]
pub(super) struct Counts {
    trunk: AtomicUsize,
    trunk_rows: AtomicUsize,
    head: AtomicUsize,
    logits: AtomicUsize,
    logit_rows: AtomicUsize,
}

/// Passes so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Passes {
    /// Through the trunk.
    pub(super) trunk: usize,
    /// Rows in them.
    pub(super) trunk_rows: usize,
    /// Through the head's layers.
    pub(super) head: usize,
    /// Through an output layer, the trunk's or the head's.
    pub(super) logits: usize,
    /// Rows in them.
    pub(super) logit_rows: usize,
}

impl Counts {
    pub(super) fn so_far(&self) -> Passes {
        let Self { trunk, trunk_rows, head, logits, logit_rows } = self;
        let [trunk, trunk_rows, head, logits, logit_rows] =
            [trunk, trunk_rows, head, logits, logit_rows].map(|count| count.load(Relaxed));
        Passes { trunk, trunk_rows, head, logits, logit_rows }
    }

    fn note_logits(&self, rows: i32) {
        self.logits.fetch_add(1, Relaxed);
        self.logit_rows.fetch_add(rows.max(0) as usize, Relaxed);
    }
}

impl Passes {
    /// Those since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            trunk: self.trunk - before.trunk,
            trunk_rows: self.trunk_rows - before.trunk_rows,
            head: self.head - before.head,
            logits: self.logits - before.logits,
            logit_rows: self.logit_rows - before.logit_rows,
        }
    }
}

/// Something that is counted while it is lent.
struct CountingModel<T: ?Sized> {
    lent: Arc<Mutex<Box<T>>>,
    counts: Arc<Counts>,
}

impl<T: ?Sized> CountingModel<T> {
    fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> R {
        // Nothing is left half done by a panic: arrays are values.
        call(&mut self.lent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs `measure` on `model` while every pass is counted.
pub(super) fn counted<R>(model: &mut MtpModel, measure: impl FnOnce(&mut MtpModel, &Arc<Counts>) -> R) -> R {
    let counts = Arc::new(Counts::default());
    let trunk = Arc::new(Mutex::new(mem::replace(&mut model.trunk, Box::new(Detached))));
    let head = model.drafter.take().map(|head| Arc::new(Mutex::new(head)));
    model.trunk = Box::new(CountingModel { lent: Arc::clone(&trunk), counts: Arc::clone(&counts) });
    model.drafter =
        head.clone().map(|lent| -> Box<dyn Drafter> { Box::new(CountingModel { lent, counts: Arc::clone(&counts) }) });
    let result = measure(model, &counts);
    // The counting ones go first, so that these are the only ones that hold them.
    model.trunk = Box::new(Detached);
    model.drafter = None;
    if let Some(trunk) = returned(trunk) {
        model.trunk = trunk;
    }
    model.drafter = head.and_then(returned);
    result
}

fn returned<T: ?Sized>(lent: Arc<Mutex<Box<T>>>) -> Option<Box<T>> {
    Arc::into_inner(lent).map(|lent| lent.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Trunk for CountingModel<dyn Trunk> {
    fn new_cache(&self) -> Cache {
        self.with(|trunk| trunk.new_cache())
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.with(|trunk| trunk.embed(tokens))
    }

    fn forward(&self, batch: &mut Batch<'_>) -> Result<Array> {
        self.counts.trunk.fetch_add(1, Relaxed);
        self.counts.trunk_rows.fetch_add(batch.input.rows(), Relaxed);
        self.with(|trunk| trunk.forward(batch))
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.counts.note_logits(hidden.dim(0));
        self.with(|trunk| trunk.logits(hidden))
    }
}

impl Drafter for CountingModel<dyn Drafter> {
    fn max_depth(&self) -> usize {
        self.with(|head| head.max_depth())
    }

    fn new_state(&self) -> DraftState {
        self.with(|head| head.new_state())
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.with(|head| head.embed(tokens))
    }

    fn ingest(&self, rows: &mut [CommittedRows<'_>]) -> Result<()> {
        self.counts.head.fetch_add(1, Relaxed);
        self.with(|head| head.ingest(rows))
    }

    fn step(&self, drafts: &mut [DraftRow<'_>]) -> Result<Vec<Array>> {
        // The first draft is read from what the last `ingest` computed.
        self.counts.head.fetch_add(usize::from(drafts.iter().any(|draft| draft.previous.is_some())), Relaxed);
        self.counts.note_logits(drafts.len() as i32);
        self.with(|head| head.step(drafts))
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.counts.note_logits(hidden.dim(0));
        self.with(|head| head.logits(hidden))
    }

    fn restrict(&self, _: &[u32]) -> Result<DraftVocabulary> {
        Err(crate::Error::unsupported("a verification drafts from the whole vocabulary"))
    }
}

/// In the place of a trunk that is lent.
struct Detached;

impl Trunk for Detached {
    fn new_cache(&self) -> Cache {
        Cache::new(Vec::new())
    }

    fn embed(&self, _: &Array) -> Result<Array> {
        Err(crate::Error::unsupported("the trunk is lent to a verification"))
    }

    fn forward(&self, _: &mut Batch<'_>) -> Result<Array> {
        Err(crate::Error::unsupported("the trunk is lent to a verification"))
    }

    fn logits(&self, _: &Array) -> Result<Array> {
        Err(crate::Error::unsupported("the trunk is lent to a verification"))
    }
}
