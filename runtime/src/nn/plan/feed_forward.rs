//! The plans of feed-forward parts: one SwiGLU for all rows, or routed experts, in each layout they are stored in.

use crate::LoadError;
use crate::artifact::Checkpoint;
use crate::artifact::expected::Expected;
use crate::kernels::routing::RouterParams;
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
    /// `gate_up_proj` and `down_proj`, stacked, gates first: Qwen3.5 as published.
    Joined(StackedModule),
    /// `gate_proj`, `up_proj` and `down_proj`, stacked.
    Stacked(StackedModule),
}

/// The module of stacked experts: MLX's `switch_mlp`, or `experts`.
struct StackedModule {
    module: String,
    /// Behind a projection's name; without it there is no packed form.
    suffix: &'static str,
}

impl StackedModule {
    fn expected(&self, name: &str, shape: [usize; 3]) -> Expected {
        let module = format!("{}.{name}", self.module);
        if self.suffix.is_empty() { Expected::tensor(module, shape) } else { Expected::module(module, shape) }
    }

    fn load(&self, weights: &Weights<'_>, name: &str, shape: [usize; 3]) -> Result<Weight, LoadError> {
        let module = format!("{}.{name}", self.module);
        if self.suffix.is_empty() {
            Ok(Weight::Dense(weights.tensor(&module, &shape)?))
        } else {
            weights.weight(&module, &shape)
        }
    }
}

/// Gates and ups of a layer's experts in one.
const GATE_UP: &str = "gate_up_proj";

impl MoePlan {
    /// The usual names of numbered experts.
    pub const NUMBERED: [&'static str; 3] = PROJECTIONS;

    /// A layer without any expert is taken to lack what the others have: numbered ones, unless those are MLX's.
    fn layout(&self, checkpoint: &Checkpoint, mlp: &str) -> Layout {
        let converted = || checkpoint.tensors().any(|(name, _)| name.contains(".switch_mlp."));
        let [gate, up, down] = PROJECTIONS;
        // Where one of them is missing the others tell.
        let found = |names: &[&str]| {
            let places = ["experts", "switch_mlp"].into_iter().flat_map(|part| ["", ".weight"].map(|end| (part, end)));
            let has =
                |part: &str, name: &str, end: &str| checkpoint.tensor(&format!("{mlp}.{part}.{name}{end}")).is_some();
            let mut places = places.filter(|(part, end)| names.iter().any(|name| has(part, name, end)));
            places.next().map(|(part, suffix)| StackedModule { module: format!("{mlp}.{part}"), suffix })
        };
        let first = self.numbered.map(|name| format!("{mlp}.experts.0.{name}.weight"));
        if let Some(place) = found(&[GATE_UP]) {
            Layout::Joined(place)
        } else if let Some(place) = found(&[gate, up]) {
            Layout::Stacked(place)
        } else if let Some(place) = found(&[down]) {
            if place.suffix.is_empty() { Layout::Joined(place) } else { Layout::Stacked(place) }
        } else if first.iter().any(|name| checkpoint.tensor(name).is_some()) || !converted() {
            Layout::Numbered
        } else {
            Layout::Stacked(StackedModule { module: format!("{mlp}.switch_mlp"), suffix: ".weight" })
        }
    }

    fn expert(&self) -> SwiGluPlan {
        SwiGluPlan { hidden: self.hidden, intermediate: self.intermediate }
    }

    /// `[experts, out, in]` of gate, up and down.
    fn stacked(&self) -> [(&'static str, [usize; 3]); 3] {
        let shapes = self.expert().shapes();
        std::array::from_fn(|i| (PROJECTIONS[i], [self.experts, shapes[i][0], shapes[i][1]]))
    }

    /// The same of gate and up in one, and of down.
    fn joined(&self) -> [(&'static str, [usize; 3]); 2] {
        let [_, (_, [experts, intermediate, hidden]), down] = self.stacked();
        [(GATE_UP, [experts, 2 * intermediate, hidden]), down]
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
            Layout::Joined(place) => list.extend(self.joined().map(|(name, shape)| place.expected(name, shape))),
            Layout::Stacked(place) => list.extend(self.stacked().map(|(name, shape)| place.expected(name, shape))),
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
        let params = RouterParams { scoring, top_k: self.top_k, normalize: self.normalize };
        Ok(Router { gate, params })
    }

    fn load_experts(&self, weights: &Weights<'_>, mlp: &str) -> Result<SwitchGlu, LoadError> {
        let [gate, up, down] = match self.layout(weights.checkpoint(), mlp) {
            Layout::Joined(place) => {
                let [gate_up, down] = self.joined().map(|(name, shape)| place.load(weights, name, shape));
                let (joined, middle) = (gate_up?, self.intermediate as i32);
                [joined.slice_rows(0, middle)?, joined.slice_rows(middle, 2 * middle)?, down?]
            }
            Layout::Stacked(place) => {
                let [gate, up, down] = self.stacked().map(|(name, shape)| place.load(weights, name, shape));
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
    /// One block of `intermediate` features for every row.
    pub fn dense(hidden: usize, intermediate: usize) -> Self {
        Self::Dense(SwiGluPlan { hidden, intermediate })
    }

    /// Features that its linears put out for a row, and the numbers of the largest of them; of routed experts, those that a row uses.
    pub(super) fn pass_size(&self) -> (usize, usize) {
        let of = |block: &SwiGluPlan| (2 * block.intermediate + block.hidden, block.intermediate * block.hidden);
        match self {
            Self::Dense(plan) => of(plan),
            Self::Sparse(plan) => {
                let (expert, one) = of(&plan.expert());
                let (shared, other) = plan.shared.as_ref().map_or((0, 0), |shared| of(&plan.shared(shared)));
                (plan.experts + plan.top_k.saturating_mul(expert) + shared, one.max(other))
            }
        }
    }

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
