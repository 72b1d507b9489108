//! `mtplx doctor`: the machine, the libraries and the folders that a run depends on, each judged.

mod check;
mod checks;
mod places;

use std::io::{self, Write as _};

use anstream::AutoStream;
use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use self::check::{Check, Status};
use crate::args::DoctorArgs;
use crate::error::{Exit, one_line};

/// Version of the JSON document.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document {
    schema: u32,
    version: &'static str,
    /// The worst of all lines.
    status: Status,
    checks: Vec<Check>,
}

/// Checks everything and reports.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let checks: Vec<Check> = checks::all(args.device.device).into_iter().chain(places::all()).collect();
    let has = |status| checks.iter().any(|check| check.status == status);
    let status = [Status::Error, Status::Warning].into_iter().find(|&status| has(status)).unwrap_or(Status::Ok);
    let exit = if status == Status::Error { Exit::Failed } else { Exit::Done };
    if args.json {
        let document = Document { schema: SCHEMA, version: env!("CARGO_PKG_VERSION"), status, checks };
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
        out.flush()?;
    } else {
        let mut out = AutoStream::auto(io::stdout());
        write(&mut out, &checks)?;
        out.flush()?;
    }
    Ok(exit)
}

fn write(out: &mut impl io::Write, checks: &[Check]) -> io::Result<()> {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, status, value, hint } in checks {
        let (word, color) = match status {
            Status::Ok => ("ok", AnsiColor::Green),
            Status::Warning => ("warning", AnsiColor::Yellow),
            Status::Error => ("error", AnsiColor::Red),
        };
        let style: Style = color.on_default().bold();
        writeln!(out, "{style}{word:<7}{style:#}  {name:width$}  {}", one_line(value))?;
        if let Some(hint) = hint {
            writeln!(out, "{:7}  {:width$}  {}", "", "", one_line(hint))?;
        }
    }
    Ok(())
}
