//! The trunk's layers: `x + mla(norm x)`, then `x + ffn(norm x)`, where the first few `ffn` are dense and the others
//! routed.

use mtplx_runtime::nn::plan::LayerPlan;

use crate::config::Config;
use crate::weights::{self, MlaPlan};

/// One layer, MTP layers counted on.
pub(crate) fn layer(config: &Config, index: usize) -> LayerPlan<MlaPlan> {
    LayerPlan {
        hidden: config.common.hidden,
        eps: config.common.eps,
        mixer: MlaPlan(config.clone()),
        feed_forward: weights::feed_forward(config, index),
        mlp: "mlp",
    }
}

/// All of them.
pub(crate) fn layers(config: &Config) -> Vec<LayerPlan<MlaPlan>> {
    (0..config.common.layers).map(|index| layer(config, index)).collect()
}
