//! The plan of a draft head whose MTP layers are whole decoder layers (DeepSeek-V3 and those after it), and its names.
//!
//! Published checkpoints keep a layer's own parts and its decoder layer under one prefix; the sidecars that are made for
//! MLX have `mtp.layers.I.` and `mtp.layers.I.mtp_block.` instead. Some publish an embedding and a head with the layer. Those
//! that are the trunk's, byte for byte, are not read again; others are the draft head's own.

use super::config::{Common, MAX_MTP_LAYERS};
use super::{LayerPlan, MixerPlan};
use crate::LoadError;
use crate::architecture::HeadStatus;
use crate::artifact::expected::Expected;
use crate::artifact::{ArtifactError, Checkpoint, ConcatOrder, MtpContract};
use crate::model::Drafter;
use crate::nn::{Embedding, LmHead, MtpHead, MtpLayer, Weights};

/// What a family calls the parts of an MTP layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadNames {
    /// The layers' list in a published checkpoint: `model.layers`, say.
    pub list: &'static str,
    /// The norm of the embedding.
    pub embedding_norm: &'static str,
    /// The norm of the hidden state.
    pub hidden_norm: &'static str,
    /// The projection of both, `[hidden, 2 * hidden]`.
    pub projection: &'static str,
    /// The norm before the head, as published and in a sidecar.
    pub norm: [&'static str; 2],
    /// The layer's own embedding, where it has one.
    pub embedding: &'static str,
    /// Its own head, likewise, as published and in a sidecar.
    pub head: [&'static str; 2],
}

impl HeadNames {
    /// DeepSeek-V3's, which GLM-4.5 and others took over: layers after the trunk's last.
    pub const DEEPSEEK: Self = Self {
        list: "model.layers",
        embedding_norm: "enorm",
        hidden_norm: "hnorm",
        projection: "eh_proj",
        norm: ["shared_head.norm", "shared_head_norm"],
        embedding: "embed_tokens",
        head: ["shared_head.head", "shared_head_head"],
    };

    /// How many MTP layers the configuration states (`num_nextn_predict_layers`); the tensors decide where it is silent.
    ///
    /// # Errors
    /// Not a number, or too many.
    pub fn layers(&self, checkpoint: &Checkpoint, first: usize) -> Result<usize, ArtifactError> {
        let text = checkpoint.config().text();
        let counted = self.count(checkpoint, first).min(MAX_MTP_LAYERS);
        text.count_or("num_nextn_predict_layers", counted, MAX_MTP_LAYERS)
    }

    /// MTP layers by the tensors; the published list starts at `first`.
    fn count(&self, checkpoint: &Checkpoint, first: usize) -> usize {
        let numbers = |list: &'static str| {
            checkpoint.tensors().filter_map(move |(name, _)| {
                name.strip_prefix(list)?.strip_prefix('.')?.split_once('.')?.0.parse::<usize>().ok()
            })
        };
        let published = numbers(self.list).filter_map(|number| number.checked_sub(first));
        published.chain(numbers(SIDECAR)).max().map_or(0, |last| last.saturating_add(1))
    }
}

/// The list in a sidecar.
pub(super) const SIDECAR: &str = "mtp.layers";

/// A draft head.
#[derive(Debug, Clone)]
pub struct DrafterPlan<P> {
    /// What its parts are called.
    pub names: HeadNames,
    /// The number of the first MTP layer in the published list.
    pub first: usize,
    /// The family's order of the projection's inputs; a contract may state another.
    pub order: ConcatOrder,
    /// The layers; none where the configuration announces no head.
    pub layers: Vec<LayerPlan<P>>,
}

/// The prefixes of one MTP layer, with their dots.
struct TensorRole {
    own: String,
    block: String,
    norm: &'static str,
    head: &'static str,
}

