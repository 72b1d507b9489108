//! Arguments of `mtplx bench serve`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};

use super::common::{Acceptance, MAX_DEPTH, not_empty, number_above, positive, temperature};

/// More clients than a program with a thread a client should have.
const MAX_CLIENTS: usize = 1024;

/// The route that requests are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// /v1/chat/completions
    Chat,
    /// /v1/completions
    Completions,
}

impl Route {
    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }
}

#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Works against any server with OpenAI's streamed chat completions or completions. Each client sends its next \
request when its last one has ended. Fields that only some servers know (mtp, ignore_eos, those of --extra-body) are sent only \
where their flags are given. Tokens are those of the answers' `usage`; a server that sends none is counted by chunks, and \
marked so.\n\nExit status: 0 done, 1 nothing was measured or a check failed, 2 wrong usage, 130 interrupted (the figures so far are \
printed)."
)]
pub struct ServeBenchArgs {
    /// Address of the server, with or without /v1.
    #[arg(long, value_name = "URL", default_value = "http://localhost:8000", help_heading = "Server")]
    pub url: Address,

    /// Key, sent as `Authorization: Bearer KEY`.
    #[arg(long, value_name = "KEY", env = "MTPLX_API_KEY", hide_env_values = true, value_parser = not_empty)]
    #[arg(help_heading = "Server")]
    pub api_key: Option<String>,

    /// Name of the model to ask for [default: the first that the server lists].
    #[arg(short, long, value_name = "NAME", value_parser = not_empty, help_heading = "Server")]
    pub model: Option<String>,

    /// Route to send requests to.
    #[arg(long, value_name = "ROUTE", default_value = "chat", help_heading = "Server")]
    pub route: Route,

    /// Give a request up after so many seconds without a byte.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds, help_heading = "Server")]
    pub timeout: f64,

    /// Numbers of clients at once, each a row of the result.
    #[arg(long, value_name = "N,...", default_value = "1,2,4,8,16,32,64", value_delimiter = ',', num_args = 1)]
    #[arg(value_parser = clients, help_heading = "Load")]
    pub clients: Vec<usize>,

    /// Requests of each row [default: two a client, at least 8].
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "duration", help_heading = "Load")]
    pub requests: Option<usize>,

    /// Send requests for so many seconds in each row, instead of a number of them.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Load")]
    pub duration: Option<f64>,

    /// Measure all rows so often, in turns; medians are reported [default: 1; 5 conversations with --turns].
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Load")]
    pub repeats: Option<usize>,

    /// Send so many requests before, and forget them.
    #[arg(long, value_name = "N", default_value = "2", help_heading = "Load")]
    pub warmup: usize,

    /// Share of requests that hang up in the middle of their answer.
    #[arg(long, value_name = "P", default_value = "0", value_parser = share, help_heading = "Load")]
    pub hang_ups: f64,

    /// Share of requests that are malformed, oversized or slowly sent.
    #[arg(long, value_name = "P", default_value = "0", value_parser = share, help_heading = "Load")]
    pub bad_requests: f64,

    /// Tokens of a prompt, about: the built-in texts are cut by what the server counts.
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive, help_heading = "Requests")]
    pub prompt_tokens: usize,

    /// File of prompts to take instead, one a line: text, or JSON with `prompt` or `text`.
    #[arg(long, value_name = "PATH", conflicts_with = "prompt_tokens", help_heading = "Requests")]
    pub prompts: Option<PathBuf>,

    /// Different prompts, taken in turns [default: another one each time; 16 with --check].
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Requests")]
    pub distinct: Option<usize>,

    /// Tokens of an answer at most.
    #[arg(short = 'n', long, value_name = "N", default_value = "64", value_parser = positive, help_heading = "Requests")]
    pub max_tokens: usize,

    /// Draw the same prompts and answers again. Without it the texts are those of seed 0 behind another first word in each run, and
    /// requests carry no seed, unless --check needs one.
    #[arg(short, long, value_name = "N", help_heading = "Requests")]
    pub seed: Option<u64>,

    /// Temperature to ask for [default: the server's].
    #[arg(short, long, value_name = "T", value_parser = temperature, help_heading = "Requests")]
    pub temperature: Option<f32>,

    /// Top-p to ask for [default: the server's].
    #[arg(long, value_name = "P", value_parser = |text: &str| number_above(text, 0.0, 1.0), help_heading = "Requests")]
    pub top_p: Option<f32>,

    /// Ask for answers that go on to --max-tokens (field `ignore_eos`).
    #[arg(long, help_heading = "Requests")]
    pub ignore_eos: bool,

    /// Ask for plain decoding (field `mtp`).
    #[arg(long, help_heading = "Requests")]
    pub no_mtp: bool,

    /// Ask for so many drafts a round (field `mtp`).
    #[arg(long, value_name = "N", value_parser = depth, conflicts_with = "no_mtp", help_heading = "Requests")]
    pub mtp_depth: Option<usize>,

    /// Ask for a rule of acceptance (field `mtp`).
    #[arg(long, value_name = "RULE", conflicts_with = "no_mtp", help_heading = "Requests")]
    pub acceptance: Option<Acceptance>,

    /// Further fields of each request, as a JSON object.
    #[arg(long, value_name = "JSON", value_parser = object, help_heading = "Requests")]
    pub extra_body: Option<Fields>,

    /// Measure conversations of N turns instead: the first token of each further turn beside that of a cold prompt as long as
    /// what the turn had to read, and beside that of the whole conversation cold.
    #[arg(long, value_name = "N", value_parser = turns, conflicts_with_all = ["prompts", "duration", "clients", "hang_ups", "bad_requests", "check", "distinct", "prompt_tokens", "plot"])]
    #[arg(help_heading = "Conversations")]
    pub turns: Option<usize>,

    /// Tokens of a conversation's first prompt, about.
    #[arg(long, value_name = "N", default_value = "1500", value_parser = positive, requires = "turns", help_heading = "Conversations")]
    pub history_tokens: usize,

    /// Tokens of each further message, about.
    #[arg(long, value_name = "N", default_value = "20", value_parser = positive, requires = "turns", help_heading = "Conversations")]
    pub new_tokens: usize,

    /// Compare every answer with that of the same prompt and seed alone, and the server's counters with the sum of the answers.
    #[arg(long, help_heading = "Checks")]
    pub check: bool,

    /// Watch the resident memory of the server's process.
    #[arg(long, value_name = "PID", help_heading = "Checks")]
    pub pid: Option<u32>,

    /// Print one JSON document.
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// Draw the result as an SVG picture as well.
    #[arg(long, value_name = "OUT.svg", help_heading = "Output")]
    pub plot: Option<PathBuf>,
}

