//! Sparse mixtures of experts: a router picks a few experts for every row; a shared expert may serve all of them.

use mlx_rs::{Dtype, ops};

use super::mlp::SwiGlu;
use super::residual::{BlockInput, BlockOutput};
use crate::kernels::experts::Mixture;
use crate::kernels::routing::{RouterParams, Scoring};
use crate::mlx::{QuantizedWeight, cuda_default, silu};
use crate::quant::{Experts, Fused, Linear};
use crate::{Array, Result};

/// Scores of experts and the choice among them, in f32.
#[derive(Debug, Clone)]
pub struct Router {
    /// `[experts, hidden]`.
    pub gate: Linear,
    /// Scores and choices.
    pub params: RouterParams,
}

impl Router {
    /// `[n, hidden]` -> `[n, experts]`, in f32 where the references compute them so.
    pub fn logits(&self, x: &Array) -> Result<Array> {
        match self.params.scoring {
            Scoring::Softmax => self.gate.forward(x),
            Scoring::Sigmoid { .. } => self.gate.forward(&x.as_dtype(Dtype::Float32)?),
        }
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
        Ok(self.down.forward(&silu(&gate)?.multiply(&up)?, chosen)?.squeeze_axes(&[2])?)
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
        let gates = match (&router.params.scoring, &shared_gate) {
            (Scoring::Softmax, Some(gate)) if cuda_default() => Some(vec![router.gate.clone(), gate.clone()]),
            _ => None,
        };
        let stored = shared.as_ref().filter(|_| cuda_default()).map(SwiGlu::packed).transpose()?.flatten();
        Ok(Self { router, experts, shared, shared_gate, gates: gates.map(Fused::new).transpose()?, stored })
    }

    /// `[n, hidden]` -> `[n, hidden]` f32.
    pub fn forward(&self, x: BlockInput<'_>) -> Result<BlockOutput> {
        let mixture = self.mixture();
        if let (Some(mixture), Some(gates)) = (&mixture, &self.gates) {
            let x = x.normed(gates)?;
            if mixture.served(x.parts().0)
                && let Some(both) = gates.joined(&x)
            {
                let both = both?;
                return mixture.forward(&x, &both, Some(&both)).map(BlockOutput::Experts);
            }
            return self.forward_rows(&x.rows()?, Some(*mixture));
        }
        self.forward_rows(&x.rows()?, mixture)
    }

    fn forward_rows(&self, x: &Array, mixture: Option<Mixture<'_>>) -> Result<BlockOutput> {
        let logits = self.router.logits(x)?;
        let gate = self.shared_gate.as_ref().map(|gate| gate.forward(x)).transpose()?;
        match mixture.filter(|mixture| mixture.served(x)) {
            Some(mixture) => mixture.forward(&x.clone().into(), &logits, gate.as_ref()).map(BlockOutput::Experts),
            None => self.by_operations(x, &logits, gate.as_ref()).map(BlockOutput::Rows),
        }
    }

    /// The same from the router's logits `[n, experts]` and those of the gate on the shared expert `[n, 1]`, with MLX's operations.
    pub(crate) fn by_operations(&self, x: &Array, logits: &Array, shared_gate: Option<&Array>) -> Result<Array> {
        let (chosen, weights) = self.router.params.choose(logits)?;
        let outputs = self.experts.forward(x, &chosen)?;
        let routed = outputs.multiply(weights.expand_dims(-1)?)?.sum_axis(1, false)?; // f32, as the weights are
        let Some(shared) = &self.shared else { return Ok(routed) };
        let shared = shared.forward(&x.clone().into())?.rows()?;
        let shared = match shared_gate {
            Some(gate) => ops::sigmoid(gate)?.multiply(shared)?,
            None => shared,
        };
        Ok(routed.add(shared)?)
    }

    /// As the kernels take it, where everything is packed.
    fn mixture(&self) -> Option<Mixture<'_>> {
        let SwitchGlu { gate, up, down } = &self.experts;
        let shared = match &self.shared {
            Some(_) => Some(self.stored.as_ref()?.each_ref()),
            None => None,
        };
        Some(Mixture { router: &self.router.params, experts: [gate.packed()?, up.packed()?, down.packed()?], shared })
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
    pub fn forward(&self, x: BlockInput<'_>) -> Result<BlockOutput> {
        match self {
            Self::Dense(mlp) => mlp.forward(&x.normed(mlp.inputs())?),
            Self::Sparse(moe) => moe.forward(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::routing::Groups;
    use crate::quant::Weight;

    /// Six experts in three groups; the gate is the identity, so a row is its own logits.
    fn chosen(correction: [f32; 6], groups: Option<Groups>, logits: [f32; 6]) -> (Vec<u32>, f32) {
        let identity = ops::eye::<f32>(6, None, None).unwrap();
        let correction = Array::from_slice(&correction, &[6]);
        let scoring = Scoring::Sigmoid { correction, groups, scale: 2.5 };
        let gate = Linear::new(Weight::Dense(identity), None).unwrap();
        let params = RouterParams { scoring, top_k: 2, normalize: true };
        let router = Router { gate, params };
        let x = Array::from_slice(&logits, &[1, 6]);
        let (chosen, weights) = router.params.choose(&router.logits(&x).unwrap()).unwrap();
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
