//! `mtplx tune`: measures every depth and keeps the one that is fastest here.

use std::io::{self, Write as _};

use mtplx_runtime::artifact::Area;
use serde::Serialize;

use crate::args::TuneArgs;
use crate::bench::{self, Kind, Report, Wanted};
use crate::error::{Exit, Failure};
use crate::model;
use crate::tuned::{Entry, Key, Tuned};

/// A deeper depth is worth it only if it is better by this factor: near-ties go to the shallower.
const BETTER: f64 = 1.01;

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    best: &'a Entry,
    stored: Option<String>,
    report: &'a Report,
}

/// Tunes, lists or forgets.
pub fn tune(args: &TuneArgs) -> anyhow::Result<Exit> {
    if args.show {
        return show(args);
    }
    if args.clear {
        return clear(args);
    }
    let Some(model) = &args.model else {
        return Err(Failure::usage("a model was expected", "`mtplx tune MODEL`").into());
    };
    model::choose_device(args.method.device.device)?;
    let wanted = Wanted::of(&args.method, None, Kind::Tune)?;
    let opened = model::open(model)?.without(Area::Template);
    // What keeps the result from being kept is better noticed before the measurement.
    Tuned::load()?;
    let key = Key::of(&opened.checkpoint)?;
    let report = bench::of_opened(&opened, &args.method, &wanted, args.json)?;
    let entry = best(&report, key).ok_or_else(|| Failure::new(Exit::Failed, "nothing was measured"))?;
    // Read again: another model may have been tuned meanwhile. What was measured is shown, be it that it cannot be kept.
    let stored = Tuned::load().and_then(|mut tuned| {
        tuned.put(entry.clone());
        tuned.store()
    });
    let place = stored.as_ref().ok().map(|path| path.display().to_string());

    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &Document { best: &entry, stored: place, report: &report })?;
        writeln!(out)?;
    } else {
        bench::write_table(&mut out, &report)?;
        writeln!(out, "\nbest: {}", line(&entry))?;
        if let Some(place) = place {
            writeln!(out, "kept for `mtplx run` in {place}")?;
        }
    }
    out.flush()?;
    stored?;
    Ok(Exit::Done)
}

/// The depth that takes the least time for a token, over all contexts alike.
fn best(report: &Report, key: Key) -> Option<Entry> {
    let mut contexts: Vec<usize> = report.decode.iter().map(|row| row.context).collect();
    contexts.dedup();
    let rate = |depth: usize| {
        let rows = report.decode.iter().filter(|row| row.depth == depth);
        let seconds: f64 = rows.map(|row| 1.0 / row.tok_s.median).sum();
        contexts.len() as f64 / seconds
    };
    let mut depths: Vec<usize> = report.decode.iter().map(|row| row.depth).collect();
    depths.sort_unstable();
    depths.dedup();
    let rates: Vec<(usize, f64)> = depths.into_iter().map(|depth| (depth, rate(depth))).collect();
    let &(_, plain_tok_s) = rates.iter().find(|(depth, _)| *depth == 0)?;
    let fastest = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let &(depth, tok_s) = rates.iter().find(|(_, rate)| rate * BETTER >= fastest)?;
    let provenance = &report.provenance;
    Some(Entry {
        model: provenance.model.label.clone(),
        key,
        depth,
        tok_s,
        plain_tok_s,
        contexts,
        mtplx_version: provenance.mtplx_version.clone(),
        commit: provenance.commit.clone(),
    })
}

fn show(args: &TuneArgs) -> anyhow::Result<Exit> {
    let mut tuned = Tuned::load()?;
    if let Some(key) = key(args)? {
        tuned.entries.retain(|entry| entry.key == key);
    }
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &tuned.entries)?;
        writeln!(out)?;
    } else {
        for entry in &tuned.entries {
            let Key { device, device_name, .. } = &entry.key;
            let name = device_name.as_ref().map(|name| format!(": {name}")).unwrap_or_default();
            writeln!(out, "{}\n  {}, on {}{name}", entry.model, line(entry), device.name())?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn clear(args: &TuneArgs) -> anyhow::Result<Exit> {
    let Some(key) = key(args)? else {
        if let Some(path) = Tuned::clear()? {
            writeln!(io::stderr(), "removed {}", path.display())?;
        }
        return Ok(Exit::Done);
    };
    let mut tuned = Tuned::load()?;
    let before = tuned.entries.len();
    tuned.entries.retain(|entry| entry.key != key);
    if tuned.entries.len() < before {
        tuned.store()?;
    }
    Ok(Exit::Done)
}

/// The key of the model that was named, here.
fn key(args: &TuneArgs) -> anyhow::Result<Option<Key>> {
    let Some(model) = &args.model else { return Ok(None) };
    model::choose_device(args.method.device.device)?;
    Ok(Some(Key::of(&model::checkpoint(model)?)?))
}

fn line(entry: &Entry) -> String {
    let Entry { depth, tok_s, plain_tok_s, .. } = entry;
    let what = if *depth == 0 { "plain decoding (depth 0)".to_owned() } else { format!("depth {depth}") };
    format!("{what}, {tok_s:.1} tok/s, {:.2} x plain decoding", tok_s / plain_tok_s)
}
