//! Sparse mixtures of experts: a router picks a few experts for every row; a shared expert may serve all of them.

use mlx_rs::ops::indexing::topk_axis;
use mlx_rs::{Dtype, ops};

use super::mlp::{SwiGlu, silu};
use super::{Addend, Input};
use crate::kernels::experts::Mixture;
use crate::mlx::{QuantizedWeight, cuda_default, slice_axis};
use crate::quant::{Experts, Fused, Linear};
use crate::{Array, Result};

/// How a router turns its logits into choices.
#[derive(Debug, Clone)]
pub enum Scoring {
    /// The softmax over all experts; the largest are chosen.
    Softmax,
    /// A sigmoid of each logit. A correction decides who is chosen and takes no part in the weights (DeepSeek-V3, arXiv
    /// 2412.19437, section 2.1.2: balancing without an auxiliary loss).
    Sigmoid {
        /// `e_score_correction_bias`, `[experts]` f32: in fewer bits it would change choices.
        correction: Array,
        /// Experts are chosen within the best groups only.
        groups: Option<Groups>,
        /// A factor on the weights, applied last.
        scale: f32,
    },
}

/// Group-limited routing: experts form `count` groups in order; a group is worth the sum of its two best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Groups of as many experts each.
    pub count: usize,
    /// Groups a row may use.
    pub kept: usize,
}

/// Scores of experts and the choice among them, in f32.
#[derive(Debug, Clone)]
pub struct Router {
    /// `[experts, hidden]`.
    pub gate: Linear,
    /// Scores and choices.
    pub scoring: Scoring,
    /// Experts a row.
    pub top_k: usize,
    /// Whether the chosen weights are made to sum to one.
    pub normalize: bool,
}

impl Router {
    /// `[n, hidden]` -> `[n, experts]`, in f32 where the references compute them so.
    pub fn logits(&self, x: &Array) -> Result<Array> {
        match self.scoring {
            Scoring::Softmax => self.gate.forward(x),
            Scoring::Sigmoid { .. } => self.gate.forward(&x.as_dtype(Dtype::Float32)?),
        }
    }

    /// Logits `[n, experts]` -> chosen experts `[n, k]` uint32, in no order, and their weights `[n, k]` f32.
    pub fn choose(&self, logits: &Array) -> Result<(Array, Array)> {
        let logits = logits.as_dtype(Dtype::Float32)?;
        match &self.scoring {
            Scoring::Softmax => {
                let scores = ops::softmax_axis(&logits, -1, true)?;
                let chosen = largest(&scores, self.top_k)?;
                let weights = scores.take_along_axis(&chosen, -1)?;
                let weights = if self.normalize { weights.divide(weights.sum_axis(-1, true)?)? } else { weights };
                Ok((chosen, weights))
            }
            Scoring::Sigmoid { correction, groups, scale } => {
                let scores = ops::sigmoid(&logits)?;
                let corrected = scores.add(correction)?;
                let corrected = groups.map_or(Ok(corrected.clone()), |groups| groups.limit(&corrected))?;
                let chosen = largest(&corrected, self.top_k)?;
                let weights = scores.take_along_axis(&chosen, -1)?;
                let weights = if self.normalize {
                    // The sum of sigmoids may be nothing; the references add the same.
                    weights.divide(weights.sum_axis(-1, true)?.add(Array::from_f32(1e-20))?)?
                } else {
                    weights
                };
                let weights = if *scale == 1.0 { weights } else { weights.multiply(Array::from_f32(*scale))? };
                Ok((chosen, weights))
            }
        }
    }
}

/// The indices of the `k` largest along the last axis, in no order.
fn largest(scores: &Array, k: usize) -> Result<Array> {
    let chosen = ops::argpartition_axis(scores.negative()?, k as i32 - 1, -1)?;
    slice_axis(&chosen, scores.ndim() - 1, 0, k as i32)
}

