//! Quantization schemes that MLX 0.32.2 computes with, and the tensor geometry that each implies.
//!
//! A quantized matrix of shape `[.., out, in]` is stored as `weight` u32 `[.., out, in * bits / 32]` and `scales`
//! `[.., out, in / group]`. Affine has `biases` like `scales`, both floating point: `w = q * scale + bias`. The floating-point
//! modes have u8 scales and no biases: `w = value(q) * scale`, with E2M1 values for 4 bits and E4M3 for 8, and E8M0 scales, or
//! E4M3 for nvfp4. (`mlx/ops.cpp`: `affine_quantize`, `fp_quantize`, `validate_quantized_input`.)

use std::fmt;
use std::str::FromStr;

use safetensors::Dtype;

use crate::TensorInfo;

/// How a group of weights is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
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
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Affine => "affine",
            Self::Mxfp4 => "mxfp4",
            Self::Mxfp8 => "mxfp8",
            Self::Nvfp4 => "nvfp4",
        }
    }

    /// The scheme that MLX takes where bits and group size are not stated.
    pub fn default_scheme(self) -> Scheme {
        let (bits, group_size) = match self {
            Self::Affine => (4, 64),
            Self::Mxfp4 => (4, 32),
            Self::Mxfp8 => (8, 32),
            Self::Nvfp4 => (4, 16),
        };
        Scheme { mode: self, bits, group_size }
    }
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Affine, Self::Mxfp4, Self::Mxfp8, Self::Nvfp4].into_iter().find(|mode| mode.as_str() == name).ok_or(())
    }
}

/// Mode, bits and group size: always a combination that MLX has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Scheme {
    mode: Mode,
    bits: usize,
    group_size: usize,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-bit group {}", self.mode.as_str(), self.bits, self.group_size)
    }
}

/// Why tensors are not the quantized matrix that they are taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// MLX has no such combination.
    #[error(
        "{} {bits}-bit group {group_size}: MLX has affine 2, 3, 4, 5, 6 or 8 bits by 32, 64 or 128, mxfp4 4 by 32, mxfp8 8 by 32, nvfp4 4 by 16",
        .mode.as_str()
    )]
    Unknown {
        /// The mode asked for.
        mode: Mode,
        /// The bits asked for.
        bits: usize,
        /// The group size asked for.
        group_size: usize,
    },
    /// A part has another type.
    #[error("{part} of type {found}: expected {expected}")]
    Dtype {
        /// `weight`, `scales` or `biases`.
        part: &'static str,
        /// Its type.
        found: Dtype,
        /// The types that would fit.
        expected: &'static str,
    },
    /// A part has another shape.
    #[error("{part} of shape {found:?}: expected {expected:?} for {scheme} of {shape:?}")]
    Shape {
        /// `weight`, `scales` or `biases`.
        part: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that would fit.
        expected: Vec<usize>,
        /// The scheme.
        scheme: Scheme,
        /// The matrix's own shape.
        shape: Vec<usize>,
    },
    /// The matrix's width is not a multiple of the group size.
    #[error("width {width}: expected a multiple of the group size of {scheme}")]
    Width {
        /// The width.
        width: usize,
        /// The scheme.
        scheme: Scheme,
    },
    /// Affine without biases, or another mode with them.
    #[error("{}", if *.expected { "no biases: affine needs them" } else { "biases: only affine has them" })]
    Biases {
        /// Whether the mode has biases.
        expected: bool,
    },
    /// Packed and scale widths fit no scheme.
    #[error("weight {weight:?} with scales {scales:?}: fits no quantization of width {width}")]
    Unfit {
        /// The weight's shape.
        weight: Vec<usize>,
        /// The scales' shape.
        scales: Vec<usize>,
        /// The matrix's width.
        width: usize,
    },
    /// A part has another size in bytes.
    #[error("{part} of {found} bytes: expected {expected}")]
    Bytes {
        /// `weight`, `scales` or `biases`.
        part: &'static str,
        /// Its size.
        found: usize,
        /// The size that would fit.
        expected: usize,
    },
}

impl Scheme {
    /// A combination that MLX has.
    ///
    /// # Errors
    /// [`SchemeError::Unknown`].
    pub fn new(mode: Mode, bits: usize, group_size: usize) -> Result<Self, SchemeError> {
        let scheme = Self { mode, bits, group_size };
        let known = match mode {
            Mode::Affine => matches!(bits, 2..=6 | 8) && matches!(group_size, 32 | 64 | 128),
            _ => scheme == mode.default_scheme(),
        };
        if known { Ok(scheme) } else { Err(SchemeError::Unknown { mode, bits, group_size }) }
    }

