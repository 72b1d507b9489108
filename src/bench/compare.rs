//! Two results side by side: ratios of medians, and whether the spreads leave room for no difference at all.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;

use super::report::{Report, SCHEMA};
use super::summary::Summary;
use crate::error::{Exit, Failure};

/// More than any result takes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The comparison, B over A.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub a: String,
    pub b: String,
    /// What else differs.
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
}

/// One figure of both.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    /// What, with its unit.
    pub figure: String,
    pub a: Summary,
    pub b: Summary,
    /// B's median over A's.
    pub ratio: f64,
    /// Whether the ranges from least to most overlap: then the difference may be chance. Not known of single values.
    pub overlaps: Option<bool>,
}

impl Comparison {
    /// Of two files.
    ///
    /// # Errors
    /// A file cannot be read or is no result; they are of different devices, models or simulations and not to be compared
    /// `anyway`; they have no figure in common.
    pub fn of(a: &Path, b: &Path, anyway: bool) -> Result<Self, Failure> {
        let (old, new) = (read(a)?, read(b)?);
        let unlike = unlike(&old, &new);
        if let (Some(first), false) = (unlike.first(), anyway) {
            return Err(Failure::usage(first.clone(), "`--anyway` compares them all the same"));
        }
        let notes = unlike.into_iter().chain(method(&old, &new)).collect();
        let (a, b) = (a.display().to_string(), b.display().to_string());
        let rows = rows(&old, &new);
        if rows.is_empty() {
            let what = format!("{a} and {b}: no figure in common");
            return Err(Failure::usage(what, "measure the same depths and contexts in both"));
        }
        Ok(Self { a, b, notes, rows })
    }

    /// Writes a table.
    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let width = self.rows.iter().map(|row| row.figure.len()).max().unwrap_or(0);
        writeln!(out, "A  {}\nB  {}\n", self.a, self.b)?;
        writeln!(out, "{:width$}  {:>12}  {:>12}  {:>7}", "", "A", "B", "B/A")?;
        for row in &self.rows {
            let Row { figure, a, b, ratio, overlaps } = row;
            let note = if *overlaps == Some(true) { "  spreads overlap" } else { "" };
            writeln!(out, "{figure:width$}  {:>12}  {:>12}  {ratio:>7.3}{note}", shown(a.median), shown(b.median))?;
        }
        Ok(())
    }
}

fn shown(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn read(path: &Path) -> Result<Report, Failure> {
    let name = path.display();
    let fault = |what: String| {
        Failure::new(Exit::File, format!("{name}: {what}")).hint("expected what `mtplx bench ... --json` printed")
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| fault(error.to_string()))?;
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
    let schema: serde_json::Value = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    match schema.get("schema").and_then(serde_json::Value::as_u64) {
        Some(found) if found == u64::from(SCHEMA) => {}
        Some(found) => return Err(fault(format!("schema: {found}: this version reads {SCHEMA}"))),
        None => return Err(fault("no result of a benchmark".to_owned())),
    }
    if schema["kind"] == "serve" {
        return Err(fault("kind: serve: results of `mtplx bench serve` are not compared".to_owned()));
    }
    serde_json::from_value(schema).map_err(|error| fault(error.to_string()))
}

/// What makes two results another thing.
fn unlike(a: &Report, b: &Report) -> Vec<String> {
    let mut unlike = Vec::new();
    let (a_machine, b_machine) = (&a.provenance.machine, &b.provenance.machine);
    if a_machine.identity() != b_machine.identity() {
        unlike.push(format!("different devices: {} and {}", a_machine.line(), b_machine.line()));
    }
    let (a_model, b_model) = (&a.provenance.model, &b.provenance.model);
    if !a_model.is_same(b_model) {
        unlike.push(format!("different model files: {} and {}", a_model.label, b_model.label));
    }
    if a.simulated_acceptance != b.simulated_acceptance {
        let said =
            |report: &Report| report.simulated_acceptance.as_ref().map_or("none".to_owned(), |f| format!("{f:?}"));
        unlike.push(format!("different simulated acceptance: {} and {}", said(a), said(b)));
    }
    unlike
}

/// What is worth knowing beside the figures.
fn method(a: &Report, b: &Report) -> Vec<String> {
    let of = |report: &Report| {
        let method = &report.method;
        [
            ("debug build", report.provenance.debug_build.to_string()),
            ("MLX version", report.provenance.mlx_version.clone()),
            ("driver", report.provenance.machine.driver.clone().unwrap_or_default()),
            ("tokens a run", method.tokens.to_string()),
            ("acceptance rule", method.rule.clone()),
            ("temperature", method.temperature.to_string()),
            ("top-p", method.top_p.to_string()),
            ("top-k", method.top_k.to_string()),
            ("text", method.text.clone()),
            ("seed", method.seed.to_string()),
            ("draft vocabulary", method.draft_vocab.map_or("whole".to_owned(), |tokens| tokens.to_string())),
        ]
    };
    let pairs = of(a).into_iter().zip(of(b)).filter(|(a, b)| a.1 != b.1);
    pairs.map(|((what, a), (_, b))| format!("different {what}: {a} and {b}")).collect()
}

/// The figures that both have.
fn rows(a: &Report, b: &Report) -> Vec<Row> {
    let theirs = figures(b);
    let both = figures(a).into_iter().filter_map(|(figure, a)| {
        let (_, b) = theirs.iter().find(|(other, _)| *other == figure)?;
        let several = a.n > 1 && b.n > 1;
        Some(Row { figure, a, b: *b, ratio: b.median / a.median, overlaps: several.then(|| a.overlaps(b)) })
    });
    both.filter(|row| row.ratio.is_finite()).collect()
}

/// Every figure of a result, by name.
fn figures(report: &Report) -> Vec<(String, Summary)> {
    let one = |value: f64| Summary { n: 1, median: value, min: value, max: value, mad: 0.0 };
    let mut figures = Vec::new();
    for row in &report.prefill {
        figures.push((format!("prefill of {}, tok/s", row.tokens), row.tok_s));
    }
    for row in &report.decode {
        let at = format!("decode behind {} at depth {}", row.context, row.depth);
        figures.push((format!("{at}, tok/s"), row.tok_s));
        figures.push((format!("{at}, ms a round"), row.round_s.times(1e3)));
        figures.extend(row.speedup.map(|speedup| (format!("{at}, over plain"), speedup)));
        if row.depth > 0 {
            figures.push((format!("{at}, E"), one(row.tokens_per_round)));
        }
    }
    for row in &report.verify_cost {
        let at = format!("verify {} rows behind {}", row.rows, row.context);
        figures.push((format!("{at}, ms"), row.verify_s.times(1e3)));
        if row.rows > 1 {
            figures.push((format!("{at}, c_v"), row.cost));
        }
    }
    if let Some(found) = &report.acceptance {
        figures.push((format!("acceptance at depth {}, E", found.depth), one(found.tokens_per_round)));
    }
    figures.extend(report.memory.copy_gb_s.map(|copy| ("copy bandwidth, GB/s".to_owned(), copy)));
    figures.extend(report.memory.peak.map(|peak| ("peak memory, MB".to_owned(), one(peak as f64 / 1e6))));
    figures
}
