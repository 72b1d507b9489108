//! Packed weights as MLX stores them.

use std::ffi::CStr;

use mlx_rs::Array;

/// How a group of weights is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Integers with a scale and a bias a group.
    Affine,
    /// OCP microscaling: E2M1 values, an E8M0 scale for 32.
    Mxfp4,
    /// OCP microscaling: E4M3 values, an E8M0 scale for 32.
    Mxfp8,
    /// E2M1 values, an E4M3 scale for 16.
    Nvfp4,
}

impl Mode {
    /// MLX's name for it.
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            Self::Affine => c"affine",
            Self::Mxfp4 => c"mxfp4",
            Self::Mxfp8 => c"mxfp8",
            Self::Nvfp4 => c"nvfp4",
        }
    }
}

/// Mode, bits and group size. MLX refuses a combination that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packing {
    mode: Mode,
    bits: usize,
    group_size: usize,
}

impl Packing {
    /// Weights of `bits` in groups of `group_size`.
    #[must_use]
    pub fn new(mode: Mode, bits: usize, group_size: usize) -> Self {
        Self { mode, bits, group_size }
    }

    /// How a group is coded.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bits of a weight.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// Weights of a group.
    #[must_use]
    pub fn group_size(&self) -> usize {
        self.group_size
    }
}

/// A packed weight.
#[derive(Debug, Clone)]
pub struct QuantizedWeight {
    /// `[.., out, in * bits / 32]` u32.
    pub packed: Array,
    /// `[.., out, in / group_size]`; u8 in the floating-point modes.
    pub scales: Array,
    /// Like the scales, in affine mode only.
    pub biases: Option<Array>,
    /// How it is packed.
    pub packing: Packing,
}
