//! The plans of feed-forward parts: one SwiGLU for all rows, or routed experts, in each layout they are stored in.

use crate::artifact::expected::Expected;
use crate::artifact::{Checkpoint, LoadError};
use crate::mlx::slice_axis;
use crate::nn::{FeedForward, Groups, Router, Scoring, SparseMoe, SwiGlu, SwitchGlu, Weights};
use crate::quant::{Experts, Linear, Weight};

/// Gate, up and down, by their usual names.
const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// A gated feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwiGluPlan {
    /// Width of the layer.
    pub hidden: usize,
    /// Width within.
    pub intermediate: usize,
}

impl SwiGluPlan {
    /// `[out, in]` of gate, up and down.
    fn shapes(&self) -> [[usize; 2]; 3] {
        let (hidden, intermediate) = (self.hidden, self.intermediate);
        [[intermediate, hidden], [intermediate, hidden], [hidden, intermediate]]
    }

    fn modules(&self, module: &str, names: [&str; 3]) -> [(String, [usize; 2]); 3] {
        let shapes = self.shapes();
        std::array::from_fn(|i| (format!("{module}.{}", names[i]), shapes[i]))
    }

    /// Adds the tensors under `module` to `list`.
    pub fn expected(&self, module: &str, list: &mut Vec<Expected>) {
        list.extend(self.modules(module, PROJECTIONS).map(|(name, shape)| Expected::module(name, shape)));
    }

    /// Reads them.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    pub fn load(&self, weights: &Weights<'_>, module: &str) -> Result<SwiGlu, LoadError> {
        let [gate, up, down] =
            self.modules(module, PROJECTIONS).map(|(name, [out, input])| weights.linear(&name, out, input, false));
        Ok(SwiGlu::new(gate?, up?, down?)?)
    }
}

/// How a router scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RouterPlan {
    /// [`Scoring::Softmax`].
    Softmax,
    /// [`Scoring::Sigmoid`].
    Sigmoid {
        /// The tensor of the correction, under the feed-forward module.
        correction: &'static str,
        /// Groups, where choices are limited to some.
        groups: Option<Groups>,
        /// A factor on the weights.
        scale: f32,
    },
}

/// An expert for every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedPlan {
    /// Its module, under the feed-forward module.
    pub module: &'static str,
    /// Its width.
    pub intermediate: usize,
    /// The linear of its gate, `[1, hidden]`, where it has one.
    pub gate: Option<&'static str>,
}

