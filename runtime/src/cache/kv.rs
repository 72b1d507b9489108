//! Keys and values of one attention layer, in buffers that grow by blocks and are written in place.
//!
//! Keys and values may differ in heads and width (MLA keeps a latent and a rotated key). MLX writes in place only while
//! nothing else holds or still reads the buffer: the views handed out must be gone, and the work that reads them
//! evaluated, before the next append; else MLX copies the whole buffer (slower, never wrong).

use std::sync::Arc;

use mlx_rs::{Dtype, ops};

use crate::mlx::{slice_axis, update_axis};
use crate::{Array, Result};

/// Rows that a buffer grows by.
const BLOCK: usize = 256;
/// The axis of rows in `[1, heads, rows, width]`.
const ROWS: usize = 2;

/// Keys `[1, heads, rows, width]` and values of one layer.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    buffers: Option<(Array, Array)>,
    /// Held once for every cache that has the buffers.
    holders: Arc<()>,
    len: usize,
    pending: usize,
}

impl KvCache {
    /// Committed rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row was committed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends rows `[1, heads, n, width]` as pending and returns views of all rows, the pending ones included.
    pub fn append(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        self.write(keys, values)?;
        self.views(self.len + self.pending)?.ok_or_else(|| crate::Error::cache("nothing was appended"))
    }

    /// Appends rows `[1, heads, n, width]` as pending.
    pub fn write(&mut self, keys: &Array, values: &Array) -> Result<()> {
        let rows = keys.dim(ROWS as i32) as usize;
        let end = self.end(rows)?;
        let written = |old: Option<&Array>, new: &Array| -> Result<Array> {
            let larger = match old {
                Some(old) if old.dim(ROWS as i32) as usize >= end => None,
                Some(old) => Some(grow(old, self.len, end)?),
                None => Some(empty(new.shape(), new.dtype(), end)?),
            };
            let buffer = larger.as_ref().or(old).ok_or_else(|| crate::Error::cache("no buffer"))?;
            Ok(update_axis(buffer, new, ROWS, self.len as i32)?)
        };
        // What was there stays where either fails.
        let [old_keys, old_values] = self.buffers.as_ref().map_or([None; 2], |(k, v)| [Some(k), Some(v)]);
        let (k, v) = (written(old_keys, keys)?, written(old_values, values)?);
        self.set_pending(k, v, rows);
        Ok(())
    }

    /// Buffers with room for `rows` more, for keys and values of `[heads, width]`: what comes after the committed rows may be
    /// written over. Back they go through [`KvCache::set_pending`].
    pub fn reserve(&mut self, rows: usize, &[heads, width]: &[i32; 2], dtype: Dtype) -> Result<[Array; 2]> {
        let end = self.end(rows)?;
        let fits = |k: &Array| k.dim(ROWS as i32) as usize >= end;
        let alike = |a: &Array| a.dtype() == dtype && a.dim(1) == heads && a.dim(3) == width;
        if let Some(other) = self.arrays().find(|a| !alike(a)) {
            let (shape, found) = (other.shape(), other.dtype());
            let what = format!("rows of {heads} heads, {width} wide, {dtype:?}, in a cache of {shape:?}, {found:?}");
            return Err(crate::Error::cache(what));
        }
        Ok(match &self.buffers {
            Some((k, v)) if fits(k) && Arc::strong_count(&self.holders) == 1 => [k.clone(), v.clone()],
            Some((k, v)) => [grow(k, self.len, end)?, grow(v, self.len, end)?],
            None => [empty(&[1, heads, 0, width], dtype, end)?, empty(&[1, heads, 0, width], dtype, end)?],
        })
    }

    /// Takes buffers whose first rows are the committed ones and whose next `rows` are pending.
    pub fn set_pending(&mut self, keys: Array, values: Array, rows: usize) {
        self.buffers = Some((keys, values));
        self.holders = Arc::default();
        self.pending = rows;
    }

    /// Rows after `rows` more.
    fn end(&self, rows: usize) -> Result<usize> {
        if self.pending != 0 {
            return Err(crate::Error::cache("a layer appended twice before its rows were committed"));
        }
        Ok(self.len + rows)
    }

    /// The whole buffers `[1, heads, capacity, width]`, and how many of their rows are taken, the pending ones included; `None`
    /// where there are none.
    pub fn buffers(&self) -> Option<(&Array, &Array, i32)> {
        let rows = self.len + self.pending;
        self.buffers.as_ref().filter(|_| rows > 0).map(|(k, v)| (k, v, rows as i32))
    }

