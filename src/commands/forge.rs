//! `mtplx forge`: an artifact from a checkpoint, or from random weights.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, iter};

use anyhow::Context as _;
use mtplx_engine::{Admission, AssessedModel};
use mtplx_runtime::artifact::{CONTRACT, Checkpoint, Severity, json};
use mtplx_runtime::forge::{
    ForgeError, ForgeJob, HeadPolicy, Outcome, POLICIES, Policy, Row, RunControl, head_for, shapes,
};
use mtplx_runtime::registry::Registry;
use serde::Serialize;
use serde_json::{Map, Value};

use super::run::on_interrupt;
use crate::args::{ForgeArgs, ForgeCommand, Head, MakingArgs, SynthArgs};
use crate::error::{Exit, Failure, one_line, stderr, warn};
use crate::model;
use crate::terminal::Bytes;
use mtplx_runtime::artifact::size_shown;

/// Largest policy or configuration file in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// Most tensors that are named.
const NAMED: usize = 8;

/// The whole result, as `--json` prints it.
#[derive(Serialize)]
struct Document<'a> {
    architecture: &'static str,
    policy: &'a str,
    out: String,
    dry_run: bool,
    groups: &'a [Row],
    left_out: &'a [String],
    unmatched: &'a [String],
    indivisible: &'a [String],
    bytes_before: u64,
    bytes_after: u64,
    /// The weight files as a whole: tensors and headers.
    file_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<Written>,
}

#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    outcome: Outcome,
    seconds: f64,
}

/// Plans, and unless that was all, writes.
pub fn forge(args: &ForgeArgs) -> anyhow::Result<Exit> {
    if let Some(ForgeCommand::Synth(args)) = &args.command {
        return synth(args);
    }
    let (Some(model), Some(out)) = (&args.checkpoint, &args.out) else {
        return Err(Failure::usage("a checkpoint and a folder were expected", "see `mtplx forge --help`").into());
    };
    let policy = policy(&args.making)?;
    let opened = model::open(model)?;
    let other = args.mtp_from.as_ref().map(model::open).transpose()?;
    for opened in iter::once(&opened).chain(&other) {
        // What the contract says is of the artifact that was, not of the one that will be.
        let of_files = opened.assessment.findings.iter().filter(|finding| finding.file != CONTRACT);
        of_files
            .filter(|finding| finding.severity > Severity::Remark)
            .for_each(|finding| warn(&format!("{}: {finding}", opened.checkpoint.label())));
        if !opened.checkpoint.refusals().is_empty() {
            opened.admit(true, Admission::UNVERIFIED)?;
        }
    }
    let claim = Registry::linked().resolve(&opened.checkpoint)?;
    let head = other.map(|other| head_for(&opened.checkpoint, other.checkpoint)).transpose()?;
    let job = ForgeJob::forge(claim.architecture, &opened.checkpoint, head.as_ref(), policy)
        .map_err(|error| all(&opened, error))?;
    // The artifact would have the faults of these files, too, and be hours of work that nothing runs.
    opened.text(true)?;
    make(&job, claim.architecture.descriptor().id, out, &args.making)
}

/// An error that is one of the checkpoint's faults, with all the others.
fn all(opened: &AssessedModel, error: ForgeError) -> anyhow::Error {
    let said = error.to_string();
    let is_fault = opened.assessment.faults.iter().any(|fault| fault.what == said);
    match opened.admit(true, Admission::UNVERIFIED) {
        Err(failure) if is_fault => failure.into(),
        _ => error.into(),
    }
}

fn synth(args: &SynthArgs) -> anyhow::Result<Exit> {
    let policy = policy(&args.making)?;
    let text = match shapes::config(&args.like) {
        Some(config) => config.to_owned(),
        None => read(Path::new(&args.like), || {
            let names: Vec<&str> = shapes::names().collect();
            format!("--like takes a config.json, or one of {}", names.join(", "))
        })?,
    };
    // The name of the shape goes into the artifact: not its place.
    let name = Path::new(&args.like).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut config: Value = json::from_slice(text.as_bytes())
        .map_err(|error| Failure::new(Exit::File, format!("{}: {error}", args.like)).hint("expected a config.json"))?;
    if let Some(layers) = args.layers {
        shapes::with_layers(&mut config, layers)
            .map_err(|all| format!("--layers: {layers}: expected 1 to {all}, the layers of the shape"))
            .map_err(|what| Failure::usage(what, "give fewer layers"))?;
    }
    let Value::Object(config) = config else {
        return Err(Failure::new(Exit::File, format!("{}: not an object", args.like))
            .hint("expected a config.json")
            .into());
    };
    let architecture = claimed(&args.like, &config)?;
    let job = ForgeJob::synth(architecture, &name, config, policy, args.seed)?;
    make(&job, architecture.descriptor().id, &args.out, &args.making)
}

