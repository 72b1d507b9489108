//! The plan of a draft head whose MTP layers are whole decoder layers, and its names.
//!
//! Most families keep a layer's own parts and its decoder layer under one prefix (DeepSeek-V3 and those after it); the sidecars that are
//! made of them for MLX have `mtp.layers.I.` and `mtp.layers.I.mtp_block.` instead. Qwen3-Next has one set of parts for all layers. Some
//! publish an embedding and a head with the layer. Those that are the trunk's, byte for byte, are not read again; others are the draft
//! head's own.

use super::LayerPlan;
use super::config::MAX_MTP_LAYERS;
use crate::LoadError;
use crate::architecture::HeadStatus;
use crate::artifact::expected::Expected;
use crate::artifact::{
    ArtifactError, Checkpoint, ConcatOrder, HeadSource, MtpContract, NormEncoding, NormRule, norm_encoding,
};
use crate::model::Drafter;
use crate::nn::{Decoder, LmHead, MtpHead, MtpLayer, RmsNorm, Weights};
use crate::quant::Linear;

/// A family's names for the parts of its draft head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadNames {
    /// The prefix of the layers' list in a published checkpoint, with its dot: `model.layers.`, say.
    pub list: &'static str,
    /// The prefix of the parts that all layers share, with its dot; `None` where each layer has its own.
    pub shared: Option<&'static str>,
    /// The norm of the embedding.
    pub embedding_norm: &'static str,
    /// The norm of the hidden state.
    pub hidden_norm: &'static str,
    /// The projection of both, `[hidden, 2 * hidden]`.
    pub projection: &'static str,
    /// The norm before the head, as published and in a sidecar.
    pub norm: [&'static str; 2],
    /// The embedding of its own, where it has one.
    pub embedding: &'static str,
    /// The head of its own, likewise, as published and in a sidecar; `None` in a family without.
    pub head: Option<[&'static str; 2]>,
}

impl HeadNames {
    /// DeepSeek-V3's, which GLM-4.5 and others took over: layers after the trunk's last.
    pub const DEEPSEEK: Self = Self {
        list: "model.layers.",
        shared: None,
        embedding_norm: "enorm",
        hidden_norm: "hnorm",
        projection: "eh_proj",
        norm: ["shared_head.norm", "shared_head_norm"],
        embedding: "embed_tokens",
        head: Some(["shared_head.head", "shared_head_head"]),
    };

    /// The number of MTP layers that the configuration states (`num_nextn_predict_layers`); the tensors decide where it is silent.
    ///
    /// # Errors
    /// Not a number, or too many.
    pub fn layers(&self, checkpoint: &Checkpoint, first: usize) -> Result<usize, ArtifactError> {
        let text = checkpoint.config().text();
        let counted = self.count(checkpoint, first).min(MAX_MTP_LAYERS);
        text.count_or("num_nextn_predict_layers", counted, MAX_MTP_LAYERS)
    }

    /// MTP layers by the tensors; the published list starts at `first`.
    pub fn count(&self, checkpoint: &Checkpoint, first: usize) -> usize {
        let numbers = |list: &'static str| {
            checkpoint
                .tensors()
                .filter_map(move |(name, _)| name.strip_prefix(list)?.split_once('.')?.0.parse::<usize>().ok())
        };
        let published = numbers(self.list).filter_map(|number| number.checked_sub(first));
        let in_sidecar = numbers(SIDECAR_LIST).filter(|_| self.shared.is_none());
        published.chain(in_sidecar).max().map_or(0, |last| last.saturating_add(1))
    }
}

/// The prefix of a head's tensors in a sidecar.
pub(super) const SIDECAR: &str = "mtp.";
/// The prefix of the list there.
pub(super) const SIDECAR_LIST: &str = "mtp.layers.";

/// The encoding of a draft head's norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    /// The same in every checkpoint.
    Stored(NormEncoding),
    /// The one that the head's file states or shows: [`norm_encoding`].
    ByFile {
        /// True for an unconverted checkpoint, whose shards hold [`NormEncoding::Delta`].
        raw: bool,
    },
}

/// A draft head.
#[derive(Debug, Clone)]
pub struct DrafterPlan {
    /// The names of its parts.
    pub names: HeadNames,
    /// The number of the first MTP layer in the published list.
    pub first: usize,
    /// The family's order of the projection's inputs; a contract may state another.
    pub order: ConcatOrder,
    /// The encoding of its norms.
    pub norms: HeadNorms,
    /// The layers; at least one.
    pub layers: Vec<LayerPlan>,
    /// The largest depth of drafts that one layer makes from its own outputs.
    pub max_depth: usize,
    /// The name in one line for all that is missing of a head of which nothing is there; `None` lists every tensor.
    pub unpublished: Option<String>,
}

/// The modules of a trunk that its draft head reads as well.
pub(super) struct TrunkModules {
    /// The token embeddings.
    pub embedding: String,
    /// The output head: the embeddings, where they are tied.
    pub lm_head: String,
    /// `[vocab, hidden]` of each.
    pub shape: [usize; 2],
}

