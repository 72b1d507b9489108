//! Tensors that an architecture does not read, and what their being left out means.
//!
//! A bias beside a weight that is read, or anything within a layer that is read, takes part in the arithmetic of the model
//! that was trained: without it another model would run, in silence. What is known to be left out for good is not worth a
//! word: tables that follow from the configuration, vision and audio parts, a copy of tied embeddings, draft heads beyond
//! those that are announced. Anything else is worth a warning.

use std::collections::{BTreeMap, BTreeSet};

use super::Checkpoint;
use super::error::shown;
use super::sidecar::is_head;

/// What is not read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Tensors without which the model would be another: file and name.
    pub needed: Vec<String>,
    /// Others, by the list or the tensor that they belong to, and how many they are.
    pub strange: BTreeMap<String, usize>,
}

/// The layer that a tensor belongs to, by its name up to the first number: `model.layers.3.`, `mtp.layers.0.`.
pub fn scope(name: &str) -> Option<&str> {
    let mut end = 0;
    for part in name.split_inclusive('.') {
        end += part.len();
        let number = part.strip_suffix('.').unwrap_or_default();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(&name[..end]);
        }
    }
    None
}

/// Sorts the tensors of `unread`; `scopes` are the layers that something is read of.
pub(super) fn classify(checkpoint: &Checkpoint, unread: &BTreeSet<&str>, scopes: &BTreeSet<String>) -> Unread {
    let lists: BTreeSet<&str> = scopes.iter().map(|layer| list(layer)).collect();
    let heads: BTreeSet<&str> = unread
        .iter()
        .filter(|name| HEAD_PARTS.iter().any(|part| has_part(name, part)))
        .filter_map(|name| scope(name))
        .collect();
    let mut sorted = Unread::default();
    for &name in unread {
        if is_derived(name) || is_of_another_sense(name) || is_copy(name) {
            continue;
        }
        let layer = scope(name);
        let within = layer.is_some_and(|layer| scopes.contains(layer));
        let weight = name.strip_suffix(".bias").map(|module| format!("{module}.weight"));
        let bias = weight.is_some_and(|weight| checkpoint.tensor(&weight).is_some() && !unread.contains(&*weight));
        let of_a_head = is_head(name, None) || layer.is_some_and(|layer| heads.contains(layer));
        // The trunk has more layers than the configuration states.
        let past_the_trunk = !of_a_head && layer.is_some_and(|layer| lists.contains(list(layer)));
        if within || bias || past_the_trunk {
            sorted.needed.push(located(checkpoint, name));
        } else if !of_a_head {
            let place = layer.map_or_else(|| shown(name), |layer| format!("{}*", shown(layer)));
            *sorted.strange.entry(place).or_default() += 1;
        }
    }
    sorted
}

/// The list that a layer is in: `model.layers.` of `model.layers.3.`.
fn list(layer: &str) -> &str {
    layer.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit())
}

/// Parts that a draft head's layer has and no trunk's.
const HEAD_PARTS: [&str; 8] = [
    "eh_proj",
    "enorm",
    "hnorm",
    "shared_head",
    "shared_head_norm",
    "input_proj",
    "token_layernorm",
    "transformer_layer",
];

fn has_part(name: &str, part: &str) -> bool {
    name.split('.').any(|of_name| of_name == part)
}

/// Follows from the configuration: frequencies of positions, masks.
fn is_derived(name: &str) -> bool {
    ["rotary_emb", "rotary_pos_emb"].iter().any(|part| has_part(name, part))
        || ["inv_freq", "position_ids", "masked_bias"].iter().any(|end| name.ends_with(end))
}

/// Of images or sounds, whatever the prefix: the text model runs without.
fn is_of_another_sense(name: &str) -> bool {
    let parts = ["visual", "vision", "image", "audio", "multi_modal", "mm_projector", "speech"];
    name.split('.').take(3).any(|of_name| parts.iter().any(|part| of_name.starts_with(part)))
}

/// A copy of an embedding or a head, tied or published with an MTP layer: where it is needed it is expected.
fn is_copy(name: &str) -> bool {
    let ends = ["weight", "scales", "biases"];
    let module = ends.iter().find_map(|end| name.strip_suffix(end)?.strip_suffix('.'));
    module.is_some_and(|module| {
        ["lm_head", "embed_tokens", "shared_head.head", "shared_head_head"]
            .iter()
            .any(|copy| module.strip_suffix(copy).is_some_and(|before| before.is_empty() || before.ends_with('.')))
    })
}

fn located(checkpoint: &Checkpoint, name: &str) -> String {
    let file = checkpoint.tensor(name).map_or_else(String::new, |info| format!("{}: ", info.file));
    format!("{file}{}", shown(name))
}