    /// How a group is coded.
    pub fn mode(self) -> Mode {
        self.mode
    }

    /// Bits of a weight.
    pub fn bits(self) -> usize {
        self.bits
    }

    /// Weights that share a scale.
    pub fn group_size(self) -> usize {
        self.group_size
    }

    /// Checks that the tensors are a matrix of `shape` (`[out, in]`, or `[experts, out, in]`) in this scheme.
    ///
    /// # Errors
    /// The first part whose type or shape does not fit.
    pub fn check(
        self,
        weight: &TensorInfo,
        scales: &TensorInfo,
        biases: Option<&TensorInfo>,
        shape: &[usize],
    ) -> Result<(), SchemeError> {
        let Some((&width, rows)) = shape.split_last() else {
            return Err(self.unfit(weight, scales, 0));
        };
        if !width.is_multiple_of(self.group_size) {
            return Err(SchemeError::Width { width, scheme: self });
        }
        let with_width = |width: usize| [rows, &[width]].concat();
        // Not `width * bits / 32`, which could overflow: the width is a multiple of the group size, which is one of 8.
        let packed = width / 8 * self.bits / 4;
        dtype("weight", weight, |dtype| dtype == Dtype::U32, "U32")?;
        self.shape("weight", weight, with_width(packed), shape)?;
        self.shape("scales", scales, with_width(width / self.group_size), shape)?;
        match (self.mode, biases) {
            (Mode::Affine, Some(biases)) => {
                let float = |dtype| matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
                dtype("scales", scales, float, "F32, F16 or BF16")?;
                dtype("biases", biases, float, "F32, F16 or BF16")?;
                self.shape("biases", biases, scales.shape.clone(), shape)
            }
            (Mode::Affine, None) => Err(SchemeError::Biases { expected: true }),
            (_, None) => dtype("scales", scales, |dtype| dtype == Dtype::U8, "U8"),
            (_, Some(_)) => Err(SchemeError::Biases { expected: false }),
        }
    }

    /// The scheme of a matrix whose width is known, by the shapes of its parts: bits and group size follow from the packed
    /// and the scales' width, the mode from whether there are biases.
    ///
    /// # Errors
    /// [`SchemeError::Unfit`], [`SchemeError::Unknown`].
    pub fn infer(weight: &TensorInfo, scales: &TensorInfo, biases: bool, width: usize) -> Result<Self, SchemeError> {
        let unfit = || SchemeError::Unfit { weight: weight.shape.clone(), scales: scales.shape.clone(), width };
        let (Some(&packed), Some(&groups)) = (weight.shape.last(), scales.shape.last()) else {
            return Err(unfit());
        };
        let exact = |a: usize, b: usize| (b > 0 && a.is_multiple_of(b)).then(|| a / b);
        let bits = packed.checked_mul(32).and_then(|bits| exact(bits, width)).ok_or_else(unfit)?;
        let group_size = exact(width, groups).ok_or_else(unfit)?;
        let mode = match (biases, bits, group_size) {
            (true, ..) => Mode::Affine,
            (false, 4, 16) => Mode::Nvfp4,
            (false, 4, 32) => Mode::Mxfp4,
            (false, 8, 32) => Mode::Mxfp8,
            (false, ..) => return Err(unfit()),
        };
        Self::new(mode, bits, group_size)
    }

    fn unfit(self, weight: &TensorInfo, scales: &TensorInfo, width: usize) -> SchemeError {
        SchemeError::Unfit { weight: weight.shape.clone(), scales: scales.shape.clone(), width }
    }

    fn shape(
        self,
        part: &'static str,
        tensor: &TensorInfo,
        expected: Vec<usize>,
        shape: &[usize],
    ) -> Result<(), SchemeError> {
        if tensor.shape == expected {
            return Ok(());
        }
        Err(SchemeError::Shape { part, found: tensor.shape.clone(), expected, scheme: self, shape: shape.to_vec() })
    }
}

fn dtype(
    part: &'static str,
    tensor: &TensorInfo,
    fits: impl Fn(Dtype) -> bool,
    expected: &'static str,
) -> Result<(), SchemeError> {
    if fits(tensor.dtype) { Ok(()) } else { Err(SchemeError::Dtype { part, found: tensor.dtype, expected }) }
}
