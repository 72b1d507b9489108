//! An inspection, for people.

use std::io::{self, Write};

use mtplx_engine::assess::Verdict;
use mtplx_runtime::architecture::Tier;
use mtplx_runtime::artifact::{HeadSource, NormEncoding, Severity, size_shown};
use mtplx_runtime::inspect::{ContextMemory, Group, HeadLayout, Inspection, Memory};
use serde_json::Value;

use super::document::{Document, FitDocument};

/// Writes it.
pub fn text(out: &mut impl Write, document: &Document<'_>) -> io::Result<()> {
    let Inspection {
        model_type,
        architecture,
        files,
        file_bytes,
        tensors,
        parameters,
        groups,
        head,
        context,
        vision,
        ..
    } = &document.inspection;
    writeln!(out, "{}", document.model)?;
    verdict(out, document)?;
    match architecture {
        Some(found) => {
            let tier = match found.tier {
                Tier::Verified => "verified",
                Tier::Recognized => "recognized",
            };
            writeln!(out, "architecture  {} ({}), {tier}; model_type {}", found.id, found.name, shown(model_type))?;
        }
        None if model_type.is_empty() => writeln!(out, "architecture  none")?,
        None => writeln!(out, "architecture  none; model_type {}", shown(model_type))?,
    }
    writeln!(out, "size          {} parameters in {tensors} tensors, {}", count(*parameters), size_shown(*file_bytes))?;
    for file in files {
        writeln!(out, "                {:>10}  {}", size_shown(file.bytes), shown(&file.name))?;
    }
    stored(out, groups)?;
    drafter(out, head)?;
    if let Some(context) = context {
        writeln!(out, "context       {context} tokens")?;
    }
    if let Some(memory) = &document.inspection.memory {
        needed(out, memory)?;
    }
    if let Some(fit) = &document.fit {
        fitting(out, fit)?;
    }
    if vision.tensors > 0 {
        writeln!(out, "vision        {} tensors, {}: left out", vision.tensors, size_shown(vision.bytes))?;
    }
    contract(out, document)?;
    for tensor in document.tensor_list.iter().flatten() {
        writeln!(out, "{}  {} {:?}  {}", shown(tensor.name), tensor.dtype, tensor.shape, shown(tensor.file))?;
    }
    Ok(())
}

fn verdict(out: &mut impl Write, document: &Document<'_>) -> io::Result<()> {
    writeln!(out, "verdict       {}", document.verdict.name())?;
    let reasons: Vec<String> = match document.verdict {
        Verdict::Unverified { why, .. } | Verdict::Contradicted { why, .. } => why.clone(),
        Verdict::Damaged { why, .. } | Verdict::Incompatible { why, .. } => why.clone(),
        Verdict::Incomplete { missing, misshapen } => {
            let of = |what: &'static str, names: &[String]| -> Vec<String> {
                names.iter().map(|name| format!("{what} {name}")).collect()
            };
            [of("missing", missing), of("misshapen", misshapen)].concat()
        }
        Verdict::Verified | Verdict::NoMtp => Vec::new(),
    };
    for reason in reasons {
        writeln!(out, "                {reason}")?;
    }
    document.hint.as_ref().map_or(Ok(()), |hint| writeln!(out, "                hint: {hint}"))
}

fn stored(out: &mut impl Write, groups: &[Group]) -> io::Result<()> {
    for head in [false, true] {
        let mut title = if head { "MTP head" } else { "trunk" };
        for group in groups.iter().filter(|group| group.head == head) {
            let Group { part, stored, parameters, bytes: size, .. } = group;
            let stored = stored.to_string();
            writeln!(
                out,
                "{title:<12}  {part:<16}  {stored:<24}  {:>8}  {:>10}",
                count(*parameters),
                size_shown(*size)
            )?;
            title = "";
        }
    }
    Ok(())
}

