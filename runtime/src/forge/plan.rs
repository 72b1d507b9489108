//! What will be written, and where: rules and policy, applied to headers. Nothing here reads a weight.

use std::collections::{BTreeMap, HashSet};

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::layout::{self, SHARD, Tensor, numbers};
use super::{ForgeError, Group, Part, Policy, Rule, Rules, Source};
use crate::artifact::{Checkpoint, Hint};
use crate::quant::{Mode, Quantization, Scheme};

/// How an output is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is, in this type.
    Dense(Dtype),
    /// Packed, with scales and biases of this type.
    Packed(Scheme, Dtype),
    /// Packed already, and copied.
    Kept(Scheme, Dtype),
}

/// An output of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What it is made of.
    pub rule: Rule,
    /// How it is stored.
    pub coding: Coding,
    /// Bytes of its sources, as stored.
    pub source_bytes: u64,
}

impl Output {
    /// Numbers in a row.
    pub(super) fn width(&self) -> usize {
        self.rule.shape.last().copied().unwrap_or(1)
    }

    /// Rows of all matrices.
    pub(super) fn rows(&self) -> usize {
        self.rule.shape.split_last().map_or(1, |(_, rows)| rows.iter().product())
    }

    /// Rows of one matrix.
    pub(super) fn matrix_rows(&self) -> usize {
        match self.rule.shape.as_slice() {
            [.., rows, _] => *rows,
            _ => 1,
        }
    }

    /// What it is stored as: one tensor, or weight, scales and biases.
    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let tensor = |name, dtype, shape| Tensor { name, dtype, shape };
        let (scheme, dtype) = match self.coding {
            Coding::Dense(dtype) => return vec![tensor(self.rule.output.clone(), dtype, self.rule.shape.clone())],
            Coding::Packed(scheme, dtype) | Coding::Kept(scheme, dtype) => (scheme, dtype),
        };
        let with_width = |width: usize| {
            let mut shape = self.rule.shape.clone();
            shape.pop();
            shape.push(width);
            shape
        };
        let module = self.rule.module();
        let groups = with_width(self.width() / scheme.group_size());
        let mut tensors = vec![
            tensor(format!("{module}.weight"), Dtype::U32, with_width(self.width() / 8 * scheme.bits() / 4)),
            tensor(format!("{module}.scales"), dtype, groups.clone()),
        ];
        if scheme.mode() == Mode::Affine {
            tensors.push(tensor(format!("{module}.biases"), dtype, groups));
        }
        tensors
    }

    /// Its size in the artifact.
    pub fn bytes(&self) -> u64 {
        self.tensors().iter().map(Tensor::bytes).sum()
    }

    /// Its scheme, where it is packed.
    pub fn scheme(&self) -> Option<Scheme> {
        match self.coding {
            Coding::Packed(scheme, _) | Coding::Kept(scheme, _) => Some(scheme),
            Coding::Dense(_) => None,
        }
    }
}

/// A line of the plan's table: outputs of one group that are stored alike.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// The group.
    pub group: Group,
    /// Bits of a weight.
    pub bits: usize,
    /// Weights that share a scale; `None` where they are not packed.
    pub group_size: Option<usize>,
    /// How many modules or tensors.
    pub count: usize,
    /// Bytes in the checkpoint.
    pub before: u64,
    /// Bytes in the artifact.
    pub after: u64,
}

/// Everything that will be written.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The outputs, in the order of the model.
    pub outputs: Vec<Output>,
    /// Tensors of the checkpoint that no output is made of, in the order of their names.
    pub left_out: Vec<String>,
    /// Patterns of the policy that fit no module that could be packed.
    pub unmatched: Vec<String>,
    /// Modules that the policy would pack and whose width is no multiple of the group size: they stay as they are.
    pub indivisible: Vec<String>,
    pub(super) policy: Policy,
    pub(super) files: Vec<layout::File>,
}

