//! Which names and files belong to the draft head, and which to vision parts.
//!
//! The head's file is looked for in this order: the one that `config.json` names
//! (`mlx_lm_extra_tensors.mtp_file`), `mtp.safetensors`, `mtp/weights.safetensors`, `model-mtp.safetensors`; else the head is
//! in the shards. What a head must consist of is the architecture's business.

use std::collections::BTreeMap;

use super::config::Config;
use super::error::ArtifactError;
use super::source::check_name;
use super::tensor_info::TensorInfo;

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
pub fn is_head(tensor: &str, layers: Option<usize>) -> bool {
    let past_the_trunk = || {
        let (index, _) = tensor.strip_prefix("model.layers.")?.split_once('.')?;
        Some(index.parse::<usize>().ok()? >= layers?)
    };
    is_mtp(tensor) || tensor.starts_with("model.mtp_layers.") || past_the_trunk().unwrap_or(false)
}

/// Prefixes that a head published by itself may have before its parts' names, the longest first.
const WRAPPERS: [&str; 10] = [
    "model.language_model.mtp.",
    "language_model.model.mtp.",
    "model.mtp.",
    "language_model.mtp.",
    "mtp.",
    "language_model.model.",
    "model.language_model.",
    "language_model.",
    "model.",
    "",
];
/// Parts at the top of a head.
const PARTS: [&str; 10] = [
    "fc",
    "norm",
    "pre_fc_norm_embedding",
    "pre_fc_norm_hidden",
    "layers",
    "mtp_layers",
    "embed_tokens",
    "lm_head",
    "shared_head",
    "rotary_emb",
];
/// Of these, parts that no trunk has.
const OF_A_HEAD: [&str; 3] = ["fc", "pre_fc_norm_embedding", "pre_fc_norm_hidden"];
/// Parts that a head's layer has and no trunk's.
const OF_A_HEAD_S_LAYER: [&str; 8] =
    ["enorm", "hnorm", "eh_proj", "token_layernorm", "hidden_layernorm", "input_proj", "mtp_block", "final_layernorm"];

/// The naming of a head that is published by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bare {
    wrapper: &'static str,
    /// Layers are laid out as in a published checkpoint, not as in a sidecar.
    published: bool,
}

impl Bare {
    /// `None` where these are not a head's names, or are known as they are.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let fits = |wrapper: &&&str| {
            names.clone().all(|name| name.strip_prefix(**wrapper).is_some_and(|rest| PARTS.contains(&first(rest))))
        };
        let wrapper = *WRAPPERS.iter().find(fits)?;
        let rests = || names.clone().filter_map(|name| name.strip_prefix(wrapper));
        let whole = rests().any(|rest| OF_A_HEAD.contains(&first(rest)));
        let mut marked: BTreeMap<usize, bool> = BTreeMap::new();
        for (index, rest) in rests().filter_map(layer_of) {
            *marked.entry(index).or_default() |= rest.split('.').any(|part| OF_A_HEAD_S_LAYER.contains(&part));
        }
        // A trunk has layers without such a part.
        let of_layers = !marked.is_empty() && marked.values().all(|marked| *marked);
        let published = !whole && !rests().any(|rest| rest.split('.').any(|part| part == "mtp_block"));
        (whole || of_layers).then_some(Self { wrapper, published })
    }

    /// A tensor's name as this program knows it: under `mtp.`, or in a layer past the trunk's `layers`.
    pub(super) fn known(self, name: &str, layers: Option<usize>) -> String {
        let rest = name.strip_prefix(self.wrapper).unwrap_or(name);
        match (layer_of(rest), layers) {
            (Some(_), _) if rest.starts_with("mtp_layers.") => format!("model.{rest}"),
            (Some((index, tail)), Some(layers)) if self.published => {
                let index = if index < layers { layers.saturating_add(index) } else { index };
                format!("model.layers.{index}.{tail}")
            }
            _ => format!("mtp.{rest}"),
        }
    }
}

fn first(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// The number of a layer at the top of a head, and what follows it.
fn layer_of(rest: &str) -> Option<(usize, &str)> {
    let (index, tail) = rest.strip_prefix("layers.").or_else(|| rest.strip_prefix("mtp_layers."))?.split_once('.')?;
    Some((index.parse().ok()?, tail))
}

/// Renames a head file's tensors to the names that this program knows, where they have others.
pub(super) fn rename_to_known(tensors: &mut [(String, TensorInfo)], layers: Option<usize>) {
    if tensors.iter().any(|(name, _)| is_head(name, layers)) {
        return;
    }
    if let Some(bare) = Bare::of(tensors.iter().map(|(name, _)| name.as_str())) {
        tensors.iter_mut().for_each(|(name, _)| *name = bare.known(name, layers));
    }
}
