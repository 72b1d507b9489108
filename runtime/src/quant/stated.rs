//! What `config.json` states of quantization: a default, entries for single modules, and the draft head's own.
//!
//! `quantization` is MLX's form; `quantization_config` repeats it, or is Hugging Face's, which is another thing. A module's
//! entry stands alone, as in MLX: what it leaves out is the mode's default, not the file's. Whatever is stated, a module
//! without `.scales` is not quantized.

use std::collections::BTreeMap;

use serde_json::Value;

use super::scheme::{Mode, Scheme};
use crate::artifact::{ArtifactError, Checkpoint, Config, LoadError};

/// Quantization as stated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quantization {
    default: Option<Scheme>,
    modules: BTreeMap<String, Option<Scheme>>,
}

/// What `mtplx_mtp_quantization` states of the draft head.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct HeadQuantization {
    /// Bits, group size and mode of its quantized linears.
    pub scheme: Option<Scheme>,
    /// Which linears are quantized, in the writer's words.
    pub policy: Option<String>,
    /// Whether the file holds packed weights.
    pub prequantized: Option<bool>,
    /// How its norms are stored; see [`crate::artifact::norm_encoding`].
    pub norm_encoding: Option<String>,
}

impl Quantization {
    /// Reads `quantization`, else `quantization_config`; at the top level, else in `text_config`.
    ///
    /// # Errors
    /// A combination that MLX does not have; a Hugging Face method (fp8, gptq, awq …), by name.
    pub fn from_config(config: &Config) -> Result<Self, ArtifactError> {
        for level in [config, &config.text()] {
            if let Some(stated) = level.section("quantization")? {
                return Self::parse(&stated);
            }
            if let Some(stated) = level.section("quantization_config")? {
                if !stated.has("quant_method") {
                    return Self::parse(&stated);
                }
                let hint = match stated.string_opt("quant_method")? {
                    Some("fp8") => "`mtplx forge` converts block-scaled fp8 weights",
                    _ => "use the unquantized checkpoint, or one converted for MLX",
                };
                return Err(stated.unsupported_with(
                    "quant_method",
                    "not supported: expected bf16 weights or MLX's quantization".to_owned(),
                    hint,
                ));
            }
        }
        Ok(Self::default())
    }

    fn parse(stated: &Config) -> Result<Self, ArtifactError> {
        let default = scheme(stated)?;
        let mut modules = BTreeMap::new();
        for (module, value) in stated.fields() {
            let scheme = match value {
                Value::Bool(false) => None,
                Value::Bool(true) => Some(default),
                Value::Object(_) => stated.section(module)?.as_ref().map(scheme).transpose()?,
                _ => continue, // bits, group_size, mode, and whatever a writer adds
            };
            modules.insert(module.to_owned(), scheme);
        }
        Ok(Self { default: Some(default), modules })
    }

    /// What is stated in a way that other readers may take otherwise, by field: sizes that are left out, and packing where
    /// nothing is packed.
    pub(crate) fn doubts(checkpoint: &Checkpoint) -> Vec<(String, String)> {
        let config = checkpoint.config();
        let levels = [(config.clone(), ""), (config.text(), "text_config.")];
        let stated = levels.iter().find_map(|(level, prefix)| {
            let name = ["quantization", "quantization_config"].into_iter().find(|name| level.has(name))?;
            let section = level.section(name).ok().flatten().filter(|section| !section.has("quant_method"))?;
            Some((section, format!("{prefix}{name}")))
        });
        let Some((section, name)) = stated else { return Vec::new() };
        let Ok(scheme) = scheme(&section) else { return Vec::new() };
        let sizes = [("bits", scheme.bits()), ("group_size", scheme.group_size())];
        let missing = sizes.into_iter().filter(|(field, _)| !section.has(field));
        let missing = missing.map(|(field, taken)| {
            (format!("{name}.{field}"), format!("missing: {taken} is taken, {}'s default", scheme.mode().as_str()))
        });
        let dense = checkpoint.whole().weights && !checkpoint.is_packed();
        let dense = dense.then(|| (name.clone(), format!("{scheme}: no weight is packed: they are read as they are")));
        missing.chain(dense).collect()
    }

