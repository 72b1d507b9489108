//! The plan of a Gated DeltaNet layer, as Hugging Face and as MLX store it.

use mtplx_runtime::architecture::CacheSize;
use mtplx_runtime::artifact::expected::Expected;
use mtplx_runtime::artifact::{Checkpoint, Rule};
use mtplx_runtime::mlx::{cuda_default, host_available};
use mtplx_runtime::nn::plan::MixerPlan;
use mtplx_runtime::nn::{Mixer, Weights};
use mtplx_runtime::quant::{Fused, Linear, Weight};
use mtplx_runtime::{Array, LoadError, Result};

use crate::config::DeltaShape;
use crate::gated_delta::{GatedDelta, qk_scale};

/// A Gated DeltaNet layer.
#[derive(Debug, Clone)]
pub(crate) struct GatedDeltaPlan {
    pub hidden: usize,
    pub eps: f32,
    pub shape: DeltaShape,
    /// Hugging Face's own layout: convolutions as (channels, 1, taps).
    pub raw: bool,
    /// Projections grouped by key head, where no tensor tells (Qwen3-Next).
    pub grouped: bool,
}

/// The suffix of the convolution's weight.
const CONV: &str = "linear_attn.conv1d.weight";

impl GatedDeltaPlan {
    fn conv_shape(&self) -> [usize; 3] {
        let (channels, taps) = (self.shape.channels(), self.shape.taps);
        if self.raw { [channels, 1, taps] } else { [channels, taps, 1] }
    }

    /// The four projections of Qwen3.5 or the two of Qwen3-Next: name, rows.
    fn projections(&self, checkpoint: &Checkpoint, module: &str) -> Vec<(&'static str, usize)> {
        let has = |name: &str| checkpoint.tensor(&format!("{module}.{name}.weight")).is_some();
        let (heads, channels, values) = (self.shape.value_heads, self.shape.channels(), self.shape.values());
        if has("in_proj_qkvz") || has("in_proj_ba") || (self.grouped && !has("in_proj_qkv")) {
            vec![("in_proj_qkvz", channels + values), ("in_proj_ba", 2 * heads)]
        } else {
            vec![("in_proj_qkv", channels), ("in_proj_z", values), ("in_proj_b", heads), ("in_proj_a", heads)]
        }
    }

    /// Queries, keys and values in one, output gate, rates, decays.
    fn inputs(&self, weights: &Weights<'_>, module: &str) -> Result<Vec<Linear>, LoadError> {
        let projections = self.projections(weights.checkpoint(), module);
        if let [qkvz, ba] = projections[..] {
            let weight = |(name, out)| weights.weight(&format!("{module}.{name}"), &[out, self.hidden]);
            return Ok(ungroup(self.shape, &weight(qkvz)?, &weight(ba)?)?);
        }
        let linear = |(name, out)| weights.linear(&format!("{module}.{name}"), out, self.hidden, false);
        projections.into_iter().map(linear).collect()
    }
}

impl MixerPlan for GatedDeltaPlan {
    fn module(&self) -> &'static str {
        "linear_attn"
    }

    fn expected(&self, checkpoint: &Checkpoint, module: &str, list: &mut Vec<Expected>) {
        let projections = self.projections(checkpoint, module);
        list.extend(
            projections.into_iter().map(|(name, out)| Expected::module(format!("{module}.{name}"), [out, self.hidden])),
        );
        list.push(Expected::tensor(format!("{module}.conv1d.weight"), self.conv_shape()));
        let heads = self.shape.value_heads;
        list.extend(["A_log", "dt_bias"].map(|name| Expected::tensor(format!("{module}.{name}"), [heads])));
        // Stored as it is applied, whatever the encoding of the others.
        list.push(Expected::tensor(format!("{module}.norm.weight"), [self.shape.value_dim]));
        list.push(Expected::module(format!("{module}.out_proj"), [self.hidden, self.shape.values()]));
    }

    /// One state and the last inputs of the convolution, in f32 at most.
    fn cache_size(&self) -> Option<CacheSize> {
        let DeltaShape { key_heads, value_heads, key_dim, value_dim, taps, .. } = self.shape;
        let state = value_heads * value_dim * key_dim + (taps - 1) * self.shape.channels();
        // A kernel leaves the states after all rows. Operations leave the convolution's input, and the buffer of queries and keys that the
        // last chunk's keys are a view of.
        let by_kernel = host_available() || cuda_default();
        let pending_elements = if by_kernel { 0 } else { self.shape.channels() + 2 * key_heads * key_dim };
        Some(CacheSize { row_elements: 0, state_bytes: 4 * state, pending_elements })
    }

    /// MLX has the taps before the last axis.
    fn convert(&self, rule: &Rule) -> Option<Vec<Rule>> {
        match *rule.shape {
            // The axis that moves has one entry: the numbers stay in their order.
            [channels, 1, taps] if self.raw && rule.output.ends_with(CONV) => {
                Some(vec![Rule { shape: vec![channels, taps, 1], ..rule.clone() }])
            }
            _ => None,
        }
    }

    fn load(&self, weights: &Weights<'_>, module: &str) -> Result<Box<dyn Mixer>, LoadError> {
        let shape = self.shape;
        let heads = shape.value_heads;
        let conv = weights.f32(&format!("{module}.conv1d.weight"), &self.conv_shape())?;
        let conv = conv.reshape(&[shape.channels() as i32, shape.taps as i32])?.t().contiguous()?;
        let decay = weights.f32(&format!("{module}.A_log"), &[heads])?.exp()?.negative()?;
        let norm = weights.norm_as_stored(&format!("{module}.norm.weight"), shape.value_dim, self.eps)?.in_f32();
        Ok(Box::new(GatedDelta {
            shape,
            inputs: Fused::new(self.inputs(weights, module)?)?,
            conv,
            decay,
            dt_bias: weights.f32(&format!("{module}.dt_bias"), &[heads])?,
            qk_scale: qk_scale(&shape),
            norm,
            output: weights.linear(&format!("{module}.out_proj"), self.hidden, shape.values(), false)?,
        }))
    }
}

/// Qwen3-Next groups its projections by key head, `[q | k | v.. | z..]` and `[b.. | a..]`: their rows, put in the order
/// of Qwen3.5's four.
fn ungroup(shape: DeltaShape, qkvz: &Weight, ba: &Weight) -> Result<Vec<Linear>> {
    let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = shape;
    let group = value_heads / key_heads;
    let rows = |width: usize, start: usize, count: usize| {
        let rows = (0..key_heads).flat_map(move |head| head * width + start..head * width + start + count);
        rows.map(|row| row as i32).collect::<Vec<i32>>()
    };
    let values = group * value_dim;
    let width = 2 * key_dim + 2 * values;
    let qkv = [rows(width, 0, key_dim), rows(width, key_dim, key_dim), rows(width, 2 * key_dim, values)].concat();
    let taken = |weight: &Weight, rows: Vec<i32>| -> Result<Linear> {
        Linear::new(weight.take_rows(&Array::from_slice(&rows, &[rows.len() as i32]))?, None)
    };
    Ok(vec![
        taken(qkvz, qkv)?,
        taken(qkvz, rows(width, 2 * key_dim + values, values))?,
        taken(ba, rows(2 * group, 0, group))?,
        taken(ba, rows(2 * group, group, group))?,
    ])
}
