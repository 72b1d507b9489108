//! The tensors that an architecture expects, checked against a checkpoint's headers.

use super::{Checkpoint, TensorInfo};
use crate::quant::Scheme;

/// One or more tensors that an architecture expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A dense tensor.
    Tensor {
        /// Its whole name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A matrix, or stacked matrices: `module.weight`, dense or packed with `.scales` (and `.biases`).
    Module {
        /// The name without `.weight`.
        module: String,
        /// `[out, in]` or `[experts, out, in]`.
        shape: Vec<usize>,
    },
}

impl Expected {
    /// A dense tensor.
    pub fn tensor(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self::Tensor { name: name.into(), shape: shape.into() }
    }

    /// A matrix, dense or packed.
    pub fn module(module: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self::Module { module: module.into(), shape: shape.into() }
    }
}

/// What is missing, by name, and what does not fit, each with the shape found and the shape expected.
pub fn check(checkpoint: &Checkpoint, expected: &[Expected]) -> (Vec<String>, Vec<String>) {
    let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
    let mut compare = |name: &str, shape: &[usize]| match checkpoint.tensor(name) {
        None => missing.push(name.to_owned()),
        Some(info) if info.shape != shape => {
            misshapen.push(format!("{name}: shape {:?}: expected {shape:?}", info.shape));
        }
        Some(_) => {}
    };
    let mut unpackable = Vec::new();
    for expected in expected {
        match expected {
            Expected::Tensor { name, shape } => compare(name, shape),
            Expected::Module { module, shape } => {
                let part = |suffix: &str| checkpoint.tensor(&format!("{module}.{suffix}"));
                match (part("weight"), part("scales")) {
                    (Some(weight), Some(scales)) => {
                        if let Err(error) = fits(weight, scales, part("biases"), shape) {
                            unpackable.push(format!("{module}: {error}"));
                        }
                    }
                    _ => compare(&format!("{module}.weight"), shape),
                }
            }
        }
    }
    misshapen.extend(unpackable);
    (missing, misshapen)
}

fn fits(
    weight: &TensorInfo,
    scales: &TensorInfo,
    biases: Option<&TensorInfo>,
    shape: &[usize],
) -> Result<(), crate::quant::SchemeError> {
    Scheme::infer(weight, scales, biases.is_some(), shape.last().copied().unwrap_or(0))?
        .check(weight, scales, biases, shape)
}
