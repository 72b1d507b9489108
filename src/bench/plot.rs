//! A result as a picture: one chart for each part, and where the figures come from.

use super::report::{Decode, Report};
use super::summary::Summary;
use super::svg::{Anchor, CHART_HEIGHT, Chart, Point, Series, Style, Svg};

pub(super) const MARGIN: f64 = 16.0;
const LINE: f64 = 16.0;
/// Characters of a line at the head, and of the smaller ones at the foot.
const HEAD_COLUMNS: usize = 92;
const FOOT_COLUMNS: usize = 120;
pub(super) const GREY: &str = "#555";
pub(super) const RED: &str = "#b00020";

/// Draws every part that was measured, as an SVG document.
pub fn draw(report: &Report) -> String {
    let mut svg = Svg::new();
    let mut y = MARGIN;
    if let Some(line) = report.simulation_line() {
        y = heading(&mut svg, y, RED, &line);
    }
    let charts = [prefill(report), decode(report), verify_cost(report), acceptance(report)];
    for chart in charts.into_iter().flatten() {
        chart.draw(&mut svg, y + MARGIN / 2.0);
        y += CHART_HEIGHT;
    }
    let method = &report.method;
    let how = format!(
        "Medians of {} repetitions after {} of warm-up, ranges from least to most; {} tokens a run, {}, temperature {}.",
        method.repeats, method.warmup, method.tokens, method.rule, method.temperature
    );
    y = foot(&mut svg, y, GREY, &[how, report.provenance.line()]);
    svg.finish(y + MARGIN)
}

/// Writes a remark behind `y`, and returns where it ends.
pub(super) fn heading(svg: &mut Svg, y: f64, colour: &str, line: &str) -> f64 {
    lines(svg, y, 13.0, colour, &wrapped(line, HEAD_COLUMNS))
}

/// Writes small lines behind `y`, and returns where they end.
pub(super) fn foot(svg: &mut Svg, y: f64, colour: &str, text: &[String]) -> f64 {
    let text: Vec<String> = text.iter().flat_map(|line| wrapped(line, FOOT_COLUMNS)).collect();
    lines(svg, y, 11.0, colour, &text)
}

fn lines(svg: &mut Svg, mut y: f64, size: f64, colour: &str, text: &[String]) -> f64 {
    for line in text {
        y += LINE;
        svg.text(MARGIN, y, size, Anchor::Start, colour, line);
    }
    y
}

fn decode(report: &Report) -> Option<Chart> {
    let label = |row: &Decode| match row.speedup {
        Some(speedup) => format!("{:.2}x", speedup.median),
        None => String::new(),
    };
    let rows = report.decode.iter().map(|row| (row.context, row.depth, point(&row.tok_s, label(row))));
    let simulated = if report.simulated_acceptance.is_some() { ", SIMULATED acceptance" } else { "" };
    by_context(rows.collect(), Style::Bars, |of| Chart {
        title: format!("Decoding{of}{simulated}"),
        x_label: "drafts a round (0: plain decoding); labels: over plain decoding".to_owned(),
        y_label: "tokens / s".to_owned(),
        categories: Vec::new(),
        series: Vec::new(),
    })
}

fn verify_cost(report: &Report) -> Option<Chart> {
    let rows = report.verify_cost.iter().map(|row| {
        let label = if row.rows > 1 { format!("{:.2}", row.cost.median) } else { String::new() };
        (row.context, row.rows, point(&row.cost, label))
    });
    by_context(rows.collect(), Style::Line, |of| Chart {
        title: format!("Cost of a verification{of}"),
        x_label: "rows verified".to_owned(),
        y_label: "time / time of one row".to_owned(),
        categories: Vec::new(),
        series: Vec::new(),
    })
}

fn prefill(report: &Report) -> Option<Chart> {
    if report.prefill.is_empty() {
        return None;
    }
    let points = report.prefill.iter().map(|row| {
        let label = row.ttft_s.map_or(String::new(), |ttft| format!("{:.0} ms", 1e3 * ttft.p50));
        Some(point(&row.tok_s, label))
    });
    Some(Chart {
        title: "Prefill".to_owned(),
        x_label: "tokens of the prompt; labels: time to the first token".to_owned(),
        y_label: "tokens / s".to_owned(),
        categories: report.prefill.iter().map(|row| row.tokens.to_string()).collect(),
        series: vec![Series { name: "prefill".to_owned(), style: Style::Bars, points: points.collect() }],
    })
}

fn acceptance(report: &Report) -> Option<Chart> {
    let found = report.acceptance.as_ref()?;
    let series = |name: &str, style, rates: &[Option<f64>]| {
        let point = |(place, rate): (usize, &Option<f64>)| {
            let percent = 100.0 * (*rate)?;
            // Of the first draft both rates are the same.
            let labelled = place > 0 || style == Style::Line;
            let label = if labelled { format!("{percent:.0}") } else { String::new() };
            Some(Point { value: percent, min: percent, max: percent, label })
        };
        Series { name: name.to_owned(), style, points: rates.iter().enumerate().map(point).collect() }
    };
    Some(Chart {
        title: format!("Acceptance by depth (E = {:.2} tokens a round)", found.tokens_per_round),
        x_label: format!("draft, of {} a round", found.depth),
        y_label: "accepted, %".to_owned(),
        categories: (1..=found.counts.drafted_by_depth.len()).map(|depth| depth.to_string()).collect(),
        series: vec![
            series("cumulative: of all rounds", Style::Bars, &found.counts.cumulative_acceptance),
            series("conditional: of drafts that were decided", Style::Line, &found.counts.conditional_acceptance),
        ],
    })
}

/// A chart with a series for each context and a category for each depth or number of rows.
fn by_context(rows: Vec<(usize, usize, Point)>, style: Style, chart: impl FnOnce(String) -> Chart) -> Option<Chart> {
    let mut contexts: Vec<usize> = rows.iter().map(|row| row.0).collect();
    contexts.dedup();
    let mut categories: Vec<usize> = rows.iter().map(|row| row.1).collect();
    categories.sort_unstable();
    categories.dedup();
    let of = match contexts[..] {
        [] => return None,
        [only] => format!(" behind {only} tokens"),
        _ => String::new(),
    };
    let series = contexts.iter().map(|&context| {
        let find = |category: &usize| rows.iter().find(|row| row.0 == context && row.1 == *category);
        let points = categories.iter().map(|category| find(category).map(|row| row.2.clone()));
        Series { name: format!("behind {context} tokens"), style, points: points.collect() }
    });
    Some(Chart { series: series.collect(), categories: categories.iter().map(usize::to_string).collect(), ..chart(of) })
}

pub(super) fn point(summary: &Summary, label: String) -> Point {
    Point { value: summary.median, min: summary.min, max: summary.max, label }
}

/// The text in lines that fit.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        match lines.last_mut() {
            Some(last) if line == 0 || line + 1 + word.chars().count() <= columns => {
                if line > 0 {
                    last.push(' ');
                }
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
