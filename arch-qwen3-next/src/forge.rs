//! What becomes of the family's tensors in an artifact: Qwen3.5's under `language_model.`, taps before the last axis, norms
//! as they are applied, experts stacked, the head under `mtp.`.

use mtplx_runtime::LoadError;
use mtplx_runtime::artifact::{Checkpoint, HeadSource};
use mtplx_runtime::forge::{Part, Rule, Rules};
use mtplx_runtime::nn::plan::MoePlan;

use crate::config::Config;
use crate::names::{Names, is_next};
use crate::weights;

/// The rules.
pub(crate) fn rules(checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
    let names = Names::new(checkpoint);
    let config = Config::new(checkpoint, &names)?;
    let next = is_next(checkpoint);
    let head_around_zero = *checkpoint.head_source() != HeadSource::None
        && config.mtp_layers > 0
        && weights::head_norms_around_zero(checkpoint, &names)?;
    let mut head = if config.mtp_layers == 0 { Vec::new() } else { names.expected_head(checkpoint, &config) };
    head.extend(names.own_embedding(checkpoint, &config));
    let mut trunk = Vec::new();
    names.each_of_trunk(checkpoint, &config, &mut |expected| trunk.push(expected));
    let rules = Rules::new(trunk, head);
    Ok(rules.each(|rule| convert(rule, &names, next, head_around_zero)).stack_experts(MoePlan::NUMBERED))
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
