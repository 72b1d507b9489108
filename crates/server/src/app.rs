//! State of the server, shared by its routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::guard::Guard;
use crate::host::{Host, Model};
use crate::listen::ConnectionLimits;
use crate::log::{Answered, Log, LogEvent};
use crate::metrics::Metrics;
use crate::page;
use crate::prepare::Defaults;
use crate::wire::internal::{Failure, FailureKind};

/// Settings of the server.
#[derive(Clone)]
pub struct ServerOptions {
    /// Who may ask.
    pub guard: Guard,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
    /// Bytes of a body at most.
    pub max_body: usize,
    /// Time for a body.
    pub body_time: Duration,
    /// Time of silence after which a stream shows that it lives.
    pub keep_alive: Duration,
    /// Time that one unit of the engine's work may take before it is held for dead.
    pub unit_time: Duration,
    /// Name that the model is listed by.
    pub name: String,
    /// Further names that it answers to.
    pub aliases: Vec<String>,
    /// Settings where a request states none.
    pub defaults: Defaults,
    /// Time without a request after which the weights are dropped.
    pub idle_unload: Option<Duration>,
    /// Prompts that are expected to take longer are announced in the log.
    pub announce: Duration,
    /// Version of the program.
    pub version: &'static str,
}

impl ServerOptions {
    /// The defaults of a server for the model `name`.
    pub fn new(name: impl Into<String>, version: &'static str) -> Self {
        Self {
            guard: Guard::default(),
            connections: ConnectionLimits::default(),
            max_body: 32 << 20,
            body_time: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            unit_time: Duration::from_secs(120),
            name: name.into(),
            aliases: Vec::new(),
            defaults: Defaults::default(),
            idle_unload: None,
            announce: Duration::from_secs(5),
            version,
        }
    }
}

/// The server.
pub struct App {
    /// Its settings.
    pub options: ServerOptions,
    /// The engine.
    pub host: Arc<Host>,
    /// Its counters.
    pub metrics: Metrics,
    /// The rate at which prompts are read, as measured.
    pub prefill_rate: Rate,
    /// The time that a text takes, as measured.
    pub text_time: MeanTime,
    /// True once the server is to stop.
    pub stop: watch::Receiver<bool>,
    /// Seconds since 1970 at which it began.
    pub started: u64,
    log: Log,
}

impl App {
    /// A server.
    pub fn new(options: ServerOptions, host: Arc<Host>, log: Log, stop: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self {
            options,
            host,
            metrics: Metrics::default(),
            prefill_rate: Rate::default(),
            text_time: MeanTime::default(),
            stop,
            started: now(),
            log,
        })
    }

    /// Counts and logs an answer.
    pub fn answered(&self, record: Answered) {
        self.metrics.answered(route_of(&record.path), record.status);
        self.log(&LogEvent::Answered(record));
    }

    /// Logs an event.
    pub fn log(&self, event: &LogEvent) {
        (self.log)(event);
    }

    /// Logs a prompt that takes its time: `left` of its tokens at `rate` tokens a second.
    pub fn announce(&self, id: &str, tokens: u64, left: u64, rate: f64) {
        let estimate = Duration::from_secs_f64((left as f64 / rate).clamp(0.0, 1e6));
        if estimate >= self.options.announce {
            self.log(&LogEvent::LongPrompt { id: id.to_owned(), tokens, rate, estimate });
        }
    }

    /// The name under which a request's model is answered.
    ///
    /// # Errors
    /// The model is another one.
    pub fn served(&self, asked: Option<&str>, takes_claude: bool) -> Result<String, Failure> {
        let name = asked.unwrap_or(&self.options.name);
        // Claude Code asks for names of its own for its side tasks, whatever the main model is called.
        let known = name == self.options.name
            || self.options.aliases.iter().any(|alias| alias == name)
            || takes_claude && name.starts_with("claude-");
        if known {
            return Ok(name.to_owned());
        }
        let served = std::iter::once(&self.options.name).chain(&self.options.aliases).map(|name| format!("{name:?}"));
        let served: Vec<String> = served.collect();
        let message = format!(
            "model: {name:?}: not served here; this server has {}, and takes it where `model` is left out",
            served.join(", ")
        );
        Err(Failure { param: Some("model".to_owned()), ..Failure::new(FailureKind::UnknownModel, message) })
    }

    /// The model, loaded if it was not yet.
    ///
    /// # Errors
    /// It does not load.
    pub async fn model(&self) -> Result<Arc<Model>, Failure> {
        loop {
            if let Some(model) = self.host.model() {
                return Ok(model);
            }
            self.host.lease().await?;
        }
    }

    /// Seconds after which a place in the queue is likely to be free.
    pub fn retry_after(&self) -> u64 {
        let (running, queued) = self.host.requests();
        let turns = queued as f64 / running.max(1) as f64 + 1.0;
        (turns * self.text_time.seconds().unwrap_or(1.0)).ceil().clamp(1.0, 300.0) as u64
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Routes, for labels: a path that is none of them may be anything.
fn route_of(path: &str) -> &'static str {
    const ROUTES: [&str; 14] = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/api/chat",
        "/api/tags",
        "/api/version",
        "/health",
        "/status",
        "/metrics",
        "/openapi.json",
        "/",
    ];
    if page::is_page(path) {
        return "/";
    }
    if path.starts_with("/v1/models/") {
        return "/v1/models";
    }
    ROUTES.into_iter().find(|route| *route == path).unwrap_or("other")
}

/// A rate in tokens a second: a mean in which the last measurement counts for a quarter.
#[derive(Debug, Default)]
pub struct Rate(AtomicU64);

impl Rate {
    /// Notes a measurement.
    pub fn note(&self, tokens: u64, time: Duration) {
        // Short prompts say little.
        if tokens >= 256 && !time.is_zero() {
            blend(&self.0, tokens as f64 / time.as_secs_f64());
        }
    }

    /// Tokens a second, once something was measured.
    pub fn tokens_per_second(&self) -> Option<f64> {
        read(&self.0)
    }
}

/// A mean time, of which the last measurement is a quarter.
#[derive(Debug, Default)]
pub struct MeanTime(AtomicU64);

impl MeanTime {
    /// Notes a measurement.
    pub fn note(&self, time: Duration) {
        blend(&self.0, time.as_secs_f64());
    }

    /// Seconds, once something was measured.
    pub fn seconds(&self) -> Option<f64> {
        read(&self.0)
    }
}

/// Bits of a number, 0 for none.
fn blend(bits: &AtomicU64, value: f64) {
    let blended = read(bits).map_or(value, |before| 0.75 * before + 0.25 * value);
    bits.store(blended.to_bits(), Ordering::Relaxed);
}

fn read(bits: &AtomicU64) -> Option<f64> {
    Some(f64::from_bits(bits.load(Ordering::Relaxed))).filter(|value| *value > 0.0)
}
