//! `mtplx bench`: measures, and shows the result as tables or as JSON.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::args::{BenchArgs, BenchCommand, CompareArgs, MeasureArgs};
use crate::bench::{self, Comparison, Kind};
use crate::error::{Exit, Failure, warn};

/// Measures or compares.
pub fn bench(args: &BenchArgs) -> anyhow::Result<Exit> {
    match &args.what {
        BenchCommand::Decode(args) => measure(args, Kind::Decode),
        BenchCommand::VerifyCost(args) => measure(args, Kind::VerifyCost),
        BenchCommand::Prefill(args) => measure(args, Kind::Prefill),
        BenchCommand::Acceptance(args) => measure(args, Kind::Acceptance),
        BenchCommand::Sweep(args) => measure(args, Kind::Sweep),
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
    let new = args.plot.as_ref().filter(|path| !path.exists());
    if let Some(path) = &args.plot {
        // Minutes of measuring should not end in a file that cannot be written.
        File::options().append(true).create(true).open(path).map_err(|error| not_written(path, &error))?;
    }
    let report = bench::measure(args, kind).inspect_err(|_| {
        // Nothing was drawn; what cannot be removed either is empty.
        new.map(fs::remove_file);
    })?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        bench::write_table(&mut out, &report)?;
    }
    out.flush()?;
    if let Some(path) = &args.plot {
        fs::write(path, bench::draw(&report)).map_err(|error| not_written(path, &error))?;
    }
    Ok(Exit::Done)
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display())).hint("the picture is written there")
}
