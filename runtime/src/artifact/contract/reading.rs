//! Reading a contract: field by field, collecting what is wrong.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    CONTRACT, ConcatOrder, Contract, DraftSampler, Finding, GenerationMode, HiddenVariant, MtpContract, Severity,
    SpeedEvidence,
};
use crate::artifact::error::{shown, shown_value};
use crate::artifact::hashes::is_hash;
use crate::artifact::source::check_name;
use crate::quant::{Mode, Scheme};

/// Largest depth that a contract may speak of.
const MAX_DEPTH: usize = 64;
/// Faulty hashes that are named.
const NAMED: usize = 8;
/// The contract's own version, as written here.
const CONTRACT_VERSION: usize = 1;

impl Contract {
    /// The contract that an object spells, and everything there is to say about it.
    pub fn parse(fields: Map<String, Value>) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        leaked_paths("", &fields, &mut findings);
        let mut top = Fields { prefix: String::new(), fields, findings: &mut findings };

        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let object = |value: &Value| value.as_object().cloned();
        let depth = |value: &Value| whole(value, 1, MAX_DEPTH);
        let depth_expected = "expected an integer from 1 to 64";
        let mtp_depth_max = top.required("mtp_depth_max", depth_expected, depth);
        let contract = Self {
            mtplx_version: top.required("mtplx_version", "expected a string", text),
            arch_id: top.required("arch_id", "expected an architecture's id", text),
            mtp_depth_max,
            recommended_profile: top.required("recommended_profile", "expected a profile's name", text),
            exactness_baseline: top.required("exactness_baseline", "expected an object", object),
            verified_on: top.required("verified_on", "expected an object", object),
            mtp_depth_default: top.optional(
                "mtp_depth_default",
                "expected an integer from 1 to mtp_depth_max",
                |value| whole(value, 1, mtp_depth_max.unwrap_or(MAX_DEPTH)),
            ),
            recommended_generation_mode: top
                .one_of("recommended_generation_mode", &[("mtp", GenerationMode::Mtp), ("ar", GenerationMode::Ar)]),
            recommended_draft_sampler: top.section("recommended_draft_sampler").map(|mut sampler| DraftSampler {
                temperature: sampler.number("temperature", 0.0, 100.0),
                top_p: sampler.number("top_p", 0.0, 1.0),
                top_k: sampler.optional("top_k", "expected an integer from 0 to 1000000", |v| whole(v, 0, 1_000_000)),
                extra: sampler.fields,
            }),
            recommended_draft_lm_head: top.optional(
                "recommended_draft_lm_head",
                "expected {bits, group_size, mode} that MLX has",
                scheme,
            ),
            min_engine_version: top.optional("min_engine_version", "expected a version such as 1.2.3", |value| {
                text(value).filter(|text| version(text).is_some())
            }),
            mtp_contract: top.section("mtp_contract").map(|mut conventions| {
                let variants = [("pre_norm", HiddenVariant::PreNorm), ("post_norm", HiddenVariant::PostNorm)];
                MtpContract {
                    base_hidden_variant: conventions.one_of("base_hidden_variant", &variants),
                    hidden_variant: conventions.one_of("hidden_variant", &variants),
                    concat_order: conventions.one_of(
                        "concat_order",
                        &[
                            ("embedding_hidden", ConcatOrder::EmbeddingHidden),
                            ("hidden_embedding", ConcatOrder::HiddenEmbedding),
                        ],
                    ),
                    mtp_position_mode: conventions.optional("mtp_position_mode", "expected a string", text),
                    extra: conventions.fields,
                }
            }),
            speed_evidence: top.section("speed_evidence").map(|mut speed| SpeedEvidence {
                acceptance_by_depth: speed.optional("acceptance_by_depth", "expected numbers from 0 to 1", |value| {
                    value.as_array()?.iter().map(|item| number(item, 0.0, 1.0)).collect()
                }),
                ar_tok_s: speed.number("ar_tok_s", 0.0, 1e9),
                mtp_tok_s: speed.number("mtp_tok_s", 0.0, 1e9),
                speedup: speed.number("speedup", 0.0, 1e9),
                extra: speed.fields,
            }),
            forge_provenance: top.fields.shift_remove("forge_provenance"),
            vision: top.fields.shift_remove("vision"),
            contract_version: top.contract_version(),
            sha256: top.hashes(),
            extra: Map::new(),
        };
        let extra = top.fields;
        (Self { extra, ..contract }, findings)
    }
}

/// An object that is being read: what is left of it, and where findings go.
struct Fields<'a> {
    prefix: String,
    fields: Map<String, Value>,
    findings: &'a mut Vec<Finding>,
}

