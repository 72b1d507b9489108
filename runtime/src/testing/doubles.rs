//! Stand-ins for a model's parts: a head that drafts to order, one that is fed the wrong rows, trunks that do not roll back,
//! one that computes something else at another width.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::cache::{Cache, LayerCache};
use crate::mlx::slice_axis;
use crate::model::{
    Batch, CommittedRows, DraftRow, DraftState, DraftVocabulary, Drafter, Input, MtpModel, SequenceRows, Trunk,
};
use crate::testing::host::token_array;
use crate::{Array, Result};

/// A draft head that does all of the real one's work and then drafts what it was told.
pub struct ScriptedHead {
    inner: Box<dyn Drafter>,
    vocab: usize,
    script: Script,
}

/// The drafts to come, the first one first: what a [`ScriptedHead`] is told.
#[derive(Debug, Clone, Default)]
pub struct Script(Arc<Mutex<VecDeque<u32>>>);

impl Script {
    /// Replaces what is left by `drafts`.
    pub fn set(&self, drafts: &[u32]) {
        *self.0.lock().expect("one thread") = drafts.iter().copied().collect();
    }

    fn next(&self) -> Option<u32> {
        self.0.lock().expect("one thread").pop_front()
    }
}

impl ScriptedHead {
    /// Takes the place of the head of `model`.
    pub fn install(model: &mut MtpModel) -> Script {
        let inner = model.drafter.take().expect("a draft head");
        let script = Script::default();
        model.drafter = Some(Box::new(Self { inner, vocab: model.info.vocab_size, script: script.clone() }));
        script
    }
}

impl Drafter for ScriptedHead {
    fn max_depth(&self) -> usize {
        self.inner.max_depth()
    }

    fn new_state(&self) -> DraftState {
        self.inner.new_state()
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.inner.embed(tokens)
    }

    fn ingest(&self, rows: &mut [CommittedRows<'_>]) -> Result<()> {
        self.inner.ingest(rows)
    }

    fn step(&self, drafts: &mut [DraftRow<'_>]) -> Result<Vec<Array>> {
        let real = self.inner.step(drafts)?;
        let scripted = real.iter().map(|real| {
            let token = self.script.next().ok_or_else(|| crate::Error::unsupported("the script is over"))?;
            let mut row = vec![0.0f32; self.vocab];
            row[token as usize] = 1.0;
            // What the real head says is computed, and weighs nothing.
            Ok(Array::from_slice(&row, &[1, self.vocab as i32]).add(real.multiply(Array::from_f32(1e-6))?)?)
        });
        scripted.collect()
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.inner.logits(hidden)
    }

    fn restrict(&self, _: &[u32]) -> Result<DraftVocabulary> {
        Err(crate::Error::unsupported("a script names any token"))
    }
}

/// Which states keep the rows of rejected drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// All of them: nothing is rolled back.
    Everything,
    /// Recurrent ones: keys and values are rolled back, the rest is not.
    Recurrent,
}

/// A trunk whose cache keeps rows that the loop had dropped: it feeds them again, behind the loop's back, before the next
/// verification.
pub struct StaleTrunk {
    inner: Box<dyn Trunk>,
    stale: Stale,
    /// Rows that every sequence starts from: there nothing was dropped yet.
    base: usize,
    /// The rows before the last verification, and its tokens.
    last: Mutex<(usize, Vec<u32>)>,
}

impl StaleTrunk {
    /// Replaces the trunk of `model`, for sequences that start at `base` committed rows. Returns `false`, and does
    /// nothing, where the model has no such state.
    #[must_use]
    pub fn install(model: &mut MtpModel, stale: Stale, base: usize) -> bool {
        let recurrent = |layer: &LayerCache| matches!(layer, LayerCache::Recurrent(_));
        if stale == Stale::Recurrent && !model.trunk.new_cache().layers().iter().any(recurrent) {
            return false;
        }
        replace_trunk(model, |inner| Box::new(Self { inner, stale, base, last: Mutex::default() }));
        true
    }

    fn spoil(&self, cache: &mut Cache) -> Result<()> {
        let last = self.last.lock().expect("one thread");
        let (start, tokens) = &*last;
        // A round keeps its anchor at least: a cache that is no longer than before is another sequence's.
        if cache.len() <= self.base.max(*start) || cache.len() >= start + tokens.len() {
            return Ok(());
        }
        let dropped = token_array(&tokens[cache.len() - start..]);
        match self.stale {
            Stale::Everything => self.inner.append(&dropped, cache).map(drop),
            Stale::Recurrent => {
                let mut ahead = cache.freeze()?.fork();
                self.inner.append(&dropped, &mut ahead)?;
                for (layer, ahead) in cache.layers_mut().iter_mut().zip(ahead.layers_mut()) {
                    if matches!(layer, LayerCache::Recurrent(_)) {
                        std::mem::swap(layer, ahead);
                    }
                }
                Ok(())
            }
        }
    }
}

impl Trunk for StaleTrunk {
    fn new_cache(&self) -> Cache {
        self.inner.new_cache()
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.inner.embed(tokens)
    }

