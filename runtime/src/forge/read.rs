//! Reads rows of outputs from the stored tensors: by place, never a whole tensor, and without mapping, so that resident memory
//! does not grow with what was read.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::Dtype;

use super::affine::push;
use super::plan::scale_name;
use super::source::PackedRows;
use super::{ForgeError, Output, Part, Source};
use crate::artifact::{Checkpoint, TensorInfo, to_f32};
use crate::quant::e4m3;

/// Reads from trunk and head, which may be two checkpoints.
pub(super) struct Reader<'a> {
    trunk: SourceCheckpoint<'a>,
    head: Option<SourceCheckpoint<'a>>,
}

struct SourceCheckpoint<'a> {
    checkpoint: &'a Checkpoint,
    files: BTreeMap<Arc<str>, Option<File>>,
    /// Rows and columns that share a scale in block-scaled fp8.
    block: [usize; 2],
    vision: BTreeMap<&'a str, &'a TensorInfo>,
}

impl<'a> Reader<'a> {
    /// `head`: where the draft head is read from, if not from `trunk`.
    pub(super) fn new(trunk: &'a Checkpoint, head: Option<&'a Checkpoint>) -> Result<Self, ForgeError> {
        Ok(Self { trunk: SourceCheckpoint::new(trunk)?, head: head.map(SourceCheckpoint::new).transpose()? })
    }

    fn of(&self, part: Part) -> &SourceCheckpoint<'a> {
        match &self.head {
            Some(head) if part == Part::Head => head,
            _ => &self.trunk,
        }
    }

    /// Rows of an output as stored, where nothing has to be changed: same type, same order.
    pub(super) fn copy(&self, output: &Output, rows: Range<usize>, out: &mut Vec<u8>) -> Result<bool, ForgeError> {
        let opened = self.of(output.rule.part);
        let super::Coding::Dense(dtype) = output.coding else { return Ok(false) };
        let Some(runs) = runs(output, rows).filter(|_| !output.rule.plus_one) else { return Ok(false) };
        for (tensor, rows) in runs {
            let info = opened.info(tensor)?;
            if info.dtype != dtype {
                return Ok(false);
            }
            opened.bytes(info, numbers(output, &rows), out)?;
        }
        Ok(true)
    }

    /// Rows of a module that is packed already, scales and biases in type `dtype`.
    pub(super) fn kept(
        &self,
        output: &Output,
        dtype: Dtype,
        rows: Range<usize>,
        parts: &mut PackedRows,
    ) -> Result<(), ForgeError> {
        let opened = self.of(output.rule.part);
        let tensors = output.tensors();
        for (weight, rows) in runs(output, rows).into_iter().flatten() {
            let module = weight.strip_suffix(".weight").unwrap_or(weight);
            let lists = [("weight", &mut parts.weight), ("scales", &mut parts.scales), ("biases", &mut parts.biases)];
            for (part, out) in lists.into_iter().take(tensors.len()) {
                let info = opened.info(&format!("{module}.{part}"))?;
                let width = info.shape.last().copied().unwrap_or(0);
                let numbers = rows.start * width..rows.end * width;
                if part == "weight" || info.dtype == dtype {
                    opened.bytes(info, numbers, out)?;
                    continue;
                }
                let mut values = Vec::new();
                opened.floats(&format!("{module}.{part}"), numbers, &mut values)?;
                values.into_iter().for_each(|value| push(out, value, dtype));
            }
        }
        Ok(())
    }

    /// Rows of an output as f32.
    pub(super) fn floats(&self, output: &Output, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), ForgeError> {
        let opened = self.of(output.rule.part);
        match runs(output, rows.clone()) {
            Some(runs) => {
                runs.into_iter().try_for_each(|(tensor, rows)| opened.floats(tensor, numbers(output, &rows), out))?;
            }
            None => opened.columns(output, rows, out)?,
        }
        if output.rule.plus_one {
            out.iter_mut().for_each(|value| *value += 1.0);
        }
        Ok(())
    }
}

/// The numbers of rows that are as wide as an output's.
fn numbers(output: &Output, rows: &Range<usize>) -> Range<usize> {
    rows.start * output.width()..rows.end * output.width()
}

/// The stored rows that rows of an output are, piece by piece; `None` where they are not in order.
fn runs(output: &Output, rows: Range<usize>) -> Option<Vec<(&str, Range<usize>)>> {
    let matrix = output.matrix_rows().max(1);
    // Pieces that end where a matrix ends: its number, and its rows.
    let pieces = || {
        let first = rows.start / matrix;
        (first..rows.end.div_ceil(matrix)).map(move |number| {
            let base = number * matrix;
            (number, rows.start.max(base) - base..rows.end.min(base + matrix) - base)
        })
    };
    match &output.rule.source {
        Source::Whole(tensor) => Some(vec![(tensor, rows)]),
        Source::Stack(tensors) => pieces().map(|(number, rows)| Some((&**tensors.get(number)?, rows))).collect(),
        Source::Rows { tensor, each, start } => {
            let stored = |number: usize, rows: Range<usize>| {
                let base = number * each + start;
                base + rows.start..base + rows.end
            };
            Some(pieces().map(|(number, rows)| (&**tensor, stored(number, rows))).collect())
        }
        Source::Columns { .. } => None,
    }
}

