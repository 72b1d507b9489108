//! What people see beside the text: spinners and bars on standard error, and only on a terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::disk;

/// Something that takes a while: a spinner, or a bar once the amount is known. Vanishes when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows `what` with a spinner; nothing at all if `quiet` or where standard error is no terminal.
    pub fn start(what: impl Into<Cow<'static, str>>, quiet: bool) -> Self {
        if quiet {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Says what is being done now.
    pub fn say(&self, what: impl Into<Cow<'static, str>>) {
        self.0.set_message(what);
    }

    /// Reports so many of so many.
    pub fn update(&self, done: usize, all: usize) {
        if self.0.length().is_none()
            && let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {pos}/{len}")
        {
            self.0.set_style(style);
        }
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A transfer of many bytes: a bar with rate and remaining time, and a line for each thing that is done. Where standard
/// error is no terminal, the lines alone.
pub struct Transfer {
    bar: ProgressBar,
    terminal: bool,
}

impl Transfer {
    /// Shows `what` with an empty bar.
    pub fn start(what: impl Into<Cow<'static, str>>) -> Self {
        let bar = ProgressBar::new(0).with_message(what);
        let template =
            "{spinner} {msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} ETA {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, terminal: io::stderr().is_terminal() }
    }

    /// So many more bytes are to come.
    pub fn expect(&self, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    /// So many more are here.
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// So many have to come once more.
    pub fn retreat(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        if self.terminal {
            self.bar.println(line);
        } else {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes that are written, with rate and time to go: a bar that vanishes when dropped, or where standard error is no
/// terminal a line now and then.
pub struct Bytes {
    bar: ProgressBar,
    lines: Option<Mutex<Lines>>,
}

/// How often there is a line.
const EVERY: Duration = Duration::from_secs(15);

/// Lines instead of a bar.
struct Lines {
    /// When the first bytes were reported, and how many there were by then.
    first: Option<(Instant, u64)>,
    next: Instant,
}

impl Bytes {
    /// Nothing yet; nothing ever if `quiet`.
    pub fn start(quiet: bool) -> Self {
        let template = "{wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} ETA {eta}";
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let lines = (!quiet && !io::stderr().is_terminal())
            .then(|| Mutex::new(Lines { first: None, next: Instant::now() + EVERY }));
        Self { bar, lines }
    }

    /// Reports so many of so many.
    pub fn update(&self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done);
        if let Some(Ok(mut lines)) = self.lines.as_ref().map(Mutex::lock)
            && let Some(line) = lines.line(Instant::now(), done, all)
        {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

impl Lines {
    /// The line that is due, if one is.
    fn line(&mut self, now: Instant, done: u64, all: u64) -> Option<String> {
        let (since, before) = *self.first.get_or_insert((now, done));
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        let seconds = now.duration_since(since).as_secs_f64();
        let rate = done.saturating_sub(before) as f64 / seconds.max(1e-9);
        let left = HumanDuration(Duration::from_secs_f64(all.saturating_sub(done) as f64 / rate.max(1.0)));
        let (done, all, rate) = (disk::shown(done), disk::shown(all), disk::shown(rate as u64));
        Some(format!("{done} of {all}, {rate}/s, {left} to go"))
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Standard output for a model's text: every piece is flushed, and on a terminal its control characters are shown, not
/// obeyed. A model may write anything.
pub struct TextOut {
    terminal: bool,
    ends_with_newline: bool,
}

impl TextOut {
    /// Standard output as it is now.
    pub fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), ends_with_newline: true }
    }

    /// Writes a piece of text.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        let shown = if self.terminal { visible(text) } else { Cow::Borrowed(text) };
        let mut out = io::stdout().lock();
        out.write_all(shown.as_bytes())?;
        self.ends_with_newline = text.ends_with('\n');
        out.flush()
    }

    /// Ends the last line.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.ends_with_newline { Ok(()) } else { self.write("\n") }
    }
}

/// Control characters, but for tabs and line ends, as their pictures.
fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let picture = |c: char| match c {
        '\x00'..='\x1f' if hidden(c) => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        c if hidden(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(picture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_now_and_then() {
        let start = Instant::now();
        let mut lines = Lines { first: None, next: start + EVERY };
        let mut at = |seconds, done| lines.line(start + Duration::from_secs(seconds), done, 10_000_000_000);
        // What an earlier run left counts as done, and not as done fast.
        assert_eq!(at(0, 4_000_000_000), None);
        assert_eq!(at(14, 4_500_000_000), None);
        assert_eq!(at(20, 5_000_000_000).unwrap(), "5.0 GB of 10.0 GB, 50.0 MB/s, 2 minutes to go");
        assert_eq!(at(21, 5_100_000_000), None);
        assert_eq!(at(40, 10_000_000_000).unwrap(), "10.0 GB of 10.0 GB, 150.0 MB/s, 0 seconds to go");
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(visible("a\tb\n"), "a\tb\n");
        assert_eq!(visible("\x1b[31mred\r\x7f\u{9b}"), "␛[31mred␍␡\u{fffd}");
    }
}
