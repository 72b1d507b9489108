//! A load's result as a picture.

use super::report::{Row, ServeReport};
use crate::bench::plot::{GREY, MARGIN, RED, foot, heading, point};
use crate::bench::summary::Percentiles;
use crate::bench::svg::{CHART_HEIGHT, Chart, Point, Series, Style, Svg};

/// Draws every part that was measured, as an SVG document.
pub fn draw(report: &ServeReport) -> String {
    let mut svg = Svg::new();
    let mut y = MARGIN;
    if report.interrupted {
        y = heading(&mut svg, y, RED, "interrupted: figures are those of the requests that had ended");
    }
    let charts = [
        output(&report.rows),
        times(&report.rows, "Time to the first token", |row| row.ttft_s),
        times(&report.rows, "Time between tokens", |row| row.itl_s),
    ];
    for chart in charts.into_iter().flatten() {
        chart.draw(&mut svg, y + MARGIN / 2.0);
        y += CHART_HEIGHT;
    }
    let (server, method, client) = (&report.server, &report.method, &report.provenance);
    let how = format!(
        "{} at {}; medians of {} repetitions, ranges from least to most; answers of at most {} tokens.",
        server.model, server.url, method.repeats, method.max_tokens
    );
    let debug = if client.debug_build { ", debug build" } else { "" };
    let who = format!(
        "Client: mtplx {} ({}{debug}), {}, {}",
        client.mtplx_version,
        client.commit.unwrap_or("no commit"),
        client.cpu.as_deref().unwrap_or("unknown"),
        client.time
    );
    y = foot(&mut svg, y, GREY, &[how, who]);
    svg.finish(y + MARGIN)
}

fn output(rows: &[Row]) -> Option<Chart> {
    let label = |row: &Row| row.speedup.map_or(String::new(), |speedup| format!("{:.2}x", speedup.median));
    let points: Vec<Option<Point>> = rows.iter().map(|row| Some(point(&row.output_tok_s?, label(row)))).collect();
    chart(
        rows,
        "Tokens of all answers a second",
        "tokens / s",
        vec![Series { name: "output".to_owned(), style: Style::Bars, points }],
    )
}

fn times(rows: &[Row], title: &str, of: fn(&Row) -> Option<Percentiles>) -> Option<Chart> {
    let series = |name: &str, at: fn(&Percentiles) -> f64| {
        let point = |row: &Row| {
            let value = 1e3 * at(&of(row)?);
            Some(Point { value, min: value, max: value, label: String::new() })
        };
        Series { name: name.to_owned(), style: Style::Line, points: rows.iter().map(point).collect() }
    };
    let series =
        vec![series("p50", |times| times.p50), series("p90", |times| times.p90), series("p99", |times| times.p99)];
    chart(rows, title, "ms", series)
}

/// A chart with a category for each number of clients; `None` without points.
fn chart(rows: &[Row], title: &str, unit: &str, series: Vec<Series>) -> Option<Chart> {
    let has_points = series.iter().any(|series| series.points.iter().any(Option::is_some));
    has_points.then(|| Chart {
        title: title.to_owned(),
        x_label: "clients".to_owned(),
        y_label: unit.to_owned(),
        categories: rows.iter().map(|row| row.clients.to_string()).collect(),
        series,
    })
}