impl Groups {
    /// `[n, experts]` -> the same, with -inf outside the best groups: a corrected score may well be below zero.
    fn limit(self, scores: &Array) -> Result<Array> {
        if self.kept >= self.count {
            return Ok(scores.clone());
        }
        let shape = scores.shape();
        let grouped = scores.reshape(&[shape[0], self.count as i32, -1])?;
        let best = topk_axis(&grouped, grouped.dim(2).min(2), -1)?.sum_axis(-1, false)?; // [n, groups]
        let dropped = largest(&best.negative()?, self.count - self.kept)?.expand_dims(-1)?;
        grouped.put_along_axis(dropped, Array::from_f32(f32::NEG_INFINITY), 1)?.reshape(shape)
    }
}

/// SwiGLU experts, stacked: `[experts, out, in]` each.
#[derive(Debug, Clone)]
pub struct SwitchGlu {
    /// Gate projections.
    pub gate: Experts,
    /// Up projections.
    pub up: Experts,
    /// Down projections.
    pub down: Experts,
}

impl SwitchGlu {
    /// `x` `[n, hidden]`, `chosen` `[n, k]` -> `[n, k, hidden]`.
    pub fn forward(&self, x: &Array, chosen: &Array) -> Result<Array> {
        let x = x.expand_dims_axes(&[1, 2])?; // [n, 1, 1, hidden]
        let gate = self.gate.forward(&x, chosen)?; // [n, k, 1, intermediate]
        let up = self.up.forward(&x, chosen)?;
        self.down.forward(&silu(&gate)?.multiply(&up)?, chosen)?.squeeze_axes(&[2])
    }
}

/// A routed block with an optional shared expert, itself gated or not.
#[derive(Debug, Clone)]
pub struct SparseMoe {
    router: Router,
    experts: SwitchGlu,
    shared: Option<SwiGlu>,
    shared_gate: Option<Linear>,
    /// The router's gate and the shared expert's in one product, for the kernels.
    gates: Option<Fused>,
    /// The shared expert as stored, for the kernels.
    stored: Option<[QuantizedWeight; 2]>,
}

impl SparseMoe {
    /// `shared` serves every row, under the sigmoid of `shared_gate` `[1, hidden]` where there is one.
    pub fn new(
        router: Router,
        experts: SwitchGlu,
        shared: Option<SwiGlu>,
        shared_gate: Option<Linear>,
    ) -> Result<Self> {
        let gates = match (&router.scoring, &shared_gate) {
            (Scoring::Softmax, Some(gate)) if cuda_default() => Some(vec![router.gate.clone(), gate.clone()]),
            _ => None,
        };
        let stored = shared.as_ref().filter(|_| cuda_default()).map(SwiGlu::packed).transpose()?.flatten();
        Ok(Self { router, experts, shared, shared_gate, gates: gates.map(Fused::new).transpose()?, stored })
    }

    /// `[n, hidden]` -> `[n, hidden]` f32.
    pub fn forward(&self, x: Input<'_>) -> Result<Addend> {
        let mixture = self.mixture();
        if let (Some(mixture), Some(gates)) = (&mixture, &self.gates) {
            let x = x.normed(gates)?;
            if mixture.served(x.parts().0)
                && let Some(both) = gates.joined(&x)
            {
                let both = both?;
                return mixture.forward(&x, &both, Some(&both)).map(Addend::Experts);
            }
            return self.forward_rows(&x.rows()?, Some(*mixture));
        }
        self.forward_rows(&x.rows()?, mixture)
    }

    fn forward_rows(&self, x: &Array, mixture: Option<Mixture<'_>>) -> Result<Addend> {
        let logits = self.router.logits(x)?;
        let gate = self.shared_gate.as_ref().map(|gate| gate.forward(x)).transpose()?;
        match mixture.filter(|mixture| mixture.served(x)) {
            Some(mixture) => mixture.forward(&x.clone().into(), &logits, gate.as_ref()).map(Addend::Experts),
            None => self.by_operations(x, &logits, gate.as_ref()).map(Addend::Rows),
        }
    }

