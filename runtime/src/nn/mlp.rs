//! The gated feed-forward block (Shazeer 2020, arXiv 2002.05202): `down(silu(gate x) * up x)`.

use mlx_rs::ops;

use super::Addend;
use crate::mlx::QuantizedWeight;
use crate::quant::{Fused, Linear, Normed};
use crate::{Array, Result};

/// `x sigmoid(x)`. Not mlx-rs's own, which is compiled: on CPU that would call a C++ compiler at run time.
pub fn silu(x: &Array) -> Result<Array> {
    ops::sigmoid(x)?.multiply(x)
}

/// `down(silu(gate x) * up x)`, gate and up in one product where they can be.
#[derive(Debug, Clone)]
pub struct SwiGlu {
    gate_up: Fused,
    down: Linear,
}

impl SwiGlu {
    /// From the three projections.
    pub fn new(gate: Linear, up: Linear, down: Linear) -> Result<Self> {
        Ok(Self { gate_up: Fused::new(vec![gate, up])?, down })
    }

    /// The gate above the up projection, and the down projection, as stored, where they are packed.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn packed(&self) -> Result<Option<[QuantizedWeight; 2]>> {
        let Some(gate_up) = self.gate_up.halves() else { return Ok(None) };
        Ok(gate_up.packed()?.zip(self.down.packed()?).map(|(gate_up, down)| [gate_up, down]))
    }

    /// Gate and up.
    pub fn inputs(&self) -> &Fused {
        &self.gate_up
    }

    /// `[n, hidden]` -> `[n, hidden]`.
    pub fn forward(&self, x: &Normed) -> Result<Addend> {
        if let Some(product) = self.gate_up.swiglu(x) {
            return Addend::product(&self.down, product?);
        }
        let parts = self.gate_up.forward(x)?;
        Addend::product(&self.down, silu(&parts[0])?.multiply(&parts[1])?)
    }
}
