//! Prefixes of the family's tensor names, as Hugging Face and as MLX write them.

use mtplx_runtime::artifact::Checkpoint;

/// Where the parts of this checkpoint are.
pub(crate) struct Names {
    /// Before `embed_tokens`, `layers`, `norm`.
    pub trunk: &'static str,
    /// The untied head.
    pub lm_head: &'static str,
    /// True where the checkpoint has one.
    pub has_lm_head: bool,
    /// Before `fc`, `layers`, `norm` of the draft head.
    pub head: &'static str,
    /// Hugging Face's own layout: norms around zero, convolutions as (channels, 1, taps).
    pub raw: bool,
    head_layers: usize,
}

const TRUNKS: [&str; 3] = ["language_model.model.", "model.language_model.", "model."];
const LM_HEADS: [&str; 2] = ["language_model.lm_head", "lm_head"];
const HEADS: [&str; 2] = ["mtp.", "language_model.mtp."];

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
        let head = HEADS.into_iter().find(|prefix| under(prefix)).unwrap_or(HEADS[0]);
        let numbers = checkpoint.tensors().filter_map(|(name, _)| {
            name.strip_prefix(head)?.strip_prefix("layers.")?.split('.').next()?.parse::<usize>().ok()
        });
        let head_layers = numbers.max().map_or(0, |last| last.saturating_add(1));
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