    /// The scheme stated for a module (a tensor's name without `.weight`); `None` when it is not quantized.
    ///
    /// Entries are found with and without the prefix `language_model.`.
    pub fn scheme_for(&self, module: &str) -> Option<Scheme> {
        let bare = module.strip_prefix("language_model.");
        let entry = self.modules.get(module).or_else(|| match bare {
            Some(bare) => self.modules.get(bare),
            None if self.modules.is_empty() => None,
            None => self.modules.get(&format!("language_model.{module}")),
        });
        entry.copied().unwrap_or(self.default)
    }

    /// The scheme of modules without an entry.
    pub fn default_scheme(&self) -> Option<Scheme> {
        self.default
    }

    /// The modules with an entry; `None` is "not quantized".
    pub fn modules(&self) -> impl Iterator<Item = (&str, Option<Scheme>)> {
        self.modules.iter().map(|(module, scheme)| (module.as_str(), *scheme))
    }

    /// How a module's tensors are stored: `None` when dense (no `.scales`), else the scheme, checked against the tensors.
    ///
    /// `shape` is the matrix's own: `[out, in]` or `[experts, out, in]`. With `stated` false (a draft head's file may say
    /// nothing, or speak of some of its modules only) the scheme follows from the tensors alone, which leave no choice.
    ///
    /// # Errors
    /// No weight; `.scales` where nothing is stated; parts that do not fit.
    pub fn resolve(
        &self,
        checkpoint: &Checkpoint,
        module: &str,
        shape: &[usize],
        stated: bool,
    ) -> Result<Option<Scheme>, LoadError> {
        let weight = checkpoint.require(&format!("{module}.weight"))?;
        let Some(scales) = checkpoint.tensor(&format!("{module}.scales")) else { return Ok(None) };
        let biases = checkpoint.tensor(&format!("{module}.biases"));
        let infer = || Scheme::infer(weight, scales, biases.is_some(), shape.last().copied().unwrap_or(0));
        let scheme = match self.scheme_for(module).filter(|_| stated) {
            Some(scheme) => Ok(scheme),
            None => infer(),
        };
        let fits = scheme.and_then(|scheme| scheme.check(weight, scales, biases, shape).map(|()| scheme));
        fits.map(Some).map_err(|error| LoadError::Quantized {
            module: module.to_owned(),
            file: checkpoint.path(&weight.file),
            error: Box::new(error),
        })
    }
}

impl HeadQuantization {
    /// Reads `mtplx_mtp_quantization`.
    ///
    /// # Errors
    /// A field of another type; a combination that MLX does not have.
    pub fn from_config(config: &Config) -> Result<Self, ArtifactError> {
        let Some(stated) = config.section("mtplx_mtp_quantization")? else { return Ok(Self::default()) };
        let owned = |field| Ok::<_, ArtifactError>(stated.string_opt(field)?.map(str::to_owned));
        Ok(Self {
            scheme: if stated.has("bits") { Some(scheme(&stated)?) } else { None },
            policy: owned("policy")?,
            prequantized: if stated.has("prequantized") { Some(stated.flag_or("prequantized", false)?) } else { None },
            norm_encoding: owned("norm_encoding")?,
        })
    }
}

/// `{bits, group_size, mode}`; what is absent is the mode's default, and an absent mode is affine.
fn scheme(stated: &Config) -> Result<Scheme, ArtifactError> {
    let mode = match stated.string_opt("mode")? {
        None => Mode::Affine,
        Some(name) => {
            name.parse().map_err(|()| stated.unsupported("mode", "expected affine, mxfp4, mxfp8 or nvfp4"))?
        }
    };
    let default = mode.default_scheme();
    let bits = stated.size_or("bits", default.bits(), 64)?;
    let group_size = stated.size_or("group_size", default.group_size(), 1 << 20)?;
    Scheme::new(mode, bits, group_size).map_err(|error| {
        let bits_known = Scheme::new(mode, bits, default.group_size()).is_ok();
        stated.unsupported(if bits_known { "group_size" } else { "bits" }, &error.to_string())
    })
}
