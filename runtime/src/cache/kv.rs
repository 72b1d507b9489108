//! Keys and values of one attention layer: a frozen prefix that several caches may share, and a tail of the cache's own.
//!
//! Keys and values may differ in heads and width (MLA keeps a latent and a rotated key). The tail grows by blocks and is written in
//! place. MLX does that only while nothing else holds or still reads the buffer: the views handed out must be gone, and the work that
//! reads them evaluated, before the next append; else it copies the whole tail (slower, never wrong).

use mlx_rs::{Dtype, ops};

use crate::kernels::attention::History;
use crate::mlx::{slice_axis, update_axis};
use crate::{Array, Result};

/// Rows that a buffer grows by.
const BLOCK: usize = 256;
/// The same while it has fewer than a block: many tails are short.
const SMALL_BLOCK: usize = 64;
/// The axis of rows in `[1, heads, rows, width]`.
const ROWS: usize = 2;

/// Keys and values of one layer.
#[derive(Debug, Default)]
pub struct KvCache {
    prefix: Option<FrozenRows>,
    /// Keys and values `[1, heads, capacity, width]`.
    tail: Option<(Array, Array)>,
    /// Committed rows of the tail.
    kept: usize,
    /// Rows of the tail behind those.
    pending: usize,
}

/// Rows that nobody writes any more. A clone shares them.
#[derive(Debug, Clone)]
pub struct FrozenRows {
    /// `[1, heads, capacity, width]`.
    keys: Array,
    values: Array,
    /// The rows that count.
    rows: usize,
}

/// Keys and values of all rows of a layer, the pending ones included, in one part or two.
#[derive(Debug, Clone, Copy)]
pub struct KvView<'a> {
    prefix: Option<&'a FrozenRows>,
    /// The tail's buffers, and the rows of them that count: at least one.
    tail: (&'a Array, &'a Array, usize),
}

impl KvView<'_> {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.prefix.map_or(0, |prefix| prefix.rows) + self.tail.2
    }

    /// True where a prefix comes before the tail.
    pub fn has_prefix(&self) -> bool {
        self.prefix.is_some()
    }

    /// Keys and values `[1, heads, rows, width]` of each part, in order; nothing is copied.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn parts(&self) -> Result<Vec<(Array, Array)>> {
        let (keys, values, rows) = self.tail;
        let prefix = self.prefix.map(|prefix| (&prefix.keys, &prefix.values, prefix.rows));
        prefix.into_iter().chain([(keys, values, rows)]).map(first_rows).collect()
    }

    /// Keys and values `[1, heads, rows, width]` in one array each: a copy where there are two parts.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn joined(&self) -> Result<(Array, Array)> {
        match &self.parts()?[..] {
            [only] => Ok(only.clone()),
            parts => {
                let side = |of: fn(&(Array, Array)) -> &Array| {
                    ops::concatenate(&parts.iter().map(of).collect::<Vec<_>>(), ROWS as i32)
                };
                Ok((side(|part| &part.0)?, side(|part| &part.1)?))
            }
        }
    }

    /// The same for kernels.
    pub fn history(&self) -> History<'_> {
        let (keys, values, rows) = self.tail;
        let tail = (keys, values, rows as i32);
        match self.prefix {
            Some(prefix) => History { past: (&prefix.keys, &prefix.values, prefix.rows as i32), own: Some(tail) },
            None => History { past: tail, own: None },
        }
    }
}

impl KvCache {
    /// Committed rows.
    pub fn len(&self) -> usize {
        self.prefix.as_ref().map_or(0, |prefix| prefix.rows) + self.kept
    }

    /// Whether no row was committed yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of the next row.
    pub fn position(&self) -> usize {
        self.len() + self.pending
    }

