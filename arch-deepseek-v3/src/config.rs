//! `config.json` of the family, read once and bounded.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::config::{Common, MAX_LAYERS, MAX_WIDTH, RopeFields};
use mtplx_runtime::nn::plan::{HeadNames, MlaPlan, MoePlan};

/// The family's own, which others took over.
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
        Ok(Self {
            attention: MlaPlan::read(&text, &common, rope)?,
            intermediate: text.size("intermediate_size", MAX_WIDTH)?,
            dense_layers: text.count_or("first_k_dense_replace", 0, MAX_LAYERS)?,
            sparse_step: text.size_or("moe_layer_freq", 1, MAX_LAYERS)?,
            moe: MoePlan::deepseek(&text, common.hidden)?,
            mtp_layers: NAMES.layers(checkpoint, common.layers)?,
            common,
        })
    }

    /// True for a routed layer, MTP layers counted on.
    pub(crate) fn is_sparse(&self, layer: usize) -> bool {
        layer >= self.dense_layers && layer.is_multiple_of(self.sparse_step)
    }
}