/// The prefixes of one MTP layer, with their dots, and the names that differ between checkpoints and sidecars.
struct HeadPrefix {
    own: String,
    block: String,
    norm: &'static str,
    head: Option<&'static str>,
}

impl DrafterPlan {
    /// A head of `layers`, the first of which is number `first` of the published list, that takes the embedding before the hidden
    /// state; `None` without layers.
    pub fn new(names: HeadNames, first: usize, layers: Vec<LayerPlan>, max_depth: usize) -> Option<Self> {
        let (order, norms) = (ConcatOrder::EmbeddingHidden, HeadNorms::Stored(NormEncoding::Absolute));
        (!layers.is_empty()).then_some(Self { names, first, order, norms, layers, max_depth, unpublished: None })
    }

    fn prefixes(&self, checkpoint: &Checkpoint) -> Vec<HeadPrefix> {
        let names = &self.names;
        let under = |prefix: &str| checkpoint.tensors().any(|(name, _)| name.starts_with(prefix));
        let published = |index: usize| format!("{}{}.", names.list, self.first + index);
        // Where there is nothing at all, what the trunk looks like tells what is missing.
        let converted = || checkpoint.tensors().any(|(name, _)| name.contains(".switch_mlp."));
        let nowhere = !(0..self.layers.len()).any(|index| under(&published(index)));
        let sidecar = under(SIDECAR_LIST) || (nowhere && (checkpoint.missing_head_file().is_some() || converted()));
        let prefix = |index: usize| {
            let (norm, head) = (names.norm, names.head);
            if let Some(own) = names.shared {
                HeadPrefix {
                    own: own.to_owned(),
                    block: published(index),
                    norm: norm[0],
                    head: head.map(|head| head[0]),
                }
            } else if sidecar {
                let own = format!("{SIDECAR_LIST}{index}.");
                HeadPrefix { block: format!("{own}mtp_block."), own, norm: norm[1], head: head.map(|head| head[1]) }
            } else {
                let own = published(index);
                HeadPrefix { block: own.clone(), own, norm: norm[0], head: head.map(|head| head[0]) }
            }
        };
        (0..self.layers.len()).map(prefix).collect()
    }

    /// Everything that the head consists of.
    pub(super) fn expected(&self, checkpoint: &Checkpoint) -> Vec<Expected> {
        let mut list = Vec::new();
        let layers = self.layers.iter().zip(self.prefixes(checkpoint)).enumerate();
        for (index, (layer, HeadPrefix { own, block, norm, .. })) in layers {
            let hidden = layer.hidden;
            if index == 0 || self.names.shared.is_none() {
                for name in [self.names.embedding_norm, self.names.hidden_norm, norm] {
                    list.push(Expected::norm(format!("{own}{name}.weight"), hidden));
                }
                list.push(Expected::module(format!("{own}{}", self.names.projection), [hidden, 2 * hidden]));
            }
            layer.expected(checkpoint, &block, &mut list);
        }
        list
    }

    /// What a layer may have of its own, `[vocab, hidden]` each.
    pub(super) fn optional(&self, checkpoint: &Checkpoint, shape: [usize; 2]) -> Vec<Expected> {
        let prefixes = self.prefixes(checkpoint).into_iter();
        // Parts that all layers share are there once.
        let prefixes = prefixes.take(if self.names.shared.is_some() { 1 } else { usize::MAX });
        let modules = |place: HeadPrefix| {
            let parts = [Some(self.names.embedding), place.head].into_iter().flatten();
            parts.map(|part| format!("{}{part}", place.own)).collect::<Vec<_>>()
        };
        prefixes.flat_map(modules).map(|module| Expected::module(module, shape)).collect()
    }

    /// The layers' own embeddings and heads, where they are not the trunk's, `[vocab, hidden]` each.
    pub(super) fn own(&self, checkpoint: &Checkpoint, trunk: &TrunkModules) -> Result<Vec<Expected>, LoadError> {
        let places = self.prefixes(checkpoint);
        let mut modules = own(checkpoint, &places, |_| Some(self.names.embedding), &trunk.embedding)?;
        modules.extend(own(checkpoint, &places, |place| place.head, &trunk.lm_head)?);
        let mut modules: Vec<String> = modules.into_iter().flatten().collect();
        modules.dedup();
        Ok(modules.into_iter().map(|module| Expected::module(module, trunk.shape)).collect())
    }

    /// The state of the checkpoint's head, by its headers.
    pub(super) fn status(&self, checkpoint: &Checkpoint) -> HeadStatus {
        match &self.unpublished {
            Some(name) if *checkpoint.head_source() == HeadSource::None => {
                HeadStatus::Incomplete { missing: vec![name.clone()], misshapen: Vec::new() }
            }
            _ => HeadStatus::judge(checkpoint, &self.expected(checkpoint)),
        }
    }

