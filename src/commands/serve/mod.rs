//! `mtplx serve`: settings, then the model, then the server until it is stopped.

mod config;
mod log;

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Command, FromArgMatches as _};
use mtplx_engine::settings::{Depth, Overrides};
use mtplx_engine::{Engine, EngineError, Limits, LoadSpec};
use mtplx_runtime::mlx;
use mtplx_runtime::speculative::Rule;
use mtplx_server::{Defaults, Guard, Host, Key, LogEvent, ServerOptions, Status, is_loopback};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::config::ConfigFile;
use crate::args::{self, Cli, Model, ServeArgs};
use crate::error::{Exit, Failure, stderr, warn};
use crate::{builtin, input, model, tuned};

const KEY_FILE: &str = "a file with keys has one a line";

/// Serves. `typed` is only asked where its settings are: they are parsed again with the file's underneath.
pub fn serve(typed: &ServeArgs) -> anyhow::Result<Exit> {
    let command = args::command();
    let serve = command.find_subcommand("serve").cloned().unwrap_or_else(|| Command::new("serve"));
    let file = ConfigFile::find(typed.config.as_deref(), &serve)?;
    let command = command.mut_subcommand("serve", |serve| file.under(serve));
    let matches = match command.clone().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return Ok(Exit::Usage);
        }
    };
    let parsed = Cli::from_arg_matches(&matches)?;
    let Some(args::Command::Serve(args)) = parsed.command else {
        return Err(Failure::usage("`serve` was expected", "`mtplx serve --help`").into());
    };
    if args.print_config {
        let (Some(serve), Some(matches)) = (command.find_subcommand("serve"), matches.subcommand_matches("serve"))
        else {
            return Ok(Exit::Usage);
        };
        let mut out = io::stdout().lock();
        log::print(&mut out, &file.shown(serve, matches))?;
        out.flush()?;
        return Ok(Exit::Done);
    }
    run(*args)
}

fn run(args: ServeArgs) -> anyhow::Result<Exit> {
    let keys = keys(&args)?;
    let addresses = addresses(&args, !keys.is_empty())?;
    model::choose_device(args.model.device.device)?;
    let args = Arc::new(args);
    let first = load_spec(&args, true)?;
    let name = name_of(&args.model.model);
    let tuned_depth = first.tuned_depth;
    let prepared = Mutex::new(Some(first));
    let of_loader = Arc::clone(&args);
    let host = Host::new(Box::new(move || {
        let prepared = prepared.lock().map_or(None, |mut prepared| prepared.take());
        let spec = match prepared {
            Some(spec) => spec,
            // Loaded again: the files may have changed meanwhile, and so may what was found of them.
            None => load_spec(&of_loader, false).map_err(|error| EngineError::Reopen(error.to_string()))?,
        };
        Engine::load(spec, &mut |_| {})
    }));
    let options = ServerOptions {
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
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(listen(&args, addresses, options, host))
}

async fn listen(
    args: &ServeArgs,
    addresses: Vec<SocketAddr>,
    options: ServerOptions,
    host: Arc<Host>,
) -> anyhow::Result<Exit> {
    let mut listeners = Vec::new();
    let mut port = args.port;
    for (place, mut address) in addresses.into_iter().enumerate() {
        address.set_port(port);
        match TcpListener::bind(address).await {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            // A machine may have no IPv6.
            Err(_) if place > 0 && address.is_ipv6() => {}
            Err(error) => {
                let what = format!("{address}: {error}");
                let hint = "--port PORT takes another port, 0 any that is free";
                return Err(Failure::new(Exit::Failed, what).hint(hint).into());
            }
        }
    }
    let (stop, stopped) = watch::channel(false);
    let format = args.log_format;
    let log = Arc::new(move |event: &LogEvent| log::write(format, event));
    let serving = tokio::spawn(mtplx_server::serve(listeners, options.clone(), Arc::clone(&host), log, stopped));
    let shown = if args.host == "localhost" { "localhost".to_owned() } else { bracketed(&args.host) };
    writeln!(stderr(), "loading {}; http://{shown}:{port} answers once it is loaded", options.name)?;
    let loaded = tokio::select! {
        loaded = host.load() => loaded,
        () = signal() => {
            let _ = stop.send(true);
            serving.await?;
            return Ok(Exit::Interrupted);
        }
    };
    if let Err(error) = loaded {
        let _ = stop.send(true);
        serving.await?;
        return Err(error.into());
    }
    writeln!(stderr(), "serving {} on http://{shown}:{port}", options.name)?;
    tokio::select! {
        () = signal() => {}
        () = ended(&host) => warn("the engine has ended; the server stops"),
    }
    // The second one does not wait.
    tokio::spawn(async {
        signal().await;
        mlx::exit(Exit::Interrupted as u8);
    });
    let _ = stop.send(true);
    let dead = serving.await?;
    Ok(if dead { Exit::Failed } else { Exit::Done })
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

/// Addresses to listen on, without their port.
fn addresses(args: &ServeArgs, has_key: bool) -> Result<Vec<SocketAddr>, Failure> {
    let at = |address: IpAddr| SocketAddr::new(address, 0);
    if args.host == "localhost" {
        return Ok(vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())]);
    }
    let typed = args.host.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = typed.parse().map_err(|_| {
        Failure::usage(
            format!("--host {}: expected an address or localhost", args.host),
            "0.0.0.0 is every address of this machine",
        )
    })?;
    if !is_loopback(typed) && !has_key {
        let what = format!("--host {}: other machines reach this address, and there is no key", args.host);
        return Err(Failure::usage(what, "--api-key or --api-key-file sets one"));
    }
    Ok(vec![at(address)])
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
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
