//! `mtplx serve`: settings, then the model, then the server until it is stopped.

mod address;
mod config;
mod log;
#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::parser::ValueSource;
use clap::{Command, FromArgMatches as _};
use mtplx_engine::settings::{Depth, Overrides, PromptMode};
use mtplx_engine::{Engine, EngineError, Limits, LoadSpec};
use mtplx_runtime::mlx;
use mtplx_runtime::speculative::Rule;
use mtplx_server::{Defaults, Guard, Host, Key, LogEvent, ServerOptions, Status, model_settings};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::address::{addresses, bind, bracketed};
pub(super) use self::config::ConfigFile;
use self::config::Shown;
use crate::args::{self, Cli, LogFormat, Model, ServeArgs};
use crate::error::{Exit, Failure, stderr, warn};
use crate::{builtin, input, model, tuned};

const KEY_FILE: &str = "a file with keys has one a line";
/// Time in which an engine may end only so often before it is left alone.
const RESTART_PERIOD: Duration = Duration::from_secs(300);
/// Tokens of context that memory is held against before loading, where the model has as many.
const CONTEXT: usize = 32 << 10;

/// Serves. `typed` is only asked where its settings are: they are parsed again with the file's underneath.
pub fn serve(typed: &ServeArgs) -> anyhow::Result<Exit> {
    let Some(settings) = settings("serve", typed)? else { return Ok(Exit::Usage) };
    let args::Command::Serve(args) = settings.command else { return Ok(Exit::Usage) };
    if args.print_config {
        return print_settings(&settings.shown);
    }
    run(*args, &Serving { next_port: false, restarts: 0, ready: &|_| {} })
}

/// A command with the settings of file, environment and command line.
pub(super) struct Settings {
    pub command: args::Command,
    /// True where one of them names a model.
    pub names_model: bool,
    pub shown: Vec<Shown>,
}

/// The ways in which a command serves.
pub(super) struct Serving<'a> {
    /// Takes the next free port where the wanted one is taken.
    pub next_port: bool,
    /// Times that an engine that ended is started again within [`RESTART_PERIOD`].
    pub restarts: usize,
    /// Called once the first request can be answered.
    pub ready: &'a dyn Fn(&Ready<'_>),
}

/// A server that answers.
pub(super) struct Ready<'a> {
    pub url: &'a str,
    pub name: &'a str,
    /// True where the model answers conversations.
    pub chats: bool,
    pub context: usize,
    pub has_key: bool,
}

/// Parses the command line of the subcommand `name` again, with the settings file's values as defaults; `None` where that said what
/// is wrong.
///
/// # Errors
/// The file cannot be read or holds what is no setting.
pub(super) fn settings(name: &str, typed: &ServeArgs) -> anyhow::Result<Option<Settings>> {
    let command = args::command();
    let own = command.find_subcommand(name).cloned().unwrap_or_else(|| Command::new("serve"));
    let file = ConfigFile::find(typed.config.as_deref(), &own)?;
    let command = command.mut_subcommand(name, |own| file.under(own));
    let matches = match command.clone().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return Ok(None);
        }
    };
    let own = matches.subcommand_matches(name);
    let source = own.and_then(|own| own.value_source("model"));
    let shown =
        command.find_subcommand(name).zip(own).map(|(command, own)| file.shown(command, own)).unwrap_or_default();
    let names_model = file.has("model") || source.is_some_and(|source| source != ValueSource::DefaultValue);
    let command = Cli::from_arg_matches(&matches)?.command;
    Ok(command.map(|command| Settings { command, names_model, shown }))
}

/// Prints the settings for `--print-config`.
///
/// # Errors
/// Standard output is gone.
pub(super) fn print_settings(shown: &[Shown]) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    log::print(&mut out, shown)?;
    out.flush()?;
    Ok(Exit::Done)
}

