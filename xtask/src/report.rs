//! Progress on standard error: numbered steps, each named and timed.

use std::{
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

use crate::failure::Result;

/// Numbers the steps of one job.
pub struct Steps {
    total: usize,
    begun: usize,
}

impl Steps {
    /// A job of `total` steps.
    pub fn new(total: usize) -> Self {
        Steps { total, begun: 0 }
    }

    /// Does the next step. `work` returns its result and, in words, what came of it. On a terminal
    /// the step's line is redrawn as it advances; elsewhere it is written when the step begins and
    /// again when it ends.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce(&Step) -> Result<(T, String)>) -> Result<T> {
        let step = self.begin(name);
        step.draw("…", !step.live);
        match work(&step) {
            Ok((value, outcome)) => {
                step.draw(&format!("{outcome} ({})", seconds(step.start.elapsed())), true);
                Ok(value)
            }
            Err(failure) => {
                step.draw("failed", true);
                Err(failure)
            }
        }
    }

    /// Passes over the next step, saying why.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.begin(name).draw(why, true);
    }

    fn begin(&mut self, name: &str) -> Step {
        self.begun += 1;
        Step {
            label: format!("[{}/{}] {name}:", self.begun, self.total),
            start: Instant::now(),
            live: stderr().is_terminal(),
        }
    }
}

/// One step under way.
pub struct Step {
    label: String,
    start: Instant,
    live: bool,
}

impl Step {
    /// How far it is, shown on a terminal only.
    pub fn progress(&self, state: &str) {
        if self.live {
            self.draw(state, false);
        }
    }

    fn draw(&self, state: &str, finish: bool) {
        // \r and "erase to end of line" redraw in place.
        let (before, after) = if self.live { ("\r\x1b[2K", if finish { "\n" } else { "" }) } else { ("", "\n") };
        // Nothing to do about a closed standard error.
        let _ = write!(stderr(), "{before}{} {state}{after}", self.label);
    }
}

/// What each step took and what they took together, a line each.
pub fn table(steps: &[(String, Duration)], total: Duration) -> String {
    let total = ("total".to_owned(), total);
    let rows: Vec<(&str, String)> =
        steps.iter().chain([&total]).map(|(name, took)| (name.as_str(), seconds(*took))).collect();
    let width = |of: fn(&(&str, String)) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (names, times) = (width(|row| row.0.len()), width(|row| row.1.len()));
    rows.iter().map(|(name, took)| format!("{name:names$}  {took:>times$}\n")).collect()
}

/// A duration as people say it.
pub fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// A size as people say it.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_ends_with_the_total() {
        let steps = [("fmt", 900), ("clippy (failed)", 125_000)];
        let steps = steps.map(|(name, took)| (name.to_owned(), Duration::from_millis(took)));
        let expected = "fmt                   0.9 s\nclippy (failed)  2 min 05 s\ntotal            2 min 06 s\n";
        assert_eq!(table(&steps, Duration::from_secs(126)), expected);
    }

    #[test]
    fn durations_and_sizes_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1540)), "1.5 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(megabytes(10_388_414), "10.4 MB");
    }
}
