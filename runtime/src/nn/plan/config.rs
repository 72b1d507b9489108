//! The fields of `config.json` that every family has, read once and bounded.

use super::{MoePlan, RouterPlan, SharedPlan};
use crate::artifact::{ArtifactError, Config};
use crate::nn::{Groups, Yarn};

/// Largest width of anything.
pub const MAX_WIDTH: usize = 1 << 20;
/// Most heads of a layer.
pub const MAX_HEADS: usize = 1 << 12;
/// Most layers of a trunk.
pub const MAX_LAYERS: usize = 1 << 10;
/// Most experts of a layer.
pub const MAX_EXPERTS: usize = 1 << 16;
/// Most layers of a draft head.
pub const MAX_MTP_LAYERS: usize = 16;

/// The sizes of a model.
#[derive(Debug, Clone)]
pub struct Common {
    /// `hidden_size`.
    pub hidden: usize,
    /// `vocab_size`.
    pub vocab: usize,
    /// `num_hidden_layers`.
    pub layers: usize,
    /// `max_position_embeddings`.
    pub context: usize,
    /// `rms_norm_eps`.
    pub eps: f32,
    /// `tie_word_embeddings`.
    pub tied: bool,
}

impl Common {
    /// Reads them.
    ///
    /// # Errors
    /// A field is missing or out of bounds; an activation other than SiLU.
    pub fn read(text: &Config, default_eps: f64) -> Result<Self, ArtifactError> {
        if text.string_opt("hidden_act")?.is_some_and(|activation| activation != "silu") {
            return Err(text.unsupported("hidden_act", "expected silu"));
        }
        Ok(Self {
            hidden: text.size("hidden_size", MAX_WIDTH)?,
            vocab: text.size("vocab_size", 1 << 24)?,
            layers: text.size("num_hidden_layers", MAX_LAYERS)?,
            context: text.size_or("max_position_embeddings", 32768, 1 << 30)?,
            eps: text.number_in("rms_norm_eps", default_eps, 0.0..=1.0)? as f32,
            tied: text.flag_or("tie_word_embeddings", false)?,
        })
    }
}

/// The heads of grouped-query attention.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// `num_attention_heads`.
    pub queries: usize,
    /// `num_key_value_heads`.
    pub keys: usize,
    /// `head_dim`.
    pub dim: usize,
}

impl Heads {
    /// Reads them. Where `head_dim` is not stated it is the family's `default_dim`, or heads share out the width.
    ///
    /// # Errors
    /// A field is missing or out of bounds.
    pub fn read(text: &Config, hidden: usize, default_dim: Option<usize>) -> Result<Self, ArtifactError> {
        let queries = text.size("num_attention_heads", MAX_HEADS)?;
        let keys = text.size_or("num_key_value_heads", queries, MAX_HEADS)?;
        if !queries.is_multiple_of(keys) {
            let what = format!("expected a divisor of num_attention_heads {queries}");
            return Err(text.error("num_key_value_heads", &what));
        }
        let dim = if text.has("head_dim") {
            text.size("head_dim", MAX_WIDTH)?
        } else if let Some(dim) = default_dim {
            dim
        } else if hidden.is_multiple_of(queries) {
            hidden / queries
        } else {
            let what = format!("no head_dim is stated: expected a divisor of hidden_size {hidden}");
            return Err(text.error("num_attention_heads", &what));
        };
        Ok(Self { queries, keys, dim })
    }
}

/// Rotary positions as stated: beside the other fields and in `rope_scaling`, or all in `rope_parameters`.
#[derive(Debug, Clone, Copy)]
pub struct RopeFields {
    /// `rope_theta`.
    pub theta: f32,
    /// `partial_rotary_factor`.
    pub partial: f64,
    /// The scaling, where there is one.
    pub yarn: Option<Yarn>,
}

