//! The trunk's layers: `x + attention(norm x)`, then `x + moe(norm x)`, all alike.
//!
//! The MTP modules, which configurations announce (`use_mtp`, `num_mtp_modules`) and published checkpoints do not hold
//! (MiniMax-AI/MiniMax-M2 issue 47; the same in M2.5 and M2.7).
//!
//! A checkpoint that does hold them is read in DeepSeek-V3's layout, `norm(block(eh_proj([enorm(embedding),
//! hnorm(hidden)])))`, each module a decoder layer after the trunk's last: no reference states one for this family.

use mtplx_runtime::architecture::HeadStatus;
use mtplx_runtime::artifact::{ArtifactError, Checkpoint, ConcatOrder, HeadSource};
use mtplx_runtime::nn::plan::{
    AttentionPlan, DecoderPlan, DrafterPlan, FeedForwardPlan, HeadNames, LayerPlan, MoePlan, QkNormPlan, RouterPlan,
};

use crate::config::Config;

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<AttentionPlan>, ArtifactError> {
    let config = Config::new(checkpoint)?;
    Ok(DecoderPlan { layers: layers(&config), head: drafter(&config), common: config.common })
}

/// Any layer; those of the head are no different.
fn layer(config: &Config) -> LayerPlan<AttentionPlan> {
    LayerPlan {
        hidden: config.common.hidden,
        eps: config.common.eps,
        mixer: attention(config),
        feed_forward: feed_forward(config),
        mlp: "block_sparse_moe",
    }
}

/// All of them.
fn layers(config: &Config) -> Vec<LayerPlan<AttentionPlan>> {
    vec![layer(config); config.common.layers]
}

/// Attention: no biases; norms over the features of all heads at once, before they are split.
fn attention(config: &Config) -> AttentionPlan {
    let plain = AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta);
    AttentionPlan { qk_norm: config.qk_norm.then_some(QkNormPlan::Joined), ..plain }
}

/// The feed-forward part of every layer: routed by sigmoids with a correction, neither groups nor scale nor shared expert.
fn feed_forward(config: &Config) -> FeedForwardPlan {
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

/// The draft head.
fn drafter(config: &Config) -> DrafterPlan<AttentionPlan> {
    let layers = vec![layer(config); config.mtp_modules];
    DrafterPlan { names: HeadNames::DEEPSEEK, first: config.common.layers, order: ConcatOrder::EmbeddingHidden, layers }
}

/// Judges the head; where there is nothing of it, as in all that was published, says so in place of thousands of names.
pub(crate) fn judge(head: &DrafterPlan<AttentionPlan>, checkpoint: &Checkpoint) -> HeadStatus {
    let modules = head.layers.len();
    if modules == 0 || *checkpoint.head_source() != HeadSource::None {
        return head.detect(checkpoint);
    }
    let modules = if modules == 1 { "an MTP module".to_owned() } else { format!("{modules} MTP modules") };
    let missing = format!(
        "model.layers.{}.* (config.json announces {modules}, the checkpoint carries none; MiniMax has published none)",
        head.first
    );
    HeadStatus::Incomplete { missing: vec![missing], misshapen: Vec::new() }
}
