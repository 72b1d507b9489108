//! The terminal's output: answers as they come, reasoning dimmed and then folded, notes.

use std::env;
use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::Style;
use unicode_width::UnicodeWidthChar as _;

use crate::error::one_line;
use crate::terminal::visible;

const DIM: Style = Style::new().dimmed();
/// Columns between tab stops.
const TAB: usize = 8;

/// Columns and rows of the terminal; `None` where it does not say.
pub type Size = Box<dyn Fn() -> Option<(usize, usize)>>;

/// A terminal.
pub struct Screen<W> {
    out: W,
    /// True where styles are wanted.
    styled: bool,
    /// True where the cursor can be moved.
    moves: bool,
    size: Size,
    at_line_start: bool,
    reasoning: Option<Shown>,
}

/// Reasoning on the screen.
struct Shown {
    text: String,
    /// Columns of the terminal when it began.
    columns: Option<usize>,
}

impl Screen<io::Stdout> {
    /// Standard output, a terminal of this size.
    pub fn stdout(size: Size) -> Self {
        let out = io::stdout();
        let styled = AutoStream::choice(&out) != ColorChoice::Never;
        let moves = env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        Self::new(out, styled, moves, size)
    }
}

impl<W: Write> Screen<W> {
    /// `out`, with these abilities.
    pub fn new(out: W, styled: bool, moves: bool, size: Size) -> Self {
        Self { out, styled, moves, size, at_line_start: true, reasoning: None }
    }

    /// What was written to.
    #[cfg(test)]
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Columns of the terminal, 80 where it does not say.
    pub fn columns(&self) -> usize {
        (self.size)().map_or(80, |(columns, _)| columns)
    }

    /// Writes a piece of an answer.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.fold()?;
        self.write(text)?;
        self.out.flush()
    }

    /// Writes a piece of reasoning.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn reasoning(&mut self, text: &str) -> io::Result<()> {
        if self.reasoning.is_none() {
            self.end_line()?;
            let columns = (self.size)().map(|(columns, _)| columns);
            self.reasoning = Some(Shown { text: String::new(), columns });
        }
        self.dimmed(text)?;
        if let Some(shown) = &mut self.reasoning {
            shown.text.push_str(&visible(text));
        }
        self.out.flush()
    }

    /// Puts a count of words in the place of reasoning that was shown.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn fold(&mut self) -> io::Result<()> {
        let Some(Shown { text, columns }) = self.reasoning.take() else { return Ok(()) };
        match (columns, (self.size)()) {
            // Where the width changed, the terminal has wrapped the text anew: how many rows it takes now is unknown.
            (Some(before), Some((now, rows))) if self.moves && before == now => {
                let above = rows_below_first(&text, now).min(rows.saturating_sub(1));
                let up = if above > 0 { format!("\x1b[{above}A") } else { String::new() };
                write!(self.out, "\r{up}\x1b[J")?;
                self.at_line_start = true;
            }
            _ => self.end_line()?,
        }
        let words = text.split_whitespace().count();
        let unit = if words == 1 { "word" } else { "words" };
        self.note(&format!("(reasoning: {words} {unit}; /reasoning shows it)"))
    }

    /// Ends the line that was begun.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn end_line(&mut self) -> io::Result<()> {
        if !self.at_line_start {
            self.write("\n")?;
        }
        self.out.flush()
    }

    /// Writes a dimmed line of this program's.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn note(&mut self, line: &str) -> io::Result<()> {
        self.end_line()?;
        let lines = wrapped(&one_line(line), self.columns()).join("\n");
        self.dimmed(&lines)?;
        self.end_line()
    }

    /// Writes a text, which may have several lines, and ends its last one.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn lines(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        self.write(text)?;
        self.end_line()
    }

    fn dimmed(&mut self, text: &str) -> io::Result<()> {
        if self.styled {
            write!(self.out, "{DIM}")?;
            self.write(text)?;
            write!(self.out, "{DIM:#}")
        } else {
            self.write(text)
        }
    }

    /// Control characters of a text are shown, never obeyed.
    fn write(&mut self, text: &str) -> io::Result<()> {
        if let Some(last) = text.chars().next_back() {
            self.at_line_start = last == '\n';
        }
        self.out.write_all(visible(text).as_bytes())
    }
}

/// Lines of at most `width` characters, broken at blanks.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Rows that a text takes behind its first, on a terminal that wraps at `columns`.
fn rows_below_first(text: &str, columns: usize) -> usize {
    let columns = columns.max(1);
    let (mut rows, mut column) = (0, 0);
    for c in text.chars() {
        match c {
            '\n' => (rows, column) = (rows + 1, 0),
            // The last column holds what goes beyond.
            '\t' => column = ((column / TAB + 1) * TAB).min(columns - 1),
            c => {
                let width = c.width().unwrap_or(0);
                // The cursor stays behind the last column until something follows.
                if column + width > columns {
                    (rows, column) = (rows + 1, 0);
                }
                column += width;
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(styled: bool, moves: bool, write: impl FnOnce(&mut Screen<Vec<u8>>)) -> String {
        let mut screen = Screen::new(Vec::new(), styled, moves, Box::new(|| Some((60, 5))));
        write(&mut screen);
        String::from_utf8(screen.out).unwrap()
    }

    #[test]
    fn reasoning_is_folded() {
        let think = |screen: &mut Screen<Vec<u8>>| {
            screen.reasoning("one two ").unwrap();
            screen.reasoning("three\nfour").unwrap();
            screen.text("yes").unwrap();
        };
        let folded = "(reasoning: 4 words; /reasoning shows it)";
        let dim = |text: &str| format!("\x1b[2m{text}\x1b[0m");
        let streamed = format!("{}{}", dim("one two "), dim("three\nfour"));
        assert_eq!(shown(true, true, think), format!("{streamed}\r\x1b[1A\x1b[J{}\nyes", dim(folded)));
        // No colours, and a terminal that can do nothing.
        assert_eq!(shown(false, true, think), format!("one two three\nfour\r\x1b[1A\x1b[J{folded}\nyes"));
        assert_eq!(shown(false, false, think), format!("one two three\nfour\n{folded}\nyes"));
    }

    #[test]
    fn what_scrolled_away_is_left() {
        let text = shown(false, true, |screen| {
            screen.reasoning(&"x\n".repeat(9)).unwrap();
            screen.fold().unwrap();
        });
        assert!(text.contains("\x1b[4A"), "{text:?}");
    }

    #[test]
    fn a_model_s_control_characters_are_not_obeyed() {
        let text = shown(true, true, |screen| {
            screen.text("\x1b]0;title\x07\x1b[2J").unwrap();
            screen.reasoning("\x1b[A").unwrap();
            screen.note("a\x1bb\nc").unwrap();
        });
        assert_eq!(text, "␛]0;title␇␛[2J\n\x1b[2m␛[A\x1b[0m\n\x1b[2ma b c\x1b[0m\n");
    }

    #[test]
    fn rows_are_counted_as_terminals_wrap() {
        for (text, rows) in [
            ("", 0),
            ("0123456789", 0),
            ("0123456789a", 1),
            ("0123456789\n", 1),
            ("a\nb\n", 2),
            ("日本語日本", 0),
            ("日本語日本語", 1),
            ("a日本語日本", 1),
            ("\t\t\tx", 0),
            ("\t\t\txy", 1),
        ] {
            assert_eq!(rows_below_first(text, 10), rows, "{text:?}");
        }
    }
}
