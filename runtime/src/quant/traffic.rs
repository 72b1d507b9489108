//! How many bytes of weights a step reads: the least that it can, which a memory's bandwidth turns into a bound on speed.
//!
//! From tensor headers and configuration alone. A matrix is read once a pass, whatever the number of rows; of an
//! embedding table a pass reads a row, which is counted as nothing; of routed experts it reads as many as one row uses.
//! Several rows may use several times as many experts, so for a mixture of experts a verification's bytes are a lower
//! bound.

use crate::artifact::quant::{HeadQuantization, Quantization};
use crate::artifact::{ArtifactError, Checkpoint, Config, TensorInfo, is_head_tensor};

/// Bytes of weights by what reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    /// One pass of the trunk over a few rows, logits included.
    pub step: usize,
    /// One draft: a pass of the draft head, logits included.
    pub draft: usize,
    /// Of that, the output matrix.
    pub draft_output: usize,
    /// Everything, embeddings and all experts included.
    pub total: usize,
}

/// What a tensor is to a pass.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Whole,
    Embedding,
    Expert,
    Output,
}

impl Traffic {
    /// Of `checkpoint`, with its packed weights kept packed, or `unpacked` to four bytes a weight as a CPU holds them.
    ///
    /// # Errors
    /// The configuration's quantization or its counts of experts cannot be read.
    pub fn of(checkpoint: &Checkpoint, unpacked: bool) -> Result<Self, ArtifactError> {
        let text = checkpoint.config().text();
        let layers = text.size("num_hidden_layers", usize::MAX).ok();
        let (used, experts) = experts(&text)?;
        let holds = Holds { checkpoint, unpacked, trunk: Quantization::from_config(checkpoint.config())? };
        let head_group = HeadQuantization::from_config(checkpoint.config())?.scheme.map(|scheme| scheme.group_size());

        let mut sums = [[0_usize; 4]; 2]; // [trunk, head] by part
        for (name, info) in checkpoint.tensors() {
            let in_head = is_head_tensor(name, layers);
            sums[usize::from(in_head)][part(name) as usize] += holds.bytes(name, info, head_group.filter(|_| in_head));
        }
        let of = |sums: &[usize; 4], part: Part| sums[part as usize];
        let read = |sums: &[usize; 4]| of(sums, Part::Whole) + of(sums, Part::Expert) / experts * used;
        let [trunk, head] = &sums;
        // Tied: the embedding table is the output matrix as well.
        let output = if of(trunk, Part::Output) > 0 { of(trunk, Part::Output) } else { of(trunk, Part::Embedding) };
        let head_output = if of(head, Part::Output) > 0 { of(head, Part::Output) } else { output };
        let has_head = head.iter().sum::<usize>() > 0;
        let draft_output = if has_head { head_output } else { 0 };
        Ok(Self {
            step: read(trunk) + output,
            draft: if has_head { read(head) + head_output } else { 0 },
            draft_output,
            total: sums.iter().flatten().sum(),
        })
    }

    /// With drafts of `tokens` out of `vocab`, whose rows of the output matrix are all that is read of it.
    #[must_use]
    pub fn with_drafts_of(self, tokens: usize, vocab: usize) -> Self {
        let draft_output = self.draft_output / vocab.max(1) * tokens;
        Self { draft: self.draft - self.draft_output + draft_output, draft_output, ..self }
    }
}

/// Experts that a row uses, and all of a layer; one of one without experts.
fn experts(text: &Config) -> Result<(usize, usize), ArtifactError> {
    let key = ["num_experts", "n_routed_experts", "num_local_experts"].into_iter().find(|key| text.has(key));
    let Some(key) = key else { return Ok((1, 1)) };
    let all = text.size(key, usize::MAX)?;
    Ok((text.size("num_experts_per_tok", all)?, all))
}

fn part(name: &str) -> Part {
    let has = |part: &str| name.contains(part);
    if has("embed_tokens.") {
        Part::Embedding
    } else if has(".experts.") || has(".switch_mlp.") {
        Part::Expert
    } else if has("lm_head.") || has("shared_head.head.") {
        Part::Output
    } else {
        Part::Whole
    }
}

struct Holds<'a> {
    checkpoint: &'a Checkpoint,
    unpacked: bool,
    trunk: Quantization,
}

impl Holds<'_> {
    /// The bytes that a tensor takes once it is loaded.
    fn bytes(&self, name: &str, info: &TensorInfo, group: Option<usize>) -> usize {
        if !self.unpacked {
            return info.range.len();
        }
        let sibling = |module: &str, part: &str| self.checkpoint.tensor(&format!("{module}.{part}"));
        let packed = |module: &str| sibling(module, "scales").is_some();
        if let Some((module, "scales" | "biases")) = name.rsplit_once('.')
            && packed(module)
        {
            return 0; // Part of the unpacked weight.
        }
        let scales = name.strip_suffix(".weight").and_then(|module| Some((module, sibling(module, "scales")?)));
        let weights = match scales {
            Some((module, scales)) => {
                let stated = || self.trunk.scheme_for(module).map(|scheme| scheme.group_size());
                scales.shape.iter().product::<usize>() * group.or_else(stated).unwrap_or(64)
            }
            None => info.shape.iter().product(),
        };
        weights * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_by_their_names() {
        for (name, expected) in [
            ("model.embed_tokens.weight", Part::Embedding),
            ("language_model.lm_head.scales", Part::Output),
            ("model.layers.61.shared_head.head.weight", Part::Output),
            ("model.layers.0.mlp.experts.7.up_proj.weight", Part::Expert),
            ("model.layers.0.mlp.switch_mlp.gate_proj.weight", Part::Expert),
            ("model.layers.0.mlp.shared_experts.up_proj.weight", Part::Whole),
            ("mtp.fc.weight", Part::Whole),
        ] {
            assert!(part(name) == expected, "{name}");
        }
    }
}
