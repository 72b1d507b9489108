//! The MTP layers: `norm(block(fc([norm_e(embedding), norm_h(hidden)])))`, the block always full attention.
//!
//! Source: vLLM `qwen3_next_mtp.py`. The hidden state fed is the trunk's after its final norm; what is fed back at
//! deeper drafts is the layer's own output after `mtp.norm`.

use mtplx_runtime::LoadError;
use mtplx_runtime::artifact::{ConcatOrder, MtpContract};
use mtplx_runtime::model::Drafter;
use mtplx_runtime::nn::{MtpHead, MtpLayer};

use crate::trunk::Qwen3NextTrunk;
use crate::weights::Loader;

/// Reads the head; it shares the trunk's embedding and output head unless it brings an embedding of its own.
pub(crate) fn load(
    loader: &Loader<'_>,
    trunk: &Qwen3NextTrunk,
    max_depth: usize,
) -> Result<Box<dyn Drafter>, LoadError> {
    let (config, weights) = (loader.config, &loader.weights);
    let (vocab, hidden) = (config.common.vocab, config.common.hidden);
    let head = loader.names.head;
    let plus_one = loader.head_norms_around_zero()?;
    let mut layers = Vec::with_capacity(config.mtp_layers);
    let norm = |name: &str| loader.norm(&format!("{head}{name}"), plus_one);
    let projection = weights.linear(&format!("{head}fc"), hidden, 2 * hidden, false)?;
    let stated = MtpContract::stated(weights.checkpoint());
    let order = stated.concat_order.unwrap_or(ConcatOrder::EmbeddingHidden);
    for layer in 0..config.mtp_layers {
        let prefix = format!("{head}layers.{layer}.");
        let mlp = format!("{prefix}mlp");
        let feed_forward = loader.feed_forward(&mlp, loader.routed(&mlp))?;
        let attention = loader.attention(&format!("{prefix}self_attn"), plus_one)?;
        // The projection and its norms are one set for all layers, and so is the last norm.
        layers.push(MtpLayer {
            embedding_norm: norm("pre_fc_norm_embedding")?,
            hidden_norm: norm("pre_fc_norm_hidden")?,
            projection: projection.clone(),
            order,
            block: loader.block(&prefix, attention, feed_forward, plus_one)?,
            norm: norm("norm")?,
        });
    }
    let own = format!("{head}embed_tokens");
    let embedding = if weights.has(&format!("{own}.weight")) {
        weights.embedding(&own, vocab, hidden)?
    } else {
        trunk.embedding.clone()
    };
    let head = MtpHead::new(layers, embedding, trunk.output.lm_head().clone(), max_depth);
    Ok(Box::new(head.feeding(stated.hidden_variant)))
}