impl<'a> SourceCheckpoint<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Result<Self, ForgeError> {
        let mut files = BTreeMap::new();
        for (name, _) in checkpoint.files() {
            files.insert(Arc::from(name), checkpoint.open_file(name)?);
        }
        Ok(Self { checkpoint, files, block: fp8_block(checkpoint)?, vision: checkpoint.vision().collect() })
    }

    fn info(&self, tensor: &str) -> Result<&'a TensorInfo, ForgeError> {
        match self.vision.get(tensor) {
            Some(info) => Ok(info),
            None => Ok(self.checkpoint.require(tensor)?),
        }
    }

    /// Appends the bytes of a tensor's numbers.
    fn bytes(&self, info: &TensorInfo, numbers: Range<usize>, out: &mut Vec<u8>) -> Result<(), ForgeError> {
        let size = info.dtype.bitsize() / 8;
        let start = info.range.start + numbers.start * size;
        let (at, end) = (out.len(), start + numbers.len() * size);
        out.resize(at + end - start, 0);
        let path = || self.checkpoint.path(&info.file);
        match self.files.get(&info.file) {
            Some(Some(file)) => {
                file.read_exact_at(&mut out[at..], start as u64).map_err(ForgeError::io(Path::new(&path())))?;
            }
            _ => {
                let bytes = self.checkpoint.file_bytes(&info.file).and_then(|bytes| bytes.get(start..end));
                out[at..].copy_from_slice(bytes.ok_or_else(|| {
                    ForgeError::unsupported(format!("{}: went away", path()), "leave the checkpoint alone meanwhile")
                })?);
            }
        }
        Ok(())
    }

    /// Appends a tensor's numbers, widened.
    fn floats(&self, tensor: &str, numbers: Range<usize>, out: &mut Vec<f32>) -> Result<(), ForgeError> {
        let info = self.info(tensor)?;
        let mut bytes = Vec::new();
        self.bytes(info, numbers.clone(), &mut bytes)?;
        match info.dtype {
            Dtype::F32 => out.extend(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four))),
            Dtype::BF16 => out.extend(bytes.as_chunks().0.iter().map(|&two| bf16::from_le_bytes(two).to_f32())),
            Dtype::F16 => out.extend(bytes.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two).to_f32())),
            _ => self.unscale(tensor, info, &bytes, numbers.start, out)?,
        }
        Ok(())
    }

    /// Block-scaled fp8: a code's value times its block's scale, rounded to bf16, as DeepSeek's own `weight_dequant` does.
    fn unscale(
        &self,
        tensor: &str,
        info: &TensorInfo,
        codes: &[u8],
        first: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), ForgeError> {
        let [rows, width] = *info.shape else {
            return Err(ForgeError::unsupported(
                format!("{}: {tensor}: fp8 of shape {:?}: expected a matrix", self.checkpoint.label(), info.shape),
                "forge from a bf16 copy of the checkpoint",
            ));
        };
        let grid = [rows.div_ceil(self.block[0]), width.div_ceil(self.block[1])];
        let name = scale_name(tensor);
        let stored = self.checkpoint.require_shape(&name, &grid, "a scale for each block of quantization_config")?;
        let mut bytes = Vec::new();
        self.bytes(stored, 0..grid[0] * grid[1], &mut bytes)?;
        let scales = to_f32(&bytes, stored.dtype).ok_or_else(|| {
            ForgeError::unsupported(format!("{name}: type {}: expected F32 or BF16", stored.dtype), "use a bf16 copy")
        })?;
        let values: [f32; 256] = std::array::from_fn(|code| e4m3(code as u8));
        let (mut row, mut column) = (first / width, first % width);
        let mut rest = codes;
        // Along a row, block by block.
        while !rest.is_empty() {
            let to_edge = (self.block[1] - column % self.block[1]).min(width - column);
            let (block, after) = rest.split_at(to_edge.min(rest.len()));
            let scale = scales[row / self.block[0] * grid[1] + column / self.block[1]];
            out.extend(block.iter().map(|&code| bf16::from_f32(values[usize::from(code)] * scale).to_f32()));
            column += block.len();
            if column == width {
                (row, column) = (row + 1, 0);
            }
            rest = after;
        }
        Ok(())
    }

    /// Rows of an output whose rows are stored columns: every matrix they touch is read and turned.
    fn columns(&self, output: &Output, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), ForgeError> {
        let Source::Columns { tensor, each, start } = &output.rule.source else { return Ok(()) };
        let (width, matrix) = (output.width(), output.matrix_rows().max(1));
        let mut stored = Vec::new();
        for number in rows.start / matrix..rows.end.div_ceil(matrix) {
            let base = number * matrix;
            // `width` stored rows of `matrix` numbers each.
            let first = (number * each + start) * matrix;
            stored.clear();
            self.floats(tensor, first..first + width * matrix, &mut stored)?;
            for row in rows.start.max(base) - base..rows.end.min(base + matrix) - base {
                out.extend((0..width).map(|column| stored[column * matrix + row]));
            }
        }
        Ok(())
    }
}

/// `quantization_config.weight_block_size`, for checkpoints in block-scaled fp8.
fn fp8_block(checkpoint: &Checkpoint) -> Result<[usize; 2], ForgeError> {
    const USUAL: [usize; 2] = [128, 128];
    let Some(stated) = checkpoint.config().section("quantization_config")? else { return Ok(USUAL) };
    match stated.counts("weight_block_size", 1 << 16)?[..] {
        [] => Ok(USUAL),
        [rows, columns] if rows > 0 && columns > 0 => Ok([rows, columns]),
        _ => Err(stated.error("weight_block_size", "expected two positive integers").into()),
    }
}
