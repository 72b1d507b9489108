//! What a safetensors header says of a tensor.

use std::ops::Range;
use std::sync::Arc;

use safetensors::Dtype;

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its type, as in the safetensors header.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The file that holds it, relative to the checkpoint's folder.
    pub file: Arc<str>,
    /// Its bytes within that file.
    pub range: Range<usize>,
}
