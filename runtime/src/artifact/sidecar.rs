//! Which names and files belong to the draft head, and which to vision parts.
//!
//! The head's file is looked for in this order: the one that `config.json` names
//! (`mlx_lm_extra_tensors.mtp_file`), `mtp.safetensors`, `mtp/weights.safetensors`, `model-mtp.safetensors`; else the head is
//! in the shards. What a head must consist of is the architecture's business.

use super::config::Config;
use super::error::ArtifactError;
use super::source::check_name;

/// Where the draft head's tensors come from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadSource {
    /// A file of its own.
    File(String),
    /// The trunk's shards.
    Shards,
    /// No tensor has a draft head's name.
    None,
}

/// File names that need no announcement, in the order of their precedence.
pub(super) const SIDECARS: [&str; 3] = ["mtp.safetensors", "mtp/weights.safetensors", "model-mtp.safetensors"];

/// The head's file that `config.json` announces.
pub(super) fn announced(config: &Config) -> Result<Option<String>, ArtifactError> {
    let Some(extra) = config.section("mlx_lm_extra_tensors")? else { return Ok(None) };
    let Some(file) = extra.string_opt("mtp_file")? else { return Ok(None) };
    let fault =
        check_name(file).err().or_else(|| (!file.ends_with(".safetensors")).then_some("expected a safetensors file"));
    match fault {
        Some(fault) => Err(extra.error("mtp_file", fault)),
        None => Ok(Some(file.to_owned())),
    }
}

/// Whether a file at the folder's top is a head's sidecar by its name.
pub(super) fn is_sidecar(file: &str) -> bool {
    SIDECARS.contains(&file)
}

/// Whether a file holds vision weights by its name.
pub(super) fn is_vision_file(file: &str) -> bool {
    file.starts_with("model-vision") && file.ends_with(".safetensors")
}

/// Whether a tensor belongs to a vision part.
pub(super) fn is_vision(tensor: &str) -> bool {
    ["vision_tower.", "model.vision_tower.", "model.visual.", "visual."].iter().any(|prefix| tensor.starts_with(prefix))
}

/// Whether a tensor is a head's by the names that sidecars use.
pub(super) fn is_mtp(tensor: &str) -> bool {
    tensor.strip_prefix("language_model.").unwrap_or(tensor).starts_with("mtp.")
}

/// Whether a tensor is a head's by any family's names: `mtp.*`, `model.mtp_layers.*`, or a layer past the trunk's `layers`.
pub(crate) fn is_head(tensor: &str, layers: Option<usize>) -> bool {
    let past_the_trunk = || {
        let (index, _) = tensor.strip_prefix("model.layers.")?.split_once('.')?;
        Some(index.parse::<usize>().ok()? >= layers?)
    };
    is_mtp(tensor) || tensor.starts_with("model.mtp_layers.") || past_the_trunk().unwrap_or(false)
}
