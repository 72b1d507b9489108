//! Expected tensors in a safetensors file.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

/// A file of expected tensors, parsed but not decoded: only what is asked for is.
pub struct Reference<'a> {
    tensors: SafeTensors<'a>,
}

/// A tensor of floats.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// What is wrong with a reference.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Not a safetensors file.
    #[error("not a safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// A tensor that a reference must have is not there.
    #[error("{name}: tensor not found")]
    Missing {
        /// The tensor.
        name: &'static str,
    },
    /// A tensor is not what its name says.
    #[error("{name}: {what}")]
    Malformed {
        /// The tensor.
        name: String,
        /// What was found.
        what: String,
    },
}

impl<'a> Reference<'a> {
    /// Parses a file's bytes.
    ///
    /// # Errors
    /// They are not those of a safetensors file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReferenceError> {
        Ok(Self { tensors: SafeTensors::deserialize(bytes)? })
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// A tensor of floats, if it is there.
    ///
    /// # Errors
    /// It is there and holds something else.
    pub fn floats(&self, name: &str) -> Result<Option<Tensor>, ReferenceError> {
        let Ok(view) = self.tensors.tensor(name) else { return Ok(None) };
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => each(data, f32::from_le_bytes),
            Dtype::F64 => each(data, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F16 => each(data, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => each(data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            other => return Err(malformed(name, format!("{other:?}, expected floats"))),
        };
        Ok(Some(Tensor { shape: view.shape().to_vec(), values }))
    }

    /// A list of token ids below `vocab`, if it is there.
    ///
    /// # Errors
    /// It is there and holds something else, or nothing.
    pub fn ids(&self, name: &str, vocab: usize) -> Result<Option<Vec<i32>>, ReferenceError> {
        let Ok(view) = self.tensors.tensor(name) else { return Ok(None) };
        let data = view.data();
        let ids: Vec<i64> = match view.dtype() {
            Dtype::I32 => each(data, |bytes| i32::from_le_bytes(bytes).into()),
            Dtype::U32 => each(data, |bytes| u32::from_le_bytes(bytes).into()),
            Dtype::I64 => each(data, i64::from_le_bytes),
            other => return Err(malformed(name, format!("{other:?}, expected integers"))),
        };
        if view.shape().len() != 1 || ids.is_empty() {
            return Err(malformed(name, format!("shape {:?}, expected a list of ids", view.shape())));
        }
        let id = |&id: &i64| match i32::try_from(id) {
            Ok(small) if small >= 0 && (small as usize) < vocab => Ok(small),
            _ => Err(malformed(name, format!("{id}: the vocabulary has {vocab} tokens"))),
        };
        ids.iter().map(id).collect::<Result<_, _>>().map(Some)
    }
}

fn malformed(name: &str, what: String) -> ReferenceError {
    ReferenceError::Malformed { name: name.to_owned(), what }
}

/// Decodes values of `N` bytes each; the parser has checked the length.
fn each<const N: usize, T>(data: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|&bytes| decode(bytes)).collect()
}
