//! Reading a contract: field by field, collecting what is wrong.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    CONTRACT, ConcatOrder, Contract, DraftSampler, Finding, GenerationMode, HiddenVariant, MtpContract, Severity,
    SpeedEvidence, version,
};
use crate::digest::is_hash;
use crate::error::{shown, shown_value};
use crate::quant::{Mode, Scheme};
use crate::source::check_name;

/// Largest depth that a contract may speak of.
const MAX_DEPTH: usize = 64;
/// Faulty hashes that are named.
const NAMED: usize = 8;
/// The profile that this program writes, which is what it does.
const OWN_PROFILE: &str = "stable";
/// The contract's own version, as written here.
const CONTRACT_VERSION: usize = 1;

impl Contract {
    /// The contract that an object spells, and everything there is to say about it.
    pub fn parse(fields: Map<String, Value>) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let places = places(&fields);
        let mut top = Fields { prefix: String::new(), fields, findings: &mut findings };

        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let object = |value: &Value| value.as_object().cloned();
        let depth = |value: &Value| whole(value, 1, MAX_DEPTH);
        let mtp_depth_max = top.read("mtp_depth_max", Type::Number, "expected an integer from 1 to 64", depth);
        let contract = Self {
            mtplx_version: top.read("mtplx_version", Type::Text, "expected a string", text),
            arch_id: top.read("arch_id", Type::Text, "expected an architecture's id", text),
            mtp_depth_max,
            recommended_profile: top.read("recommended_profile", Type::Text, "expected a profile's name", text),
            exactness_baseline: top.read("exactness_baseline", Type::Object, "expected an object", object),
            verified_on: top.read("verified_on", Type::Object, "expected an object", object),
            mtp_depth_default: top.read(
                "mtp_depth_default",
                Type::Number,
                "expected an integer from 1 to mtp_depth_max",
                |value| whole(value, 1, mtp_depth_max.unwrap_or(MAX_DEPTH)),
            ),
            recommended_generation_mode: top
                .one_of("recommended_generation_mode", &[("mtp", GenerationMode::Mtp), ("ar", GenerationMode::Ar)]),
            recommended_draft_sampler: top.section("recommended_draft_sampler").map(|mut sampler| DraftSampler {
                temperature: sampler.number("temperature", 0.0, 100.0),
                top_p: sampler.number("top_p", 0.0, 1.0),
                top_k: sampler.read("top_k", Type::Number, "expected an integer from 0 to 1000000", |value| {
                    whole(value, 0, 1_000_000)
                }),
                extra: sampler.fields,
            }),
            recommended_draft_lm_head: top.read(
                "recommended_draft_lm_head",
                Type::Object,
                "expected {bits, group_size, mode} that MLX has",
                scheme,
            ),
            min_engine_version: top.read(
                "min_engine_version",
                Type::Text,
                "expected a version such as 1.2.3",
                |value| text(value).filter(|text| version(text).is_some()),
            ),
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
                    mtp_position_mode: conventions.read("mtp_position_mode", Type::Text, "expected a string", text),
                    extra: conventions.fields,
                }
            }),
            speed_evidence: top.section("speed_evidence").map(|mut speed| SpeedEvidence {
                acceptance_by_depth: speed.read(
                    "acceptance_by_depth",
                    Type::Array,
                    "expected numbers from 0 to 1",
                    |value| value.as_array()?.iter().map(|item| number(item, 0.0, 1.0)).collect(),
                ),
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
        let contract = Self { extra, ..contract };
        findings.extend(places);
        findings.extend(contract.ignored());
        (contract, findings)
    }

    /// Fields that are read and not followed, and why.
    fn ignored(&self) -> Vec<Finding> {
        let profile = self.recommended_profile.as_deref().filter(|profile| *profile != OWN_PROFILE).map(|profile| {
            let what = "ignored: there is one profile here, whose depth and sampler can be set";
            remark("recommended_profile", format!("\"{}\": {what}", shown(profile)))
        });
        let lm_head = self.recommended_draft_lm_head.as_ref().map(|scheme| {
            let what = "ignored: drafts use lm_head as it is stored";
            remark("recommended_draft_lm_head", format!("{scheme}: {what}"))
        });
        let engine = self.min_engine_version.as_deref().filter(|_| self.counts_otherwise()).map(|asked| {
            let what = "ignored: its writer's version numbers are not this program's";
            remark("min_engine_version", format!("{}: {what}", shown(asked)))
        });
        profile.into_iter().chain(lm_head).chain(engine).collect()
    }
}

