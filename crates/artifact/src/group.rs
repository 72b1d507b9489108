//! Module groups: what a policy may speak of, and what a plan's table is summed by.

use std::fmt;
use std::str::FromStr;

/// Where an output belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The shards.
    Trunk,
    /// The draft head's own file.
    Head,
    /// Files of vision parts.
    Vision,
}

/// What a tensor is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Token embeddings.
    Embedding,
    /// Linears of Gated DeltaNet layers.
    LinearAttn,
    /// Linears of attention layers.
    SelfAttn,
    /// Linears of dense feed-forward blocks.
    Mlp,
    /// Stacked experts.
    Experts,
    /// Linears of the experts for every row.
    SharedExpert,
    /// Linears that choose or weigh experts.
    Router,
    /// The output head.
    LmHead,
    /// Norms, convolutions, biases and the like: never packed.
    Small,
    /// The draft head's projection of embedding and hidden state.
    MtpFc,
    /// Linears of the draft head's layers.
    MtpLayer,
    /// Routers of the draft head's layers.
    MtpRouter,
    /// Norms, biases and the like of the draft head.
    MtpSmall,
    /// Vision parts, copied.
    Vision,
    /// Linears that are none of these.
    Other,
}

impl Group {
    const NAMES: [(Self, &'static str); 15] = [
        (Self::Embedding, "embedding"),
        (Self::LinearAttn, "linear_attn"),
        (Self::SelfAttn, "self_attn"),
        (Self::Mlp, "mlp"),
        (Self::Experts, "experts"),
        (Self::SharedExpert, "shared_expert"),
        (Self::Router, "router"),
        (Self::LmHead, "lm_head"),
        (Self::Small, "small"),
        (Self::MtpFc, "mtp_fc"),
        (Self::MtpLayer, "mtp_layer"),
        (Self::MtpRouter, "mtp_router"),
        (Self::MtpSmall, "mtp_small"),
        (Self::Vision, "vision"),
        (Self::Other, "other"),
    ];

    /// Its name in policies and reports.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(group, _)| *group == self).map_or("other", |(_, name)| name)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|&(_, name)| name)
    }

    /// Whether it belongs to the draft head.
    pub fn is_head(self) -> bool {
        matches!(self, Self::MtpFc | Self::MtpLayer | Self::MtpRouter | Self::MtpSmall)
    }

    /// The group of an output by its name in MLX's layout. `matrix`: whether it is a linear, an embedding or experts.
    pub fn of(output: &str, part: Part, matrix: bool) -> Self {
        let module = output.strip_suffix(".weight").unwrap_or(output);
        let has = |word: &str| module.contains(word);
        let is = |words: &[&str]| words.contains(&module.rsplit('.').next().unwrap_or(module));
        let router = is(&["gate", "shared_expert_gate"]);
        match part {
            Part::Vision => Self::Vision,
            Part::Head if !matrix => {
                if router {
                    Self::MtpRouter
                } else {
                    Self::MtpSmall
                }
            }
            Part::Head if is(&["fc", "eh_proj", "input_proj"]) => Self::MtpFc,
            Part::Head if router => Self::MtpRouter,
            Part::Head => Self::MtpLayer,
            Part::Trunk if router => Self::Router,
            Part::Trunk if !matrix => Self::Small,
            Part::Trunk if is(&["embed_tokens"]) => Self::Embedding,
            Part::Trunk if is(&["lm_head"]) => Self::LmHead,
            Part::Trunk if has(".switch_mlp.") => Self::Experts,
            Part::Trunk if has(".shared_expert") => Self::SharedExpert,
            Part::Trunk if has(".linear_attn.") => Self::LinearAttn,
            Part::Trunk if has(".self_attn.") => Self::SelfAttn,
            Part::Trunk if has(".mlp.") => Self::Mlp,
            Part::Trunk => Self::Other,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Group {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|&(group, _)| group).ok_or(())
    }
}
