//! The figures under a text, for people.

use std::fmt::Write as _;
use std::io;

use clap::builder::styling::Style;

use super::document::{Document, StatsDocument};

const DIM: Style = Style::new().dimmed();

/// Writes the footer: a line on speed, one on drafting if there was any, one on plain decoding if it was measured.
pub fn write(out: &mut impl io::Write, document: &Document<'_>) -> io::Result<()> {
    for line in lines(&document.stats, document.prompt_ids.len()) {
        writeln!(out, "{DIM}{line}{DIM:#}")?;
    }
    Ok(())
}

/// Lines of figures behind a prompt of so many tokens.
pub fn lines(stats: &StatsDocument, prompt: usize) -> Vec<String> {
    let report = &stats.report;
    let mut speed = count(stats.tokens as u64, "token");
    if let Some(rate) = report.decode_tok_s {
        let _ = write!(speed, ", {rate:.1} tok/s");
    }
    if let Some(ttft) = stats.ttft_s {
        let _ = write!(speed, ", first after {ttft:.2} s (TTFT, prompt of {})", count(prompt as u64, "token"));
    }
    let mut lines = vec![speed];
    if let (false, Some(length)) = (report.drafted_by_depth.is_empty(), report.mean_accepted_length) {
        let rounds = count(report.rounds, "round");
        lines.push(format!("mean accepted length {length:.2} in {rounds}, {}", depth_used(&stats.rounds_by_depth)));
        let by_depth = report.accepted_by_depth.iter().zip(&report.drafted_by_depth).enumerate();
        let by_depth = by_depth.map(|(place, (&accepted, &drafted))| {
            let rate = 100.0 * accepted as f64 / drafted.max(1) as f64;
            format!("{}: {rate:.0}% ({accepted}/{drafted})", place + 1)
        });
        lines.push(format!("acceptance by depth  {}", by_depth.collect::<Vec<_>>().join("  ")));
    }
    if let Some(rate) = stats.plain.as_ref().and_then(|plain| plain.decode_tok_s) {
        let mut plain = format!("plain decoding {rate:.1} tok/s");
        if let Some(speedup) = stats.speedup {
            let _ = write!(plain, ", speedup {speedup:.2}x");
        }
        lines.push(plain);
    }
    lines
}

/// `depth 3`, or `depth 1 to 4, mostly 3`.
fn depth_used(rounds: &[u64]) -> String {
    let used = || (0..rounds.len()).filter(|&depth| rounds[depth] > 0);
    match (used().next(), used().next_back(), used().max_by_key(|&depth| rounds[depth])) {
        (Some(low), Some(high), Some(most)) if low < high => format!("depth {low} to {high}, mostly {most}"),
        (Some(only), ..) => format!("depth {only}"),
        _ => "depth 0".to_owned(),
    }
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use mtplx_runtime::speculative::{Acceptance, SpeculationStats};

    use super::*;

    fn stats(rounds: &[(usize, usize)]) -> SpeculationStats {
        let mut stats = SpeculationStats::new();
        stats.record_prefill(100, 0.5, 0.6);
        for &(drafted, accepted) in rounds {
            stats.record_round(&Acceptance { drafted, accepted, next: 0 }, accepted + 1, 0.1);
        }
        stats
    }

    #[test]
    fn with_drafts_and_a_comparison() {
        let drafted = stats(&[(2, 2), (2, 1), (2, 0), (1, 1)]);
        let plain = stats(&[(0, 0), (0, 0)]);
        let document = StatsDocument::new(9, &drafted, Some(&plain));
        insta::assert_snapshot!(lines(&document, 100).join("\n"), @"
        9 tokens, 20.0 tok/s, first after 0.60 s (TTFT, prompt of 100 tokens)
        mean accepted length 2.00 in 4 rounds, depth 1 to 2, mostly 2
        acceptance by depth  1: 75% (3/4)  2: 33% (1/3)
        plain decoding 10.0 tok/s, speedup 2.00x
        ");
    }

    #[test]
    fn a_single_token() {
        let document = StatsDocument::new(1, &stats(&[]), None);
        assert_eq!(lines(&document, 1), ["1 token, first after 0.60 s (TTFT, prompt of 1 token)"]);
    }
}
