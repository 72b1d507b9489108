//! Prefixes of the family's tensor names, as Hugging Face and as MLX write them.

use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::nn::plan::HeadNames;

/// Where the parts of this checkpoint are.
pub(crate) struct Names {
    /// Before `embed_tokens`, `layers`, `norm`.
    pub trunk: &'static str,
    /// The untied head.
    pub lm_head: &'static str,
    /// True where the checkpoint has one.
    pub has_lm_head: bool,
    /// The draft head's.
    pub head: HeadNames,
    /// Hugging Face's own layout: norms around zero, convolutions as (channels, 1, taps).
    pub raw: bool,
    head_layers: usize,
}

const TRUNKS: [&str; 3] = ["language_model.model.", "model.language_model.", "model."];
const LM_HEADS: [&str; 2] = ["language_model.lm_head", "lm_head"];
/// Prefixes of the draft head and of its layers.
const HEADS: [[&str; 2]; 2] = [["mtp.", "mtp.layers."], ["language_model.mtp.", "language_model.mtp.layers."]];

/// Qwen3-Next fuses a Gated DeltaNet's projections and has no `language_model.` before its names.
pub(crate) fn is_next(checkpoint: &Checkpoint) -> bool {
    checkpoint.config().model_type() == "qwen3_next"
}

impl Names {
    pub(crate) fn new(checkpoint: &Checkpoint) -> Self {
        let has = |name: String| checkpoint.tensor(&name).is_some();
        // By any tensor under it: the one that is asked for may be the one that is missing.
        let under = |prefix: &str| checkpoint.tensors().any(|(name, _)| name.starts_with(prefix));
        let trunk = TRUNKS.into_iter().find(|prefix| under(prefix)).unwrap_or("model.");
        let wrapped = trunk.starts_with("language_model.");
        let lm_head =
            LM_HEADS.into_iter().find(|p| has(format!("{p}.weight"))).unwrap_or(LM_HEADS[usize::from(!wrapped)]);
        let [shared, list] = HEADS.into_iter().find(|[prefix, _]| under(prefix)).unwrap_or(HEADS[0]);
        let head = HeadNames {
            list,
            shared: Some(shared),
            embedding_norm: "pre_fc_norm_embedding",
            hidden_norm: "pre_fc_norm_hidden",
            projection: "fc",
            norm: ["norm", "norm"],
            embedding: "embed_tokens",
            head: None,
        };
        let head_layers = head.count(checkpoint, 0);
        // MLX moves the taps before the last axis. A checkpoint without convolutions is MLX's if it has a name or a form
        // that only MLX writes.
        let conv = checkpoint.tensors().find(|(name, _)| name.starts_with(trunk) && name.ends_with(".conv1d.weight"));
        let raw = match conv.map(|(_, info)| info.shape.as_slice()) {
            Some([_, 1, taps]) => *taps != 1,
            Some(_) => false,
            None => {
                let only_mlx = |name: &str| name.contains(".switch_mlp.") || name.ends_with(".scales");
                !(wrapped || checkpoint.tensors().any(|(name, _)| only_mlx(name)))
            }
        };
        Self { trunk, lm_head, has_lm_head: has(format!("{lm_head}.weight")), head, raw, head_layers }
    }

    /// MTP layers by the tensors.
    pub(crate) fn head_layers(&self) -> usize {
        self.head_layers
    }
}

#[cfg(test)]
mod tests {
    use mtplx_runtime::testing::{Fill, TinyCheckpoint};
    use serde_json::json;

    use super::*;

    /// A model may attend in every layer: then there is no convolution to tell the layouts by.
    #[test]
    fn without_convolutions_mlx_is_known_by_what_only_it_writes() {
        let raw = |name: &str| {
            let dir =
                TinyCheckpoint::new(json!({"model_type": "qwen3_5"}), 0).tensor(name, &[2], Fill::Normal(1.0)).write();
            Names::new(&Checkpoint::open(dir.path()).expect("a checkpoint")).raw
        };
        assert!(raw("model.norm.weight"));
        assert!(raw("model.language_model.norm.weight"));
        assert!(raw("model.layers.0.mlp.experts.gate_up_proj"));
        assert!(!raw("language_model.model.norm.weight"));
        assert!(!raw("model.layers.0.mlp.switch_mlp.gate_proj.weight"));
        assert!(!raw("model.layers.0.mlp.gate_proj.scales"));
    }
}
