//! The plan of a whole model: trunk and draft head.

use super::config::Common;
use super::drafter::{DrafterPlan, HeadNames, TrunkModules};
use super::layer::LayerPlan;
use crate::LoadError;
use crate::architecture::{CacheSize, PassSize};
use crate::artifact::expected::Expected;
use crate::artifact::{Checkpoint, MtpContract, NormEncoding};
use crate::nn::{Decoder, LmHead, Output, Weights};

/// The names of a trunk's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderNames {
    /// The prefix of `embed_tokens`, `layers` and `norm`, with its dot.
    pub model: &'static str,
    /// The module of the output head, where it is not the embedding.
    pub lm_head: &'static str,
}

impl DecoderNames {
    /// Those of Hugging Face, which MLX keeps.
    pub const HUGGING_FACE: Self = Self { model: "model.", lm_head: "lm_head" };

    /// The module of the token embeddings.
    fn embedding(&self) -> String {
        format!("{}embed_tokens", self.model)
    }

    /// The prefix of a layer.
    fn layer(&self, index: usize) -> String {
        format!("{}layers.{index}.", self.model)
    }

    /// The tensor of the final norm.
    fn norm(&self) -> String {
        format!("{}norm.weight", self.model)
    }
}

/// The plan of a model.
#[derive(Debug, Clone)]
pub struct DecoderPlan {
    /// Sizes.
    pub common: Common,
    /// Names in the checkpoint.
    pub names: DecoderNames,
    /// Names in an artifact.
    pub converted: DecoderNames,
    /// The encoding of the trunk's norms.
    pub norms: NormEncoding,
    /// The trunk's layers.
    pub layers: Vec<LayerPlan>,
    /// The draft head; `None` where the configuration announces none.
    pub drafter: Option<DrafterPlan>,
}

impl DecoderPlan {
    /// A model under Hugging Face's names, with norms that are stored as they are applied.
    pub fn new(common: Common, layers: Vec<LayerPlan>, drafter: Option<DrafterPlan>) -> Self {
        let names = DecoderNames::HUGGING_FACE;
        Self { common, names, converted: names, norms: NormEncoding::Absolute, layers, drafter }
    }

    /// The same of `layer` by number, where the head's layers, named `names`, count on after the trunk's last.
    pub fn numbered(
        common: &Common,
        names: HeadNames,
        mtp_layers: usize,
        max_depth: usize,
        layer: impl Fn(usize) -> LayerPlan,
    ) -> Self {
        let first = common.layers;
        let head = (first..first + mtp_layers).map(&layer).collect();
        let drafter = DrafterPlan::new(names, first, head, max_depth);
        Self::new(common.clone(), (0..first).map(layer).collect(), drafter)
    }

    /// The modules that the draft head reads as well.
    pub(super) fn modules(&self) -> TrunkModules {
        let embedding = self.names.embedding();
        let lm_head = if self.common.tied { embedding.clone() } else { self.names.lm_head.to_owned() };
        TrunkModules { embedding, lm_head, shape: [self.common.vocab, self.common.hidden] }
    }

    /// Calls `each` with the trunk's tensors: a layer's list at a time is all that is held.
    pub(super) fn each_of_trunk(&self, checkpoint: &Checkpoint, each: &mut dyn FnMut(Expected)) {
        let Common { hidden, vocab, tied, .. } = self.common;
        each(Expected::module(self.names.embedding(), [vocab, hidden]));
        each(Expected::norm(self.names.norm(), hidden));
        if !tied {
            each(Expected::module(self.names.lm_head, [vocab, hidden]));
        }
        let mut list = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            layer.expected(checkpoint, &self.names.layer(index), &mut list);
            list.drain(..).for_each(&mut *each);
        }
    }

    /// The size of all caches; `None` where a layer does not tell.
    pub(super) fn cache_size(&self) -> Option<CacheSize> {
        let head = self.drafter.iter().flat_map(|drafter| &drafter.layers);
        let mut sizes = self.layers.iter().chain(head).map(|layer| layer.mixer.cache_size());
        sizes.try_fold(CacheSize::default(), |all, size| Some(all.plus(size?)))
    }

    /// The largest of each size over all layers.
    pub(super) fn pass_size(&self, checkpoint: &Checkpoint) -> PassSize {
        let head = self.drafter.iter().flat_map(|drafter| &drafter.layers);
        let sizes = self.layers.iter().chain(head).map(|layer| layer.pass_size(checkpoint));
        sizes.fold(PassSize::default(), |all, one| PassSize {
            width: all.width.max(one.width),
            heads: all.heads.max(one.heads),
            largest_linear: all.largest_linear.max(one.largest_linear),
        })
    }

    /// Reads the trunk.
    pub(super) fn load_trunk(&self, weights: &Weights<'_>) -> Result<Decoder, LoadError> {
        let Common { vocab, hidden, eps, tied, .. } = self.common;
        let mut embedding = weights.embedding(&self.names.embedding(), vocab, hidden)?;
        let lm_head = if tied {
            embedding.tied_head()?
        } else {
            LmHead(weights.linear(self.names.lm_head, vocab, hidden, false)?)
        };
        let layers = self.layers.iter().enumerate();
        let layers = layers.map(|(index, layer)| layer.load(weights, &self.names.layer(index)));
        let layers = layers.collect::<Result<_, _>>()?;
        let norm = weights.norm(&self.names.norm(), hidden, eps)?;
        let variant = MtpContract::stated(weights.checkpoint()).base_hidden_variant;
        Ok(Decoder::new(embedding, layers, Output::new(norm, lm_head, variant)))
    }
}