impl Fields<'_> {
    /// Takes a field out; a value that `read` does not take is a finding.
    fn optional<T>(&mut self, field: &str, expected: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.fields.shift_remove(field).filter(|value| !value.is_null())?;
        let result = read(&value);
        if result.is_none() {
            self.fault(field, format!("{}: {expected}", shown_value(Some(&value))));
        }
        result
    }

    /// [`Fields::optional`] whose absence is a finding as well.
    fn required<T>(&mut self, field: &str, expected: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        if self.fields.get(field).is_none_or(Value::is_null) {
            self.fault(field, format!("missing: {expected}"));
        }
        self.optional(field, expected, read)
    }

    fn number(&mut self, field: &str, low: f64, high: f64) -> Option<f64> {
        self.optional(field, &format!("expected a number from {low} to {high}"), |value| number(value, low, high))
    }

    fn one_of<T: Copy>(&mut self, field: &str, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.optional(field, &format!("expected {}", names.join(" or ")), |value| {
            let text = value.as_str()?;
            choices.iter().find(|(name, _)| *name == text).map(|&(_, choice)| choice)
        })
    }

    fn section(&mut self, field: &str) -> Option<Fields<'_>> {
        let fields = self.optional(field, "expected an object", |value| value.as_object().cloned())?;
        Some(Fields { prefix: format!("{}{field}.", self.prefix), fields, findings: self.findings })
    }

    fn contract_version(&mut self) -> Option<usize> {
        let stated = self.fields.get("contract_version").and_then(Value::as_u64);
        let expected = match stated {
            Some(version) if version > CONTRACT_VERSION as u64 => {
                "a newer mtplx wrote this and reads it: this one reads 1"
            }
            _ => "expected 1",
        };
        self.optional("contract_version", expected, |value| whole(value, 1, CONTRACT_VERSION))
    }

    /// Hashes by file. Hexadecimal digits may be of either case.
    fn hashes(&mut self) -> Option<BTreeMap<String, String>> {
        let stated =
            self.optional("sha256", "expected an object of hashes by file", |value| value.as_object().cloned())?;
        let (mut hashes, mut faulty) = (BTreeMap::new(), 0);
        for (file, hash) in stated {
            let digits = hash.as_str().map(str::to_ascii_lowercase).filter(|digits| is_hash(digits));
            let what = match (check_name(&file), digits) {
                (Ok(()), Some(digits)) => {
                    hashes.insert(file, digits);
                    continue;
                }
                (Err(what), _) => what.to_owned(),
                (Ok(()), None) => format!("{}: expected 64 hexadecimal digits", shown_value(Some(&hash))),
            };
            faulty += 1;
            if faulty <= NAMED {
                self.fault(&format!("sha256.{}", shown(&file)), what);
            }
        }
        if faulty > NAMED {
            self.fault("sha256", format!("{} faulty entries more", faulty - NAMED));
        }
        (faulty == 0).then_some(hashes)
    }

    fn fault(&mut self, field: &str, what: String) {
        let field = format!("{}{field}", self.prefix);
        self.findings.push(Finding { severity: Severity::Error, file: CONTRACT, field, what });
    }
}

fn whole(value: &Value, low: usize, high: usize) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok()).filter(|value| (low..=high).contains(value))
}

fn number(value: &Value, low: f64, high: f64) -> Option<f64> {
    value.as_f64().filter(|value| (low..=high).contains(value))
}

fn scheme(value: &Value) -> Option<Scheme> {
    let mode: Mode = match value.get("mode") {
        None | Some(Value::Null) => Mode::Affine,
        Some(mode) => mode.as_str()?.parse().ok()?,
    };
    let size = |field, default| value.get(field).map_or(Some(default), |value| whole(value, 1, 1 << 20));
    let default = mode.default_scheme();
    value.as_object()?;
    Scheme::new(mode, size("bits", default.bits())?, size("group_size", default.group_size())?).ok()
}

/// `1.2.3`, `v1.2` or `1.2.3-preview` as numbers; what follows a dash or plus does not count.
pub(super) fn version(text: &str) -> Option<[u64; 3]> {
    let core = text.strip_prefix('v').unwrap_or(text).split(['-', '+']).next()?;
    let mut numbers = [0; 3];
    for (i, part) in core.split('.').enumerate() {
        *numbers.get_mut(i)? = part.parse().ok()?;
    }
    Some(numbers)
}

/// Finds absolute paths anywhere in keys and values: they name somebody's machine, and mean nothing on another.
fn leaked_paths(prefix: &str, fields: &Map<String, Value>, findings: &mut Vec<Finding>) {
    for (name, value) in fields {
        let field = format!("{prefix}{}", shown(name));
        if has_absolute_path(name) {
            findings.push(leak(&field, "the key is".to_owned()));
        }
        leaked_path(&field, value, findings);
    }
}

fn leak(field: &str, what: String) -> Finding {
    let what = format!("{what} an absolute path: expected a relative one");
    Finding { severity: Severity::Error, file: CONTRACT, field: field.to_owned(), what }
}

fn leaked_path(field: &str, value: &Value, findings: &mut Vec<Finding>) {
    match value {
        Value::String(text) if has_absolute_path(text) => {
            findings.push(leak(field, format!("\"{}\":", shown(text))));
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                leaked_path(&format!("{field}[{i}]"), item, findings);
            }
        }
        Value::Object(fields) => leaked_paths(&format!("{field}."), fields, findings),
        _ => {}
    }
}

/// Whether a value is an absolute path of any system, or has one among its words.
fn has_absolute_path(text: &str) -> bool {
    let separates = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ',' | ';' | '(' | '[' | '`');
    let mut words = text.split(separates).filter(|word| !word.is_empty());
    // A single component is a path when nothing is beside it: "and / or" and "40 tok/s /core" are none.
    let alone = words.clone().count() == 1;
    let rooted = |path: &str, alone: bool| {
        let rest = path.strip_prefix('/').filter(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '.'));
        rest.is_some_and(|rest| alone || rest.contains('/'))
    };
    words.any(|word| {
        let drive = matches!(word.as_bytes(), [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
        let network = word.strip_prefix("\\\\").is_some_and(|rest| rest.contains('\\'));
        // As in `source:/home/me/model`; `https://…` leaves two slashes.
        let labelled = word.split_once(':').is_some_and(|(_, rest)| rooted(rest, false));
        rooted(word, alone) || drive || network || labelled || word.starts_with("~/") || word.starts_with("file://")
    })
}