/// A server's address, without a path's end that every route has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(pub String);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "an address was expected, such as http://localhost:8000".to_owned();
        let text = text.trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let address = with_scheme.trim_end_matches('/');
        let address = address.strip_suffix("/v1").unwrap_or(address).trim_end_matches('/');
        let uri: ureq::http::Uri = address.parse().map_err(|_| expected())?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        if !known || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(expected());
        }
        Ok(Self(address.to_owned()))
    }
}

/// Fields of a JSON object.
pub type Fields = Map<String, Value>;

fn object(text: &str) -> Result<Fields, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("a JSON object was expected, such as {\"top_k\": 20}".to_owned()),
        Err(error) => Err(format!("a JSON object was expected: {error}")),
    }
}

fn clients(text: &str) -> Result<usize, String> {
    let clients = text.trim().parse().ok().filter(|clients| (1..=MAX_CLIENTS).contains(clients));
    clients.ok_or_else(|| format!("numbers from 1 to {MAX_CLIENTS} were expected, such as 1,8,64"))
}

fn turns(text: &str) -> Result<usize, String> {
    let turns = text.parse().ok().filter(|turns| (2..=64).contains(turns));
    turns.ok_or_else(|| "a number from 2 to 64 was expected".to_owned())
}

fn depth(text: &str) -> Result<usize, String> {
    let depth = text.parse().ok().filter(|depth| *depth <= MAX_DEPTH);
    depth.ok_or_else(|| format!("a number from 0 to {MAX_DEPTH} was expected"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0 && *seconds <= 604_800.0);
    seconds.ok_or_else(|| "seconds were expected, more than 0".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.trim().parse().ok().filter(|share: &f64| (0.0..=0.9).contains(share));
    share.ok_or_else(|| "a number from 0 to 0.9 was expected".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (typed, expected) in [
            ("http://localhost:8000", "http://localhost:8000"),
            ("localhost:8000/v1/", "http://localhost:8000"),
            ("https://host/openai/v1", "https://host/openai"),
            (" http://[::1]:1 ", "http://[::1]:1"),
        ] {
            assert_eq!(typed.parse(), Ok(Address(expected.to_owned())), "{typed}");
        }
        for typed in ["", "ftp://host", "http://", "http://host/?a=b", "a b"] {
            assert!(typed.parse::<Address>().is_err(), "{typed}");
        }
    }

    #[test]
    fn values_have_ranges() {
        assert!(clients("0").is_err() && clients("x").is_err() && clients("1025").is_err() && clients("64") == Ok(64));
        assert!(share("1").is_err() && share("-0.1").is_err() && share("NaN").is_err() && share("0.1") == Ok(0.1));
        assert!(seconds("0").is_err() && seconds("inf").is_err() && seconds("0.5") == Ok(0.5));
        assert!(turns("1").is_err() && turns("2") == Ok(2));
        assert!(object("[1]").is_err() && object("{").is_err() && object("{\"a\": 1}").is_ok());
    }
}
