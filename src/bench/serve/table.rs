//! A load's result as tables, for people.

use std::io;

use super::report::{Acceptance, Row, ServeReport};
use super::turns::TurnsReport;
use crate::args::Route;
use crate::bench::summary::{Percentiles, Summary};

/// Writes every part that was measured.
pub fn write(out: &mut impl io::Write, report: &ServeReport) -> io::Result<()> {
    head(out, report)?;
    rates(out, &report.rows)?;
    times(out, &report.rows)?;
    acceptance(out, &report.rows)?;
    if let Some(found) = &report.turns {
        turns(out, found)?;
    }
    checks(out, report)?;
    errors(out, report)
}

fn head(out: &mut impl io::Write, report: &ServeReport) -> io::Result<()> {
    let (server, method) = (&report.server, &report.method);
    let route = match server.route {
        Route::Chat => "chat",
        Route::Completions => "completions",
    };
    writeln!(out, "serve: {} at {}, {route}", server.model, server.url)?;
    let prompts = match (&method.prompts, method.prompt_tokens, &report.turns) {
        (_, _, Some(_)) => "conversations".to_owned(),
        (Some(file), ..) => format!("prompts of {file}"),
        (None, tokens, None) => format!("prompts of about {} tokens", tokens.unwrap_or(0)),
    };
    let seed = if method.seeded { "in each request too" } else { "of the prompts alone" };
    let client = &report.provenance;
    let debug = if client.debug_build { ", debug build" } else { "" };
    writeln!(
        out,
        "{prompts}, at most {} tokens each; {} of each row; seed {}, {seed}",
        method.max_tokens,
        times_shown(method.repeats),
        method.seed
    )?;
    writeln!(
        out,
        "client: mtplx {} ({}{debug}) on {}, {}",
        client.mtplx_version,
        client.commit.unwrap_or("no commit"),
        client.cpu.as_deref().unwrap_or("unknown"),
        client.time
    )?;
    if report.interrupted {
        writeln!(out, "interrupted: figures are those of the requests that had ended")?;
    }
    Ok(())
}

fn times_shown(repeats: usize) -> String {
    if repeats == 1 { "one repetition".to_owned() } else { format!("{repeats} repetitions") }
}

fn rates(out: &mut impl io::Write, rows: &[Row]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:>7}  {:>8}  {:>6}  {:>7}  {:>8}  {:>24}  {:>7}",
        "clients", "answers", "errors", "hung up", "prompt/s", "output tok/s", "x first"
    )?;
    for row in rows {
        let errors: u64 = row.errors.iter().map(|error| error.count).sum();
        let output = row.output_tok_s.as_ref().map_or("-".to_owned(), spread);
        let prompt = row.prompt_tok_s.filter(|_| row.prompt_tokens > 0);
        writeln!(
            out,
            "{:>7}  {:>8}  {errors:>6}  {:>7}  {:>8}  {output:>24}  {:>7}",
            row.clients,
            row.answered,
            row.hung_up,
            prompt.map_or("-".to_owned(), |rate| number(rate.median)),
            row.speedup.map_or("-".to_owned(), |ratio| format!("{:.2}", ratio.median)),
        )?;
    }
    let by_chunks = rows.iter().any(|row| row.answered > 0 && row.counted_by != "usage");
    if by_chunks {
        writeln!(out, "output counted by CHUNKS where the server sent no usage: a chunk may hold several tokens")?;
    }
    Ok(())
}

fn times(out: &mut impl io::Write, rows: &[Row]) -> io::Result<()> {
    if rows.iter().all(|row| row.ttft_s.is_none()) {
        return Ok(());
    }
    for (name, unit, of) in [
        (
            "time to the first token (TTFT)",
            "ms",
            (|row: &Row| row.ttft_s.as_ref().map(milliseconds)) as fn(&Row) -> Option<[f64; 4]>,
        ),
        ("between tokens (ITL)", "ms", |row| row.itl_s.as_ref().map(milliseconds)),
        ("between chunks", "ms", |row| row.arrival_s.as_ref().map(milliseconds)),
        ("whole answer", "ms", |row| row.total_s.as_ref().map(milliseconds)),
        ("tokens a second of one answer", "tok/s", |row| {
            row.request_tok_s.as_ref().map(|rates| [rates.p50, rates.p90, rates.p99, rates.max])
        }),
    ] {
        writeln!(out, "\n{:>7}  {:>9}  {:>9}  {:>9}  {:>9}  {name}, {unit}", "clients", "p50", "p90", "p99", "max")?;
        for row in rows {
            let shown =
                of(row).map_or([const { String::new() }; 4].map(|_| "-".to_owned()), |values| values.map(number));
            let [p50, p90, p99, max] = shown;
            writeln!(out, "{:>7}  {p50:>9}  {p90:>9}  {p99:>9}  {max:>9}", row.clients)?;
        }
    }
    Ok(())
}

fn acceptance(out: &mut impl io::Write, rows: &[Row]) -> io::Result<()> {
    let told = rows.iter().any(|row| row.acceptance.is_some() || row.cached_tokens.is_some());
    if !told {
        return Ok(());
    }
    writeln!(out, "\n{:>7}  {:>13}  acceptance by depth: cumulative (accepted/drafted)", "clients", "cached tokens")?;
    for row in rows {
        let cached = row.cached_tokens.map_or("-".to_owned(), |cached| format!("{cached}/{}", row.prompt_tokens));
        let drafts = row.acceptance.as_ref().map_or("-".to_owned(), by_depth);
        writeln!(out, "{:>7}  {cached:>13}  {drafts}", row.clients)?;
    }
    Ok(())
}

