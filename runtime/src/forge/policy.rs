//! How many bits for what: the built-in policies and those that a user writes.
//!
//! A policy is a small TOML file; the built-in ones are too (`policies/`). Rules are asked in their order, and the first that
//! names a module's group or matches its path decides:
//!
//! ```toml
//! name = "mine"
//! bits = 4               # of modules that no rule speaks of; or `keep = true`
//! group_size = 64        # 32, 64 or 128
//! packed = "keep"        # a module that is packed already stays as it is; "refuse" is the default
//! norms = "f32"          # where 1 + w is written: "source" (the default) rounds it to the checkpoint's type
//! dense = "bf16"         # the type of what is not packed: "source" (the default), "bf16", "f16" or "f32"
//!
//! [[rule]]
//! groups = ["linear_attn", "self_attn"]
//! bits = 8
//!
//! [[rule]]
//! modules = ["*.layers.0.*", "lm_head"]   # `*` stands for anything, dots too
//! keep = true                             # not packed
//! ```
//!
//! A pattern speaks of the trunk, unless it begins with `mtp`, as all names of the draft head do: layer 0 of the one is not
//! layer 0 of the other.

use safetensors::Dtype;
use serde::Deserialize;

use super::{ForgeError, Group};
use crate::quant::{Mode, Scheme};

/// Bits for every module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What it is called in artifacts.
    pub name: String,
    default: Option<Scheme>,
    rules: Vec<Matcher>,
    /// Whether modules that are packed already stay as they are.
    pub keeps_packed: bool,
    /// The type of norms to which 1 was added, where it is not the checkpoint's own.
    pub norms: Option<Dtype>,
    /// The type of what is not packed, where it is not the checkpoint's own.
    pub dense: Option<Dtype>,
}

/// What `--head` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadPolicy {
    /// Linears of the head's layers in 4 bits, its projection as it is.
    Int4,
    /// Nothing packed.
    Bf16,
}

/// A rule: what it speaks of, and the scheme; `None` keeps a module unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Matcher {
    groups: Vec<Group>,
    modules: Vec<String>,
    scheme: Option<Scheme>,
}

