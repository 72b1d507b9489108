//! `config.json` of the family, read once and bounded.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint, Config as Json};
use mtplx_runtime::nn::plan::config::{Common, MAX_LAYERS, MAX_WIDTH, RopeFields};
use mtplx_runtime::nn::plan::{HeadNames, MlaPlan, MoePlan};

/// As in DeepSeek-V3.
pub(crate) const NAMES: HeadNames = HeadNames::DEEPSEEK;

/// The model's shape.
#[derive(Debug)]
pub(crate) struct Config {
    pub common: Common,
    pub attention: MlaPlan,
    /// Width of the dense layers.
    pub intermediate: usize,
    /// Layers before the first sparse one.
    dense_layers: usize,
    pub moe: MoePlan,
    pub mtp_layers: usize,
}

impl Config {
    pub(crate) fn new(checkpoint: &Checkpoint) -> Result<Self, ArtifactError> {
        let text = checkpoint.config().text();
        let common = Common::read(&text, 1e-5)?;
        let rope = RopeFields::read(&text, 1e6, 1.0, true)?;
        if rope.partial != 1.0 {
            return Err(text.unsupported("partial_rotary_factor", "expected 1: qk_rope_head_dim says what is rotated"));
        }
        if !text.flag_or("rope_interleave", true)? {
            return Err(text.unsupported("rope_interleave", "expected true"));
        }
        // transformers leaves these norms at the default of RMSNorm, 1e-6. The model was trained with the configured epsilon (Megatron-LM
        // `multi_latent_attention.py`), which vLLM, SGLang, mlx-lm and llama.cpp take.
        let attention = MlaPlan { latent_eps: common.eps, ..MlaPlan::read(&text, &common, rope)? };
        Ok(Self {
            attention,
            intermediate: text.size("intermediate_size", MAX_WIDTH)?,
            dense_layers: dense_layers(&text, common.layers)?,
            moe: MoePlan::deepseek(&text, common.hidden)?,
            mtp_layers: NAMES.layers(checkpoint, common.layers)?,
            common,
        })
    }

    /// True for a routed layer, MTP layers counted on.
    pub(crate) fn is_sparse(&self, layer: usize) -> bool {
        layer >= self.dense_layers
    }
}

/// Published files have `first_k_dense_replace`; transformers writes `mlp_layer_types` in its place.
fn dense_layers(text: &Json, layers: usize) -> Result<usize, ArtifactError> {
    let field = "mlp_layer_types";
    let Some(list) = text.get(field).and_then(|value| value.as_array()) else {
        return text.count_or("first_k_dense_replace", 1, MAX_LAYERS);
    };
    let dense = list.iter().take_while(|entry| entry.as_str() == Some("dense")).count();
    if list.len() == layers && list[dense..].iter().all(|entry| entry.as_str() == Some("sparse")) {
        return Ok(dense);
    }
    Err(text.unsupported(field, "expected an entry for each layer, \"dense\" ones before \"sparse\" ones"))
}
