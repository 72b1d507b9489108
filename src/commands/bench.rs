//! `mtplx bench`: measures, and shows the result as tables or as JSON.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::run::on_interrupt;
use crate::args::{BenchArgs, BenchCommand, CompareArgs, MeasureArgs, ServeBenchArgs};
use crate::bench::{self, Comparison, Kind, serve};
use crate::error::{Exit, Failure, warn};

/// Measures or compares.
pub fn bench(args: &BenchArgs) -> anyhow::Result<Exit> {
    match &args.what {
        BenchCommand::Decode(args) => measure(args, Kind::Decode),
        BenchCommand::VerifyCost(args) => measure(args, Kind::VerifyCost),
        BenchCommand::Prefill(args) => measure(args, Kind::Prefill),
        BenchCommand::Acceptance(args) => measure(args, Kind::Acceptance),
        BenchCommand::Sweep(args) => measure(args, Kind::Sweep),
        BenchCommand::Serve(args) => serve(args),
        BenchCommand::Compare(args) => compare(args),
    }
}

fn compare(args: &CompareArgs) -> anyhow::Result<Exit> {
    let comparison = Comparison::of(&args.a, &args.b, args.anyway)?;
    comparison.notes.iter().for_each(|note| warn(note));
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &comparison)?;
        writeln!(out)?;
    } else {
        comparison.write(&mut out)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn measure(args: &MeasureArgs, kind: Kind) -> anyhow::Result<Exit> {
    let picture = Picture::reserve(args.plot.as_deref())?;
    let report = bench::measure(args, kind).inspect_err(|_| picture.give_up())?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        bench::write_table(&mut out, &report)?;
    }
    out.flush()?;
    picture.write(|| bench::draw(&report))?;
    Ok(Exit::Done)
}

fn serve(args: &ServeBenchArgs) -> anyhow::Result<Exit> {
    let interrupt = on_interrupt()?;
    let picture = Picture::reserve(args.plot.as_deref())?;
    let report = serve::measure(args, &interrupt.0).inspect_err(|_| picture.give_up())?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        serve::write_table(&mut out, &report)?;
    }
    out.flush()?;
    if report.is_empty() {
        picture.give_up();
    } else {
        picture.write(|| serve::draw(&report))?;
    }
    if report.interrupted {
        return Ok(Exit::Interrupted);
    }
    if let Some((error, hint)) = report.empty_for() {
        return Err(Failure::new(Exit::Failed, error).hint(hint).into());
    }
    match report.failures() {
        failures if failures.is_empty() => Ok(Exit::Done),
        failures => Err(Failure::new(Exit::Failed, failures.join("; ")).hint("the server's log may say why").into()),
    }
}

/// A picture that is written at the end, to a place that was tried at the beginning.
struct Picture<'a> {
    path: Option<&'a Path>,
    is_new: bool,
}

impl<'a> Picture<'a> {
    /// Opens the file: minutes of measuring should not end in one that cannot be written.
    fn reserve(path: Option<&'a Path>) -> Result<Self, Failure> {
        let is_new = path.is_some_and(|path| !path.exists());
        if let Some(path) = path {
            File::options().append(true).create(true).open(path).map_err(|error| not_written(path, &error))?;
        }
        Ok(Self { path, is_new })
    }

    /// Leaves nothing behind. A file that cannot be removed either is empty.
    fn give_up(&self) {
        if let Some(path) = self.path.filter(|_| self.is_new) {
            let _ = fs::remove_file(path);
        }
    }

    fn write(&self, draw: impl FnOnce() -> String) -> Result<(), Failure> {
        let Some(path) = self.path else { return Ok(()) };
        fs::write(path, draw()).map_err(|error| not_written(path, &error))
    }
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display())).hint("the picture is written there")
}
