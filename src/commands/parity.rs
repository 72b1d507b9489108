//! `mtplx parity`: a model against expected tensors.

use std::fs;
use std::io::{self, Write as _};

use anyhow::Context as _;
use mtplx_engine::Admission;
use mtplx_engine::assess::Verdict;
use mtplx_runtime::architecture::Precision;
use mtplx_runtime::artifact::Area;
use mtplx_runtime::parity::{self, Comparison, Reference, Report, Tolerance};
use serde::Serialize;

use crate::args::{Dtype, ParityArgs};
use crate::error::{Exit, Failure, warn};
use crate::model;
use crate::terminal::Progress;

/// The whole result, as `--json` prints it.
#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    reference: String,
    architecture: &'static str,
    dtype: &'static str,
    tolerance: Tolerance,
    passed: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// Compares and renders.
pub fn parity(args: &ParityArgs) -> anyhow::Result<Exit> {
    model::choose_device(args.device.device)?;
    let shown = args.reference.display();
    let fault =
        |what: String| Failure::new(Exit::File, format!("{shown}: {what}")).hint("REFERENCE is a safetensors file");
    // A device or a pipe might never end.
    if fs::metadata(&args.reference).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(fault("not a regular file".to_owned()).into());
    }
    let bytes = fs::read(&args.reference).map_err(|error| fault(error.to_string()))?;
    let reference = Reference::parse(&bytes).with_context(|| shown.to_string())?;

    // Ids go in and numbers come out: no text is involved.
    let opened = model::open(&args.model)?.without(Area::Text).without(Area::Template);
    // A trunk without a head can be compared as well; the report says what was left out.
    let trunk_only = matches!(opened.assessment.verdict, Verdict::Incomplete { .. } | Verdict::NoMtp);
    // It generates nothing, and is one of the ways to learn what an unverified model is worth.
    opened.admit(trunk_only, Admission::UNVERIFIED)?;
    let (precision, dtype, usual) = match args.dtype {
        Dtype::F32 => (Precision::F32, "f32", Tolerance::Largest(2e-4)),
        Dtype::Native => (Precision::Native, "native", Tolerance::Mean(0.05)),
    };
    let progress = Progress::start("loading and comparing", args.json);
    let engine = opened.load(trunk_only, precision)?;
    let report = parity::compare(&engine.model, &reference).with_context(|| shown.to_string())?;
    drop(progress);

    let tolerance = args.tolerance.map_or(usual, Tolerance::Largest);
    let passed = !report.compared.is_empty() && report.compared.iter().all(|c| c.within(tolerance));
    let document = Document {
        model: opened.checkpoint.label(),
        reference: shown.to_string(),
        architecture: engine.descriptor.id,
        dtype,
        tolerance,
        passed,
        report: &report,
    };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
    } else {
        table(&mut out, &report, tolerance)?;
    }
    out.flush()?;
    if report.compared.is_empty() {
        let failure = Failure::new(Exit::Failed, format!("{shown}: nothing in it can be compared"));
        return Err(failure.hint("`mtplx parity --help` says what a reference holds").into());
    }
    if !passed {
        warn(&format!("beyond the tolerance of {tolerance}"));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

fn table(out: &mut impl io::Write, report: &Report, tolerance: Tolerance) -> io::Result<()> {
    let width = report.compared.iter().map(|c| c.name.len()).max().unwrap_or(0).max("tensor".len());
    if !report.compared.is_empty() {
        writeln!(
            out,
            "{:width$}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
            "tensor", "rows", "max abs", "relative", "mean abs", "argmax"
        )?;
    }
    for comparison in &report.compared {
        let Comparison { name, rows, reference_rows, max_abs_diff, relative_diff, mean_abs_diff, .. } = comparison;
        let rows = if rows == reference_rows { rows.to_string() } else { format!("{rows}/{reference_rows}") };
        let argmax =
            comparison.argmax.as_ref().map_or("-".to_owned(), |argmax| format!("{}/{}", argmax.agree, argmax.rows));
        write!(
            out,
            "{name:width$}  {rows:>9}  {max_abs_diff:>9.2e}  {relative_diff:>9.2e}  {mean_abs_diff:>9.2e}  {argmax:>9}"
        )?;
        if comparison.within(tolerance) {
            writeln!(out)?;
        } else if comparison.not_finite > 0 {
            writeln!(out, "  {} values are not finite", comparison.not_finite)?;
        } else {
            let [row, column] = comparison.worst;
            writeln!(out, "  beyond {tolerance} (worst at row {row}, column {column})")?;
        }
    }
    for skipped in &report.skipped {
        writeln!(out, "{:width$}  not compared: {}", skipped.name, skipped.why)?;
    }
    Ok(())
}