fn drafter(out: &mut impl Write, head: &HeadLayout) -> io::Result<()> {
    let place = match &head.source {
        HeadSource::File(file) => format!("in {}", shown(file)),
        HeadSource::Shards => "in the shards".to_owned(),
        HeadSource::None => return writeln!(out, "layout        no MTP tensors"),
    };
    let packed = if head.prequantized { "prequantized" } else { "not quantized" };
    writeln!(out, "layout        {} MTP tensors {place}, {}, {packed}", head.tensors, size_shown(head.bytes))?;
    if let Some(norms) = &head.norms {
        let encoding = match norms.encoding {
            NormEncoding::Delta => "delta: applied as 1 + w",
            NormEncoding::Absolute => "absolute: applied as they are",
        };
        writeln!(out, "norms         {encoding} ({})", shown(&norms.rule.to_string()))?;
    }
    Ok(())
}

fn needed(out: &mut impl Write, memory: &Memory) -> io::Result<()> {
    let Memory { weights_f32, weights_native, contexts, .. } = memory;
    let weights = |what: &str, size: u64| format!("weights {what} {}", size_shown(size));
    writeln!(out, "memory        {}, {}", weights("in f32", *weights_f32), weights("as stored", *weights_native))?;
    for ContextMemory { rows, cache_f32, cache_native, within_context } in contexts {
        let beyond = if *within_context { "" } else { "  (beyond the model's context)" };
        writeln!(
            out,
            "              {:>4}k tokens  {:>10} in f32, {:>10} as stored{beyond}",
            rows >> 10,
            size_shown(weights_f32 + cache_f32),
            size_shown(weights_native + cache_native),
        )?;
    }
    Ok(())
}

fn fitting(out: &mut impl Write, fit: &FitDocument) -> io::Result<()> {
    let [weights, context, working] = [fit.need.weights, fit.need.context, fit.need.working].map(size_shown);
    let machine = fit.machine.map_or(String::new(), |machine| format!("; the machine has {}", size_shown(machine)));
    let FitDocument { device, need, says, .. } = fit;
    writeln!(
        out,
        "at {:<9}  weights {weights}, context {context}, working memory {working} on the {device}",
        need.tokens
    )?;
    writeln!(out, "              {says}{machine}")?;
    fit.hint.as_ref().map_or(Ok(()), |hint| writeln!(out, "                hint: {hint}"))
}

fn contract(out: &mut impl Write, document: &Document<'_>) -> io::Result<()> {
    match document.contract {
        None => writeln!(out, "contract      none that can be read")?,
        Some(contract) => {
            let text = |value: Option<&str>| value.map_or("-".to_owned(), shown);
            let field = |object: Option<&serde_json::Map<String, Value>>, name: &str| {
                text(object.and_then(|object| object.get(name)).and_then(Value::as_str))
            };
            let baseline = contract.exactness_baseline.as_ref();
            writeln!(
                out,
                "contract      by mtplx {}, depth up to {}, baseline {} ({}), measured {}",
                text(contract.mtplx_version.as_deref()),
                contract.mtp_depth_max.map_or("-".to_owned(), |depth| depth.to_string()),
                field(baseline, "status"),
                field(baseline, "gate"),
                field(contract.verified_on.as_ref(), "timestamp"),
            )?;
        }
    }
    // Errors are among the verdict's reasons where they decide it.
    let reasons: &[String] = match document.verdict {
        Verdict::Contradicted { why, .. } | Verdict::Damaged { why, .. } | Verdict::Incompatible { why, .. } => why,
        _ => &[],
    };
    for finding in document.findings.iter().filter(|finding| !reasons.contains(&finding.to_string())) {
        let severity = match finding.severity {
            Severity::Remark => "remark",
            Severity::Warning => "warning",
            Severity::Error | Severity::Damage => "error",
        };
        writeln!(out, "                {severity}: {finding}")?;
    }
    Ok(())
}

/// A file's text on one line: whatever a terminal would obey is gone.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn count(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{:.1}k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", n as f64 / 1e6),
        _ => format!("{:.1}B", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        assert_eq!([7, 12_345, 26_895_998_464].map(count), ["7", "12.3k", "26.9B"]);
    }
}
