//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`, where the first few `ffn` are dense and the others
//! routed.

use mtplx_runtime::nn::plan::{AttentionPlan, LayerPlan};

use crate::config::Config;
use crate::weights;

/// One layer, MTP layers counted on.
pub(crate) fn layer(config: &Config, index: usize) -> LayerPlan<AttentionPlan> {
    LayerPlan {
        hidden: config.common.hidden,
        eps: config.common.eps,
        mixer: weights::attention(config),
        feed_forward: weights::feed_forward(config, index),
        mlp: "mlp",
    }
}

/// All of them.
pub(crate) fn layers(config: &Config) -> Vec<LayerPlan<AttentionPlan>> {
    (0..config.common.layers).map(|index| layer(config, index)).collect()
}
