//! What becomes of the family's tensors in an artifact: Qwen3.5's under `language_model.`, taps before the last axis, norms
//! as they are applied, experts stacked, the head under `mtp.`.

use mtplx_runtime::artifact::expected::Expected;
use mtplx_runtime::artifact::{Checkpoint, HeadSource, LoadError};
use mtplx_runtime::forge::{Part, Rule, Rules};
use mtplx_runtime::nn::plan::{MixerPlan as _, MoePlan};

use crate::config::{Config, Mixer};
use crate::weights::{self, Names};

/// The rules.
pub(crate) fn rules(checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
    let names = Names::new(checkpoint);
    let config = Config::new(checkpoint, &names)?;
    let next = checkpoint.config().model_type() == "qwen3_next";
    let head_around_zero = *checkpoint.head_source() != HeadSource::None
        && config.mtp_layers > 0
        && weights::head_norms_around_zero(checkpoint, &names)?;
    let mut head = if config.mtp_layers == 0 { Vec::new() } else { names.expected_head(checkpoint, &config) };
    let own = format!("{}embed_tokens", names.head);
    if checkpoint.tensor(&format!("{own}.weight")).is_some() {
        head.push(Expected::module(own, [config.common.vocab, config.common.hidden]));
    }
    let rules = Rules::new(expected_trunk(checkpoint, &names, &config, next), head);
    Ok(rules.each(|rule| convert(rule, &names, next, head_around_zero)).stack_experts(MoePlan::NUMBERED))
}

/// Every tensor of the trunk as this checkpoint stores it.
fn expected_trunk(checkpoint: &Checkpoint, names: &Names, config: &Config, next: bool) -> Vec<Expected> {
    let (hidden, delta) = (config.common.hidden, config.delta);
    let mut list = vec![Expected::module(format!("{}embed_tokens", names.trunk), [config.common.vocab, hidden])];
    let norm = |name: String| Expected::tensor(format!("{name}.weight"), [hidden]);
    for (index, mixer) in config.mixers.iter().enumerate() {
        let prefix = format!("{}layers.{index}.", names.trunk);
        list.extend(["input_layernorm", "post_attention_layernorm"].map(|name| norm(format!("{prefix}{name}"))));
        match mixer {
            Mixer::Attention => {
                weights::attention(config, names.raw).expected(checkpoint, &format!("{prefix}self_attn"), &mut list);
            }
            Mixer::GatedDelta => {
                let module = format!("{prefix}linear_attn");
                let linear = |name: &str, out: usize| Expected::module(format!("{module}.{name}"), [out, hidden]);
                let has = |name: &str| checkpoint.tensor(&format!("{module}.{name}.weight")).is_some();
                let (heads, channels, values) = (delta.value_heads, delta.channels(), delta.values());
                if has("in_proj_qkvz") || has("in_proj_ba") || (next && !has("in_proj_qkv")) {
                    list.extend([linear("in_proj_qkvz", channels + values), linear("in_proj_ba", 2 * heads)]);
                } else {
                    let outs = [channels, values, heads, heads];
                    let names = ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"];
                    list.extend(names.into_iter().zip(outs).map(|(name, out)| linear(name, out)));
                }
                // A bare configuration stands for an artifact: MLX's axes.
                let conv = if names.raw { [channels, 1, delta.taps] } else { [channels, delta.taps, 1] };
                list.push(Expected::tensor(format!("{module}.conv1d.weight"), conv));
                list.extend(["A_log", "dt_bias"].map(|name| Expected::tensor(format!("{module}.{name}"), [heads])));
                list.push(Expected::tensor(format!("{module}.norm.weight"), [delta.value_dim]));
                list.push(Expected::module(format!("{module}.out_proj"), [hidden, values]));
            }
        }
        let mlp = format!("{prefix}mlp");
        weights::feed_forward(config, config.sparse(index)).expected(checkpoint, &mlp, &mut list);
    }
    list.push(norm(format!("{}norm", names.trunk)));
    list.extend((!config.common.tied).then(|| Expected::module(names.lm_head, [config.common.vocab, hidden])));
    list
}

/// Name, axes and norms of one tensor.
fn convert(rule: &mut Rule, names: &Names, next: bool, head_around_zero: bool) {
    let module = rule.module().to_owned();
    let suffix = |name: &str| module.ends_with(name);
    let own_norm = suffix("linear_attn.norm");
    let is_norm = !own_norm && (suffix("norm") || suffix("pre_fc_norm_embedding") || suffix("pre_fc_norm_hidden"));
    match rule.part {
        Part::Head => {
            rule.plus_one = is_norm && head_around_zero;
            if let Some(name) = rule.output.strip_prefix(names.head) {
                rule.output = format!("mtp.{name}");
            }
        }
        _ => {
            rule.plus_one = is_norm && names.raw;
            if let [channels, 1, taps] = *rule.shape
                && suffix("conv1d")
                && names.raw
            {
                // The axis that moves has one entry: the numbers stay in their order.
                rule.shape = vec![channels, taps, 1];
            }
            let (model, lm_head) = if next { ("model.", "lm_head") } else { QWEN3_5 };
            if let Some(name) = rule.output.strip_prefix(names.trunk) {
                rule.output = format!("{model}{name}");
            } else if let Some(name) = rule.output.strip_prefix(names.lm_head) {
                rule.output = format!("{lm_head}{name}");
            }
        }
    }
}

/// Where mlx-lm looks for Qwen3.5's trunk and head.
const QWEN3_5: (&str, &str) = ("language_model.model.", "language_model.lm_head");
