//! What `config.json` states of quantization: a default, entries for single modules, and the draft head's own.
//!
//! `quantization` is MLX's form; `quantization_config` repeats it, or is Hugging Face's, which is another thing. A module's
//! entry stands alone, as in MLX: what it leaves out is the mode's default, not the file's. Whatever is stated, a module
//! without `.scales` is not quantized.

use std::collections::BTreeMap;

use serde_json::Value;

use super::scheme::{Mode, Scheme};
use crate::{
    ArtifactError, CONTRACT, Checkpoint, Config, Finding, HeadSource, Hint, MtpContract, Severity, TensorInfo,
    is_head_tensor, shown,
};

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
    /// How its norms are stored; see [`crate::norm_encoding`].
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
                    Some("fp8") => Hint::ConvertFp8,
                    _ => "use the unquantized checkpoint, or one converted for MLX".into(),
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

    /// Findings on what other readers may take otherwise: sizes that are left out, packing where nothing is packed, a
    /// head's group size that its shapes contradict.
    pub fn doubts(checkpoint: &Checkpoint) -> Vec<Finding> {
        let mut doubts = HeadQuantization::doubts(checkpoint);
        let Some((section, name)) = section(checkpoint.config()) else { return doubts };
        let Ok(scheme) = scheme(&section) else { return doubts };
        let sizes = [("bits", scheme.bits()), ("group_size", scheme.group_size())];
        for (field, taken) in sizes.into_iter().filter(|(field, _)| !section.has(field)) {
            let what = format!("missing: {taken} is taken, {}'s default", scheme.mode().as_str());
            doubts.push(doubt(CONFIG, format!("{name}.{field}"), what));
        }
        if checkpoint.whole().weights && !checkpoint.is_packed() {
            let what = format!("{scheme}: no weight is packed: they are read as they are");
            doubts.push(doubt(CONFIG, name.clone(), what));
        }
        doubts
    }

    /// The finding of modules whose shapes have another scheme than the stated one.
    pub fn contradicted(config: &Config, modules: &[(String, Scheme, Scheme)]) -> Option<Finding> {
        let (_, name) = section(config)?;
        let groups = modules.iter().map(|(module, stated, found)| (&**module, *stated, found.group_size()));
        said(groups).map(|what| doubt(CONFIG, format!("{name}.group_size"), what))
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
    ) -> Result<Option<Scheme>, ArtifactError> {
        let weight = checkpoint.require(&format!("{module}.weight"))?;
        let Some(scales) = checkpoint.tensor(&format!("{module}.scales")) else { return Ok(None) };
        let biases = checkpoint.tensor(&format!("{module}.biases"));
        let infer = || Scheme::infer(weight, scales, biases.is_some(), shape.last().copied().unwrap_or(0));
        let checked = |scheme: Scheme| scheme.check(weight, scales, biases, shape).map(|()| scheme);
        let fits = match self.scheme_for(module).filter(|_| stated) {
            // The shapes tell a group size that is stated wrongly: `doubts` says so.
            Some(scheme) => checked(scheme).or_else(|error| {
                let same = |found: &Scheme| (found.mode(), found.bits()) == (scheme.mode(), scheme.bits());
                infer().ok().filter(same).and_then(|found| checked(found).ok()).ok_or(error)
            }),
            None => infer().and_then(checked),
        };
        fits.map(Some).map_err(|error| ArtifactError::Quantized {
            module: module.into(),
            file: checkpoint.path(&weight.file).into(),
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
        let policy = owned("policy")?;
        // Published tools write the policy's name for the mode, too.
        let by_mode = stated.string_opt("mode")?.filter(|mode| is_int4(mode));
        let int4 = by_mode.is_some() || policy.as_deref().is_some_and(is_int4);
        let scheme = match (stated.has("bits") || by_mode.is_some(), by_mode) {
            (false, _) => None,
            (true, None) => Some(scheme(&stated)?),
            (true, Some(_)) => Some(sized(&stated, Mode::Affine)?),
        };
        let prequantized = stated.has("prequantized").then(|| stated.flag_or("prequantized", false)).transpose()?;
        let prequantized = prequantized.or(int4.then_some(true));
        Ok(Self { scheme, policy, prequantized, norm_encoding: owned("norm_encoding")? })
    }

    /// Findings where `config.json` or the contract speaks of a head that is packed otherwise than this one.
    fn doubts(checkpoint: &Checkpoint) -> Vec<Finding> {
        let in_head = |module: &str| {
            let layers = checkpoint.config().text().size("num_hidden_layers", usize::MAX).ok();
            is_head_tensor(module, layers)
        };
        let heads = || packed(checkpoint).filter(|(module, ..)| in_head(module));
        let stated = Self::from_config(checkpoint.config()).unwrap_or_default();
        let contract = MtpContract::stated(checkpoint).extra;
        let number = |field: &str| contract.get(field).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let [bits, group_size] = ["mtp_quant_bits", "mtp_quant_group_size"].map(number);
        let by_contract = bits.zip(group_size).and_then(|(bits, size)| Scheme::new(Mode::Affine, bits, size).ok());
        let policy = contract.get("mtp_quant_policy").or_else(|| contract.get("mtp_quant_mode"));
        let policy = policy.and_then(Value::as_str).map(str::to_owned);
        let mut doubts = Vec::new();
        for (file, fields, scheme, policy) in [
            (
                CONFIG,
                ["mtplx_mtp_quantization.group_size", "mtplx_mtp_quantization.policy"],
                stated.scheme,
                stated.policy,
            ),
            (CONTRACT, ["mtp_contract.mtp_quant_group_size", "mtp_contract.mtp_quant_policy"], by_contract, policy),
        ] {
            let groups = heads().filter_map(|(module, weight, scales)| {
                let scheme = scheme?;
                Some((module, scheme, contradicted(scheme, weight, scales)?))
            });
            doubts.extend(said(groups).map(|what| doubt(file, fields[0].to_owned(), what)));
            let there = checkpoint.whole().weights && *checkpoint.head_source() != HeadSource::None;
            if let Some(policy) = policy.filter(|policy| is_int4(policy) && there && heads().next().is_none()) {
                let what = format!("\"{policy}\" is a head packed in 4 bits: none of its linears is packed");
                doubts.push(doubt(file, fields[1].to_owned(), what));
            }
        }
        doubts
    }
}

/// MLX's section on quantization, and its path.
fn section(config: &Config) -> Option<(Config, String)> {
    [config.clone(), config.text()].iter().find_map(|level| {
        let name = ["quantization", "quantization_config"].into_iter().find(|name| level.has(name))?;
        let section = level.section(name).ok().flatten().filter(|section| !section.has("quant_method"))?;
        Some((section, level.path_of(name)))
    })
}

/// True for the policy of heads that were packed in 4 bits before they were put beside a trunk: `prequantized-int4`, once called
/// after its maker.
fn is_int4(policy: &str) -> bool {
    matches!(policy, "cyankiwi" | "prequantized-int4")
}

const CONFIG: &str = "config.json";

fn doubt(file: &'static str, field: String, what: String) -> Finding {
    Finding { severity: Severity::Warning, file, field, what }
}

/// Every packed module: weight and scales.
fn packed(checkpoint: &Checkpoint) -> impl Iterator<Item = (&str, &TensorInfo, &TensorInfo)> {
    checkpoint.tensors().filter_map(|(name, scales)| {
        let module = name.strip_suffix(".scales")?;
        Some((module, checkpoint.tensor(&format!("{module}.weight"))?, scales))
    })
}

/// The group size that the shapes have at the stated bits, where it is not the stated one.
fn contradicted(stated: Scheme, weight: &TensorInfo, scales: &TensorInfo) -> Option<usize> {
    let width = weight.shape.last()?.checked_mul(32)? / stated.bits();
    let groups = *scales.shape.last()?;
    let found = width.checked_div(groups).filter(|found| found * groups == width)?;
    (found != stated.group_size() && Scheme::new(stated.mode(), stated.bits(), found).is_ok()).then_some(found)
}

/// One line on modules whose groups are not as stated.
fn said<'a>(mut modules: impl Iterator<Item = (&'a str, Scheme, usize)>) -> Option<String> {
    let (module, stated, found) = modules.next()?;
    let module = shown(module);
    Some(match modules.count() {
        0 => format!("{}: {module} has groups of {found}: the shapes decide", stated.group_size()),
        more => {
            format!(
                "{}: {module} and {more} more modules have groups of {found}: the shapes decide",
                stated.group_size()
            )
        }
    })
}

/// `{bits, group_size, mode}`; what is absent is the mode's default, and an absent mode is affine.
fn scheme(stated: &Config) -> Result<Scheme, ArtifactError> {
    let mode = match stated.string_opt("mode")? {
        None => Mode::Affine,
        Some(name) => {
            name.parse().map_err(|()| stated.unsupported("mode", "expected affine, mxfp4, mxfp8 or nvfp4"))?
        }
    };
    sized(stated, mode)
}

/// The same of a mode that is known.
fn sized(stated: &Config, mode: Mode) -> Result<Scheme, ArtifactError> {
    let default = mode.default_scheme();
    let bits = stated.size_or("bits", default.bits(), 64)?;
    let group_size = stated.size_or("group_size", default.group_size(), 1 << 20)?;
    Scheme::new(mode, bits, group_size).map_err(|error| {
        let bits_known = Scheme::new(mode, bits, default.group_size()).is_ok();
        stated.unsupported(if bits_known { "group_size" } else { "bits" }, &error.to_string())
    })
}
