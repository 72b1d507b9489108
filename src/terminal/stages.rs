//! A long job in named parts: a bar each on a terminal, and elsewhere plain lines, so that a log shows what is going on.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::progress::Progress;
use crate::error::stderr;

/// Time between two lines of a part, where standard error is no terminal.
const BETWEEN: Duration = Duration::from_secs(15);

/// The parts so far. One that was not ended was broken off: nothing more is said of it.
pub struct Stages {
    quiet: bool,
    terminal: bool,
    part: Option<Part>,
}

struct Part {
    name: String,
    bar: Option<Progress>,
    pace: Pace,
}

impl Stages {
    /// No part yet; nothing is ever shown if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, terminal: io::stderr().is_terminal(), part: None }
    }

    /// Ends the part before, and begins this one unless it is the same.
    pub fn begin(&mut self, name: &str) {
        if self.quiet || self.part.as_ref().is_some_and(|part| part.name == name) {
            return;
        }
        self.end();
        if !self.terminal {
            line(name);
        }
        let bar = self.terminal.then(|| Progress::start(name.to_owned(), false));
        self.part = Some(Part { name: name.to_owned(), bar, pace: Pace::new(Instant::now()) });
    }

    /// So many steps of so many of this part are done.
    pub fn update(&mut self, done: usize, all: usize) {
        let Some(part) = &mut self.part else { return };
        match &part.bar {
            Some(bar) => bar.update(done, all),
            None => {
                if let Some((pace, _)) = part.pace.at(Instant::now(), done as u64, all as u64) {
                    line(&format!("{}: {done}/{all}, {pace}", part.name));
                }
            }
        }
    }

    /// Ends the last part.
    pub fn end(&mut self) {
        let Some(part) = self.part.take() else { return };
        if part.bar.is_none() {
            line(&format!("{}: done in {}", part.name, spoken(part.pace.started.elapsed())));
        }
    }
}

fn line(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// When the next line is due, and what it says of the time.
pub struct Pace {
    started: Instant,
    last: Instant,
    /// What was done when it started, once that is known.
    before: Option<u64>,
}

impl Pace {
    /// Nothing done yet.
    pub fn new(now: Instant) -> Self {
        Self { started: now, last: now, before: Some(0) }
    }

    /// As much done as the first report says: by an earlier run, perhaps.
    pub fn resumed(now: Instant) -> Self {
        Self { before: None, ..Self::new(now) }
    }

    /// The time so far and how much is to go at this pace, and how much is done a second; `None` while no line is due.
    pub fn at(&mut self, now: Instant, done: u64, all: u64) -> Option<(String, f64)> {
        let done_here = done.saturating_sub(*self.before.get_or_insert(done));
        if now.duration_since(self.last) < BETWEEN {
            return None;
        }
        self.last = now;
        let spent = now.duration_since(self.started);
        let rate = done_here as f64 / spent.as_secs_f64();
        let mut text = spoken(spent);
        if done_here > 0 && done <= all {
            let rest = (all - done) as f64 / rate;
            text += &format!(", about {} to go", spoken(Duration::from_secs_f64(rest.min(1e9))));
        }
        Some((text, rate))
    }
}

/// A time in the largest units that fit: `42 s`, `3 min 20 s`, `2 h 5 min`.
fn spoken(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_at_intervals_and_say_how_long() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut at = |seconds: u64, done, all| Some(pace.at(start + Duration::from_secs(seconds), done, all)?.0);
        assert_eq!(at(14, 3, 10), None);
        assert_eq!(at(20, 4, 10).unwrap(), "20 s, about 30 s to go");
        assert_eq!(at(34, 5, 10), None);
        assert_eq!(at(130, 10, 10).unwrap(), "2 min 10 s, about 0 s to go");
        // Nothing to judge a pace by.
        assert_eq!(at(7260, 0, 10).unwrap(), "2 h 1 min");
        assert_eq!(at(7300, 1, 0).unwrap(), "2 h 1 min");
    }

    #[test]
    fn what_an_earlier_run_left_was_not_done_fast() {
        let start = Instant::now();
        let mut pace = Pace::resumed(start);
        assert_eq!(pace.at(start, 400, 1000), None);
        let (text, rate) = pace.at(start + Duration::from_secs(20), 500, 1000).unwrap();
        assert_eq!((text.as_str(), rate), ("20 s, about 1 min 40 s to go", 5.0));
    }
}
