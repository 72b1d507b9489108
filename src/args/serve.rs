//! Arguments of `serve`, each of which is a setting: a key of the configuration file and a variable of the environment as well.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Command, ValueEnum};

use super::common::{DraftingArgs, Model, ModelArgs};

/// Flags that are no settings.
const NO_SETTINGS: [&str; 4] = ["help", "config", "print-config", "no-open"];

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Every setting is a flag, a variable (MTPLX_ and the flag's name in capitals: MTPLX_MAX_QUEUE) and a key of a TOML file \
(max-queue = 8). The file is --config, or config.toml in mtplx's configuration folder. A flag wins over a variable, a variable over the \
file. --print-config shows each value and its source.\n\nExit status: 0 stopped, 1 failed while running, 2 wrong usage or settings, 3 model \
incomplete or unverified, 4 model not supported, 5 file missing or damaged."
)]
pub struct ServeArgs {
    #[command(flatten)]
    pub model: ModelArgs,

    #[command(flatten)]
    pub drafting: DraftingArgs,

    /// Address to listen on; other than this machine's own only with a key.
    #[arg(long, value_name = "ADDRESS", default_value = "localhost", help_heading = "Network")]
    pub host: String,

    /// Port to listen on; 0 takes any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 8000, help_heading = "Network")]
    pub port: u16,

    /// Key that requests bring, as `Authorization: Bearer KEY` or `x-api-key: KEY`.
    #[arg(long, value_name = "KEY", hide_env_values = true, value_parser = super::common::not_empty, help_heading = "Network")]
    pub api_key: Option<String>,

    /// File with keys, one a line.
    #[arg(long, value_name = "PATH", help_heading = "Network")]
    pub api_key_file: Option<PathBuf>,

    /// Host name by which clients may reach the server, beside this machine's own; may be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Network")]
    pub allow_host: Vec<String>,

    /// Origin whose pages may ask the server (https://ui.example), beside those of this machine; may be repeated.
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', value_parser = origin, help_heading = "Network")]
    pub allow_origin: Vec<String>,

    /// Further name for the model; may be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Requests")]
    pub served_name: Vec<String>,

    /// Requests that take turns; more wait.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Requests")]
    pub max_running: u16,

    /// Requests that wait at most; more are answered with 429.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(0..=10_000), help_heading = "Requests")]
    pub max_queue: u16,

    /// Megabytes (2^20 bytes) of a request's body at most.
    #[arg(long, value_name = "MB", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Requests")]
    pub max_body: u16,

    /// Megabytes (2^20 bytes) of prompts that are kept for those that begin alike, 0 for none [default: a quarter of the device's memory
    /// beside the weights; 256 on a processor].
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(0..=4_000_000), help_heading = "Requests")]
    pub cache_memory: Option<u32>,

    /// Tokens of reasoning at most, where a request states none; then the engine ends it and the answer begins.
    #[arg(long, value_name = "N", help_heading = "Requests")]
    pub think_budget: Option<usize>,

    /// Drop the weights after so many minutes without a request; the next one loads them again.
    #[arg(long, value_name = "MIN", value_parser = minutes, help_heading = "Requests")]
    pub idle_unload: Option<f64>,

    /// Form of the log on standard error: a line for each request.
    #[arg(long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    pub log_format: LogFormat,

    /// TOML file with settings [default: config.toml in mtplx's configuration folder].
    #[arg(long, value_name = "PATH", help_heading = "Settings")]
    pub config: Option<PathBuf>,

    /// Print each setting, its value and its source, and stop.
    #[arg(long, help_heading = "Settings")]
    pub print_config: bool,
}

#[derive(Debug, Args)]
#[command(mut_arg("model", |model| model.hide(true)))]
pub struct StartArgs {
    /// A model's folder, a repository in the Hugging Face cache (OWNER/NAME[@REVISION]), or `builtin` [default: the largest model in
    /// the cache that runs and fits; else one of `mtplx models --known`, if you agree to its download; else `builtin`].
    #[arg(id = "chosen", value_name = "MODEL", conflicts_with = "model")]
    pub chosen: Option<Model>,

    /// Leave the browser alone.
    #[arg(long, help_heading = "Output")]
    pub no_open: bool,

    #[command(flatten)]
    pub serve: ServeArgs,
}

/// `command` with the variables of the commands that serve.
pub fn with_variables(command: Command) -> Command {
    ["serve", "start"].into_iter().fold(command, with_variables_of)
}

fn with_variables_of(command: Command, name: &str) -> Command {
    command.mut_subcommand(name, |serve| {
        serve.mut_args(|argument| match argument.get_long() {
            Some(long) if is_setting(long) => {
                let name = format!("MTPLX_{}", long.replace('-', "_").to_ascii_uppercase());
                argument.env(OsString::from(name)).hide_env(true)
            }
            _ => argument,
        })
    })
}

/// True for a flag that is a setting.
pub fn is_setting(long: &str) -> bool {
    !NO_SETTINGS.contains(&long)
}

fn origin(typed: &str) -> Result<String, String> {
    let (scheme, rest) = typed.split_once("://").ok_or("expected an origin, as https://ui.example")?;
    if !["http", "https"].contains(&scheme) || rest.is_empty() || rest.contains(['/', '@', '?', '#', ' ']) {
        return Err("expected an origin, as https://ui.example: no path, no user".to_owned());
    }
    Ok(typed.to_ascii_lowercase())
}

fn minutes(typed: &str) -> Result<f64, String> {
    match typed.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes <= 525_600.0 => Ok(minutes),
        _ => Err("expected minutes, more than 0".to_owned()),
    }
}
