//! A small SVG writer: texts, lines and rectangles, and a chart made of them.
//!
//! Written by hand: charts with a handful of categories need no plotting library with its own text layout and back ends.

use std::fmt::{self, Display, Write as _};

/// Colours of series, told apart with any colour vision (Okabe and Ito), darkest first.
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const INK: &str = "#222";
const FAINT: &str = "#ddd";
/// Widths and heights in pixels.
pub const WIDTH: f64 = 720.0;
pub const CHART_HEIGHT: f64 = 330.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 58.0;

/// A picture in the making.
pub struct Svg {
    body: String,
}

/// Where a text's position lies in it.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

impl Svg {
    /// An empty one.
    pub fn new() -> Self {
        Self { body: String::new() }
    }

    /// A line of text.
    pub fn text(&mut self, x: f64, y: f64, size: f64, anchor: Anchor, colour: &str, text: &str) {
        let (anchor, text) = (anchor.name(), Escaped(text));
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{text}</text>"#
        ));
    }

    fn bold(&mut self, x: f64, y: f64, size: f64, text: &str) {
        let text = Escaped(text);
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" font-weight="bold" fill="{INK}">{text}</text>"#
        ));
    }

    fn upright(&mut self, x: f64, y: f64, size: f64, text: &str) {
        let text = Escaped(text);
        self.put(format_args!(
            r#"<text transform="translate({x:.1} {y:.1}) rotate(-90)" font-size="{size}" text-anchor="middle" fill="{INK}">{text}</text>"#
        ));
    }

    fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], colour: &str, width: f64) {
        self.put(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
        ));
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        ));
    }

    fn dot(&mut self, [x, y]: [f64; 2], colour: &str) {
        self.put(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}"/>"#));
    }

    fn put(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// The document.
    pub fn finish(self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"Helvetica, Arial, sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
            self.body
        )
    }
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Bars,
    Line,
}

/// A value with its range.
#[derive(Debug, Clone)]
pub struct Point {
    pub value: f64,
    pub min: f64,
    pub max: f64,
    /// Written over it; may be empty.
    pub label: String,
}

/// Values of one kind, one for each category.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub style: Style,
    pub points: Vec<Option<Point>>,
}

/// A chart over categories, with the zero in it.
#[derive(Debug, Clone)]
pub struct Chart {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub categories: Vec<String>,
    pub series: Vec<Series>,
}