    /// The same from the router's logits `[n, experts]` and those of the gate on the shared expert `[n, 1]`, with MLX's operations.
    pub(crate) fn by_operations(&self, x: &Array, logits: &Array, shared_gate: Option<&Array>) -> Result<Array> {
        let (chosen, weights) = self.router.choose(logits)?;
        let outputs = self.experts.forward(x, &chosen)?;
        let routed = outputs.multiply(weights.expand_dims(-1)?)?.sum_axis(1, false)?; // f32, as the weights are
        let Some(shared) = &self.shared else { return Ok(routed) };
        let shared = shared.forward(&x.clone().into())?.rows()?;
        let shared = match shared_gate {
            Some(gate) => ops::sigmoid(gate)?.multiply(shared)?,
            None => shared,
        };
        routed.add(shared)
    }

    /// As the kernels take it, where everything is packed.
    fn mixture(&self) -> Option<Mixture<'_>> {
        let SwitchGlu { gate, up, down } = &self.experts;
        let shared = match &self.shared {
            Some(_) => Some(self.stored.as_ref()?.each_ref()),
            None => None,
        };
        Some(Mixture { router: &self.router, experts: [gate.packed()?, up.packed()?, down.packed()?], shared })
    }
}

/// The feed-forward part of a layer.
#[derive(Debug, Clone)]
pub enum FeedForward {
    /// One block for every row.
    Dense(SwiGlu),
    /// Routed.
    Sparse(Box<SparseMoe>),
}

impl FeedForward {
    /// `[n, hidden]` -> `[n, hidden]`.
    pub fn forward(&self, x: Input<'_>) -> Result<Addend> {
        match self {
            Self::Dense(mlp) => mlp.forward(&x.normed(mlp.inputs())?),
            Self::Sparse(moe) => moe.forward(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Weight;

    /// Six experts in three groups; the gate is the identity, so a row is its own logits.
    fn chosen(correction: [f32; 6], groups: Option<Groups>, logits: [f32; 6]) -> (Vec<u32>, f32) {
        let identity = ops::eye::<f32>(6, None, None).unwrap();
        let correction = Array::from_slice(&correction, &[6]);
        let scoring = Scoring::Sigmoid { correction, groups, scale: 2.5 };
        let gate = Linear::new(Weight::Dense(identity), None).unwrap();
        let router = Router { gate, scoring, top_k: 2, normalize: true };
        let x = Array::from_slice(&logits, &[1, 6]);
        let (chosen, weights) = router.choose(&router.logits(&x).unwrap()).unwrap();
        let mut chosen = chosen.as_slice::<u32>().to_vec();
        chosen.sort_unstable();
        (chosen, weights.sum(None).unwrap().item_exact::<f32>())
    }

    #[test]
    fn a_group_is_worth_its_two_best() {
        let logits = [3.0, -3.0, 1.0, 1.0, 2.0, -3.0];
        let one = Groups { count: 3, kept: 1 };
        assert_eq!(chosen([0.0; 6], None, logits).0, [0, 4]);
        assert_eq!(chosen([0.0; 6], Some(one), logits).0, [2, 3]);
        assert_eq!(chosen([0.0; 6], Some(Groups { count: 3, kept: 2 }), logits).0, [0, 2]);
    }

    #[test]
    fn corrections_choose_and_do_not_weigh() {
        let logits = [0.0; 6];
        let (chosen, sum) = chosen([0.0, 0.0, 0.0, 0.2, 0.0, 0.1], None, logits);
        assert_eq!(chosen, [3, 5]);
        assert!((sum - 2.5).abs() < 1e-6, "weights add up to the scale: {sum}");
    }

    /// A group that is out stays out where every corrected score is below zero.
    #[test]
    fn dropped_groups_lose_against_negative_scores() {
        let one = Some(Groups { count: 3, kept: 1 });
        assert_eq!(chosen([-9.0, -9.0, -8.0, -8.0, -9.0, -9.0], one, [0.0; 6]).0, [2, 3]);
    }
}
