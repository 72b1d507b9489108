//! The trunk's layers: `x + mixer(norm x)`, then `x + ffn(norm x)`, three mixers of Gated DeltaNet for each of gated attention.
//!
//! The MTP layers: `norm(block(fc([norm_e(embedding), norm_h(hidden)])))`, the block always full attention; the projection and its norms
//! are one set for all layers, and so is the last norm.
//!
//! Source: vLLM `qwen3_next_mtp.py`. The hidden state fed is the trunk's after its final norm; what is fed back at
//! deeper drafts is the layer's own output after `mtp.norm`.

use std::sync::Arc;

use mtplx_runtime::artifact::{ArtifactError, Checkpoint, NormEncoding};
use mtplx_runtime::nn::plan::{
    AttentionPlan, DecoderNames, DecoderPlan, DrafterPlan, FeedForwardPlan, HeadNorms, LayerPlan, MixerPlan, MoePlan,
    QkNormPlan,
};

use crate::config::{Config, MixerKind};
use crate::gated_delta_plan::GatedDeltaPlan;
use crate::names::{Names, is_next};

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint, max_depth: usize) -> Result<DecoderPlan, ArtifactError> {
    let names = Names::new(checkpoint);
    let config = Config::new(checkpoint, &names)?;
    let attention: Arc<dyn MixerPlan> = Arc::new(attention(&config));
    let gated_delta: Arc<dyn MixerPlan> = Arc::new(GatedDeltaPlan {
        hidden: config.common.hidden,
        eps: config.common.eps,
        shape: config.delta,
        raw: names.raw,
        grouped: is_next(checkpoint),
    });
    let layers = config.mixers.iter().enumerate().map(|(index, kind)| {
        let mixer = match kind {
            MixerKind::GatedDelta => &gated_delta,
            MixerKind::Attention => &attention,
        };
        LayerPlan::new(&config.common, mixer.clone(), feed_forward(&config, config.sparse(index)))
    });
    let head = (0..config.mtp_layers).map(|index| {
        let mlp = format!("{}{index}.mlp", names.head.list);
        LayerPlan::new(&config.common, attention.clone(), feed_forward(&config, routed(checkpoint, &config, &mlp)))
    });
    let drafter = DrafterPlan::new(names.head, 0, head.collect(), max_depth)
        .map(|drafter| DrafterPlan { norms: HeadNorms::ByFile { raw: names.raw }, ..drafter });
    Ok(DecoderPlan {
        names: DecoderNames { model: names.trunk, lm_head: names.lm_head },
        converted: if is_next(checkpoint) { DecoderNames::HUGGING_FACE } else { QWEN3_5 },
        norms: if names.raw { NormEncoding::Delta } else { NormEncoding::Absolute },
        ..DecoderPlan::new(config.common.clone(), layers.collect(), drafter)
    })
}

/// mlx-lm's names of Qwen3.5's trunk and head.
const QWEN3_5: DecoderNames = DecoderNames { model: "language_model.model.", lm_head: "language_model.lm_head" };

/// Gated attention.
fn attention(config: &Config) -> AttentionPlan {
    AttentionPlan {
        gated: config.gated,
        qkv_bias: config.attention_bias,
        output_bias: config.attention_bias,
        qk_norm: Some(QkNormPlan::PerHead),
        ..AttentionPlan::plain(&config.common, &config.heads, config.rotary_dims, config.rope_theta)
    }
}

/// The feed-forward part: routed where there are experts.
fn feed_forward(config: &Config, moe: Option<&MoePlan>) -> FeedForwardPlan {
    match moe {
        Some(moe) => FeedForwardPlan::Sparse(moe.clone()),
        None => FeedForwardPlan::dense(config.common.hidden, config.intermediate),
    }
}

/// The experts of an MTP layer's `mlp`. No field states which layers are sparse: the tensors decide, any of which tells.
fn routed<'a>(checkpoint: &Checkpoint, config: &'a Config, mlp: &str) -> Option<&'a MoePlan> {
    let has = |part: &str| checkpoint.tensor(&format!("{mlp}.{part}_proj.weight")).is_some();
    config.moe.as_ref().filter(|_| !["gate", "up", "down"].into_iter().any(has))
}