/// Names of the built-in policies.
pub const BUILTIN: [&str; 5] = ["gdn8-speed4", "flat4", "flat8", "bf16", "as-is"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    bits: Option<usize>,
    #[serde(default)]
    keep: bool,
    group_size: Option<usize>,
    mode: Option<String>,
    packed: Option<Packed>,
    norms: Option<Float>,
    dense: Option<Float>,
    #[serde(default)]
    rule: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    modules: Vec<String>,
    bits: Option<usize>,
    #[serde(default)]
    keep: bool,
    group_size: Option<usize>,
    mode: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Packed {
    Refuse,
    Keep,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Float {
    Source,
    Bf16,
    F16,
    F32,
}

impl Float {
    fn dtype(self) -> Option<Dtype> {
        match self {
            Self::Source => None,
            Self::Bf16 => Some(Dtype::BF16),
            Self::F16 => Some(Dtype::F16),
            Self::F32 => Some(Dtype::F32),
        }
    }
}

impl Policy {
    /// A built-in one.
    pub fn builtin(name: &str) -> Option<Self> {
        let text = match name {
            // Its name in published artifacts.
            "gdn8-speed4" | "mtplx-gdn8-speed4" => include_str!("policies/gdn8-speed4.toml"),
            "flat4" => include_str!("policies/flat4.toml"),
            "flat8" => include_str!("policies/flat8.toml"),
            "bf16" => include_str!("policies/bf16.toml"),
            "as-is" => include_str!("policies/as-is.toml"),
            _ => return None,
        };
        Self::parse(name, text).ok()
    }

    /// Reads a policy file; `path` names it in errors.
    ///
    /// # Errors
    /// Not TOML, an unknown field or group, bits that MLX does not have, both or neither of `bits` and `keep`.
    pub fn parse(path: &str, text: &str) -> Result<Self, ForgeError> {
        let fault = |field: String, what: String| ForgeError::policy(path, field, what);
        let file: File = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text.bytes().take(span.start).filter(|&byte| byte == b'\n').count() + 1);
            fault(format!("line {line}"), error.message().to_owned())
        })?;
        // The artifact's contract will repeat it.
        let strange = |c: char| c.is_control() || c == '/' || c == '\\';
        if file.name.is_empty() || file.name.len() > 64 || file.name.chars().any(strange) {
            return Err(fault("name".to_owned(), "expected 1 to 64 characters, no slashes".to_owned()));
        }
        let default = scheme(file.bits, file.keep, file.group_size, file.mode.as_deref())
            .map_err(|(field, what)| fault(field.to_owned(), what))?;
        let mut rules = Vec::with_capacity(file.rule.len());
        for (number, entry) in file.rule.into_iter().enumerate() {
            let fault = |field: &str, what: String| fault(format!("rule {}: {field}", number + 1), what);
            if entry.groups.is_empty() && entry.modules.is_empty() {
                return Err(fault("groups", "a rule names groups, or modules by patterns".to_owned()));
            }
            let groups = entry.groups.iter().map(|name| {
                let known = || Group::names().collect::<Vec<_>>().join(", ");
                name.parse::<Group>().map_err(|()| fault("groups", format!("\"{name}\": expected one of {}", known())))
            });
            let group_size = entry.group_size.or(file.group_size);
            rules.push(Matcher {
                groups: groups.collect::<Result<_, _>>()?,
                scheme: scheme(entry.bits, entry.keep, group_size, entry.mode.as_deref().or(file.mode.as_deref()))
                    .map_err(|(field, what)| fault(field, what))?,
                modules: entry.modules,
            });
        }
        let dtype = |float: Option<Float>| float.and_then(Float::dtype);
        let keeps_packed = file.packed == Some(Packed::Keep);
        Ok(Self { name: file.name, default, rules, keeps_packed, norms: dtype(file.norms), dense: dtype(file.dense) })
    }

    /// With the draft head as `--head` asks.
    #[must_use]
    pub fn with_head(mut self, head: HeadPolicy) -> Self {
        let all = vec![Group::MtpFc, Group::MtpLayer, Group::MtpRouter];
        let rule = |groups, scheme| Matcher { groups, modules: Vec::new(), scheme };
        let asked = match head {
            HeadPolicy::Bf16 => vec![rule(all, None)],
            HeadPolicy::Int4 => vec![
                rule(vec![Group::MtpFc, Group::MtpRouter], None),
                rule(vec![Group::MtpLayer], Some(Mode::Affine.default_scheme())),
            ],
        };
        self.rules.splice(0..0, asked);
        self
    }

    /// The scheme of a module; `None` where it is not packed.
    pub fn scheme(&self, module: &str, group: Group) -> Option<Scheme> {
        let speaks = |rule: &&Matcher| {
            rule.groups.contains(&group) || rule.modules.iter().any(|pattern| names(pattern, module, group))
        };
        self.rules.iter().find(speaks).map_or(self.default, |rule| rule.scheme)
    }

    /// The patterns that fit none of these modules: misspelt, or meant for another model.
    pub(super) fn unmatched(&self, modules: &[(&str, Group)]) -> Vec<String> {
        let patterns = self.rules.iter().flat_map(|rule| &rule.modules);
        let fits_none = |pattern: &&String| !modules.iter().any(|(module, group)| names(pattern, module, *group));
        patterns.filter(fits_none).cloned().collect()
    }

    /// The scheme of modules that no rule speaks of.
    pub fn default_scheme(&self) -> Option<Scheme> {
        self.default
    }
}

