//! `config.json` of the family, read once and bounded.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::HeadNames;
use mtplx_runtime::nn::plan::config::{Common, Heads, MAX_WIDTH, RopeFields};

/// A list of its own, and other words than DeepSeek's.
pub(crate) const NAMES: HeadNames = HeadNames {
    list: "model.mtp_layers.",
    shared: None,
    embedding_norm: "token_layernorm",
    hidden_norm: "hidden_layernorm",
    projection: "input_proj",
    norm: ["final_layernorm"; 2],
    embedding: "embed_tokens",
    head: Some(["lm_head"; 2]),
};

/// The model's shape.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub common: Common,
    pub heads: Heads,
    pub rotary_dims: usize,
    pub rope_theta: f32,
    pub intermediate: usize,
    pub mtp_layers: usize,
}

impl Config {
    pub(crate) fn new(checkpoint: &Checkpoint) -> Result<Self, ArtifactError> {
        let text = checkpoint.config().text();
        if text.flag_or("use_sliding_window", false)? {
            return Err(text.unsupported("use_sliding_window", "expected false"));
        }
        let common = Common::read(&text, 1e-6)?;
        let heads = Heads::read(&text, common.hidden, None)?;
        let rope = RopeFields::read(&text, 1e4, 1.0, false)?;
        Ok(Self {
            heads,
            rotary_dims: rope.dims(&text, heads.dim)?,
            rope_theta: rope.theta,
            intermediate: text.size("intermediate_size", MAX_WIDTH)?,
            // The list of MTP layers is one of its own.
            mtp_layers: NAMES.layers(checkpoint, 0)?,
            common,
        })
    }
}
