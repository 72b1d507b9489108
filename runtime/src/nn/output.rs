//! The end of a trunk: the final norm and the head.

use super::{LmHead, Residual, RmsNorm};
use crate::artifact::HiddenVariant;
use crate::{Array, Result};

/// Turns what the last layer put out into hidden states, as a draft head is fed them, and those into logits.
pub struct Output {
    norm: RmsNorm,
    lm_head: LmHead,
    variant: HiddenVariant,
}

impl Output {
    /// With hidden states as the checkpoint's contract asks for them (`mtp_contract.base_hidden_variant`).
    pub fn new(norm: RmsNorm, lm_head: LmHead, variant: Option<HiddenVariant>) -> Self {
        Self { norm, lm_head, variant: variant.unwrap_or_default() }
    }

    /// Which hidden states these are.
    pub fn variant(&self) -> HiddenVariant {
        self.variant
    }

    /// The head, which draft heads share.
    pub fn lm_head(&self) -> &LmHead {
        &self.lm_head
    }

    /// What the layers added up to -> hidden states `[n, hidden]`.
    pub fn hidden(&self, mut x: Residual) -> Result<Array> {
        match self.variant {
            HiddenVariant::PostNorm => x.norm(&self.norm),
            HiddenVariant::PreNorm => x.sum(),
        }
    }

    /// Hidden states `[n, hidden]` -> logits `[n, vocab]`, f32.
    pub fn logits(&self, hidden: &Array) -> Result<Array> {
        match self.variant {
            HiddenVariant::PostNorm => self.lm_head.forward(hidden),
            HiddenVariant::PreNorm => self.lm_head.forward(&self.norm.forward(hidden)?),
        }
    }
}