impl Chart {
    /// Draws it with its upper edge at `top`.
    pub fn draw(&self, svg: &mut Svg, top: f64) {
        let most = self.series.iter().flat_map(|series| &series.points).flatten().map(|point| point.max);
        // Room for a label over the highest.
        let (step, end) = scale(most.fold(0.0, f64::max) * 1.08);
        let [left, right, upper, lower] = [LEFT, WIDTH - RIGHT, top + TOP, top + CHART_HEIGHT - BOTTOM];
        let y = |value: f64| lower - (lower - upper) * value / end;

        svg.bold(LEFT, top + 20.0, 15.0, &self.title);
        self.legend(svg, top + 40.0);
        let ticks = (end / step).round() as usize;
        for tick in 0..=ticks {
            let value = tick as f64 * step;
            svg.line([left, y(value)], [right, y(value)], if tick == 0 { INK } else { FAINT }, 1.0);
            svg.text(left - 8.0, y(value) + 4.0, 12.0, Anchor::End, INK, &number(value, step));
        }
        svg.upright(22.0, (upper + lower) / 2.0, 13.0, &self.y_label);
        svg.text((left + right) / 2.0, lower + 42.0, 13.0, Anchor::Middle, INK, &self.x_label);

        let slot = (right - left) / self.categories.len().max(1) as f64;
        let centre = |category: usize| left + slot * (category as f64 + 0.5);
        for (category, name) in self.categories.iter().enumerate() {
            svg.text(centre(category), lower + 20.0, 12.0, Anchor::Middle, INK, name);
        }
        let bars = self.series.iter().filter(|series| series.style == Style::Bars).count();
        let lines = self.series.len() - bars;
        let bar = (slot * 0.7 / bars.max(1) as f64).min(64.0);
        // Lines stand a little apart, so that their ranges can be told from each other.
        let apart = (slot * 0.5 / lines.max(1) as f64).min(12.0);
        let (mut placed, mut drawn) = (0, 0);
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let shift = match series.style {
                Style::Bars => {
                    placed += 1;
                    (placed as f64 - 0.5 - bars as f64 / 2.0) * bar
                }
                Style::Line => {
                    drawn += 1;
                    (drawn as f64 - 0.5 - lines as f64 / 2.0) * apart
                }
            };
            let mut before: Option<[f64; 2]> = None;
            for (category, point) in series.points.iter().enumerate() {
                let Some(point) = point else {
                    before = None;
                    continue;
                };
                let at = [centre(category) + shift, y(point.value)];
                match series.style {
                    Style::Bars => svg.rect(at[0] - bar * 0.46, at[1], bar * 0.92, lower - at[1], colour),
                    Style::Line => {
                        if let Some(before) = before {
                            svg.line(before, at, colour, 2.0);
                        }
                        svg.dot(at, colour);
                    }
                }
                before = Some(at);
                whisker(svg, at[0], y(point.min), y(point.max));
                // The labels of several lines would lie on each other.
                if series.style == Style::Bars || lines == 1 {
                    svg.text(
                        at[0],
                        y(point.max) - 6.0,
                        if bars > 1 { 9.0 } else { 11.0 },
                        Anchor::Middle,
                        INK,
                        &point.label,
                    );
                }
            }
        }
    }

    fn legend(&self, svg: &mut Svg, y: f64) {
        if self.series.len() < 2 {
            return;
        }
        let mut x = LEFT;
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            svg.rect(x, y - 9.0, 10.0, 10.0, colour);
            svg.text(x + 15.0, y, 12.0, Anchor::Start, INK, &series.name);
            x += 32.0 + 6.6 * series.name.chars().count() as f64;
        }
    }
}

/// From least to most, where they can be told apart.
fn whisker(svg: &mut Svg, x: f64, low: f64, high: f64) {
    if low - high < 2.0 {
        return;
    }
    svg.line([x, low], [x, high], INK, 1.0);
    for end in [low, high] {
        svg.line([x - 4.0, end], [x + 4.0, end], INK, 1.0);
    }
}

/// The distance of ticks, 1, 2 or 5 times a power of ten, and the last of them: 4 to 10 reach `most`.
fn scale(most: f64) -> (f64, f64) {
    if !(most.is_finite() && most > 0.0) {
        return (1.0, 1.0);
    }
    let power = 10_f64.powf((most / 4.0).log10().floor());
    let step = [5.0, 2.0, 1.0].into_iter().map(|times| times * power).find(|step| step * 4.0 <= most).unwrap_or(power);
    (step, (most / step).ceil() * step)
}

/// A tick's value with as many digits as the step has.
fn number(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).max(0.0) as usize;
    format!("{value:.digits$}")
}

/// Text within SVG.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                // XML has no others.
                c if c.is_control() => f.write_str(" ")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks() {
        for (most, expected) in [
            (1.0, (0.2, 1.0)),
            (3.9, (0.5, 4.0)),
            (4.0, (1.0, 4.0)),
            (97.0, (20.0, 100.0)),
            (1234.0, (200.0, 1400.0)),
            (0.0, (1.0, 1.0)),
            (f64::NAN, (1.0, 1.0)),
        ] {
            let (step, end) = scale(most);
            assert!((step - expected.0).abs() < 1e-9 && (end - expected.1).abs() < 1e-9, "{most}: {step} {end}");
        }
        assert_eq!(
            (number(0.4, 0.2), number(400.0, 200.0), number(1.5, 0.5)),
            ("0.4".into(), "400".into(), "1.5".into())
        );
    }

    #[test]
    fn texts_are_escaped() {
        let mut svg = Svg::new();
        svg.text(0.0, 0.0, 1.0, Anchor::Start, INK, "a<b>&\"\u{1b}");
        assert!(svg.finish(10.0).contains(">a&lt;b&gt;&amp;&quot; </text>"));
    }
}
