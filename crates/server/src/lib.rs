//! HTTP server of mtplx: OpenAI's, Anthropic's and Ollama's dialects over one engine.
//!
//! A dialect reads a body into one request type ([`wire::internal`]) and writes one event type as frames; a whole answer is the fold of its own
//! frames. [`Host`] owns the engine and drops it where nobody uses it. Nothing here prints or reads the environment: the program
//! gives settings ([`ServerOptions`]) and takes events ([`LogEvent`]).

mod answer;
mod app;
mod dialect;
mod guard;
mod host;
mod ids;
mod listen;
mod log;
mod metrics;
mod openapi;
mod page;
mod prepare;
mod routes;
mod status;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

pub use app::ServerOptions;
pub use guard::{Guard, Key, is_loopback};
pub use host::{Host, Loader, Status};
pub use listen::ConnectionLimits;
pub use log::{Answered, Log, LogEvent};
pub use prepare::{Defaults, model_settings};

use crate::app::App;

/// Time between two looks at an engine that may be dropped or may have ended.
const WATCH: Duration = Duration::from_secs(1);

/// Serves on `listeners` until `stop` turns true; answers that are being made have the grace of the options to end. True where the engine
/// ended before.
pub async fn serve(
    listeners: Vec<TcpListener>,
    options: ServerOptions,
    host: Arc<Host>,
    log: Log,
    stop: watch::Receiver<bool>,
) -> bool {
    let connections = options.connections;
    let app = App::new(options, Arc::clone(&host), log, stop.clone());
    let unloading = tokio::spawn(unload(Arc::clone(&app)));
    listen::serve(listeners, routes::router(app), connections, stop).await;
    unloading.abort();
    host.status() == Status::Dead
}

/// Drops the weights once nobody has used them for long enough.
async fn unload(app: Arc<App>) {
    let Some(idle) = app.options.idle_unload else { return };
    loop {
        sleep(WATCH.min(idle)).await;
        let host = Arc::clone(&app.host);
        // Dropping waits for the engine's thread.
        if tokio::task::spawn_blocking(move || host.unload_after(idle)).await.unwrap_or(false) {
            app.log(&LogEvent::Unloaded);
        }
    }
}