impl RopeFields {
    /// Reads them, with a family's defaults.
    ///
    /// # Errors
    /// A number out of range; a type other than `default`, `mrope` (which is the same for text) and, where the family has
    /// it, `yarn`.
    pub fn read(text: &Config, theta: f64, partial: f64, takes_yarn: bool) -> Result<Self, ArtifactError> {
        let nested = text.section("rope_parameters")?;
        let mut yarn = None;
        for (field, object) in [("rope_parameters", nested.clone()), ("rope_scaling", text.section("rope_scaling")?)] {
            let Some(object) = object else { continue };
            let kind = match object.string_opt("rope_type")? {
                Some(kind) => Some(kind),
                None => object.string_opt("type")?,
            };
            match kind {
                None | Some("default" | "mrope") => {}
                Some("yarn") if takes_yarn => yarn = Some(Yarn::read(&object)?),
                Some(kind) => {
                    let expected = if takes_yarn { "\"default\" or \"yarn\"" } else { "\"default\"" };
                    let what = format!("rope type \"{kind}\" is not supported: expected {expected}");
                    return Err(text.unsupported(field, &what));
                }
            }
        }
        let number = |field: &str, default: f64, range| match &nested {
            Some(nested) if nested.has(field) => nested.number_in(field, default, range),
            _ => text.number_in(field, default, range),
        };
        // YaRN divides by the logarithm of the base.
        let theta = number("rope_theta", theta, 1.001..=1e12)?;
        let partial = number("partial_rotary_factor", partial, 0.0..=1.0)?;
        Ok(Self { theta: theta as f32, partial, yarn })
    }

    /// How many of `head_dim` features are rotated.
    ///
    /// # Errors
    /// None, or an odd number.
    pub fn dims(&self, text: &Config, head_dim: usize) -> Result<usize, ArtifactError> {
        let dims = (head_dim as f64 * self.partial) as usize;
        if dims > 0 && dims.is_multiple_of(2) {
            return Ok(dims);
        }
        let what = format!("{dims} rotated features of head_dim {head_dim}: expected an even number of 2 or more");
        Err(text.error("partial_rotary_factor", &what))
    }
}

impl MoePlan {
    /// DeepSeek-V3's routed experts, as its configuration and those of its followers state them.
    ///
    /// # Errors
    /// A field is missing or out of bounds; another way to score or to choose.
    pub fn deepseek(text: &Config, hidden: usize) -> Result<Self, ArtifactError> {
        for (field, known) in [("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")] {
            if text.string_opt(field)?.is_some_and(|stated| stated != known) {
                return Err(text.unsupported(field, &format!("expected {known}")));
            }
        }
        let experts = text.size("n_routed_experts", MAX_EXPERTS)?;
        let count = text.size_or("n_group", 1, experts)?;
        let kept = text.size_or("topk_group", count, count)?;
        if !experts.is_multiple_of(count) {
            return Err(text.error("n_group", &format!("expected a divisor of n_routed_experts {experts}")));
        }
        let intermediate = text.size("moe_intermediate_size", MAX_WIDTH)?;
        let shared = text.count_or("n_shared_experts", 0, 1 << 10)?;
        Ok(Self {
            hidden,
            experts,
            intermediate,
            top_k: text.size("num_experts_per_tok", experts / count * kept)?,
            normalize: text.flag_or("norm_topk_prob", true)?,
            router: RouterPlan::Sigmoid {
                correction: "gate.e_score_correction_bias",
                groups: (kept < count).then_some(Groups { count, kept }),
                scale: text.number_or("routed_scaling_factor", 1.0)? as f32,
            },
            // Several shared experts are stored as one.
            shared: (shared > 0).then_some(SharedPlan {
                module: "shared_experts",
                intermediate: shared * intermediate,
                gate: None,
            }),
            numbered: Self::NUMBERED,
        })
    }
}

impl Yarn {
    /// Reads `rope_scaling`.
    fn read(object: &Config) -> Result<Self, ArtifactError> {
        let positive = |field: &str, default: f64| object.number_in(field, default, 1e-6..=1e9);
        let weight = |field: &str, default: f64| object.number_in(field, default, 0.0..=1e3);
        for field in ["factor", "original_max_position_embeddings"] {
            if !object.has(field) {
                return Err(object.error(field, "expected a positive number"));
            }
        }
        if object.has("attention_factor") {
            return Err(object.unsupported("attention_factor", "expected mscale and mscale_all_dim"));
        }
        Ok(Self {
            factor: positive("factor", 1.0)?,
            original_context: positive("original_max_position_embeddings", 4096.0)?,
            beta_fast: positive("beta_fast", 32.0)?,
            beta_slow: positive("beta_slow", 1.0)?,
            mscale: weight("mscale", 1.0)?,
            mscale_all_dim: weight("mscale_all_dim", 0.0)?,
        })
    }
}