    /// Views of the committed rows, or `None` while there are none.
    pub fn committed(&self) -> Result<Option<(Array, Array)>> {
        self.views(self.len)
    }

    fn views(&self, rows: usize) -> Result<Option<(Array, Array)>> {
        let Some((k, v)) = self.buffers.as_ref().filter(|_| rows > 0) else { return Ok(None) };
        Ok(Some((slice_axis(k, ROWS, 0, rows as i32)?, slice_axis(v, ROWS, 0, rows as i32)?)))
    }

    /// Bytes of the committed rows, spare capacity left out.
    pub fn committed_nbytes(&self) -> usize {
        let of_rows = |a: &Array| a.nbytes() / (a.dim(ROWS as i32) as usize).max(1) * self.len;
        self.arrays().map(of_rows).sum()
    }

    /// Keeps the pending rows but the last `dropped`. A layer may have fewer pending rows than the cache (a deeper MTP
    /// layer lags behind at first).
    pub(super) fn commit(&mut self, dropped: usize) {
        self.len += self.pending.saturating_sub(dropped);
        self.pending = 0;
    }

    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.buffers.iter().flat_map(|(k, v)| [k, v])
    }
}

fn capacity(rows: usize) -> i32 {
    (rows.div_ceil(BLOCK) * BLOCK) as i32
}

/// A buffer like one of `shape`, with rows for `needed`.
fn empty(shape: &[i32], dtype: Dtype, needed: usize) -> Result<Array> {
    let mut shape = shape.to_vec();
    shape[ROWS] = capacity(needed);
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

    #[test]
    fn what_does_not_fit_leaves_the_rows() {
        let mut cache = KvCache::default();
        cache.write(&rows(1.0), &rows(5.0)).unwrap();
        cache.commit(0);
        let wide = Array::from_slice(&[0f32; 4], &[1, 1, 2, 2]);
        assert!(cache.write(&rows(7.0), &wide).is_err());
        for (heads, width, dtype) in [(2, 1, Dtype::Float32), (1, 2, Dtype::Float32), (1, 1, Dtype::Bfloat16)] {
            assert!(cache.reserve(1, &[heads, width], dtype).is_err(), "{heads} {width} {dtype:?}");
        }
        let (k, v) = cache.committed().unwrap().unwrap();
        assert_eq!((k.as_slice::<f32>(), v.as_slice::<f32>()), (&[1.0, 2.0][..], &[5.0, 6.0][..]));
    }

    /// What kernels write into in place is nobody else's.
    #[test]
    fn room_is_shared_with_no_clone() {
        let mut cache = KvCache::default();
        let [k, v] = cache.reserve(2, &[1, 1], Dtype::Float32).unwrap();
        assert_eq!((k.shape(), v.shape()), (&[1, 1, BLOCK as i32, 1][..], k.shape()));
        cache.write(&rows(1.0), &rows(5.0)).unwrap();
        assert!(cache.reserve(1, &[1, 1], Dtype::Float32).is_err(), "rows are pending");
        cache.commit(0);
        let own = place(cache.buffers().unwrap().0);
        assert_eq!(place(&cache.reserve(1, &[1, 1], Dtype::Float32).unwrap()[0]), own, "sole holder");

        let snapshot = cache.clone();
        let [k, v] = cache.reserve(1, &[1, 1], Dtype::Float32).unwrap();
        assert_ne!(place(&k), own, "a clone holds the buffers");
        assert_eq!((&k.as_slice::<f32>()[..2], &v.as_slice::<f32>()[..2]), (&[1.0, 2.0][..], &[5.0, 6.0][..]));
        cache.set_pending(k, v, 1);
        cache.commit(0);
        assert_eq!((cache.len(), snapshot.len()), (3, 2));
        // Each is alone again.
        let (mut snapshot, taken) = (snapshot, place(cache.buffers().unwrap().0));
        assert_eq!(place(&snapshot.reserve(1, &[1, 1], Dtype::Float32).unwrap()[0]), own);
        assert_eq!(place(&cache.reserve(1, &[1, 1], Dtype::Float32).unwrap()[0]), taken);
        let [larger, _] = cache.reserve(BLOCK, &[1, 1], Dtype::Float32).unwrap();
        assert_eq!(larger.dim(2), 2 * BLOCK as i32);
    }
}