type Fault = (&'static str, String);

fn scheme(bits: Option<usize>, keep: bool, group: Option<usize>, mode: Option<&str>) -> Result<Option<Scheme>, Fault> {
    if mode.is_some_and(|mode| mode != "affine") {
        return Err(("mode", format!("\"{}\": only affine is written", mode.unwrap_or_default())));
    }
    match (bits, keep) {
        (Some(bits), false) => match Scheme::new(Mode::Affine, bits, group.unwrap_or(64)) {
            Ok(scheme) => Ok(Some(scheme)),
            Err(error) => Err(("bits", error.to_string())),
        },
        (None, true) => Ok(None),
        (Some(_), true) => Err(("keep", "bits or keep, not both".to_owned())),
        (None, false) => Err(("bits", "missing: say bits = 4, or keep = true".to_owned())),
    }
}

/// Whether a pattern speaks of a module.
fn names(pattern: &str, module: &str, group: Group) -> bool {
    group.is_head() == pattern.starts_with("mtp") && matches(pattern, module)
}

/// Whether `text` fits a pattern in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("lm_head", "lm_head", true),
            ("lm_head", "lm_heads", false),
            ("*.layers.0.*", "model.layers.0.mlp.up_proj", true),
            ("*.layers.0.*", "model.layers.10.mlp.up_proj", false),
            ("*up_proj", "model.layers.0.mlp.up_proj", true),
            ("a*b*b", "ab", false),
            ("a*b*b", "abb", true),
            ("*", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_the_trunk_is_none_of_the_head() {
        let policy = |pattern: &str| {
            let text = format!("name = \"x\"\nbits = 4\n[[rule]]\nmodules = [\"{pattern}\"]\nbits = 8\n");
            Policy::parse("p.toml", &text).unwrap()
        };
        let modules = [("model.layers.0.mlp.up_proj", Group::Mlp), ("mtp.layers.0.mlp.up_proj", Group::MtpLayer)];
        for (pattern, bits, unmatched) in [
            ("*.layers.0.*", [8, 4], 0),
            ("*", [8, 4], 0),
            ("mtp.layers.0.*", [4, 8], 0),
            ("mtp*", [4, 8], 0),
            ("*.layer.0.*", [4, 4], 1),
            ("mtp.layers.1.*", [4, 4], 1),
        ] {
            let policy = policy(pattern);
            let found = modules.map(|(module, group)| policy.scheme(module, group).unwrap().bits());
            assert_eq!((found, policy.unmatched(&modules).len()), (bits, unmatched), "{pattern}");
        }
    }

    #[test]
    fn the_builtin_ones_parse() {
        for name in BUILTIN {
            assert_eq!(Policy::builtin(name).unwrap().name, name);
        }
        assert_eq!(Policy::builtin("mtplx-gdn8-speed4"), Policy::builtin("gdn8-speed4"));
        let policy = Policy::builtin("gdn8-speed4").unwrap();
        let bits = |group| policy.scheme("x", group).map(Scheme::bits);
        assert_eq!(bits(Group::LinearAttn), Some(8));
        assert_eq!(bits(Group::Mlp), Some(4));
        assert_eq!(bits(Group::MtpFc), None);
        assert_eq!(policy.with_head(HeadPolicy::Bf16).scheme("x", Group::MtpLayer), None);
    }

    #[test]
    fn faults_name_line_or_field() {
        let error = |text: &str| Policy::parse("p.toml", text).unwrap_err().to_string();
        for (text, expected) in [
            ("name = \"x\"\nbits = ", "p.toml: line 2: "),
            ("name = \"x\"\nbits = 4\nbitz = 3", "p.toml: line 3: unknown field `bitz`"),
            ("name = \"x\"\nbits = 7", "p.toml: bits: affine 7-bit group 64: MLX has"),
            ("name = \"x\"", "p.toml: bits: missing: say bits = 4, or keep = true"),
            ("name = \"x\"\nbits = 4\nkeep = true", "p.toml: keep: bits or keep, not both"),
            ("name = \"x\"\nbits = 4\nmode = \"mxfp4\"", "p.toml: mode: \"mxfp4\": only affine is written"),
            ("name = \"x\"\nbits = 4\n[[rule]]\nbits = 8", "p.toml: rule 1: groups: a rule names groups"),
            (
                "name = \"x\"\nbits = 4\n[[rule]]\ngroups = [\"y\"]\nbits = 8",
                "p.toml: rule 1: groups: \"y\": expected one",
            ),
            ("name = \"\"\nbits = 4", "p.toml: name: expected 1 to 64 characters"),
            ("name = \"/home/me/p\"\nbits = 4", "p.toml: name: expected 1 to 64 characters, no slashes"),
        ] {
            assert!(error(text).starts_with(expected), "{}", error(text));
        }
    }
}
