//! Packed weights as the kernels for few rows read them: a tile of sixteen rows and a chunk of their columns side by side.
//!
//! A record is 2048 bytes of packed numbers and their scales and biases. A lane of a warp finds its own numbers in pieces of
//! sixteen bytes, and reads no other lane's; so a record streams in as it lies, and a tile's are one run of memory.

use mlx_rs::{Dtype, ops};

use crate::mlx::{Mode, Packing, QuantizedWeight, slice_axis};
use crate::{Array, Result};

/// Rows of a tile: 8 groups of lanes in two halves.
const ROWS: i32 = 16;
/// Words of packed numbers: those of a row in a record, and all.
const ROW: i32 = 32;
const WORDS: i32 = ROWS * ROW;

/// An affine-packed weight `[out, in]` in records.
#[derive(Debug, Clone)]
pub struct PackedTiles {
    /// `[out / 16, in / chunk, words]` uint32, both rounded up; what is beyond the weight is 0. A chunk is 1024 bits a row.
    pub tiles: Array,
    /// `[out, in]`.
    pub shape: [i32; 2],
    /// Affine; 4 or 8 bits.
    pub packing: Packing,
    /// The type of scales and biases.
    pub dtype: Dtype,
}

/// How the columns of a chunk are spread over a warp.
struct Spread {
    /// Columns that are multiplied at once, so many of them in a chunk.
    units: i32,
    /// Words of a lane, row and unit.
    words: i32,
    /// Groups of a chunk.
    groups: i32,
    /// Columns of a chunk.
    chunk: i32,
}

impl Spread {
    fn of(packing: Packing) -> Self {
        let (bits, group) = (packing.bits() as i32, packing.group_size() as i32);
        let (chunk, unit) = (ROW * 32 / bits, group.min(64));
        Self { units: chunk / unit, words: unit / 4 * bits / 32, groups: chunk / group, chunk }
    }
}

impl PackedTiles {
    /// Whether there is such a form of `w`.
    pub fn can(w: &QuantizedWeight) -> bool {
        let (bits, group) = (w.packing.bits(), w.packing.group_size());
        let alike = |biases: &Array| biases.dtype() == w.scales.dtype() && biases.shape() == w.scales.shape();
        w.packing.mode() == Mode::Affine
            && matches!(bits, 4 | 8)
            && matches!(group, 32 | 64 | 128)
            && w.packed.ndim() == 2
            && matches!(w.scales.dtype(), Dtype::Bfloat16 | Dtype::Float16 | Dtype::Float32)
            && w.biases.as_ref().is_some_and(alike)
    }

    /// Lays `w` out.
    ///
    /// # Errors
    /// A weight without this form; when MLX fails.
    pub fn new(w: &QuantizedWeight) -> Result<Self> {
        let Some(biases) = w.biases.as_ref().filter(|_| Self::can(w)) else {
            return Err(crate::Error::unsupported("no affine weight"));
        };
        let Spread { units, words, groups, chunk } = Spread::of(w.packing);
        let (out, input) = (w.packed.dim(0), w.packed.dim(1) * 32 / w.packing.bits() as i32);
        let (tiles, chunks) = ((out + ROWS - 1) / ROWS, (input + chunk - 1) / chunk);
        let padded = |a: &Array, columns: i32| -> Result<Array> {
            let (down, right) = (tiles * ROWS - a.dim(0), columns - a.dim(1));
            if down == 0 && right == 0 { Ok(a.clone()) } else { Ok(ops::pad(a, &[(0, down), (0, right)], None, None)?) }
        };
        let packed = padded(&w.packed, chunks * ROW)?
            .reshape(&[tiles, 2, 8, chunks, units, 4, words])?
            .transpose_axes(&[0, 3, 2, 5, 4, 1, 6])?
            .reshape(&[tiles, chunks, 32, 4, 4])?
            .transpose_axes(&[0, 1, 3, 2, 4])?
            .reshape(&[tiles, chunks, WORDS])?;
        let columns = chunks * groups;
        let beside = ops::stack(&[&padded(&w.scales, columns)?, &padded(biases, columns)?], 0)?
            .reshape(&[2, tiles, 2, 8, chunks, groups])?
            .transpose_axes(&[1, 4, 5, 3, 0, 2])?
            .reshape(&[tiles, chunks, groups * 2 * ROWS])?;
        let tiles = ops::concatenate(&[packed, beside.contiguous()?.view_dtype(Dtype::Uint32)?], 2)?;
        tiles.eval()?;
        Ok(Self { tiles, shape: [out, input], packing: w.packing, dtype: w.scales.dtype() })
    }