impl Plan {
    /// Applies rules and policy to a checkpoint; the head is read from `head`, which may be another one.
    ///
    /// # Errors
    /// A source that is packed already or of a type that is not read.
    pub fn new(rules: &Rules, policy: Policy, trunk: &Checkpoint, head: &Checkpoint) -> Result<Self, ForgeError> {
        let mut outputs = Vec::new();
        let mut used: HashSet<String> = HashSet::new();
        let of_trunk = stated_in(trunk, &policy)?;
        for rule in rules.iter() {
            let is_head = rule.part == Part::Head;
            let checkpoint = if is_head { head } else { trunk };
            // What packing lost does not come back: a packed head stays so wherever its layers would be packed. Its
            // shapes tell how.
            let keeps = policy.keeps_packed || policy.scheme(rule.module(), Group::MtpLayer).is_some();
            let of_head = (is_head && keeps).then(Quantization::default);
            let stated = if is_head { of_head.as_ref() } else { of_trunk.as_ref() };
            if let Some((coding, parts)) = kept(rule, checkpoint, stated)? {
                let bytes = parts.iter().filter_map(|part| Some(checkpoint.tensor(part)?.range.len() as u64)).sum();
                used.extend(parts);
                outputs.push(Output { rule: rule.clone(), coding, source_bytes: bytes });
                continue;
            }
            let (mut bytes, mut dtype) = (0, None);
            for name in rule.source.tensors() {
                let info = checkpoint.require(name)?;
                dtype = Some(source_type(checkpoint, name, info.dtype)?);
                bytes += info.range.len() as u64;
                used.insert(name.clone());
                if info.dtype == Dtype::F8_E4M3 {
                    let scale = checkpoint.require(&scale_name(name))?;
                    bytes += scale.range.len() as u64;
                }
            }
            let dtype = dtype.unwrap_or(Dtype::BF16);
            let coding = coding(rule, &policy, dtype);
            outputs.push(Output { rule: rule.clone(), coding, source_bytes: bytes });
        }
        for (name, info) in trunk.vision() {
            if info.dtype.bitsize() % 8 != 0 {
                let what = format!("{}: {name}: type {}: not a whole number of bytes", trunk.label(), info.dtype);
                return Err(ForgeError::unsupported(what, "forge from the checkpoint as its makers published it"));
            }
            let rule = Rule {
                output: name.to_owned(),
                shape: info.shape.clone(),
                part: Part::Vision,
                group: Group::Vision,
                packable: false,
                source: Source::Whole(name.to_owned()),
                is_norm: false,
                plus_one: false,
            };
            outputs.push(Output { rule, coding: Coding::Dense(info.dtype), source_bytes: info.range.len() as u64 });
        }
        let of_scale = |name: &str| name.strip_suffix("_scale_inv").is_some_and(|weight| used.contains(weight));
        let unused = trunk.tensors().map(|(name, _)| name).filter(|name| !used.contains(*name) && !of_scale(name));
        let left_out = unused.map(str::to_owned).collect();
        Ok(Self::assemble(outputs, left_out, policy))
    }

    /// Applies rules and policy to nothing: every source is taken to be there, in bf16.
    pub fn imagined(rules: &Rules, policy: Policy) -> Self {
        let output = |rule: &Rule| {
            let source_bytes = 2 * numbers(&rule.shape);
            Output { rule: rule.clone(), coding: coding(rule, &policy, Dtype::BF16), source_bytes }
        };
        Self::assemble(rules.iter().map(output).collect(), Vec::new(), policy)
    }

    fn assemble(outputs: Vec<Output>, left_out: Vec<String>, policy: Policy) -> Self {
        let of = |part: Part| outputs.iter().filter(|output| output.rule.part == part).map(Output::tensors).collect();
        let mut files = layout::files(of(Part::Trunk), SHARD, |number, of| match of {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{number:05}-of-{of:05}.safetensors"),
        });
        files.extend(layout::files(of(Part::Head), u64::MAX, |_, _| HEAD_FILE.to_owned()));
        let vision = |number, of| format!("model-vision-{number:05}-of-{of:05}.safetensors");
        files.extend(layout::files(of(Part::Vision), SHARD, vision));
        let packable = outputs.iter().map(|output| &output.rule).filter(|rule| rule.packable);
        let modules: Vec<_> = packable.map(|rule| (rule.module(), rule.group)).collect();
        let unmatched = policy.unmatched(&modules);
        let meant = |rule: &Rule| rule.packable && policy.scheme(rule.module(), rule.group).is_some();
        let indivisible = outputs.iter().filter(|output| output.scheme().is_none() && meant(&output.rule));
        let indivisible = indivisible.map(|output| output.rule.module().to_owned()).collect();
        Self { outputs, left_out, unmatched, indivisible, policy, files }
    }

    /// The policy's name.
    pub fn policy(&self) -> &str {
        &self.policy.name
    }

    /// Bytes of all weight files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Numbers of all tensors, those of packed ones one by one.
    pub fn numbers(&self) -> u64 {
        self.outputs.iter().map(|output| numbers(&output.rule.shape)).sum()
    }

