//! `config.json` of the family, read once and bounded.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint, Config as Json};
use mtplx_runtime::nn::plan::config::{Common, Heads, MAX_EXPERTS, MAX_MTP_LAYERS, MAX_WIDTH, RopeFields};

/// The model's shape.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub common: Common,
    pub heads: Heads,
    pub qk_norm: bool,
    pub rotary_dims: usize,
    pub rope_theta: f32,
    pub experts: usize,
    pub top_k: usize,
    /// Width of an expert: `intermediate_size`, as there is nothing else that it could be of.
    pub intermediate: usize,
    pub mtp_modules: usize,
}

impl Config {
    pub(crate) fn new(checkpoint: &Checkpoint) -> Result<Self, ArtifactError> {
        let text = checkpoint.config().text();
        let common = Common::read(&text, 1e-6)?;
        let heads = Heads::read(&text, common.hidden, None)?;
        let rope = RopeFields::read(&text, 5e6, 1.0, false)?;
        let experts = text.size("num_local_experts", MAX_EXPERTS)?;
        refuse_unknown(&text, common.layers)?;
        Ok(Self {
            heads,
            qk_norm: text.flag_or("use_qk_norm", true)?,
            rotary_dims: rotary_dims(&text, &rope, heads.dim)?,
            rope_theta: rope.theta,
            experts,
            top_k: text.size("num_experts_per_tok", experts)?,
            intermediate: text.size("intermediate_size", MAX_WIDTH)?,
            mtp_modules: mtp_modules(&text)?,
            common,
        })
    }
}

/// Stated in features, not as a part of the head.
fn rotary_dims(text: &Json, rope: &RopeFields, head_dim: usize) -> Result<usize, ArtifactError> {
    if !text.has("rotary_dim") {
        return rope.dims(text, head_dim);
    }
    match text.size("rotary_dim", head_dim)? {
        dims if dims.is_multiple_of(2) => Ok(dims),
        _ => Err(text.error("rotary_dim", "expected an even number")),
    }
}

/// What the family's fields could say and no published checkpoint does.
fn refuse_unknown(text: &Json, layers: usize) -> Result<(), ArtifactError> {
    for (field, known) in [("scoring_func", "sigmoid"), ("qk_norm_type", "per_layer")] {
        if text.string_opt(field)?.is_some_and(|stated| stated != known) {
            return Err(text.unsupported(field, &format!("expected {known}")));
        }
    }
    if !text.flag_or("use_routing_bias", true)? {
        return Err(text.unsupported("use_routing_bias", "expected true"));
    }
    if text.count_or("shared_intermediate_size", 0, MAX_WIDTH)? != 0 {
        return Err(text.unsupported("shared_intermediate_size", "expected 0: shared experts are not known here"));
    }
    // 1 is full attention; MiniMax-Text-01 had linear layers too.
    if text.counts("attn_type_list", 1)?.iter().take(layers).any(|&kind| kind != 1) {
        return Err(text.unsupported("attn_type_list", "expected ones: full attention in every layer"));
    }
    Ok(())
}

/// `num_mtp_modules`, where `use_mtp` does not take it back.
fn mtp_modules(text: &Json) -> Result<usize, ArtifactError> {
    if !text.flag_or("use_mtp", true)? {
        return Ok(0);
    }
    let modules = text.count_or("num_mtp_modules", 0, MAX_MTP_LAYERS)?;
    if modules > 0 && text.count_or("mtp_transformer_layers", 1, MAX_MTP_LAYERS)? != 1 {
        return Err(text.unsupported("mtp_transformer_layers", "expected 1"));
    }
    Ok(modules)
}
