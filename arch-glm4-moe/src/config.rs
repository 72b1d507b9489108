//! `config.json` of the family, read once and bounded.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::config::{Common, Heads, MAX_LAYERS, MAX_WIDTH, RopeFields};
use mtplx_runtime::nn::plan::{HeadNames, MoePlan};

/// As in DeepSeek-V3.
pub(crate) const NAMES: HeadNames = HeadNames::DEEPSEEK;

/// The model's shape.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub common: Common,
    pub heads: Heads,
    /// `attention_bias`: on queries, keys and values; the output never has one.
    pub attention_bias: bool,
    /// `use_qk_norm`: the 355B models have it, Air has not.
    pub qk_norm: bool,
    pub rotary_dims: usize,
    pub rope_theta: f32,
    /// Width of the dense layers.
    pub intermediate: usize,
    /// Layers before the first sparse one.
    pub dense_layers: usize,
    pub moe: MoePlan,
    pub mtp_layers: usize,
}

impl Config {
    pub(crate) fn new(checkpoint: &Checkpoint) -> Result<Self, ArtifactError> {
        let text = checkpoint.config().text();
        let common = Common::read(&text, 1e-5)?;
        let heads = Heads::read(&text, common.hidden, None)?;
        let rope = RopeFields::read(&text, 1e6, 0.5, false)?;
        Ok(Self {
            heads,
            attention_bias: text.flag_or("attention_bias", false)?,
            qk_norm: text.flag_or("use_qk_norm", false)?,
            rotary_dims: rope.dims(&text, heads.dim)?,
            rope_theta: rope.theta,
            intermediate: text.size("intermediate_size", MAX_WIDTH)?,
            dense_layers: text.count_or("first_k_dense_replace", 1, MAX_LAYERS)?,
            moe: MoePlan::deepseek(&text, common.hidden)?,
            mtp_layers: NAMES.layers(checkpoint, common.layers)?,
            common,
        })
    }
}