    /// The table: groups in the order of the model, largest bits first.
    pub fn table(&self) -> Vec<Row> {
        let mut rows: BTreeMap<(Group, std::cmp::Reverse<usize>, Option<usize>), Row> = BTreeMap::new();
        for output in &self.outputs {
            let (bits, group_size) = match output.coding {
                Coding::Dense(dtype) => (dtype.bitsize(), None),
                Coding::Packed(scheme, _) | Coding::Kept(scheme, _) => (scheme.bits(), Some(scheme.group_size())),
            };
            let group = output.rule.group;
            let row = rows.entry((group, std::cmp::Reverse(bits), group_size)).or_insert_with(|| Row {
                group,
                bits,
                group_size,
                count: 0,
                before: 0,
                after: 0,
            });
            row.count += 1;
            row.before += output.source_bytes;
            row.after += output.bytes();
        }
        rows.into_values().collect()
    }

    /// MLX's index of the trunk's shards.
    pub(super) fn index(&self) -> Value {
        let mut weight_map: BTreeMap<&str, &str> = BTreeMap::new();
        let mut total = 0;
        let vision_or_head = |name: &str| name == HEAD_FILE || name.starts_with("model-vision");
        for file in self.files.iter().filter(|file| !vision_or_head(&file.name)) {
            total += file.tensors.iter().map(|(tensor, _)| tensor.bytes()).sum::<u64>();
            weight_map.extend(file.tensors.iter().map(|(tensor, _)| (tensor.name.as_str(), file.name.as_str())));
        }
        json!({"metadata": {"total_size": total}, "weight_map": weight_map})
    }

    /// `quantization` for config.json: the trunk's default and whatever departs from it; `None` where nothing is packed.
    pub(super) fn quantization(&self) -> Option<Value> {
        // A packed build may have packed what this program leaves alone.
        let packed =
            |output: &&Output| output.rule.part == Part::Trunk && (output.rule.packable || output.scheme().is_some());
        let modules = || self.outputs.iter().filter(packed);
        // The policy's own, or what most have.
        let most = modules().filter_map(Output::scheme).fold(Vec::<(Scheme, usize)>::new(), |mut counts, scheme| {
            match counts.iter_mut().find(|(known, _)| *known == scheme) {
                Some((_, count)) => *count += 1,
                None => counts.push((scheme, 1)),
            }
            counts
        });
        let most = most.into_iter().max_by_key(|(_, count)| *count)?.0;
        let default = self.policy.default_scheme().unwrap_or(most);
        let mut stated = stated(default);
        for output in modules().filter(|output| output.scheme() != Some(default)) {
            let entry = output.scheme().map_or(Value::Bool(false), |scheme| Value::Object(self::stated(scheme)));
            stated.insert(output.rule.module().to_owned(), entry);
        }
        Some(Value::Object(stated))
    }

    /// True if any linear of the head keeps the packing of its source.
    pub(super) fn keeps_head(&self) -> bool {
        let of_head = |output: &Output| output.rule.part == Part::Head && matches!(output.coding, Coding::Kept(..));
        self.outputs.iter().any(of_head)
    }

    /// Modules of the artifact.
    pub(super) fn modules(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|output| output.rule.module())
    }

    /// `mtplx_mtp_quantization` for config.json.
    pub(super) fn head_quantization(&self) -> Map<String, Value> {
        let head = || self.outputs.iter().filter(|output| output.rule.part == Part::Head && output.rule.packable);
        let projection = head().any(|output| output.rule.group == Group::MtpFc && output.scheme().is_some());
        let scheme = head()
            .find(|output| output.rule.group != Group::MtpRouter)
            .and_then(|_| head().filter(|output| output.rule.group == Group::MtpLayer).find_map(Output::scheme));
        let mut fields = scheme.map(stated).unwrap_or_default();
        let policy = match (scheme, projection) {
            (None, _) => "none",
            (Some(_), false) => "layer-linears",
            (Some(_), true) => "all",
        };
        fields.insert("policy".to_owned(), json!(policy));
        fields.insert("prequantized".to_owned(), json!(scheme.is_some()));
        fields.insert("norm_encoding".to_owned(), json!("absolute"));
        fields
    }
}

/// Whether a checkpoint states block-scaled fp8.
fn is_fp8(checkpoint: &Checkpoint) -> Result<bool, ForgeError> {
    let Some(stated) = checkpoint.config().section("quantization_config")? else { return Ok(false) };
    Ok(stated.string_opt("quant_method")? == Some("fp8"))
}

/// The draft head's file.
pub(super) const HEAD_FILE: &str = "mtp.safetensors";

