//! The trunk's layers: `x + mla(norm x)`, then `x + ffn(norm x)`, where the first few `ffn` are dense and the others
//! routed.
//!
//! The MTP layers: `norm(block(eh_proj([enorm(embedding), hnorm(hidden)])))`, each a decoder layer after the trunk's last
//! (DeepSeek-V3, arXiv 2412.19437, section 2.2).
//!
//! Sources: vLLM `deepseek_mtp.py`, SGLang `deepseek_nextn.py`. What is fed back at deeper drafts is the output after
//! `shared_head.norm` (vLLM pull requests 45895 and 47448). vLLM makes the first position's embedding zero; that row holds a
//! real token after the shift, so this is taken for a mistake and not repeated (vLLM issue 33299).

use mtplx_runtime::artifact::{ArtifactError, Checkpoint, ConcatOrder};
use mtplx_runtime::nn::plan::{DecoderPlan, DrafterPlan, FeedForwardPlan, LayerPlan, SwiGluPlan};

use crate::config::{Config, NAMES};
use crate::mla_plan::MlaPlan;

/// The whole model.
pub(crate) fn plan(checkpoint: &Checkpoint) -> Result<DecoderPlan<MlaPlan>, ArtifactError> {
    let config = Config::new(checkpoint)?;
    Ok(DecoderPlan { layers: layers(&config), head: drafter(&config), common: config.common })
}

/// One layer, MTP layers counted on.
fn layer(config: &Config, index: usize) -> LayerPlan<MlaPlan> {
    LayerPlan {
        hidden: config.common.hidden,
        eps: config.common.eps,
        mixer: MlaPlan(config.clone()),
        feed_forward: feed_forward(config, index),
        mlp: "mlp",
    }
}

/// All of them.
fn layers(config: &Config) -> Vec<LayerPlan<MlaPlan>> {
    (0..config.common.layers).map(|index| layer(config, index)).collect()
}

/// The feed-forward part of layer `layer`, MTP layers counted on.
fn feed_forward(config: &Config, layer: usize) -> FeedForwardPlan {
    if config.sparse(layer) {
        FeedForwardPlan::Sparse(config.moe.clone())
    } else {
        FeedForwardPlan::Dense(SwiGluPlan { hidden: config.common.hidden, intermediate: config.intermediate })
    }
}

/// The draft head.
fn drafter(config: &Config) -> DrafterPlan<MlaPlan> {
    let first = config.common.layers;
    let layers = (first..first + config.mtp_layers).map(|index| layer(config, index)).collect();
    DrafterPlan { names: NAMES, first, order: ConcatOrder::EmbeddingHidden, layers }
}
