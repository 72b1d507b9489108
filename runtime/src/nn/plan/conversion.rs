//! The conversion of a model's tensors into an artifact: MLX's names for experts, norms as they are applied, and the head in a
//! sidecar's names.

use std::sync::Arc;

use super::drafter::{SIDECAR, SIDECAR_LIST};
use super::{DecoderPlan, DrafterPlan, FeedForwardPlan, MixerPlan, MoePlan, RouterPlan};
use crate::LoadError;
use crate::artifact::{Checkpoint, NormEncoding, Part, Rule, Rules};

/// The rules of trunk and head.
pub(super) fn rules(model: &DecoderPlan, checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
    let moe = model.layers.iter().find_map(|layer| match &layer.feed_forward {
        FeedForwardPlan::Sparse(moe) => Some(moe),
        FeedForwardPlan::Dense(_) => None,
    });
    // These logits are computed in f32 and decide; mlx-lm keeps them as they are, too.
    let router_stays = moe.is_some_and(|moe| moe.router != RouterPlan::Softmax);
    let mut trunk = Vec::new();
    model.each_of_trunk(checkpoint, &mut |expected| trunk.push(expected));
    let (mut head, mut head_norms) = (Vec::new(), NormEncoding::Absolute);
    if let Some(drafter) = &model.drafter {
        head = [drafter.expected(checkpoint), drafter.own(checkpoint, &model.modules())?].concat();
        head_norms = drafter.norms(checkpoint)?;
    }
    let mixers = distinct_mixers(model);
    let convert = |rule: &Rule| mixers.iter().find_map(|mixer| mixer.convert(rule));
    let rules = Rules::new(trunk, head).replace(convert).each(|rule| {
        rule.packable &= !(router_stays && rule.module().ends_with(".gate"));
        let norms = if rule.part == Part::Head { head_norms } else { model.norms };
        rule.plus_one = rule.is_norm && norms == NormEncoding::Delta;
        match (&model.drafter, rule.part) {
            (Some(drafter), Part::Head) => rule.output = drafter.sidecar_name(&rule.output),
            _ => rule.output = model.converted_name(&rule.output),
        }
    });
    Ok(rules.stack_experts(moe.map_or(MoePlan::NUMBERED, |moe| moe.numbered)))
}

/// The mixers of all layers, each plan once.
fn distinct_mixers(model: &DecoderPlan) -> Vec<&Arc<dyn MixerPlan>> {
    let head = model.drafter.iter().flat_map(|drafter| &drafter.layers);
    let mut mixers: Vec<&Arc<dyn MixerPlan>> = Vec::new();
    for layer in model.layers.iter().chain(head) {
        if !mixers.iter().any(|known| Arc::ptr_eq(known, &layer.mixer)) {
            mixers.push(&layer.mixer);
        }
    }
    mixers
}

impl DecoderPlan {
    /// A trunk tensor's name in an artifact.
    fn converted_name(&self, name: &str) -> String {
        let renamed = |from: &str, to: &str| Some(format!("{to}{}", name.strip_prefix(from)?));
        renamed(self.names.model, self.converted.model)
            .or_else(|| renamed(self.names.lm_head, self.converted.lm_head))
            .unwrap_or_else(|| name.to_owned())
    }
}

impl DrafterPlan {
    /// A published tensor's name in a sidecar; a sidecar's own stays.
    fn sidecar_name(&self, published: &str) -> String {
        let names = &self.names;
        if let Some(shared) = names.shared {
            let rest = published.strip_prefix(shared);
            return rest.map_or_else(|| published.to_owned(), |rest| format!("{SIDECAR}{rest}"));
        }
        let parts = || {
            let (index, rest) = published.strip_prefix(names.list)?.split_once('.')?;
            Some((index.parse::<usize>().ok()?.checked_sub(self.first)?, rest))
        };
        let Some((index, rest)) = parts() else { return published.to_owned() };
        let own = format!("{SIDECAR_LIST}{index}.");
        let under = |name: &str| rest.strip_prefix(name).filter(|after| after.starts_with('.'));
        let renamed = [Some(names.norm), names.head].into_iter().flatten();
        let renamed = renamed.filter_map(|[from, to]| Some(format!("{own}{to}{}", under(from)?))).next();
        renamed.unwrap_or_else(|| {
            let kept = [names.embedding_norm, names.hidden_norm, names.projection, names.embedding];
            let block = if kept.into_iter().any(|name| under(name).is_some()) { "" } else { "mtp_block." };
            format!("{own}{block}{rest}")
        })
    }
}
