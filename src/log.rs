//! What the libraries have to say: warnings as this program's own, and more of it where `MTPLX_LOG` asks (`off`, `error`,
//! `warn`, `info`, `debug`, `trace`).

use std::fmt::{Debug, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::error::{stderr, warn};

const VARIABLE: &str = "MTPLX_LOG";

/// Shows events from here on.
pub fn init() {
    let asked = std::env::var(VARIABLE).ok();
    let level = asked.as_deref().map_or(Ok(LevelFilter::WARN), str::parse);
    // Another subscriber is there already where a program of somebody's own set one up: then it is theirs.
    let _ = tracing_subscriber::registry()
        .with(Lines.with_filter(level.as_ref().copied().unwrap_or(LevelFilter::WARN)))
        .try_init();
    if level.is_err() {
        warn(&format!("{VARIABLE}: expected off, error, warn, info, debug or trace; showing warnings"));
    }
}

/// One line an event.
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let Line { message, fields } = line;
        match *event.metadata().level() {
            Level::ERROR | Level::WARN => warn(&format!("{message}{fields}")),
            level => {
                let level = level.as_str().to_ascii_lowercase();
                let _ = writeln!(stderr(), "{level}: {}: {message}{fields}", event.metadata().target());
            }
        }
    }
}

/// An event's message, and its fields behind it.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