/// Opens the model and serves it until the server is stopped.
///
/// # Errors
/// Settings that do not fit; a model that does not load; no port to listen on.
pub(super) fn run(args: ServeArgs, serving: &Serving<'_>) -> anyhow::Result<Exit> {
    let keys = keys(&args)?;
    let addresses = addresses(&args, !keys.is_empty())?;
    model::choose_device(args.model.device.device)?;
    let args = Arc::new(args);
    let first = load_spec(&args, true)?;
    let name = name_of(&args.model.model);
    let options = options(&args, keys, &addresses, name, first.tuned_depth);
    let prepared = Arc::new(Mutex::new(Some(first)));
    let host = || {
        let (of_loader, prepared) = (Arc::clone(&args), Arc::clone(&prepared));
        Host::new(Box::new(move || {
            let prepared = prepared.lock().map_or(None, |mut prepared| prepared.take());
            let spec = match prepared {
                Some(spec) => spec,
                // Loaded again: the files may have changed meanwhile, and so may what was found of them.
                None => load_spec(&of_loader, false).map_err(|error| EngineError::Reopen(error.to_string()))?,
            };
            Engine::load(spec, &mut |_| {})
        }))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(keep_serving(&args, addresses, &options, host, serving))
}

fn options(
    args: &ServeArgs,
    keys: Vec<Key>,
    addresses: &[SocketAddr],
    name: String,
    tuned_depth: Option<usize>,
) -> ServerOptions {
    ServerOptions {
        guard: Guard {
            keys,
            allow_hosts: args.allow_host.clone(),
            allow_origins: args.allow_origin.clone(),
            exposed: addresses.iter().any(|address| !address.ip().is_loopback()),
        },
        max_body: usize::from(args.max_body) << 20,
        aliases: args.served_name.clone(),
        defaults: Defaults {
            overrides: Overrides {
                depth: if args.drafting.no_mtp {
                    Some(Depth::Fixed(0))
                } else {
                    args.drafting.mtp_depth.map(Depth::from)
                },
                acceptance: args.drafting.acceptance.map(Rule::from),
                draft_vocab: args.drafting.vocab.draft_vocab,
                ..Overrides::default()
            },
            think_budget: args.think_budget,
            tuned_depth,
        },
        idle_unload: args.idle_unload.map(|minutes| Duration::from_secs_f64(60.0 * minutes)),
        ..ServerOptions::new(name, env!("CARGO_PKG_VERSION"))
    }
}

/// How one server ended.
enum Ending {
    /// It was told to.
    Stopped(Exit),
    /// Its engine ended first.
    Dead,
}

/// Serves, and starts engine and server again where the engine ended, as often as `serving` says.
async fn keep_serving(
    args: &ServeArgs,
    addresses: Vec<SocketAddr>,
    options: &ServerOptions,
    host: impl Fn() -> Arc<Host>,
    serving: &Serving<'_>,
) -> anyhow::Result<Exit> {
    let mut port = args.port;
    let mut ends: Vec<Instant> = Vec::new();
    loop {
        // Another port after a restart would be one that nobody knows.
        let next_port = serving.next_port && ends.is_empty();
        let (listeners, bound) = bind(&addresses, port, next_port).await?;
        port = bound;
        let shown = if args.host == "localhost" { "localhost".to_owned() } else { bracketed(&args.host) };
        let url = format!("http://{shown}:{port}");
        let again = !ends.is_empty();
        match once(args.log_format, listeners, options, host(), &url, serving.ready, again).await? {
            Ending::Stopped(exit) => return Ok(exit),
            Ending::Dead => {
                ends.retain(|end| end.elapsed() < RESTART_PERIOD);
                if ends.len() >= serving.restarts {
                    return Ok(Exit::Failed);
                }
                ends.push(Instant::now());
                warn("starting the engine again");
            }
        }
    }
}

/// One server, until it is stopped or its engine ends.
async fn once(
    format: LogFormat,
    listeners: Vec<TcpListener>,
    options: &ServerOptions,
    host: Arc<Host>,
    url: &str,
    ready: &dyn Fn(&Ready<'_>),
    again: bool,
) -> anyhow::Result<Ending> {
    let (stop, stopped) = watch::channel(false);
    let log = Arc::new(move |event: &LogEvent| log::write(format, event));
    let serving = tokio::spawn(mtplx_server::serve(listeners, options.clone(), Arc::clone(&host), log, stopped));
    writeln!(stderr(), "loading {}; {url} answers once it is loaded", options.name)?;
    let loaded = tokio::select! {
        loaded = host.load() => loaded,
        () = signal() => {
            let _ = stop.send(true);
            serving.await?;
            return Ok(Ending::Stopped(Exit::Interrupted));
        }
    };
    if let Err(error) = loaded {
        let _ = stop.send(true);
        serving.await?;
        return Err(error.into());
    }
    writeln!(stderr(), "serving {} on {url}", options.name)?;
    if let Some(model) = host.model().filter(|_| !again) {
        let settings = model_settings(&model, &options.defaults);
        let chats = settings.is_ok_and(|settings| settings.prompt_mode.value == PromptMode::Chat);
        let context = model.info.model.context;
        ready(&Ready { url, name: &options.name, chats, context, has_key: !options.guard.keys.is_empty() });
    }
    let told = tokio::select! {
        () = signal() => true,
        () = ended(&host) => false,
    };
    if told {
        // The second one does not wait.
        tokio::spawn(async {
            signal().await;
            mlx::exit(Exit::Interrupted as u8);
        });
    } else {
        warn("the engine has ended; the server stops");
    }
    let _ = stop.send(true);
    let dead = serving.await?;
    Ok(if dead { Ending::Dead } else { Ending::Stopped(Exit::Done) })
}

/// Ends once the engine has.
async fn ended(host: &Host) {
    while host.status() != Status::Dead {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Ends with the next signal to stop.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// The model, opened and admitted. `aloud`: warnings are shown.
fn load_spec(args: &ServeArgs, aloud: bool) -> anyhow::Result<LoadSpec> {
    let opened = model::open(&args.model.model)?;
    let trunk_only = args.drafting.no_mtp;
    opened.admit(trunk_only, args.model.evidence.into())?;
    let mut warnings = model::warnings(&opened, trunk_only);
    let text = opened.text(true)?;
    let tuned_depth = tuned::depth_for(&opened.checkpoint, &mut warnings);
    let draft_vocab = model::draft_vocab(&args.drafting.vocab, &text.tokenizer)?;
    if aloud {
        warnings.iter().for_each(|warning| warn(warning));
        let tokens = opened.context().map_or(CONTEXT, |most| most.min(CONTEXT));
        if let Some(says) = model::fit(&opened, tokens, trunk_only) {
            writeln!(stderr(), "memory at {tokens} tokens of context: {says}")?;
        }
    }
    let limits = Limits {
        running: usize::from(args.max_running),
        waiting: usize::from(args.max_queue),
        kept: args.cache_memory.map(|megabytes| (megabytes as usize) << 20),
        ..Limits::default()
    };
    Ok(LoadSpec { trunk_only, draft_vocab, tuned_depth, limits, ..LoadSpec::new(opened, text) })
}

/// Keys, of the flag and of the file.
fn keys(args: &ServeArgs) -> Result<Vec<Key>, Failure> {
    let mut keys: Vec<Key> = args.api_key.iter().map(|key| Key::new(key.trim())).collect();
    if let Some(path) = &args.api_key_file {
        let text = input::from_file(path)?;
        let before = keys.len();
        keys.extend(
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(Key::new),
        );
        if keys.len() == before {
            return Err(Failure::new(Exit::File, format!("{}: no keys", path.display())).hint(KEY_FILE));
        }
    }
    Ok(keys)
}

/// The name that a model is listed by: the repository, or the folder's own name.
fn name_of(model: &Model) -> String {
    match model {
        Model::Builtin => builtin::LABEL.to_owned(),
        Model::Dir(typed) => {
            let is_folder = typed.is_dir();
            let last = typed.file_name().map(|name| name.to_string_lossy().into_owned());
            let resolved = || typed.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
            match (is_folder, last) {
                (true, Some(name)) => name,
                (true, None) => resolved().unwrap_or_else(|| "model".to_owned()),
                (false, _) => typed.to_string_lossy().into_owned(),
            }
        }
    }
}
