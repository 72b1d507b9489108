//! What people see beside the text: spinners and bars on standard error, and only on a terminal.

mod progress;
mod stages;

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use mtplx_runtime::artifact::size_shown;

pub use self::progress::Progress;
use self::stages::Pace;
pub use self::stages::Stages;

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

/// Bytes that are written, with rate and time to go. Vanishes when dropped. Where standard error is no terminal, a line
/// now and then.
pub struct Bytes {
    bar: ProgressBar,
    lines: Option<Mutex<Pace>>,
}

impl Bytes {
    /// Nothing yet; nothing ever if `quiet`.
    pub fn start(quiet: bool) -> Self {
        let template = "{wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} ETA {eta}";
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let lines = !quiet && !io::stderr().is_terminal();
        Self { bar, lines: lines.then(|| Mutex::new(Pace::resumed(Instant::now()))) }
    }

    /// Reports so many of so many.
    pub fn update(&self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done);
        let Some(lines) = &self.lines else { return };
        if let Ok(mut lines) = lines.lock()
            && let Some((pace, rate)) = lines.at(Instant::now(), done, all)
        {
            let (done, all, rate) = (size_shown(done), size_shown(all), size_shown(rate as u64));
            let _ = writeln!(io::stderr(), "{done} of {all}, {rate}/s, {pace}");
        }
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
pub fn visible(text: &str) -> Cow<'_, str> {
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
    fn control_characters_are_shown() {
        assert_eq!(visible("a\tb\n"), "a\tb\n");
        assert_eq!(visible("\x1b[31mred\r\x7f\u{9b}"), "␛[31mred␍␡\u{fffd}");
    }
}