    /// Sixteen-byte pieces of a record, as kernels are told.
    pub fn record(&self) -> i32 {
        self.tiles.dim(2) / 4
    }

    /// The rows that `rows` `[n]` int32 names, in its order, as they were.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn unpack_rows(&self, rows: &Array) -> Result<QuantizedWeight> {
        let tile = Array::from_int(ROWS);
        let n = rows.dim(0);
        let tiles = self.tiles.take_axis(rows.floor_divide(&tile)?, 0)?;
        let tiles = Self { tiles, shape: [n * ROWS, self.shape[1]], ..self.clone() }.unpack()?;
        let places = ops::arange::<i32, i32>(0, n * ROWS, ROWS)?.add(rows.remainder(&tile)?)?;
        let taken = |a: &Array| a.take_axis(&places, 0);
        Ok(QuantizedWeight {
            packed: taken(&tiles.packed)?,
            scales: taken(&tiles.scales)?,
            biases: tiles.biases.as_ref().map(taken).transpose()?,
            packing: self.packing,
        })
    }

    /// As it was.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn unpack(&self) -> Result<QuantizedWeight> {
        let Spread { units, words, groups, .. } = Spread::of(self.packing);
        let [out, input] = self.shape;
        let (tiles, chunks, all) = (self.tiles.dim(0), self.tiles.dim(1), self.tiles.dim(2));
        let within = |a: &Array, columns: i32| slice_axis(&slice_axis(a, 0, 0, out)?, 1, 0, columns)?.contiguous();
        let packed = slice_axis(&self.tiles, 2, 0, WORDS)?
            .reshape(&[tiles, chunks, 4, 32, 4])?
            .transpose_axes(&[0, 1, 3, 2, 4])?
            .reshape(&[tiles, chunks, 8, 4, units, 2, words])?
            .transpose_axes(&[0, 5, 2, 1, 4, 3, 6])?
            .reshape(&[tiles * ROWS, chunks * ROW])?;
        let beside = slice_axis(&self.tiles, 2, WORDS, all)?
            .contiguous()?
            .view_dtype(self.dtype)?
            .reshape(&[tiles, chunks, groups, 8, 2, 2])?
            .transpose_axes(&[4, 0, 5, 3, 1, 2])?
            .reshape(&[2, tiles * ROWS, chunks * groups])?;
        let part = |i: i32| within(&slice_axis(&beside, 0, i, i + 1)?.squeeze_axes(&[0])?, self.groups());
        Ok(QuantizedWeight {
            packed: within(&packed, input * self.packing.bits() as i32 / 32)?,
            scales: part(0)?,
            biases: Some(part(1)?),
            packing: self.packing,
        })
    }

    fn groups(&self) -> i32 {
        self.shape[1] / self.packing.group_size() as i32
    }
}

/// A dense weight `[out, in]`, packed, for the checks of kernels.
///
/// # Errors
/// A combination that there is not; when MLX fails.
pub(crate) fn pack(w: &Array, bits: usize, group: usize) -> Result<QuantizedWeight> {
    let (packed, scales, biases) = ops::quantize(w, group as i32, bits as i32)?;
    let packing = Packing::new(Mode::Affine, bits, group);
    Ok(QuantizedWeight { packed, scales, biases: Some(biases), packing })
}