impl<P: MixerPlan> DrafterPlan<P>
where
    P::Mixer: 'static,
{
    fn places(&self, checkpoint: &Checkpoint) -> Vec<TensorRole> {
        let under = |prefix: &str| checkpoint.tensors().any(|(name, _)| name.starts_with(prefix));
        let published = |index: usize| format!("{}.{}.", self.names.list, self.first + index);
        // Where there is nothing at all, what the trunk looks like tells what is missing.
        let converted = || checkpoint.tensors().any(|(name, _)| name.contains(".switch_mlp."));
        let nowhere = !(0..self.layers.len()).any(|index| under(&published(index)));
        let sidecar = under(SIDECAR) || (nowhere && (checkpoint.missing_head_file().is_some() || converted()));
        (0..self.layers.len())
            .map(|index| {
                if sidecar {
                    let own = format!("{SIDECAR}.{index}.");
                    TensorRole {
                        block: format!("{own}mtp_block."),
                        own,
                        norm: self.names.norm[1],
                        head: self.names.head[1],
                    }
                } else {
                    let own = published(index);
                    TensorRole { block: own.clone(), own, norm: self.names.norm[0], head: self.names.head[0] }
                }
            })
            .collect()
    }

    /// Everything that the head consists of.
    pub fn expected(&self, checkpoint: &Checkpoint) -> Vec<Expected> {
        let mut list = Vec::new();
        for (layer, TensorRole { own, block, norm, .. }) in self.layers.iter().zip(self.places(checkpoint)) {
            let hidden = layer.hidden;
            for name in [self.names.embedding_norm, self.names.hidden_norm, norm] {
                list.push(Expected::tensor(format!("{own}{name}.weight"), [hidden]));
            }
            list.push(Expected::module(format!("{own}{}", self.names.projection), [hidden, 2 * hidden]));
            layer.expected(checkpoint, &block, &mut list);
        }
        list
    }

    /// What a layer may have of its own, `[vocab, hidden]` each.
    pub(super) fn optional(&self, checkpoint: &Checkpoint, common: &Common) -> Vec<Expected> {
        let shape = [common.vocab, common.hidden];
        let modules = |place: TensorRole| [self.names.embedding, place.head].map(|part| format!("{}{part}", place.own));
        let places = self.places(checkpoint).into_iter();
        places.flat_map(modules).map(|module| Expected::module(module, shape)).collect()
    }

    /// The layers' own embeddings and heads, where they are not the trunk's, `[vocab, hidden]` each.
    pub(super) fn own(&self, checkpoint: &Checkpoint, common: &Common) -> Result<Vec<Expected>, LoadError> {
        let places = self.places(checkpoint);
        let mut modules = own(checkpoint, &places, |_| self.names.embedding, common.embedding())?;
        modules.extend(own(checkpoint, &places, |place| place.head, common.head())?);
        let shape = [common.vocab, common.hidden];
        Ok(modules.into_iter().flatten().map(|module| Expected::module(module, shape)).collect())
    }

    /// Judges the checkpoint's head by its headers.
    pub fn detect(&self, checkpoint: &Checkpoint) -> HeadStatus {
        if self.layers.is_empty() {
            HeadStatus::Absent
        } else {
            HeadStatus::judge(checkpoint, &self.expected(checkpoint))
        }
    }

    /// Reads it; it shares the trunk's embedding and head unless it has its own. `None` where there is no layer.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    pub fn load(
        &self,
        weights: &Weights<'_>,
        common: &Common,
        (embedding, lm_head): (&Embedding, &LmHead),
        max_depth: usize,
    ) -> Result<Option<Box<dyn Drafter>>, LoadError> {
        let stated = MtpContract::stated(weights.checkpoint());
        let order = stated.concat_order.unwrap_or(self.order);
        let places = self.places(weights.checkpoint());
        let checkpoint = weights.checkpoint();
        let own_embedding = own(checkpoint, &places, |_| self.names.embedding, common.embedding())?;
        let own_head = own(checkpoint, &places, |place| place.head, common.head())?;
        let embedding = match one(checkpoint, &own_embedding)? {
            Some(module) => weights.embedding(module, common.vocab, common.hidden)?,
            None => embedding.clone(),
        };
        let lm_head = match one(checkpoint, &own_head)? {
            Some(module) => LmHead(weights.linear(module, common.vocab, common.hidden, false)?),
            None => lm_head.clone(),
        };
        let mut layers = Vec::with_capacity(self.layers.len());
        for (layer, TensorRole { own, block, norm, .. }) in self.layers.iter().zip(places) {
            let hidden = layer.hidden;
            let read = |name: &str| weights.norm(&format!("{own}{name}.weight"), hidden, layer.eps, false);
            layers.push(MtpLayer {
                embedding_norm: read(self.names.embedding_norm)?,
                hidden_norm: read(self.names.hidden_norm)?,
                projection: weights.linear(&format!("{own}{}", self.names.projection), hidden, 2 * hidden, false)?,
                order,
                block: layer.load(weights, &block)?,
                norm: read(norm)?,
            });
        }
        if layers.is_empty() {
            return Ok(None);
        }
        let head = MtpHead::new(layers, embedding, lm_head, max_depth);
        Ok(Some(Box::new(head.feeding(stated.hidden_variant))))
    }
}

/// For each layer the module that `part` names, where there is one that differs from the trunk's `shared`.
fn own(
    checkpoint: &Checkpoint,
    places: &[TensorRole],
    part: impl Fn(&TensorRole) -> &'static str,
    shared: &str,
) -> Result<Vec<Option<String>>, LoadError> {
    let module = |place: &TensorRole| {
        let module = format!("{}{}", place.own, part(place));
        let there = checkpoint.tensor(&format!("{module}.weight")).is_some();
        Ok(if there && !same(checkpoint, &module, shared)? { Some(module) } else { None })
    };
    places.iter().map(module).collect()
}

/// The one module that all layers have.
///
/// # Errors
/// They have different ones, or some have none of their own: the head reads embeddings and logits of all layers with one.
fn one<'a>(checkpoint: &Checkpoint, modules: &'a [Option<String>]) -> Result<Option<&'a String>, LoadError> {
    let first = modules.first().and_then(Option::as_ref);
    for module in modules {
        let agrees = match (first, module) {
            (None, None) => true,
            (Some(first), Some(module)) => same(checkpoint, first, module)?,
            _ => false,
        };
        if !agrees {
            let what = "MTP layers with different embeddings or heads of their own: expected the same in all";
            return Err(checkpoint.config().text().unsupported("num_nextn_predict_layers", what).into());
        }
    }
    Ok(first)
}

/// Whether two modules are stored alike, byte for byte.
fn same(checkpoint: &Checkpoint, a: &str, b: &str) -> Result<bool, LoadError> {
    for part in ["weight", "scales", "biases"] {
        let names = [a, b].map(|module| format!("{module}.{part}"));
        match [checkpoint.tensor(&names[0]), checkpoint.tensor(&names[1])] {
            [None, None] => {}
            [Some(first), Some(second)] if (first.dtype, &first.shape) == (second.dtype, &second.shape) => {
                if checkpoint.bytes(&names[0])? != checkpoint.bytes(&names[1])? {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}
