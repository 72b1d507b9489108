//! A spinner or a bar for one thing that takes a while.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

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
