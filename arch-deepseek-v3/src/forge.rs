//! What becomes of the family's tensors in an artifact: experts stacked, the head in a sidecar's names, and `kv_b_proj` in
//! MLX's two parts, of which `embed_q` is transposed.

use mtplx_runtime::LoadError;
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::forge::{Rule, Rules, Source};
use mtplx_runtime::nn::plan::DecoderPlan;

use crate::config::Config;
use crate::mla_plan::MlaPlan;

/// The rules.
pub(crate) fn rules(plan: &DecoderPlan<MlaPlan>, checkpoint: &Checkpoint) -> Result<Rules, LoadError> {
    let Config { heads, kv_rank, nope_dim, value_dim, .. } = Config::new(checkpoint)?;
    let each = nope_dim + value_dim;
    let split = |rule: &Rule| {
        let module = rule.output.strip_suffix("kv_b_proj.weight")?;
        let tensor = rule.source.tensors().first()?.clone();
        let part = |name: &str, shape: [usize; 3], source: Source| Rule {
            output: format!("{module}{name}.weight"),
            shape: shape.to_vec(),
            source,
            ..rule.clone()
        };
        Some(vec![
            part("embed_q", [heads, kv_rank, nope_dim], Source::Columns { tensor: tensor.clone(), each, start: 0 }),
            part("unembed_out", [heads, value_dim, kv_rank], Source::Rows { tensor, each, start: nope_dim }),
        ])
    };
    Ok(plan.forge_rules(checkpoint)?.replace(split))
}