    /// Appends rows `[1, heads, n, width]` as pending and returns all rows.
    ///
    /// # Errors
    /// Rows of another shape or type than those before; when MLX fails: the cache is then as it was.
    pub fn append(&mut self, keys: &Array, values: &Array) -> Result<KvView<'_>> {
        let (rows, start) = (keys.dim(ROWS as i32) as usize, self.tail_rows());
        let alike = |a: &Array, b: &Array| (a.dim(1), a.dim(3), a.dtype()) == (b.dim(1), b.dim(3), b.dtype());
        if let Some(before) = &self.prefix
            && !(alike(&before.keys, keys) && alike(&before.values, values))
        {
            let what = format!("rows like {:?} behind a prefix like {:?}", keys.shape(), before.keys.shape());
            return Err(crate::Error::cache(what));
        }
        let written = |old: Option<&Array>, new: &Array| -> Result<Array> {
            let larger = match old {
                Some(old) if old.dim(ROWS as i32) as usize >= start + rows => None,
                Some(old) => Some(grow(old, start, start + rows)?),
                None => Some(empty(new.shape(), new.dtype(), start + rows)?),
            };
            let buffer = larger.as_ref().or(old).ok_or_else(|| crate::Error::cache("no buffer"))?;
            Ok(update_axis(buffer, new, ROWS, start as i32)?)
        };
        // The tail stays as it is where either fails.
        let [old_keys, old_values] = self.tail.as_ref().map_or([None; 2], |(k, v)| [Some(k), Some(v)]);
        let (k, v) = (written(old_keys, keys)?, written(old_values, values)?);
        self.append_written(k, v, rows)
    }

    /// The tail's buffers with room for `rows` more of `[heads, width]`, and the row of them that the first goes into: kernels write
    /// there, and hand the buffers to [`KvCache::append_written`].
    ///
    /// # Errors
    /// Rows of another shape or type than those before; when MLX fails.
    pub fn reserve(&self, rows: usize, &[heads, width]: &[i32; 2], dtype: Dtype) -> Result<([Array; 2], usize)> {
        let alike = |a: &Array| a.dtype() == dtype && a.dim(1) == heads && a.dim(3) == width;
        if let Some(other) = self.arrays().find(|a| !alike(a)) {
            let (shape, found) = (other.shape(), other.dtype());
            let what = format!("rows of {heads} heads, {width} wide, {dtype:?}, in a cache of {shape:?}, {found:?}");
            return Err(crate::Error::cache(what));
        }
        let start = self.tail_rows();
        let end = start + rows;
        let buffers = match &self.tail {
            Some((k, v)) if k.dim(ROWS as i32) as usize >= end => [k.clone(), v.clone()],
            Some((k, v)) => [grow(k, start, end)?, grow(v, start, end)?],
            None => [empty(&[1, heads, 0, width], dtype, end)?, empty(&[1, heads, 0, width], dtype, end)?],
        };
        Ok((buffers, start))
    }

    /// Takes the tail's buffers back with `rows` more in them, which are pending, and returns all rows.
    ///
    /// # Errors
    /// No rows at all.
    pub fn append_written(&mut self, keys: Array, values: Array, rows: usize) -> Result<KvView<'_>> {
        self.tail = Some((keys, values));
        self.pending += rows;
        let tail_rows = self.tail_rows();
        match &self.tail {
            Some((k, v)) if tail_rows > 0 => Ok(KvView { prefix: self.prefix.as_ref(), tail: (k, v, tail_rows) }),
            _ => Err(crate::Error::cache("no rows were appended")),
        }
    }

    /// Rows in the tail's buffers.
    fn tail_rows(&self) -> usize {
        self.kept + self.pending
    }

    /// Keys and values of the committed rows, or `None` while there are none: a copy where they are in two parts.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn committed(&self) -> Result<Option<(Array, Array)>> {
        match (&self.prefix, &self.tail) {
            (prefix, Some((k, v))) if self.kept > 0 => {
                KvView { prefix: prefix.as_ref(), tail: (k, v, self.kept) }.joined().map(Some)
            }
            (Some(FrozenRows { keys, values, rows }), _) => first_rows((keys, values, *rows)).map(Some),
            _ => Ok(None),
        }
    }

    /// Bytes of the committed rows, spare capacity left out.
    pub fn committed_nbytes(&self) -> usize {
        let of_rows = |a: &Array, rows: usize| a.nbytes() / (a.dim(ROWS as i32) as usize).max(1) * rows;
        let prefix = self.prefix.iter().flat_map(|prefix| [&prefix.keys, &prefix.values].map(|a| (a, prefix.rows)));
        let tail = self.tail.iter().flat_map(|(k, v)| [k, v].map(|a| (a, self.kept)));
        prefix.chain(tail).map(|(a, rows)| of_rows(a, rows)).sum()
    }

    /// Keeps the pending rows but the last `dropped`. A layer may have fewer pending rows than the cache (a deeper MTP
    /// layer lags behind at first).
    pub(super) fn commit(&mut self, dropped: usize) {
        self.kept += self.pending.saturating_sub(dropped);
        self.pending = 0;
    }

    /// The committed rows, frozen; this cache goes on behind them, with an empty tail. A tail behind a prefix is joined with it, by one
    /// copy.
    ///
    /// # Errors
    /// When MLX fails: the cache is then as it was.
    pub(super) fn freeze(&mut self) -> Result<Option<FrozenRows>> {
        if self.kept > 0 {
            let rows = self.len();
            let (keys, values) = match (&self.prefix, &self.tail) {
                (None, Some(tail)) => tail.clone(),
                _ => self.committed()?.ok_or_else(|| crate::Error::cache("committed rows without a buffer"))?,
            };
            self.prefix = Some(FrozenRows { keys, values, rows });
        }
        (self.tail, self.kept) = (None, 0);
        Ok(self.prefix.clone())
    }

    /// An empty tail behind `prefix`.
    pub(super) fn fork(prefix: Option<FrozenRows>) -> Self {
        Self { prefix, ..Self::default() }
    }

    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        let prefix = self.prefix.iter().flat_map(|prefix| [&prefix.keys, &prefix.values]);
        prefix.chain(self.tail.iter().flat_map(|(k, v)| [k, v]))
    }
}