#[cfg(test)]
mod tests {
    use mlx_rs::random;

    use super::*;

    fn sample(bits: usize, group: usize, shape: [i32; 2], dtype: Dtype) -> QuantizedWeight {
        let w = random::normal::<f32>(&shape, None, None, &random::key(bits as u64).unwrap()).unwrap();
        pack(&w.as_dtype(dtype).unwrap(), bits, group).unwrap()
    }

    fn bytes(a: &Array) -> Vec<u32> {
        let a = a.as_dtype(if a.dtype() == Dtype::Uint32 { Dtype::Uint32 } else { Dtype::Float32 }).unwrap();
        let a = a.contiguous().unwrap().view_dtype(Dtype::Uint32).unwrap();
        a.eval().unwrap();
        a.as_slice::<u32>().to_vec()
    }

    #[test]
    fn what_is_laid_out_comes_back() {
        for (bits, group) in [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)] {
            for (shape, dtype) in
                [([32, 512], Dtype::Bfloat16), ([40, 640], Dtype::Float32), ([1, 128], Dtype::Float16)]
            {
                let w = sample(bits, group, shape, dtype);
                let tiled = PackedTiles::new(&w).unwrap();
                assert_eq!((tiled.shape, tiled.dtype), (shape, dtype));
                let back = tiled.unpack().unwrap();
                for (a, b) in [(&w.packed, &back.packed), (&w.scales, &back.scales)] {
                    assert_eq!((a.shape(), a.dtype(), bytes(a)), (b.shape(), b.dtype(), bytes(b)));
                }
                assert_eq!(bytes(w.biases.as_ref().unwrap()), bytes(back.biases.as_ref().unwrap()));
            }
        }
    }

    #[test]
    fn rows_come_back_alone() {
        let w = sample(8, 32, [40, 320], Dtype::Float32);
        let rows = Array::from_slice(&[39i32, 0, 17, 17], &[4]);
        let found = PackedTiles::new(&w).unwrap().unpack_rows(&rows).unwrap();
        assert_eq!(bytes(&found.packed), bytes(&w.packed.take_axis(&rows, 0).unwrap()));
        assert_eq!(bytes(&found.scales), bytes(&w.scales.take_axis(&rows, 0).unwrap()));
    }

    /// Where the kernels look: lane `4 g + t`, its word `(2 u + h) words + j`.
    #[test]
    fn a_record_is_as_the_kernels_read_it() {
        let w = sample(4, 64, [32, 512], Dtype::Float32);
        let tiled = PackedTiles::new(&w).unwrap();
        assert_eq!(tiled.tiles.shape(), [2, 2, 512 + 4 * 32]);
        let (plain, tiles) = (bytes(&w.packed), bytes(&tiled.tiles));
        let record = |tile: usize, chunk: usize| &tiles[(tile * 2 + chunk) * 640..][..640];
        for (tile, chunk, h, g, u, t, j) in [(0, 0, 0, 0, 0, 0, 0), (1, 1, 1, 6, 3, 2, 1), (0, 1, 1, 7, 2, 3, 0)] {
            let (row, column) = (tile * 16 + h * 8 + g, chunk * 32 + u * 8 + t * 2 + j);
            let (lane, index) = (4 * g + t, (2 * u + h) * 2 + j);
            assert_eq!(record(tile, chunk)[index / 4 * 128 + lane * 4 + index % 4], plain[row * 64 + column]);
        }
        let (scales, biases) = (bytes(&w.scales), bytes(w.biases.as_ref().unwrap()));
        for (tile, chunk, h, g, e) in [(0, 0, 0, 0, 0), (1, 1, 1, 5, 3)] {
            let (at, from) = ((e * 8 + g) * 4 + h, (tile * 16 + h * 8 + g) * 8 + chunk * 4 + e);
            assert_eq!(record(tile, chunk)[512 + at], scales[from]);
            assert_eq!(record(tile, chunk)[512 + at + 2], biases[from]);
        }
    }
}
