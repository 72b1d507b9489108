//! The trunk: embedding, layers of Gated DeltaNet or gated attention, final norm, head.

use mtplx_runtime::artifact::MtpContract;
use mtplx_runtime::cache::{Cache, KvCache, LayerCache, RecurrentCache};
use mtplx_runtime::model::Trunk;
use mtplx_runtime::nn::{Attention, Block, Embedding, LmHead, Mixer as _, Output, Residual, Rows};
use mtplx_runtime::quant::{Fused, Linear, Weight};
use mtplx_runtime::{Array, LoadError, Result};

use crate::config::{DeltaShape, Mixer};
use crate::gated_delta::{GatedDelta, qk_scale};
use crate::weights::Loader;

enum TrunkMixer {
    GatedDelta(GatedDelta),
    Attention(Attention),
}

/// The loaded trunk.
pub(crate) struct Qwen3NextTrunk {
    pub embedding: Embedding,
    layers: Vec<Block<TrunkMixer>>,
    pub output: Output,
}

impl Qwen3NextTrunk {
    pub(crate) fn load(loader: &Loader<'_>) -> std::result::Result<Self, LoadError> {
        let (config, names) = (loader.config, loader.names);
        let mut embedding = loader.weights.embedding(
            &format!("{}embed_tokens", names.trunk),
            config.common.vocab,
            config.common.hidden,
        )?;
        let lm_head = if config.common.tied {
            embedding.tied_head()?
        } else {
            LmHead(loader.weights.linear(names.lm_head, config.common.vocab, config.common.hidden, false)?)
        };
        let mut layers = Vec::with_capacity(config.mixers.len());
        for (index, mixer) in config.mixers.iter().enumerate() {
            let prefix = format!("{}layers.{index}.", names.trunk);
            let mixer = match mixer {
                Mixer::GatedDelta => TrunkMixer::GatedDelta(gated_delta(loader, &format!("{prefix}linear_attn"))?),
                Mixer::Attention => TrunkMixer::Attention(loader.attention(&format!("{prefix}self_attn"), names.raw)?),
            };
            let feed_forward = loader.feed_forward(&format!("{prefix}mlp"), config.sparse(index))?;
            layers.push(loader.block(&prefix, mixer, feed_forward, names.raw)?);
        }
        let norm = loader.norm(&format!("{}norm", names.trunk), names.raw)?;
        let variant = MtpContract::stated(loader.weights.checkpoint()).base_hidden_variant;
        Ok(Self { embedding, layers, output: Output::new(norm, lm_head, variant) })
    }
}

impl Trunk for Qwen3NextTrunk {
    fn new_cache(&self) -> Cache {
        let layers = self.layers.iter().map(|layer| match layer.mixer() {
            TrunkMixer::GatedDelta(_) => LayerCache::Recurrent(RecurrentCache::default()),
            TrunkMixer::Attention(_) => LayerCache::Kv(KvCache::default()),
        });
        Cache::new(layers.collect())
    }

    fn verify(&mut self, tokens: &Array, cache: &mut Cache) -> Result<Array> {
        let caches = cache.append(tokens.dim(0) as usize)?;
        if caches.len() != self.layers.len() {
            return Err(mtplx_runtime::Error::cache(format!(
                "a cache of {} layers for {}",
                caches.len(),
                self.layers.len()
            )));
        }
        let mut x = Residual::new(&self.embedding.forward(tokens)?)?;
        for (layer, cache) in self.layers.iter().zip(caches) {
            layer.run(&mut x, |mixer, x| match mixer {
                TrunkMixer::GatedDelta(delta) => delta.forward(x, cache.recurrent()?),
                TrunkMixer::Attention(attention) => attention.forward(x, &mut Rows::Kept(cache.kv()?)),
            })?;
        }
        self.output.hidden(x)
    }

    fn logits(&mut self, hidden: &Array) -> Result<Array> {
        self.output.logits(hidden)
    }
}

fn gated_delta(loader: &Loader<'_>, module: &str) -> std::result::Result<GatedDelta, LoadError> {
    let (config, weights) = (loader.config, &loader.weights);
    let shape = config.delta;
    let heads = shape.value_heads;
    let inputs = if ["in_proj_qkvz", "in_proj_ba"].iter().any(|name| weights.has(&format!("{module}.{name}.weight"))) {
        ungrouped(loader, module, shape)?
    } else {
        let linear = |name: &str, out| weights.linear(&format!("{module}.{name}"), out, config.common.hidden, false);
        vec![
            linear("in_proj_qkv", shape.channels())?,
            linear("in_proj_z", shape.values())?,
            linear("in_proj_b", heads)?,
            linear("in_proj_a", heads)?,
        ]
    };
    let (channels, taps) = (shape.channels(), shape.taps);
    let conv_shape = if loader.names.raw { [channels, 1, taps] } else { [channels, taps, 1] };
    let conv = weights.f32(&format!("{module}.conv1d.weight"), &conv_shape)?;
    let conv = conv.reshape(&[channels as i32, taps as i32])?.t().contiguous()?;
    let decay = weights.f32(&format!("{module}.A_log"), &[heads])?.exp()?.negative()?;
    let norm = weights.norm(&format!("{module}.norm.weight"), shape.value_dim, config.common.eps, false)?.in_f32();
    Ok(GatedDelta {
        shape,
        inputs: Fused::new(inputs)?,
        conv,
        decay,
        dt_bias: weights.f32(&format!("{module}.dt_bias"), &[heads])?,
        qk_scale: qk_scale(&shape),
        norm,
        output: weights.linear(&format!("{module}.out_proj"), config.common.hidden, shape.values(), false)?,
    })
}

/// Qwen3-Next groups its projections by key head, `[q | k | v.. | z..]` and `[b.. | a..]`: their rows, put in the order
/// of Qwen3.5's four.
fn ungrouped(loader: &Loader<'_>, module: &str, shape: DeltaShape) -> std::result::Result<Vec<Linear>, LoadError> {
    let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = shape;
    let group = value_heads / key_heads;
    let rows = |width: usize, start: usize, count: usize| {
        let rows = (0..key_heads).flat_map(move |head| head * width + start..head * width + start + count);
        rows.map(|row| row as i32).collect::<Vec<i32>>()
    };
    let weight =
        |name: &str, out| loader.weights.weight(&format!("{module}.{name}"), &[out, loader.config.common.hidden]);
    let values = group * value_dim;
    let width = 2 * key_dim + 2 * values;
    let qkvz = weight("in_proj_qkvz", key_heads * width)?;
    let ba = weight("in_proj_ba", 2 * value_heads)?;
    let qkv = [rows(width, 0, key_dim), rows(width, key_dim, key_dim), rows(width, 2 * key_dim, values)].concat();
    let taken = |weight: &Weight, rows: Vec<i32>| -> Result<Linear> {
        Linear::new(weight.take_rows(&Array::from_slice(&rows, &[rows.len() as i32]))?, None)
    };
    Ok(vec![
        taken(&qkvz, qkv)?,
        taken(&qkvz, rows(width, 2 * key_dim + values, values))?,
        taken(&ba, rows(2 * group, 0, group))?,
        taken(&ba, rows(2 * group, group, group))?,
    ])
}
