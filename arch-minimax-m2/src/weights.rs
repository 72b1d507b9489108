//! Which tensors the family's layers consist of. Hugging Face's names are MLX's too, but for the experts.

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{AttentionPlan, DecoderPlan, FeedForwardPlan, MoePlan, QkNormPlan, RouterPlan};

use crate::config::Config;
use crate::{draft_head, trunk};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<AttentionPlan>, ArtifactError> {
    let config = Config::new(checkpoint)?;
    Ok(DecoderPlan { layers: trunk::layers(&config), head: draft_head::plan(&config), common: config.common })
}

/// Attention: no biases; norms over the features of all heads at once, before they are split.
pub(crate) fn attention(config: &Config) -> AttentionPlan {
    let plain = AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta);
    AttentionPlan { qk_norm: config.qk_norm.then_some(QkNormPlan::Joined), ..plain }
}

/// The feed-forward part of every layer: routed by sigmoids with a correction, neither groups nor scale nor shared expert.
pub(crate) fn feed_forward(config: &Config) -> FeedForwardPlan {
    FeedForwardPlan::Sparse(MoePlan {
        hidden: config.common.hidden,
        experts: config.experts,
        intermediate: config.intermediate,
        top_k: config.top_k,
        normalize: true,
        router: RouterPlan::Sigmoid { correction: "e_score_correction_bias", groups: None, scale: 1.0 },
        shared: None,
        numbered: ["w1", "w3", "w2"],
    })
}