fn claimed(
    name: &str,
    config: &Map<String, Value>,
) -> anyhow::Result<&'static dyn mtplx_runtime::architecture::MtpArchitecture> {
    let text = Value::Object(config.clone()).to_string();
    let imagined = Checkpoint::of_config(name, text.as_bytes())?;
    Ok(Registry::linked().resolve(&imagined)?.architecture)
}

/// The policy that was asked for.
fn policy(args: &MakingArgs) -> anyhow::Result<Policy> {
    let policy = match Policy::builtin(&args.policy) {
        Some(policy) => policy,
        None => {
            let hint = || format!("--policy takes a TOML file, or one of {}", POLICIES.join(", "));
            Policy::parse(&args.policy, &read(Path::new(&args.policy), hint)?)?
        }
    };
    Ok(match args.head {
        None => policy,
        Some(Head::Int4) => policy.with_head(HeadPolicy::Int4),
        Some(Head::Bf16) => policy.with_head(HeadPolicy::Bf16),
    })
}

/// A small text file that was named on the command line.
fn read(path: &Path, hint: impl Fn() -> String) -> anyhow::Result<String> {
    let shown = path.display();
    let fail = |error: io::Error| Failure::new(Exit::File, format!("{shown}: {error}")).hint(hint());
    let metadata = fs::metadata(path).map_err(fail)?;
    if !metadata.is_file() || metadata.len() > MAX_TEXT {
        return Err(Failure::new(Exit::File, format!("{shown}: not a small file")).hint(hint()).into());
    }
    Ok(fs::read_to_string(path).map_err(fail)?)
}

fn make(job: &ForgeJob<'_>, architecture: &'static str, out: &Path, args: &MakingArgs) -> anyhow::Result<Exit> {
    let plan = job.plan();
    let groups = plan.table();
    let mut document = Document {
        architecture,
        policy: plan.policy(),
        out: out.display().to_string(),
        dry_run: args.dry_run,
        left_out: &plan.left_out,
        unmatched: &plan.unmatched,
        indivisible: &plan.indivisible,
        bytes_before: groups.iter().map(|row| row.before).sum(),
        bytes_after: groups.iter().map(|row| row.after).sum(),
        file_bytes: plan.bytes(),
        groups: &groups,
        written: None,
    };
    for pattern in &plan.unmatched {
        warn(&format!("policy {}: modules: \"{pattern}\" fits no module of this model", plan.policy()));
    }
    if !args.dry_run {
        let interrupt = on_interrupt()?;
        let bar = Bytes::start(args.json);
        let progress = |done: u64, all: u64| bar.update(done, all);
        let started = Instant::now();
        let outcome = job.run(out, &RunControl::new(&interrupt.0, &progress));
        drop(bar);
        let outcome = outcome?;
        let seconds = started.elapsed().as_secs_f64();
        summary(&mut stderr(), &outcome, started.elapsed(), out)?;
        document.written = Some(Written { outcome, seconds });
    }
    let mut stdout = io::stdout().lock();
    if !args.json {
        table(&mut stdout, &document)?;
    } else {
        serde_json::to_writer_pretty(&mut stdout, &document).context("standard output")?;
        writeln!(stdout)?;
    }
    Ok(Exit::Done)
}

/// The plan, for people.
fn table(out: &mut impl Write, document: &Document<'_>) -> io::Result<()> {
    let Document { architecture, policy, groups, left_out, indivisible, bytes_before, bytes_after, .. } = document;
    writeln!(out, "{architecture}, policy {policy}")?;
    writeln!(out, "{:<14}{:>8}{:>6}{:>7}{:>14}{:>14}", "group", "modules", "bits", "group", "before", "after")?;
    for Row { group, bits, group_size, count, before, after } in *groups {
        let size = group_size.map_or_else(|| "-".to_owned(), |size| size.to_string());
        writeln!(out, "{group:<14}{count:>8}{bits:>6}{size:>7}{:>14}{:>14}", size_shown(*before), size_shown(*after))?;
    }
    writeln!(out, "{:<35}{:>14}{:>14}", "total", size_shown(*bytes_before), size_shown(*bytes_after))?;
    named(out, "not packed, because the width is no multiple of the group size", indivisible)?;
    named(out, "left out, because no part of the model reads it", left_out)
}

/// The first few of these, if there are any.
fn named(out: &mut impl Write, what: &str, names: &[String]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let (first, more) = names.split_at(names.len().min(NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    writeln!(out, "{what}: {}{more}", one_line(&first.join(", ")))
}

fn summary(out: &mut impl Write, outcome: &Outcome, time: Duration, path: &Path) -> io::Result<()> {
    let seconds = time.as_secs_f64();
    let rate = size_shown(((outcome.bytes - outcome.resumed) as f64 / seconds.max(1e-9)) as u64);
    write!(out, "{} in {seconds:.1} s ({rate}/s)", size_shown(outcome.bytes))?;
    if outcome.resumed > 0 {
        write!(out, ", {} of it from an earlier run", size_shown(outcome.resumed))?;
    }
    writeln!(out, ": {}", path.display())
}
