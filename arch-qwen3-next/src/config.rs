//! `config.json` of the family, read once and bounded.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint, Config as Json};
use mtplx_runtime::nn::plan::config::{
    Common, Heads, MAX_EXPERTS, MAX_HEADS, MAX_LAYERS, MAX_MTP_LAYERS, MAX_WIDTH, RopeFields,
};
use mtplx_runtime::nn::plan::{MoePlan, RouterPlan, SharedPlan};

use crate::names::Names;

/// The mixer of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MixerKind {
    /// `linear_attention`.
    GatedDelta,
    /// `full_attention`.
    Attention,
}

/// The widths of a Gated DeltaNet layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeltaShape {
    pub key_heads: usize,
    pub value_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    pub taps: usize,
}

impl DeltaShape {
    /// Width of all keys (or queries).
    pub(crate) fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Width of all values.
    pub(crate) fn values(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Channels of the convolution: queries, keys, values.
    pub(crate) fn channels(&self) -> usize {
        2 * self.keys() + self.values()
    }
}

/// The model's shape.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub common: Common,
    pub heads: Heads,
    pub mixers: Vec<MixerKind>,
    pub gated: bool,
    pub attention_bias: bool,
    pub rotary_dims: usize,
    pub rope_theta: f32,
    pub delta: DeltaShape,
    /// `intermediate_size`; 0 where it is not stated and every layer is sparse.
    pub intermediate: usize,
    pub moe: Option<MoePlan>,
    /// A layer is sparse when its number, from one, is a multiple of this ...
    sparse_step: usize,
    /// ... and it is not listed here.
    dense_layers: Vec<usize>,
    pub mtp_layers: usize,
}

impl Config {
    pub(crate) fn new(checkpoint: &Checkpoint, names: &Names) -> Result<Self, ArtifactError> {
        let json = checkpoint.config();
        let text = json.text();
        let common = Common { tied: tied(json, &text, names)?, ..Common::read(&text, 1e-6)? };
        let heads = Heads::read(&text, common.hidden, Some(256))?;
        let delta = DeltaShape {
            key_heads: text.size_or("linear_num_key_heads", 16, MAX_HEADS)?,
            value_heads: text.size_or("linear_num_value_heads", 32, MAX_HEADS)?,
            key_dim: text.size_or("linear_key_head_dim", 128, MAX_WIDTH)?,
            value_dim: text.size_or("linear_value_head_dim", 128, MAX_WIDTH)?,
            taps: text.size_or("linear_conv_kernel_dim", 4, 64)?,
        };
        if !delta.value_heads.is_multiple_of(delta.key_heads) {
            let what = format!("expected a multiple of linear_num_key_heads {}", delta.key_heads);
            return Err(text.error("linear_num_value_heads", &what));
        }
        for field in ["hidden_act", "output_gate_type"] {
            let stated = text.string_opt(field)?;
            if stated.is_some_and(|act| act != "silu" && act != "swish") {
                return Err(text.unsupported(field, "expected silu or swish"));
            }
        }
        let rope = RopeFields::read(&text, 1e7, 0.25, false)?;
        let mut config = Self {
            mixers: mixers(&text, common.layers)?,
            gated: text.flag_or("attn_output_gate", true)?,
            attention_bias: text.flag_or("attention_bias", false)?,
            rotary_dims: rope.dims(&text, heads.dim)?,
            rope_theta: rope.theta,
            delta,
            intermediate: 0,
            moe: moe(&text, common.hidden)?,
            sparse_step: text.size_or("decoder_sparse_step", 1, MAX_LAYERS)?,
            dense_layers: text.counts("mlp_only_layers", MAX_LAYERS)?,
            mtp_layers: mtp_layers(&text, names)?,
            common,
            heads,
        };
        // A model with experts everywhere need not state the width of a dense layer.
        let dense = (0..config.common.layers).any(|layer| config.sparse(layer).is_none());
        config.intermediate = match text.has("intermediate_size") || dense {
            true => text.size("intermediate_size", MAX_WIDTH)?,
            false => 0,
        };
        Ok(config)
    }

    /// The experts of trunk layer `layer`; `None` for a dense one.
    pub(crate) fn sparse(&self, layer: usize) -> Option<&MoePlan> {
        let sparse = (layer + 1).is_multiple_of(self.sparse_step) && !self.dense_layers.contains(&layer);
        self.moe.as_ref().filter(|_| sparse)
    }
}

fn mixers(text: &Json, layers: usize) -> Result<Vec<MixerKind>, ArtifactError> {
    let Some(list) = text.get("layer_types").and_then(|value| value.as_array()) else {
        let interval = text.size_or("full_attention_interval", 4, MAX_LAYERS)?;
        let full = |layer: usize| (layer + 1).is_multiple_of(interval);
        return Ok((0..layers).map(|i| if full(i) { MixerKind::Attention } else { MixerKind::GatedDelta }).collect());
    };
    if list.len() != layers {
        return Err(text.error("layer_types", &format!("{} entries for num_hidden_layers {layers}", list.len())));
    }
    list.iter()
        .map(|entry| match entry.as_str() {
            Some("linear_attention") => Ok(MixerKind::GatedDelta),
            Some("full_attention") => Ok(MixerKind::Attention),
            _ => Err(text.error("layer_types", &format!("{entry}: expected linear_attention or full_attention"))),
        })
        .collect()
}

fn moe(text: &Json, hidden: usize) -> Result<Option<MoePlan>, ArtifactError> {
    let experts = text.count_or("num_experts", 0, MAX_EXPERTS)?;
    if experts == 0 {
        return Ok(None);
    }
    let intermediate = text.size("moe_intermediate_size", MAX_WIDTH)?;
    Ok(Some(MoePlan {
        hidden,
        experts,
        intermediate,
        top_k: text.size("num_experts_per_tok", experts)?,
        normalize: text.flag_or("norm_topk_prob", true)?,
        router: RouterPlan::Softmax,
        shared: Some(SharedPlan {
            module: "shared_expert",
            intermediate: text.size_or("shared_expert_intermediate_size", intermediate, MAX_WIDTH)?,
            gate: Some("shared_expert_gate"),
        }),
        numbered: MoePlan::NUMBERED,
    }))
}

/// Qwen3.5 states this at the top level, beside `text_config`, or inside it; where the two differ, the head's own tensor
/// decides.
fn tied(json: &Json, text: &Json, names: &Names) -> Result<bool, ArtifactError> {
    let field = "tie_word_embeddings";
    let (inner, outer) = (text.flag_or(field, false)?, json.flag_or(field, false)?);
    let differ = text.has(field) && json.has(field) && inner != outer;
    Ok(if differ { !names.has_lm_head } else { inner || outer })
}

/// Stated in Qwen3.5; Qwen3-Next states nothing, so there the tensors decide.
fn mtp_layers(text: &Json, names: &Names) -> Result<usize, ArtifactError> {
    for field in ["mtp_num_hidden_layers", "num_nextn_predict_layers"] {
        match text.get(field) {
            Some(value) if value.as_u64() == Some(0) => return Ok(0),
            Some(value) if !value.is_null() => return text.size(field, MAX_MTP_LAYERS),
            _ => {}
        }
    }
    Ok(names.head_layers().min(MAX_MTP_LAYERS))
}
