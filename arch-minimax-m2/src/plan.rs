//! The trunk's layers: `x + attention(norm x)`, then `x + moe(norm x)`, all alike.
//!
//! The MTP modules, which configurations announce (`use_mtp`, `num_mtp_modules`) and published checkpoints do not hold
//! (MiniMax-AI/MiniMax-M2 issue 47; the same in M2.5 and M2.7).
//!
//! A checkpoint that does hold them is read in DeepSeek-V3's layout, `norm(block(eh_proj([enorm(embedding),
//! hnorm(hidden)])))`, each module a decoder layer after the trunk's last: no reference states one for this family.

use std::sync::Arc;

use mtplx_runtime::artifact::{ArtifactError, Checkpoint};
use mtplx_runtime::nn::plan::{
    AttentionPlan, DecoderPlan, DrafterPlan, FeedForwardPlan, HeadNames, LayerPlan, MoePlan, QkNormPlan, RouterPlan,
};

use crate::config::Config;

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint, max_depth: usize) -> Result<DecoderPlan, ArtifactError> {
    let config = Config::new(checkpoint)?;
    // Those of the head are no different.
    let layer = LayerPlan {
        mlp: "block_sparse_moe",
        ..LayerPlan::new(&config.common, Arc::new(attention(&config)), FeedForwardPlan::Sparse(experts(&config)))
    };
    let names = HeadNames::DEEPSEEK;
    let plan = DecoderPlan::numbered(&config.common, names, config.mtp_modules, max_depth, |_| layer.clone());
    let unpublished = |drafter| DrafterPlan { unpublished: Some(unpublished(&config)), ..drafter };
    Ok(DecoderPlan { drafter: plan.drafter.map(unpublished), ..plan })
}

/// Attention: no biases; norms over the features of all heads at once, before they are split.
fn attention(config: &Config) -> AttentionPlan {
    let plain = AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta);
    AttentionPlan { qk_norm: config.qk_norm.then_some(QkNormPlan::Joined), ..plain }
}

/// Experts routed by sigmoids with a correction, neither groups nor scale nor shared expert.
fn experts(config: &Config) -> MoePlan {
    MoePlan {
        hidden: config.common.hidden,
        experts: config.experts,
        intermediate: config.intermediate,
        top_k: config.top_k,
        normalize: true,
        router: RouterPlan::Sigmoid { correction: "e_score_correction_bias", groups: None, scale: 1.0 },
        shared: None,
        numbered: ["w1", "w3", "w2"],
    }
}

/// The line for a head of which nothing is there, as in all that was published, in place of thousands of names.
fn unpublished(config: &Config) -> String {
    let modules = match config.mtp_modules {
        1 => "an MTP module".to_owned(),
        modules => format!("{modules} MTP modules"),
    };
    format!(
        "model.layers.{}.* (config.json announces {modules}, the checkpoint carries none; MiniMax has published none)",
        config.common.layers
    )
}