    fn forward(&self, batch: &mut Batch<'_>) -> Result<Array> {
        let (Input::Tokens(tokens), [SequenceRows { cache, .. }]) = (batch.input, &mut batch.sequences[..]) else {
            return Err(crate::Error::unsupported("tokens of one sequence at a time"));
        };
        self.spoil(cache)?;
        *self.last.lock().expect("one thread") = (cache.len(), crate::mlx::values(tokens)?);
        self.inner.forward(batch)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.inner.logits(hidden)
    }
}

/// Puts another trunk around the model's own.
fn replace_trunk(model: &mut MtpModel, around: impl FnOnce(Box<dyn Trunk>) -> Box<dyn Trunk>) {
    /// Holds the place for a moment.
    struct Nothing;
    impl Trunk for Nothing {
        fn new_cache(&self) -> Cache {
            Cache::new(Vec::new())
        }
        fn embed(&self, _: &Array) -> Result<Array> {
            Err(crate::Error::unsupported("no trunk"))
        }
        fn forward(&self, _: &mut Batch<'_>) -> Result<Array> {
            Err(crate::Error::unsupported("no trunk"))
        }
        fn logits(&self, _: &Array) -> Result<Array> {
            Err(crate::Error::unsupported("no trunk"))
        }
    }
    let inner = std::mem::replace(&mut model.trunk, Box::new(Nothing));
    model.trunk = around(inner);
}

/// A trunk whose logits are off where it runs over several rows, but for the first row: a kernel that is wrong at one
/// width only.
pub struct NoisyTrunk {
    inner: Box<dyn Trunk>,
    noise: f32,
}

impl NoisyTrunk {
    /// Takes the place of the trunk of `model`; logits are off by `noise` at most.
    pub fn install(model: &mut MtpModel, noise: f32) {
        replace_trunk(model, |inner| Box::new(Self { inner, noise }));
    }
}

impl Trunk for NoisyTrunk {
    fn new_cache(&self) -> Cache {
        self.inner.new_cache()
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.inner.embed(tokens)
    }

    fn forward(&self, batch: &mut Batch<'_>) -> Result<Array> {
        self.inner.forward(batch)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        let logits = self.inner.logits(hidden)?;
        let (rows, vocab) = (logits.dim(0), logits.dim(1));
        let at = |place: i32| {
            let (row, token) = (place / vocab, place % vocab);
            if row == 0 { 0.0 } else { self.noise * if token % 2 == 0 { 1.0 } else { -1.0 } }
        };
        Ok(logits.add(Array::from_slice(&(0..rows * vocab).map(at).collect::<Vec<f32>>(), &[rows, vocab]))?)
    }
}

/// A draft head that, once it has drafted, is fed each row's hidden state one row late: what a loop does that pairs the
/// wrong rows.
pub struct LaggingHead {
    inner: Box<dyn Drafter>,
    /// True once it has drafted; the last row that it was given.
    state: Mutex<(bool, Option<Array>)>,
}

impl LaggingHead {
    /// Takes the place of the head of `model`.
    pub fn install(model: &mut MtpModel) {
        let inner = model.drafter.take().expect("a draft head");
        model.drafter = Some(Box::new(Self { inner, state: Mutex::default() }));
    }
}

impl Drafter for LaggingHead {
    fn max_depth(&self) -> usize {
        self.inner.max_depth()
    }

    fn new_state(&self) -> DraftState {
        self.inner.new_state()
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.inner.embed(tokens)
    }

    fn ingest(&self, rows: &mut [CommittedRows<'_>]) -> Result<()> {
        let [CommittedRows { state, hidden, next, positions }] = rows else {
            return Err(crate::Error::unsupported("one sequence at a time"));
        };
        let count = hidden.dim(0);
        let (drafted, last) = &mut *self.state.lock().expect("one thread");
        let last = last.replace(slice_axis(hidden, 0, count - 1, count)?);
        let lagging = match last.filter(|_| std::mem::take(drafted)) {
            Some(last) if count > 1 => mlx_rs::ops::concatenate(&[&last, &slice_axis(hidden, 0, 0, count - 1)?], 0)?,
            Some(last) => last,
            None => (*hidden).clone(),
        };
        let positions = positions.clone();
        self.inner.ingest(&mut [CommittedRows { state, hidden: &lagging, next, positions }])
    }

    fn step(&self, drafts: &mut [DraftRow<'_>]) -> Result<Vec<Array>> {
        self.state.lock().expect("one thread").0 = true;
        self.inner.step(drafts)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.inner.logits(hidden)
    }

    fn restrict(&self, tokens: &[u32]) -> Result<DraftVocabulary> {
        self.inner.restrict(tokens)
    }
}
