//! The trunk's layers: `x + attention(norm x)`, then `x + ffn(norm x)`.

use mtplx_runtime::nn::plan::{AttentionPlan, LayerPlan};

use crate::config::Config;
use crate::weights;

/// Any layer; those of the head are no different.
pub(crate) fn layer(config: &Config) -> LayerPlan<AttentionPlan> {
    LayerPlan {
        hidden: config.common.hidden,
        eps: config.common.eps,
        mixer: weights::attention(config),
        feed_forward: weights::feed_forward(config),
        mlp: "mlp",
    }
}

/// All of them.
pub(crate) fn layers(config: &Config) -> Vec<LayerPlan<AttentionPlan>> {
    vec![layer(config); config.common.layers]
}