impl FrozenRows {
    pub(super) fn nbytes(&self) -> usize {
        self.keys.nbytes() + self.values.nbytes()
    }
}

/// Views of the first rows of two buffers.
fn first_rows((keys, values, rows): (&Array, &Array, usize)) -> Result<(Array, Array)> {
    let first = |a: &Array| slice_axis(a, ROWS, 0, rows as i32);
    Ok((first(keys)?, first(values)?))
}

/// `rows` in whole blocks.
fn blocks(rows: usize) -> usize {
    let block = if rows < BLOCK { SMALL_BLOCK } else { BLOCK };
    rows.div_ceil(block).saturating_mul(block)
}

/// Rows that a buffer has room for after a prompt of `rows` that is read `chunk` rows at a time.
pub fn capacity_after(rows: usize, chunk: usize) -> usize {
    let (mut held, mut room, chunk) = (0_usize, 0, chunk.max(1));
    while held < rows {
        let needed = rows.min(held.saturating_add(chunk));
        if needed > room {
            room = blocks(needed.max(held.saturating_add(held / 2)));
        }
        // Chunks that there is room for change nothing.
        held = needed.max(rows.min(room / chunk * chunk));
    }
    room
}

/// A buffer like one of `shape`, with rows for `needed`.
fn empty(shape: &[i32], dtype: Dtype, needed: usize) -> Result<Array> {
    let mut shape = shape.to_vec();
    shape[ROWS] = blocks(needed) as i32;
    Ok(ops::zeros_dtype(&shape, dtype)?)
}

