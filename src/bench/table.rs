//! A result as tables, for people.

use std::io;

use super::report::{Counts, Decode, Report};
use super::summary::{Percentiles, Summary};

/// Writes every part that was measured.
pub fn write(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    writeln!(out, "{}: {}", report.kind.name(), report.provenance.line())?;
    let method = &report.method;
    writeln!(
        out,
        "median of {} (least to most), {} warm-up; {} tokens a run, {}, temperature {}, top-p {}, top-k {}, seed {}",
        method.repeats,
        method.warmup,
        method.tokens,
        method.rule,
        method.temperature,
        method.top_p,
        method.top_k,
        method.seed
    )?;
    if let Some(tokens) = method.draft_vocab {
        writeln!(out, "drafts from {tokens} tokens of the vocabulary")?;
    }
    if let Some(line) = report.simulation_line() {
        writeln!(out, "{line}")?;
    }
    prefill(out, report)?;
    decode(out, report)?;
    verify_cost(out, report)?;
    acceptance(out, report)?;
    foot(out, report)
}

fn prefill(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    if report.prefill.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>7}  {:>26}  {:>9}  {:>9}", "prompt", "tok/s", "TTFT p50", "p99")?;
    for row in &report.prefill {
        let (p50, p99) = milliseconds(row.ttft_s.as_ref());
        writeln!(out, "{:>7}  {:>26}  {p50:>9}  {p99:>9}", row.tokens, spread(&row.tok_s))?;
    }
    Ok(())
}

fn decode(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    if report.decode.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:>7}  {:>5}  {:>26}  {:>7}  {:>6}  {:>6}  {:>9}  {:>9}  {:>9}  {:>9}  {:>7}",
        "context", "depth", "tok/s", "x plain", "E", "C", "ITL p50", "p99", "TTFT p50", "MB/round", "% copy"
    )?;
    for row in &report.decode {
        let Decode { context, depth, tok_s, speedup, cost, tokens_per_round, .. } = row;
        let (itl, itl_p99) = milliseconds(row.itl_s.as_ref());
        let (ttft, _) = milliseconds(row.ttft_s.as_ref());
        let ratio = |summary: &Option<Summary>| summary.map_or("-".to_owned(), |ratio| format!("{:.2}", ratio.median));
        let percent = row.percent_of_copy.map_or("-".to_owned(), |percent| format!("{percent:.1}"));
        writeln!(
            out,
            "{context:>7}  {depth:>5}  {:>26}  {:>7}  {tokens_per_round:>6.3}  {:>6}  {itl:>9}  {itl_p99:>9}  {ttft:>9}  \
             {:>9.1}  {percent:>7}",
            spread(tok_s),
            ratio(speedup),
            ratio(cost),
            row.round_bytes as f64 / 1e6,
        )?;
    }
    let drafted: Vec<&Decode> = report.decode.iter().filter(|row| row.depth > 0).collect();
    if !drafted.is_empty() {
        let what = if report.simulated_acceptance.is_some() { "acceptance (SIMULATED)" } else { "acceptance" };
        writeln!(
            out,
            "\n{:>7}  {:>5}  {what} by depth: cumulative, conditional, accepted/drafted",
            "context", "depth"
        )?;
        for row in drafted {
            writeln!(out, "{:>7}  {:>5}  {}", row.context, row.depth, by_depth(&row.counts))?;
        }
    }
    Ok(())
}

fn verify_cost(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    if report.verify_cost.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>7}  {:>4}  {:>26}  {:>22}  {:>7}", "context", "rows", "ms", "c_v", "% copy")?;
    for row in &report.verify_cost {
        let percent = row.percent_of_copy.map_or("-".to_owned(), |percent| format!("{percent:.1}"));
        let (ms, cost) = (spread(&row.verify_s.times(1e3)), spread(&row.cost));
        writeln!(out, "{:>7}  {:>4}  {ms:>26}  {cost:>22}  {percent:>7}", row.context, row.rows)?;
    }
    Ok(())
}

fn acceptance(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    let Some(found) = &report.acceptance else { return Ok(()) };
    writeln!(
        out,
        "\nacceptance on {} texts at depth {}: E {:.3} in {} rounds\n  {}",
        found.texts,
        found.depth,
        found.tokens_per_round,
        found.counts.rounds,
        by_depth(&found.counts)
    )
}

fn foot(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    let memory = &report.memory;
    let mega = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
    let copy = memory.copy_gb_s.map_or("not measured".to_owned(), |copy| format!("{} GB/s", spread(&copy)));
    let peak = memory.peak.map_or("not measured".to_owned(), mega);
    writeln!(
        out,
        "\nweights {} (a plain step reads {}, a draft {}), peak memory {peak}, copy bandwidth {copy}",
        mega(memory.weights),
        mega(memory.step_weights),
        mega(memory.draft_weights)
    )?;
    write!(out, "loaded in {:.2} s", report.provenance.load_s)?;
    match report.cold_first_token_s {
        Some(seconds) => writeln!(out, ", first token of the process {seconds:.2} s after its prompt"),
        None => writeln!(out),
    }
}

/// `1: 97.6% 97.6% (122/125)` and so on.
fn by_depth(counts: &Counts) -> String {
    let percent = |rate: Option<&Option<f64>>| match rate.copied().flatten() {
        Some(rate) => format!("{:.1}%", 100.0 * rate),
        None => "-".to_owned(),
    };
    let drafted = counts.drafted_by_depth.iter().zip(&counts.accepted_by_depth).enumerate();
    let parts = drafted.map(|(place, (drafted, accepted))| {
        let cumulative = percent(counts.cumulative_acceptance.get(place));
        let conditional = percent(counts.conditional_acceptance.get(place));
        format!("{}: {cumulative} {conditional} ({accepted}/{drafted})", place + 1)
    });
    parts.collect::<Vec<_>>().join("  ")
}

fn spread(summary: &Summary) -> String {
    let Summary { median, min, max, .. } = summary;
    let digits = match *median {
        median if median >= 1000.0 => 0,
        median if median >= 100.0 => 1,
        median if median >= 10.0 => 2,
        _ => 3,
    };
    format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
}

fn milliseconds(percentiles: Option<&Percentiles>) -> (String, String) {
    let shown = |seconds: f64| {
        let ms = 1e3 * seconds;
        if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.1} ms") }
    };
    percentiles.map_or(("-".to_owned(), "-".to_owned()), |times| (shown(times.p50), shown(times.p99)))
}
