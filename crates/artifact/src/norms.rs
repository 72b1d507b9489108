//! How a Qwen-class draft head's norms are stored: as `w`, applied as `1 + w`, or as `1 + w` already.
//!
//! Getting it wrong drops acceptance to a percent or two and raises no error, so the rule is one, and says which case fired.
//! Decided once a file, never by tensor: trained norms scatter, and a tensor taken by itself looks like either form.
//! Adding the one (in f32) is left to the architecture. The trunk's norms follow the trunk's layout and are not asked here.

use std::fmt;

use super::config::Config;
use super::error::ArtifactError;

/// How the seven norms are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NormEncoding {
    /// `w`: add 1 before use.
    Delta,
    /// `1 + w`: use as stored.
    Absolute,
}

/// Which rule decided.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NormRule {
    /// The head lies in a raw Hugging Face checkpoint: always a delta.
    Raw,
    /// `mtplx_mtp_quantization.norm_encoding` says so, in these words.
    Stated(String),
    /// The means of the file's norms.
    Guessed {
        /// The larger mean of `q_norm` and `k_norm`.
        attention: f32,
        /// The smallest mean of the two layer norms and the two norms before `fc`.
        least: f32,
    },
}

impl fmt::Display for NormRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => f.write_str("raw checkpoint: norms are zero-centred"),
            Self::Stated(words) => write!(f, "config.json states norm_encoding {words}"),
            Self::Guessed { attention, least } => write!(
                f,
                "unstated: guessed by means (q/k norms at most {attention:.3}, other norms at least {least:.3})"
            ),
        }
    }
}

/// Mean of `q_norm` and `k_norm` below which a file may hold deltas.
const ATTENTION_BELOW: f32 = 1.25;
/// Smallest mean of the other norms below which it does.
const LEAST_BELOW: f32 = 0.5;

/// How the norms of the head are stored, and which rule said so.
///
/// `raw`: whether the head lies in the shards of an unconverted checkpoint. `mean(name)` is the mean of a norm under the
/// head's prefix, such as `layers.0.self_attn.q_norm.weight`; it is asked only where the files leave the matter open.
///
/// # Errors
/// A stated encoding that is not known; whatever `mean` fails with.
pub fn norm_encoding<E: From<ArtifactError>>(
    config: &Config,
    raw: bool,
    mut mean: impl FnMut(&str) -> Result<f32, E>,
) -> Result<(NormEncoding, NormRule), E> {
    if raw {
        return Ok((NormEncoding::Delta, NormRule::Raw));
    }
    if let Some(stated) = config.section("mtplx_mtp_quantization")?
        && let Some(words) = stated.string_opt("norm_encoding")?
    {
        let encoding = match words {
            "delta" | "delta_plus_one" | "mlx_delta" => NormEncoding::Delta,
            "absolute" => NormEncoding::Absolute,
            _ => {
                let what = "expected absolute, delta, delta_plus_one or mlx_delta".to_owned();
                let hint = "state one of these in config.json, or remove the field: the norms' means then decide";
                return Err(stated.unsupported_with("norm_encoding", what, hint).into());
            }
        };
        return Ok((encoding, NormRule::Stated(words.to_owned())));
    }
    let mut of_layer = |name: &str| mean(&format!("layers.0.{name}.weight"));
    let attention = of_layer("self_attn.q_norm")?.max(of_layer("self_attn.k_norm")?);
    let layer = of_layer("input_layernorm")?.min(of_layer("post_attention_layernorm")?);
    let least = layer.min(mean("pre_fc_norm_hidden.weight")?).min(mean("pre_fc_norm_embedding.weight")?);
    let delta = attention < ATTENTION_BELOW && least < LEAST_BELOW;
    let encoding = if delta { NormEncoding::Delta } else { NormEncoding::Absolute };
    Ok((encoding, NormRule::Guessed { attention, least }))
}