fn stated(scheme: Scheme) -> Map<String, Value> {
    let fields = [
        ("group_size", json!(scheme.group_size())),
        ("bits", json!(scheme.bits())),
        ("mode", json!(scheme.mode().as_str())),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// How an output is stored whose source has type `dtype`.
fn coding(rule: &Rule, policy: &Policy, dtype: Dtype) -> Coding {
    let dense = policy.dense.unwrap_or(dtype);
    let scheme = if rule.packable { policy.scheme(rule.module(), rule.group) } else { None };
    let width = rule.shape.last().copied().unwrap_or(0);
    match scheme {
        // As in mlx-lm: what does not divide into groups stays as it is.
        Some(scheme) if width.is_multiple_of(scheme.group_size()) => Coding::Packed(scheme, dense),
        _ if rule.plus_one => Coding::Dense(policy.norms.unwrap_or(dense)),
        _ if dtype == Dtype::F32 && stays_f32(rule) => Coding::Dense(dtype),
        _ => Coding::Dense(dense),
    }
}

/// Whether a tensor in f32 stays in it whatever the others' type is: decays, and what decides between experts. mlx-lm never
/// casts `A_log` and `e_score_correction_bias` either.
fn stays_f32(rule: &Rule) -> bool {
    let decides = || matches!(rule.group, Group::Router | Group::MtpRouter);
    let ends = |name: &str| rule.output.ends_with(name);
    !rule.packable && (ends("A_log") || ends("correction_bias") || decides())
}

/// What a checkpoint states of its packed modules, where these are to be kept.
fn stated_in(checkpoint: &Checkpoint, policy: &Policy) -> Result<Option<Quantization>, ForgeError> {
    if !policy.keeps_packed {
        return Ok(None);
    }
    // Block-scaled fp8 is not packed in this sense: such tensors are unscaled.
    let fp8 = is_fp8(checkpoint)?;
    Ok(Some(if fp8 { Quantization::default() } else { Quantization::from_config(checkpoint.config())? }))
}

/// A module that is packed already and stays so: its scheme, and its stored tensors. `stated` is `None` where such modules
/// are refused.
fn kept(
    rule: &Rule,
    checkpoint: &Checkpoint,
    stated: Option<&Quantization>,
) -> Result<Option<(Coding, Vec<String>)>, ForgeError> {
    let Some(stated) = stated else { return Ok(None) };
    let shape = match (&rule.source, &*rule.shape) {
        (Source::Whole(_), shape) => shape.to_vec(),
        (Source::Stack(_), [_, one @ ..]) => one.to_vec(),
        (Source::Rows { each, .. }, [outer @ .., _, width]) => [outer, &[*each, *width]].concat(),
        _ => return Ok(None),
    };
    let (mut found, mut parts) = (None, Vec::new());
    for weight in rule.source.tensors() {
        let module = weight.strip_suffix(".weight").unwrap_or(weight);
        let Some(scales) = checkpoint.tensor(&format!("{module}.scales")) else { return Ok(None) };
        // A head's file may be packed otherwise than config.json says of the trunk: there the shapes tell.
        let Some(scheme) = stated.resolve(checkpoint, module, &shape, rule.part == Part::Trunk)? else {
            return Ok(None);
        };
        let biases = checkpoint.tensor(&format!("{module}.biases")).map_or(scales.dtype, |biases| biases.dtype);
        // Scales and biases of two types, or experts of two, meet in f32.
        let one = |a, b| if a == b { a } else { Dtype::F32 };
        let (known, dtype) = *found.get_or_insert((scheme, one(scales.dtype, biases)));
        if known != scheme {
            let what = format!("{}: {}: packed as {known} and as {scheme}", checkpoint.label(), rule.module());
            return Err(ForgeError::unsupported(what, Hint::KeepPacking));
        }
        found = Some((scheme, one(dtype, one(scales.dtype, biases))));
        let stored = ["weight", "scales", "biases"].map(|part| format!("{module}.{part}"));
        parts.extend(stored.into_iter().filter(|part| checkpoint.tensor(part).is_some()));
    }
    Ok(found.map(|(scheme, dtype)| (Coding::Kept(scheme, dtype), parts)))
}

/// The tensor of a block-scaled fp8 weight's scales.
pub(super) fn scale_name(weight: &str) -> String {
    format!("{weight}_scale_inv")
}

/// The type that a source's numbers have once they are read.
fn source_type(checkpoint: &Checkpoint, name: &str, dtype: Dtype) -> Result<Dtype, ForgeError> {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    if dtype == Dtype::U32 || checkpoint.tensor(&format!("{module}.scales")).is_some() {
        return Err(ForgeError::unsupported(
            format!("{}: {name}: packed already", checkpoint.label()),
            Hint::KeepPacking,
        ));
    }
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(dtype),
        Dtype::F8_E4M3 => Ok(Dtype::BF16),
        _ => Err(ForgeError::unsupported(
            format!("{}: {name}: type {dtype}: expected BF16, F16, F32 or block-scaled F8_E4M3", checkpoint.label()),
            "forge from the checkpoint as its makers published it",
        )),
    }
}
