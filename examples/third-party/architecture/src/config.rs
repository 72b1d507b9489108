//! `config.json` of the family, read once and bounded.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::HeadNames;
use mtplx_runtime::nn::plan::config::{Common, Heads, MAX_WIDTH, RopeFields};

/// As in DeepSeek-V3.
pub(crate) const NAMES: HeadNames = HeadNames::DEEPSEEK;

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
        if text.flag_or("attention_bias", false)? {
            return Err(text.unsupported("attention_bias", "expected false"));
        }
        let common = Common::read(&text, 1e-5)?;
        let heads = Heads::read(&text, common.hidden, None)?;
        let rope = RopeFields::read(&text, 5e5, 1.0, false)?;
        Ok(Self {
            heads,
            rotary_dims: rope.dims(&text, heads.dim)?,
            rope_theta: rope.theta,
            intermediate: text.size("intermediate_size", MAX_WIDTH)?,
            mtp_layers: NAMES.layers(checkpoint, common.layers)?,
            common,
        })
    }
}