/// `1: 83% (39/47)` and so on.
fn by_depth(acceptance: &Acceptance) -> String {
    let counts = acceptance.drafted_by_depth.iter().zip(&acceptance.accepted_by_depth);
    let parts =
        counts.zip(&acceptance.cumulative_acceptance).enumerate().map(|(place, ((drafted, accepted), rate))| {
            let percent = rate.map_or("-".to_owned(), |rate| format!("{:.0}%", 100.0 * rate));
            format!("{}: {percent} ({accepted}/{drafted})", place + 1)
        });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "no drafts".to_owned() } else { parts.join("  ") }
}

fn turns(out: &mut impl io::Write, found: &TurnsReport) -> io::Result<()> {
    let tokens = |summary: &Option<Summary>| summary.map_or("-".to_owned(), |summary| number(summary.median));
    writeln!(out, "\n{} conversations; medians", found.conversations)?;
    if let Some(first) = &found.first {
        let [p50, p90, _, max] = milliseconds(&first.ttft_s).map(number);
        writeln!(out, "first turn, {} tokens: TTFT {p50} ms (p90 {p90}, max {max})", tokens(&first.prompt_tokens))?;
    }
    if found.rows.is_empty() {
        return Ok(());
    }
    for row in &found.rows {
        writeln!(
            out,
            "\nturn {}: {} tokens, {} of them cached",
            row.turn,
            tokens(&row.prompt_tokens),
            tokens(&row.cached_tokens)
        )?;
        writeln!(
            out,
            "{:>28}  {:>7}  {:>9}  {:>9}  {:>9}  {:>7}",
            "TTFT, ms", "tokens", "p50", "p90", "max", "turn/it"
        )?;
        for (name, length, times, ratio) in [
            ("the turn", &row.prompt_tokens, &row.ttft_s, None),
            ("cold, as long as was read", &row.cold_tokens, &row.cold_ttft_s, Some(row.over_cold)),
            ("cold, the whole of it", &row.prompt_tokens, &row.whole_ttft_s, Some(row.over_whole)),
        ] {
            let [p50, p90, _, max] = milliseconds(times).map(number);
            let ratio = ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.median));
            writeln!(out, "{name:>28}  {:>7}  {p50:>9}  {p90:>9}  {max:>9}  {ratio:>7}", tokens(length))?;
        }
        if row.cached_tokens.is_none() {
            writeln!(out, "the server does not say what it had kept: the cold prompt is as long as the new message")?;
        }
    }
    Ok(())
}

fn checks(out: &mut impl io::Write, report: &ServeReport) -> io::Result<()> {
    if let Some(check) = &report.check {
        writeln!(
            out,
            "\nanswers against those alone ({} prompts): {} right, {} wrong, {} lost, {} refused as busy",
            check.references, check.right, check.wrong, check.lost, check.refused
        )?;
        if let Some(example) = &check.example {
            writeln!(
                out,
                "  prompt {} differs behind {} bytes:\n  alone {:?}\n  found {:?}",
                example.prompt, example.at, example.alone, example.found
            )?;
        }
    }
    for bad in report.bad_requests.iter().flat_map(|bad| &bad.kinds) {
        let example = bad.example.as_ref().map(|example| format!(": {example}")).unwrap_or_default();
        writeln!(out, "{} requests: {} of {} answered as such{example}", bad.kind.name(), bad.right, bad.count)?;
    }
    if let Some(counters) = &report.counters {
        let differ = counters.iter().filter(|counter| !counter.agrees).count();
        writeln!(
            out,
            "counters of the server: {} of {} agree with the answers",
            counters.len() - differ,
            counters.len()
        )?;
        for counter in counters.iter().filter(|counter| !counter.agrees) {
            let bound =
                if counter.at_most > counter.answers { format!(" to {}", counter.at_most) } else { String::new() };
            writeln!(out, "  {}: {}, answers {}{bound}", counter.name, counter.server, counter.answers)?;
        }
    }
    if let Some(memory) = &report.memory {
        let mega = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        writeln!(
            out,
            "resident memory of {}: at most {} in the first third, {} in the last ({} samples){}",
            memory.pid,
            mega(memory.first_third_max),
            mega(memory.last_third_max),
            memory.samples,
            if memory.grew { ": it GREW" } else { "" }
        )?;
    }
    Ok(())
}

fn errors(out: &mut impl io::Write, report: &ServeReport) -> io::Result<()> {
    let rows = report.rows.iter().map(|row| (format!("{} clients", row.clients), &row.errors));
    let turns = report.turns.iter().map(|turns| ("conversations".to_owned(), &turns.errors));
    let all: Vec<_> = rows.chain(turns).filter(|(_, errors)| !errors.is_empty()).collect();
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nerrors")?;
    for (where_, errors) in all {
        for error in errors {
            writeln!(out, "  {where_}: {} x {}: {}", error.count, error.kind, crate::error::one_line(&error.example))?;
        }
    }
    Ok(())
}

fn milliseconds(times: &Percentiles) -> [f64; 4] {
    [times.p50, times.p90, times.p99, times.max].map(|seconds| seconds * 1e3)
}

fn spread(summary: &Summary) -> String {
    if summary.n == 1 {
        number(summary.median)
    } else {
        format!("{} ({}-{})", number(summary.median), number(summary.min), number(summary.max))
    }
}

/// Three or four digits.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        0.0 => 0,
        _ => 3,
    };
    format!("{value:.digits$}")
}
