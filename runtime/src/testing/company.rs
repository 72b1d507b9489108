//! Company for a sequence: a model that runs two others beside it in every pass, so that any check of one sequence is a check of a batch
//! of three, with other numbers of rows and other lengths.

use std::sync::{Mutex, PoisonError};

use mlx_rs::ops;

use crate::cache::Cache;
use crate::mlx::slice_axis;
use crate::model::{
    Batch, CommittedRows, DraftRow, DraftState, DraftVocabulary, Drafter, Input, MtpModel, Positions, SequenceRows,
    Trunk,
};
use crate::testing::host::token_array;
use crate::{Array, Result};

/// Rows of the sequence before and of the one after, in a pass.
const ROWS: [usize; 2] = [2, 3];
/// Rows of each that stay.
const KEPT: [usize; 2] = [1, 3];
/// Length at which the others begin anew: they cost time.
const LONGEST: usize = 48;

/// Puts company around trunk and head of `model`.
#[must_use]
pub fn in_company(mut model: MtpModel) -> MtpModel {
    let vocab = model.info.vocab_size;
    model.trunk = Box::new(TrunkInCompany { inner: model.trunk, vocab, others: Mutex::default() });
    model.drafter =
        model.drafter.map(|inner| -> Box<dyn Drafter> { Box::new(HeadInCompany { inner, others: Mutex::default() }) });
    model
}

struct TrunkInCompany {
    inner: Box<dyn Trunk>,
    vocab: usize,
    others: Mutex<Option<[Cache; 2]>>,
}

impl TrunkInCompany {
    /// Tokens of another sequence, whose cache holds `len` rows.
    fn tokens(&self, which: usize, len: usize) -> Vec<u32> {
        (len..len + ROWS[which]).map(|place| ((place * (which + 3) + 1) % self.vocab) as u32).collect()
    }
}

impl Trunk for TrunkInCompany {
    fn new_cache(&self) -> Cache {
        self.inner.new_cache()
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.inner.embed(tokens)
    }

    fn forward(&self, batch: &mut Batch<'_>) -> Result<Array> {
        let [SequenceRows { cache, count, positions }] = &mut batch.sequences[..] else {
            return self.inner.forward(batch);
        };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let others = others.get_or_insert_with(|| [self.inner.new_cache(), self.inner.new_cache()]);
        for other in others.iter_mut().filter(|other| other.len() > LONGEST) {
            *other = self.inner.new_cache();
        }
        let [before, after] = [0, 1].map(|which| token_array(&self.tokens(which, others[which].len())));
        let own;
        let joined = match batch.input {
            Input::Tokens(tokens) => ops::concatenate(&[&before, tokens, &after], 0)?,
            Input::Embeddings(rows) => {
                own = [self.inner.embed(&before)?, self.inner.embed(&after)?];
                ops::concatenate(&[&own[0], rows, &own[1]], 0)?
            }
        };
        let input = match batch.input {
            Input::Tokens(_) => Input::Tokens(&joined),
            Input::Embeddings(_) => Input::Embeddings(&joined),
        };
        let [first, second] = others;
        let rows = |cache, which: usize| SequenceRows { cache, count: ROWS[which], positions: Positions::Sequential };
        let own = SequenceRows { cache, count: *count, positions: positions.clone() };
        let hidden =
            self.inner.forward(&mut Batch { input, sequences: vec![rows(&mut *first, 0), own, rows(&mut *second, 1)] });
        for (other, kept) in [first, second].into_iter().zip(KEPT) {
            other.commit(if hidden.is_ok() { kept } else { 0 })?;
        }
        Ok(slice_axis(&hidden?, 0, ROWS[0] as i32, (ROWS[0] + *count) as i32)?)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.inner.logits(hidden)
    }
}

struct HeadInCompany {
    inner: Box<dyn Drafter>,
    others: Mutex<Option<[DraftState; 2]>>,
}

impl Drafter for HeadInCompany {
    fn max_depth(&self) -> usize {
        self.inner.max_depth()
    }

    fn new_state(&self) -> DraftState {
        self.inner.new_state()
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        self.inner.embed(tokens)
    }

    /// The others are fed the first row again, one time and two.
    fn ingest(&self, rows: &mut [CommittedRows<'_>]) -> Result<()> {
        let [CommittedRows { state, hidden, next, positions }] = rows else { return self.inner.ingest(rows) };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let others = others.get_or_insert_with(|| [self.inner.new_state(), self.inner.new_state()]);
        for other in others.iter_mut().filter(|other| other.history.len() > LONGEST) {
            *other = self.inner.new_state();
        }
        let first = |a: &Array| slice_axis(a, 0, 0, 1);
        let once = [first(hidden)?, first(next)?];
        let twice = [0, 1].map(|i| ops::concatenate(&[&once[i], &once[i]], 0));
        let [hidden_twice, next_twice] = twice;
        let (hidden_twice, next_twice) = (hidden_twice?, next_twice?);
        let [before, after] = others;
        let other = |state, hidden, next| CommittedRows { state, hidden, next, positions: Positions::Sequential };
        self.inner.ingest(&mut [
            other(before, &hidden_twice, &next_twice),
            CommittedRows { state, hidden, next, positions: positions.clone() },
            other(after, &once[0], &once[1]),
        ])
    }

    /// One of the others drafts as deep, as far as it can; the other drafts its first again.
    fn step(&self, drafts: &mut [DraftRow<'_>]) -> Result<Vec<Array>> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let ([DraftRow { state, previous, vocabulary }], Some([before, after])) = (&mut *drafts, others.as_mut())
        else {
            return self.inner.step(drafts);
        };
        let deeper = before.history.len() > self.max_depth()
            && before.round()?.drafts.len() + 1 < self.max_depth()
            && previous.is_some();
        let token = token_array(&[1]);
        let other = |state, previous| DraftRow { state, previous, vocabulary: None };
        let mut logits = self.inner.step(&mut [
            other(before, deeper.then_some(&token)),
            DraftRow { state, previous: *previous, vocabulary: *vocabulary },
            other(after, None),
        ])?;
        Ok(vec![logits.swap_remove(1)])
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        self.inner.logits(hidden)
    }

    fn restrict(&self, tokens: &[u32]) -> Result<DraftVocabulary> {
        self.inner.restrict(tokens)
    }
}