/// Routed experts. The router's linear is `gate`.
#[derive(Debug, Clone, PartialEq)]
pub struct MoePlan {
    /// Width of the layer.
    pub hidden: usize,
    /// How many experts.
    pub experts: usize,
    /// Width of an expert.
    pub intermediate: usize,
    /// Experts a row.
    pub top_k: usize,
    /// Whether the chosen weights are made to sum to one.
    pub normalize: bool,
    /// How they are scored.
    pub router: RouterPlan,
    /// An expert for every row.
    pub shared: Option<SharedPlan>,
    /// What numbered experts call gate, up and down.
    pub numbered: [&'static str; 3],
}

/// How a layer's experts are stored.
enum Layout {
    /// `experts.E.gate_proj.weight`: most families as published.
    Numbered,
    /// `experts.gate_up_proj` and `experts.down_proj`, stacked: Qwen3.5 as published.
    Joined,
    /// `MODULE.gate_proj.weight` and so on, stacked: MLX's `switch_mlp`, or `experts`.
    Stacked(String),
}

impl MoePlan {
    /// The usual names of numbered experts.
    pub const NUMBERED: [&'static str; 3] = PROJECTIONS;

    /// A layer without any expert is taken to lack what the others have: numbered ones, unless those are MLX's.
    fn layout(&self, checkpoint: &Checkpoint, mlp: &str) -> Layout {
        let has = |name: &str| checkpoint.tensor(name).is_some();
        let converted = || checkpoint.tensors().any(|(name, _)| name.contains(".switch_mlp."));
        let any =
            |module: &str, names: [&str; 3]| names.iter().any(|name| has(&format!("{mlp}.{module}.{name}.weight")));
        if has(&format!("{mlp}.experts.gate_up_proj")) || has(&format!("{mlp}.experts.down_proj")) {
            Layout::Joined
        } else if any("experts", PROJECTIONS) {
            Layout::Stacked(format!("{mlp}.experts"))
        } else if any("experts.0", self.numbered) || !(any("switch_mlp", PROJECTIONS) || converted()) {
            Layout::Numbered
        } else {
            Layout::Stacked(format!("{mlp}.switch_mlp"))
        }
    }

    fn expert(&self) -> SwiGluPlan {
        SwiGluPlan { hidden: self.hidden, intermediate: self.intermediate }
    }

    fn stacked(&self, module: &str) -> [(String, [usize; 3]); 3] {
        self.expert().modules(module, PROJECTIONS).map(|(name, [out, input])| (name, [self.experts, out, input]))
    }

    /// `experts.gate_up_proj` `[experts, 2 * intermediate, hidden]`, gates first, and `experts.down_proj`: names without
    /// `.weight`.
    fn joined(&self, mlp: &str) -> [(String, [usize; 3]); 2] {
        let (experts, hidden, intermediate) = (self.experts, self.hidden, self.intermediate);
        [
            (format!("{mlp}.experts.gate_up_proj"), [experts, 2 * intermediate, hidden]),
            (format!("{mlp}.experts.down_proj"), [experts, hidden, intermediate]),
        ]
    }

    /// Adds the tensors under `mlp` to `list`.
    pub fn expected(&self, checkpoint: &Checkpoint, mlp: &str, list: &mut Vec<Expected>) {
        list.push(Expected::module(format!("{mlp}.gate"), [self.experts, self.hidden]));
        if let RouterPlan::Sigmoid { correction, .. } = self.router {
            list.push(Expected::tensor(format!("{mlp}.{correction}"), [self.experts]));
        }
        match self.layout(checkpoint, mlp) {
            Layout::Numbered => {
                for expert in 0..self.experts {
                    let modules = self.expert().modules(&format!("{mlp}.experts.{expert}"), self.numbered);
                    list.extend(modules.map(|(name, shape)| Expected::module(name, shape)));
                }
            }
            Layout::Joined => {
                list.extend(self.joined(mlp).map(|(name, shape)| Expected::tensor(name, shape)));
            }
            Layout::Stacked(module) => {
                list.extend(self.stacked(&module).map(|(name, shape)| Expected::module(name, shape)));
            }
        }
        if let Some(shared) = &self.shared {
            self.shared(shared).expected(&format!("{mlp}.{}", shared.module), list);
            list.extend(shared.gate.map(|gate| Expected::module(format!("{mlp}.{gate}"), [1, self.hidden])));
        }
    }

    fn shared(&self, shared: &SharedPlan) -> SwiGluPlan {
        SwiGluPlan { hidden: self.hidden, intermediate: shared.intermediate }
    }

    /// Reads them.
    ///
    /// # Errors
    /// A tensor is missing or does not fit; experts of one layer are packed in different ways.
    pub fn load(&self, weights: &Weights<'_>, mlp: &str) -> Result<SparseMoe, LoadError> {
        let shared = self.shared.as_ref();
        let shared_gate = shared.and_then(|shared| shared.gate);
        let router = self.router(weights, mlp)?;
        let experts = self.load_experts(weights, mlp)?;
        let gate =
            shared_gate.map(|gate| weights.linear(&format!("{mlp}.{gate}"), 1, self.hidden, false)).transpose()?;
        let shared =
            shared.map(|shared| self.shared(shared).load(weights, &format!("{mlp}.{}", shared.module))).transpose()?;
        Ok(SparseMoe::new(router, experts, shared, gate)?)
    }

    fn router(&self, weights: &Weights<'_>, mlp: &str) -> Result<Router, LoadError> {
        let (experts, hidden, gate) = (self.experts, self.hidden, format!("{mlp}.gate"));
        let (gate, scoring) = match self.router {
            RouterPlan::Softmax => (weights.linear(&gate, experts, hidden, false)?, Scoring::Softmax),
            RouterPlan::Sigmoid { correction, groups, scale } => {
                let correction = weights.f32(&format!("{mlp}.{correction}"), &[experts])?;
                // The references compute these logits in f32: small differences between them decide.
                let gate = Linear::new(Weight::Dense(weights.unpacked_f32(&gate, &[experts, hidden])?), None)?;
                (gate, Scoring::Sigmoid { correction, groups, scale })
            }
        };
        Ok(Router { gate, scoring, top_k: self.top_k, normalize: self.normalize })
    }

    fn load_experts(&self, weights: &Weights<'_>, mlp: &str) -> Result<SwitchGlu, LoadError> {
        let [gate, up, down] = match self.layout(weights.checkpoint(), mlp) {
            Layout::Joined => {
                let [(gate_up, gate_up_shape), (down, down_shape)] = self.joined(mlp);
                let joined = weights.tensor(&gate_up, &gate_up_shape)?;
                let half = |start: usize| -> Result<Weight, LoadError> {
                    let end = start + self.intermediate;
                    let part = slice_axis(&joined, 1, start as i32, end as i32)?.contiguous()?;
                    part.eval()?;
                    Ok(Weight::Dense(part))
                };
                [half(0)?, half(self.intermediate)?, Weight::Dense(weights.tensor(&down, &down_shape)?)]
            }
            Layout::Stacked(module) => {
                let [gate, up, down] = self.stacked(&module).map(|(name, shape)| weights.weight(&name, &shape));
                [gate?, up?, down?]
            }
            Layout::Numbered => {
                let stacked = |projection: usize| -> Result<Weight, LoadError> {
                    let one = |expert: usize| {
                        let name = self.numbered[projection];
                        let shape = self.expert().shapes()[projection];
                        weights.weight(&format!("{mlp}.experts.{expert}.{name}"), &shape)
                    };
                    Ok(Weight::stack(&(0..self.experts).map(one).collect::<Result<Vec<_>, _>>()?)?)
                };
                [stacked(0)?, stacked(1)?, stacked(2)?]
            }
        };
        Ok(SwitchGlu { gate: Experts(gate), up: Experts(up), down: Experts(down) })
    }
}

/// The feed-forward part of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedForwardPlan {
    /// One block for every row.
    Dense(SwiGluPlan),
    /// Routed.
    Sparse(MoePlan),
}

impl FeedForwardPlan {
    /// Adds the tensors under `mlp` to `list`.
    pub fn expected(&self, checkpoint: &Checkpoint, mlp: &str, list: &mut Vec<Expected>) {
        match self {
            Self::Dense(plan) => plan.expected(mlp, list),
            Self::Sparse(plan) => plan.expected(checkpoint, mlp, list),
        }
    }

    /// Reads them.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    pub fn load(&self, weights: &Weights<'_>, mlp: &str) -> Result<FeedForward, LoadError> {
        Ok(match self {
            Self::Dense(plan) => FeedForward::Dense(plan.load(weights, mlp)?),
            Self::Sparse(plan) => FeedForward::Sparse(Box::new(plan.load(weights, mlp)?)),
        })
    }
}
