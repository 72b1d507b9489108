//! The gated feed-forward block (Shazeer 2020, arXiv 2002.05202): `down(silu(gate x) * up x)`.

use super::BlockOutput;
use crate::Result;
use crate::mlx::{QuantizedWeight, silu};
use crate::quant::{Fused, Linear, NormedRows};

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
    pub fn forward(&self, x: &NormedRows) -> Result<BlockOutput> {
        if let Some(product) = self.gate_up.swiglu(x) {
            return BlockOutput::product(&self.down, product?);
        }
        let parts = self.gate_up.forward(x)?;
        BlockOutput::product(&self.down, silu(&parts[0])?.multiply(&parts[1])?)
    }
}
