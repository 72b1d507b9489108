//! The numbers of an artifact, in rows of its outputs.

use std::ops::Range;

use super::ForgeError;
use super::plan::Output;

/// Bytes of some rows: a dense tensor's, or a packed module's three.
#[derive(Default)]
pub(super) struct PackedRows {
    pub weight: Vec<u8>,
    pub scales: Vec<u8>,
    pub biases: Vec<u8>,
}

/// The origin of an artifact's numbers.
pub(super) trait TensorSource: Sync {
    /// Fills in rows of an output.
    fn rows(&self, output: &Output, rows: Range<usize>, parts: &mut PackedRows) -> Result<(), ForgeError>;
}
