//! What becomes of a decoder's tensors in an artifact: MLX's names for experts, and the head in a sidecar's.

use super::drafter::SIDECAR;
use super::{DecoderPlan, DrafterPlan, FeedForwardPlan, MixerPlan, MoePlan, RouterPlan};
use crate::LoadError;
use crate::artifact::Checkpoint;
use crate::forge::{Part, Rules};

impl<P: MixerPlan> DecoderPlan<P>
where
    P::Mixer: 'static,
{
    /// The rules of trunk and head. What a mixer stores otherwise is left to its family.
    ///
    /// # Errors
    /// A tensor's bytes cannot be read.
    pub fn forge_rules(&self, checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
        let moe = self.layers.iter().find_map(|layer| match &layer.feed_forward {
            FeedForwardPlan::Sparse(moe) => Some(moe),
            FeedForwardPlan::Dense(_) => None,
        });
        // These logits are computed in f32 and decide; mlx-lm keeps them as they are, too.
        let router_stays = moe.is_some_and(|moe| moe.router != RouterPlan::Softmax);
        let head = [self.head.expected(checkpoint), self.head.own(checkpoint, &self.common)?].concat();
        Ok(Rules::new(self.expected_trunk(checkpoint), head)
            .each(|rule| {
                rule.packable &= !(router_stays && rule.module().ends_with(".gate"));
                if rule.part == Part::Head {
                    rule.output = self.head.sidecar_name(&rule.output);
                }
            })
            .stack_experts(moe.map_or(MoePlan::NUMBERED, |moe| moe.numbered)))
    }
}

impl<P> DrafterPlan<P> {
    /// A published tensor's name in a sidecar; a sidecar's own stays.
    fn sidecar_name(&self, published: &str) -> String {
        let names = &self.names;
        let parts = || {
            let (index, rest) = published.strip_prefix(names.list)?.strip_prefix('.')?.split_once('.')?;
            Some((index.parse::<usize>().ok()?.checked_sub(self.first)?, rest))
        };
        let Some((index, rest)) = parts() else { return published.to_owned() };
        let own = format!("{SIDECAR}.{index}.");
        let under = |name: &str| rest.strip_prefix(name).filter(|after| after.starts_with('.'));
        if let Some(after) = under(names.norm[0]) {
            format!("{own}{}{after}", names.norm[1])
        } else if let Some(after) = under(names.head[0]) {
            format!("{own}{}{after}", names.head[1])
        } else if [names.embedding_norm, names.hidden_norm, names.projection, names.embedding]
            .into_iter()
            .any(|name| under(name).is_some())
        {
            format!("{own}{rest}")
        } else {
            format!("{own}mtp_block.{rest}")
        }
    }
}