/// An object that is being read: what is left of it, and where findings go.
struct Fields<'a> {
    prefix: String,
    fields: Map<String, Value>,
    findings: &'a mut Vec<Finding>,
}

impl Fields<'_> {
    /// Takes a field out; a value that `read` does not take is a finding. One that is absent is none: that evidence is missing
    /// is the verdict's to say.
    fn read<T>(
        &mut self,
        field: &str,
        kind: Type,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.fields.shift_remove(field).filter(|value| !value.is_null())?;
        let result = read(&value);
        if result.is_none() {
            self.fault(field, kind.is_of(&value), format!("{}: {expected}", shown_value(Some(&value))));
        }
        result
    }

    fn number(&mut self, field: &str, low: f64, high: f64) -> Option<f64> {
        let expected = format!("expected a number from {low} to {high}");
        self.read(field, Type::Number, &expected, |value| number(value, low, high))
    }

    fn one_of<T: Copy>(&mut self, field: &str, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.read(field, Type::Text, &format!("expected {}", names.join(" or ")), |value| {
            let text = value.as_str()?;
            choices.iter().find(|(name, _)| *name == text).map(|&(_, choice)| choice)
        })
    }

    fn section(&mut self, field: &str) -> Option<Fields<'_>> {
        let fields = self.read(field, Type::Object, "expected an object", |value| value.as_object().cloned())?;
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
        self.read("contract_version", Type::Number, expected, |value| whole(value, 1, CONTRACT_VERSION))
    }

    /// Hashes by file. Hexadecimal digits may be of either case.
    fn hashes(&mut self) -> Option<BTreeMap<String, String>> {
        let expected = "expected an object of hashes by file";
        let stated = self.read("sha256", Type::Object, expected, |value| value.as_object().cloned())?;
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
                self.fault(&format!("sha256.{}", shown(&file)), true, what);
            }
        }
        if faulty > NAMED {
            self.fault("sha256", true, format!("{} faulty entries more", faulty - NAMED));
        }
        (faulty == 0).then_some(hashes)
    }

    fn fault(&mut self, field: &str, right_type: bool, what: String) {
        let field = format!("{}{field}", self.prefix);
        let severity = match field.split('.').next().unwrap_or_default() {
            // Nothing acts on it.
            "speed_evidence" => Severity::Remark,
            _ if !right_type => Severity::Damage,
            // Advice, which a run does without.
            advice if advice.starts_with("recommended_") || advice == "mtp_depth_default" => Severity::Warning,
            _ => Severity::Error,
        };
        self.findings.push(Finding { severity, file: CONTRACT, field, what });
    }
}

/// The type that a field has, whatever its value.
#[derive(Debug, Clone, Copy)]
enum Type {
    Text,
    Number,
    Array,
    Object,
}

impl Type {
    fn is_of(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Number => value.is_number(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

fn remark(field: &str, what: String) -> Finding {
    Finding { severity: Severity::Remark, file: CONTRACT, field: field.to_owned(), what }
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

/// The remark on places on the maker's machine, in keys and values alike: notes, which nothing opens.
fn places(fields: &Map<String, Value>) -> Option<Finding> {
    let mut found = Vec::new();
    find_places("", fields, &mut found);
    let first = found.first()?;
    let what = match found.len() - 1 {
        0 => "a place on its maker's machine".to_owned(),
        more => format!("a place on its maker's machine, one of {}", more + 1),
    };
    Some(remark(first, format!("{what}: a note, which nothing opens")))
}

fn find_places(prefix: &str, fields: &Map<String, Value>, found: &mut Vec<String>) {
    for (name, value) in fields {
        let field = format!("{prefix}{}", shown(name));
        if has_absolute_path(name) {
            found.push(field.clone());
        }
        find_place(&field, value, found);
    }
}

fn find_place(field: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if has_absolute_path(text) => found.push(field.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| find_place(&format!("{field}[{i}]"), item, found));
        }
        Value::Object(fields) => find_places(&format!("{field}."), fields, found),
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