/// A larger buffer with the first `len` rows of `old`. Growth is geometric, so a long text is copied a few times only.
fn grow(old: &Array, len: usize, needed: usize) -> Result<Array> {
    let larger = empty(old.shape(), old.dtype(), needed.max(len + len / 2))?;
    if len == 0 { Ok(larger) } else { Ok(update_axis(&larger, &slice_axis(old, ROWS, 0, len as i32)?, ROWS, 0)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(first: f32) -> Array {
        Array::from_slice(&[first, first + 1.0], &[1, 1, 2, 1])
    }

    fn place(array: &Array) -> *const f32 {
        array.eval().unwrap();
        array.as_slice::<f32>().as_ptr()
    }

    fn numbers(cache: &KvCache) -> (Vec<f32>, Vec<f32>) {
        let (k, v) = cache.committed().unwrap().unwrap();
        (crate::mlx::values(&k).unwrap(), crate::mlx::values(&v).unwrap())
    }

    #[test]
    fn what_does_not_fit_leaves_the_rows() {
        let mut cache = KvCache::default();
        cache.append(&rows(1.0), &rows(5.0)).unwrap();
        cache.commit(0);
        let wide = Array::from_slice(&[0f32; 4], &[1, 1, 2, 2]);
        for frozen in [false, true] {
            assert!(cache.append(&rows(7.0), &wide).is_err(), "{frozen}");
            for (heads, width, dtype) in [(2, 1, Dtype::Float32), (1, 2, Dtype::Float32), (1, 1, Dtype::Bfloat16)] {
                assert!(cache.reserve(1, &[heads, width], dtype).is_err(), "{heads} {width} {dtype:?}");
            }
            assert_eq!(numbers(&cache), (vec![1.0, 2.0], vec![5.0, 6.0]));
            assert_eq!(cache.position(), 2);
            cache.freeze().unwrap();
        }
    }

    /// Rows are appended several times before a commit, which drops them or keeps the first.
    #[test]
    fn rows_are_appended_behind_pending_ones() {
        let mut cache = KvCache::default();
        cache.append(&rows(1.0), &rows(5.0)).unwrap();
        cache.commit(0);
        for keep in [0, 3] {
            cache.append(&rows(20.0), &rows(30.0)).unwrap();
            let view = cache.append(&rows(40.0), &rows(50.0)).unwrap();
            assert_eq!(view.rows(), 6);
            assert_eq!(
                crate::mlx::values::<f32>(&view.joined().unwrap().0).unwrap(),
                [1.0, 2.0, 20.0, 21.0, 40.0, 41.0]
            );
            assert_eq!((cache.len(), cache.position()), (2, 6));
            cache.commit(4 - keep);
        }
        assert_eq!(numbers(&cache).0, [1.0, 2.0, 20.0, 21.0, 40.0]);
    }

    #[test]
    fn capacity_is_what_buffers_grow_to() {
        for rows in [1, 64, 65, 512, 513, 1900, 5000] {
            let (mut cache, new) = (KvCache::default(), Array::zeros::<f32>(&[1, 1, 512, 1]).unwrap());
            for start in (0..rows).step_by(512) {
                let part = slice_axis(&new, ROWS, 0, (rows - start).min(512) as i32).unwrap();
                cache.append(&part, &part).unwrap();
                cache.commit(0);
            }
            let room = cache.tail.as_ref().unwrap().0.dim(ROWS as i32) as usize;
            assert_eq!(capacity_after(rows, 512), room, "{rows}");
        }
    }

    /// A fork copies nothing of the prefix, and writes to nothing that another cache has.
    #[test]
    fn forks_share_a_prefix_and_have_tails_of_their_own() {
        let mut cache = KvCache::default();
        let ([k, v], start) = cache.reserve(2, &[1, 1], Dtype::Float32).unwrap();
        assert_eq!((k.shape(), v.shape(), start), (&[1, 1, SMALL_BLOCK as i32, 1][..], k.shape(), 0));
        cache.append(&rows(1.0), &rows(5.0)).unwrap();
        cache.commit(0);
        let own = place(&cache.reserve(1, &[1, 1], Dtype::Float32).unwrap().0[0]);
        let prefix = cache.freeze().unwrap();
        assert_eq!(place(&prefix.as_ref().unwrap().keys), own, "frozen where it was");
        let mut forks = [cache, KvCache::fork(prefix.clone()), KvCache::fork(prefix)];
        for (fork, first) in forks.iter_mut().zip([10.0, 20.0, 30.0]) {
            let (_, start) = fork.reserve(1, &[1, 1], Dtype::Float32).unwrap();
            assert_eq!((start, fork.position()), (0, 2));
            let view = fork.append(&rows(first), &rows(first)).unwrap();
            assert_eq!(place(view.parts().unwrap().remove(0).0.as_ref()), own);
            fork.commit(1);
        }
        for (fork, first) in forks.iter_mut().zip([10.0, 20.0, 30.0]) {
            assert_eq!(numbers(fork).0, [1.0, 2.0, first]);
            // Frozen again, it is in one part.
            fork.freeze().unwrap();
            fork.append(&rows(first), &rows(first)).unwrap();
            assert_eq!(fork.position(), 5);
            fork.commit(2);
            assert_eq!(numbers(fork).0, [1.0, 2.0, first]);
            assert_eq!(fork.committed_nbytes(), 3 * 2 * 4);
        }
    }
}
