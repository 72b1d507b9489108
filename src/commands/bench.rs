//! `mtplx bench`: measures, and shows the result as tables or as JSON.

use std::io::{self, Write as _};

use crate::args::{BenchArgs, BenchCommand, CompareArgs, MeasureArgs};
use crate::bench::{self, Comparison, Kind};
use crate::error::{Exit, warn};

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
    let report = bench::measure(args, kind)?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        bench::write_table(&mut out, &report)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