    /// The encoding of the head's norms, and the rule that decided, where checkpoints of the family differ.
    fn norm_encoding(&self, checkpoint: &Checkpoint) -> Result<(NormEncoding, Option<NormRule>), LoadError> {
        let raw = match self.norms {
            HeadNorms::Stored(encoding) => return Ok((encoding, None)),
            HeadNorms::ByFile { raw } => raw,
        };
        let prefix = self.names.shared.unwrap_or(SIDECAR);
        let mean = |name: &str| -> Result<f32, LoadError> {
            let values = checkpoint.floats(&format!("{prefix}{name}"))?;
            Ok(values.iter().sum::<f32>() / values.len().max(1) as f32)
        };
        // A sidecar beside an unconverted trunk may be in MLX's form: its own file decides.
        let raw = raw && *checkpoint.head_source() == HeadSource::Shards;
        let (encoding, rule) = norm_encoding(checkpoint.config(), raw, mean)?;
        tracing::debug!(?encoding, %rule, "norms of the draft head");
        Ok((encoding, Some(rule)))
    }

    /// The encoding, for conversion.
    pub(super) fn norms(&self, checkpoint: &Checkpoint) -> Result<NormEncoding, LoadError> {
        if *checkpoint.head_source() == HeadSource::None {
            return Ok(NormEncoding::Absolute);
        }
        Ok(self.norm_encoding(checkpoint)?.0)
    }

    /// The encoding and its rule, for a report. A head that is incomplete may lack the very norms that are asked; the verdict says so.
    pub(super) fn guessed_norms(&self, checkpoint: &Checkpoint) -> Option<(NormEncoding, NormRule)> {
        if *checkpoint.head_source() == HeadSource::None {
            return None;
        }
        let (encoding, rule) = self.norm_encoding(checkpoint).ok()?;
        Some((encoding, rule?))
    }

    /// Reads it; it shares the trunk's embedding and head unless it has its own.
    ///
    /// # Errors
    /// A tensor is missing or does not fit.
    pub(super) fn load(
        &self,
        weights: &Weights<'_>,
        modules: &TrunkModules,
        trunk: &Decoder,
    ) -> Result<Box<dyn Drafter>, LoadError> {
        let checkpoint = weights.checkpoint();
        let weights = &weights.with_norms(self.norm_encoding(checkpoint)?.0);
        let [vocab, hidden] = modules.shape;
        let stated = MtpContract::stated(checkpoint);
        let order = stated.concat_order.unwrap_or(self.order);
        let places = self.prefixes(checkpoint);
        let own_embedding = own(checkpoint, &places, |_| Some(self.names.embedding), &modules.embedding)?;
        let own_head = own(checkpoint, &places, |place| place.head, &modules.lm_head)?;
        let embedding = match one(checkpoint, &own_embedding)? {
            Some(module) => weights.embedding(module, vocab, hidden)?,
            None => trunk.embedding().clone(),
        };
        let lm_head = match one(checkpoint, &own_head)? {
            Some(module) => LmHead(weights.linear(module, vocab, hidden, false)?),
            None => trunk.lm_head().clone(),
        };
        let mut parts: Option<HeadParts> = None;
        let mut layers = Vec::with_capacity(self.layers.len());
        for (layer, prefix) in self.layers.iter().zip(&places) {
            let own = match parts.take().filter(|_| self.names.shared.is_some()) {
                Some(shared) => shared,
                None => self.load_parts(weights, layer, prefix)?,
            };
            let HeadParts { embedding_norm, hidden_norm, projection, norm } = own.clone();
            let block = layer.load(weights, &prefix.block)?;
            layers.push(MtpLayer { embedding_norm, hidden_norm, projection, order, block, norm });
            parts = Some(own);
        }
        let head = MtpHead::new(layers, embedding, lm_head, self.max_depth);
        Ok(Box::new(head.feeding(stated.hidden_variant)))
    }

    /// Reads what a layer has around its decoder layer.
    fn load_parts(
        &self,
        weights: &Weights<'_>,
        layer: &LayerPlan,
        HeadPrefix { own, norm, .. }: &HeadPrefix,
    ) -> Result<HeadParts, LoadError> {
        let (names, hidden) = (&self.names, layer.hidden);
        let read = |name: &str| weights.norm(&format!("{own}{name}.weight"), hidden, layer.eps);
        Ok(HeadParts {
            embedding_norm: read(names.embedding_norm)?,
            hidden_norm: read(names.hidden_norm)?,
            projection: weights.linear(&format!("{own}{}", names.projection), hidden, 2 * hidden, false)?,
            norm: read(norm)?,
        })
    }
}

/// The parts around an MTP layer's decoder layer.
#[derive(Clone)]
struct HeadParts {
    embedding_norm: RmsNorm,
    hidden_norm: RmsNorm,
    projection: Linear,
    norm: RmsNorm,
}

/// For each layer the module that `part` names, where there is one that differs from the trunk's `shared`.
fn own(
    checkpoint: &Checkpoint,
    places: &[HeadPrefix],
    part: impl Fn(&HeadPrefix) -> Option<&'static str>,
    shared: &str,
) -> Result<Vec<Option<String>>, LoadError> {
    let module = |place: &HeadPrefix| {
        let Some(part) = part(place) else { return Ok(None) };
        let module = format!("{}{part}", place.own);
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
