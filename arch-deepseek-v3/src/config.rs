//! `config.json` of the family, read once and bounded.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::Yarn;
use mtplx_runtime::nn::plan::config::{Common, MAX_HEADS, MAX_LAYERS, MAX_WIDTH, RopeFields};
use mtplx_runtime::nn::plan::{HeadNames, MoePlan};

/// The family's own, which others took over.
pub(crate) const NAMES: HeadNames = HeadNames::DEEPSEEK;

/// The model's shape.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub common: Common,
    pub heads: usize,
    /// Width of the compressed queries; `None` where they are not compressed.
    pub q_rank: Option<usize>,
    /// Width of the latent that keys and values are made from.
    pub kv_rank: usize,
    /// Features a head without positions ...
    pub nope_dim: usize,
    /// ... and with, the keys' shared by all heads.
    pub rope_dim: usize,
    pub value_dim: usize,
    /// `attention_bias`: on the projections that read or write the hidden state.
    pub attention_bias: bool,
    pub rope_theta: f32,
    pub yarn: Option<Yarn>,
    /// Width of the dense layers.
    pub intermediate: usize,
    /// Layers before the first sparse one.
    dense_layers: usize,
    /// Of the layers after them, every so many is sparse.
    sparse_step: usize,
    pub moe: MoePlan,
    pub mtp_layers: usize,
}

impl Config {
    pub(crate) fn new(checkpoint: &Checkpoint) -> Result<Self, ArtifactError> {
        let text = checkpoint.config().text();
        let common = Common::read(&text, 1e-6)?;
        let rope = RopeFields::read(&text, 1e4, 1.0, true)?;
        let rope_dim = text.size("qk_rope_head_dim", MAX_WIDTH)?;
        if !rope_dim.is_multiple_of(2) {
            return Err(text.error("qk_rope_head_dim", "expected an even number"));
        }
        let q_rank = text.has("q_lora_rank").then(|| text.size("q_lora_rank", MAX_WIDTH)).transpose()?;
        Ok(Self {
            heads: text.size("num_attention_heads", MAX_HEADS)?,
            q_rank,
            kv_rank: text.size("kv_lora_rank", MAX_WIDTH)?,
            nope_dim: text.size("qk_nope_head_dim", MAX_WIDTH)?,
            rope_dim,
            value_dim: text.size("v_head_dim", MAX_WIDTH)?,
            attention_bias: text.flag_or("attention_bias", false)?,
            rope_theta: rope.theta,
            yarn: rope.yarn,
            intermediate: text.size("intermediate_size", MAX_WIDTH)?,
            dense_layers: text.count_or("first_k_dense_replace", 0, MAX_LAYERS)?,
            sparse_step: text.size_or("moe_layer_freq", 1, MAX_LAYERS)?,
            moe: MoePlan::deepseek(&text, common.hidden)?,
            mtp_layers: NAMES.layers(checkpoint, common.layers)?,
            common,
        })
    }

    /// Whether layer `layer` is routed, MTP layers counted on.
    pub(crate) fn sparse(&self, layer: usize) -> bool {
        layer >= self.dense_layers && layer.is_multiple_of(self.sparse_step)
    }
}
