//! What was typed, and nothing done about it: what it means is decided in [`crate::settings`].

mod bench;
mod bench_serve;
mod chat;
mod common;
mod doctor;
mod forge;
mod hub;
mod inspect;
mod serve;
mod verify;

use std::path::PathBuf;

use clap::builder::{Styles, styling::AnsiColor};
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

pub use self::bench_serve::{Fields, Route, ServeBenchArgs};
pub use self::chat::{ChatArgs, SetArgs};
use self::common::tolerance;
pub use self::common::{
    Acceptance, Depth, Device, DeviceArgs, DraftVocabArgs, DraftingArgs, Dtype, EvidenceArgs, LengthArgs, MAX_DEPTH,
    Model, RunArgs, SamplingArgs, TemplateArgs,
};
pub use self::doctor::DoctorArgs;
pub use self::hub::{ModelsArgs, PullArgs, RemoveArgs};
pub use self::inspect::InspectArgs;
pub use self::serve::{LogFormat, ServeArgs, StartArgs, is_setting};
pub use self::verify::VerifyArgs;
pub use bench::{BenchArgs, BenchCommand, CompareArgs, Depths, MeasureArgs, MethodArgs, TuneArgs};
pub use forge::{ForgeArgs, ForgeCommand, Head, MakingArgs, SynthArgs};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Runs language models with their own multi-token-prediction heads, exactly.
///
/// A model that carries an MTP head drafts its own next tokens and verifies several of them in one pass: the same
/// text, or the same distribution of texts, in fewer passes.
#[derive(Debug, Parser)]
#[command(name = "mtplx", styles = STYLES, max_term_width = 100, arg_required_else_help = true)]
#[command(disable_version_flag = true, disable_help_subcommand = true)]
pub struct Cli {
    /// Print version, MLX version and device.
    #[arg(short = 'V', long, action = ArgAction::SetTrue, exclusive = true)]
    pub version: bool,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Generate text from a prompt.
    ///
    /// Text streams to standard output; figures go to standard error when it is done. Without --model the built-in
    /// model runs: a small one, trained on source code.
    Run(Box<RunArgs>),
    /// Chat with a model in the terminal.
    ///
    /// `/help` lists the commands of the chat, Ctrl-C stops an answer, Ctrl-D leaves. Without MODEL the built-in model continues what is
    /// typed. `mtplx run -m MODEL` without a prompt is the same.
    Chat(Box<ChatArgs>),
    /// Serve a model over HTTP: OpenAI's, Anthropic's and Ollama's APIs.
    ///
    /// Coding agents and chat programs take http://localhost:8000 as their server. Without --model the built-in model is served.
    Serve(Box<ServeArgs>),
    /// Serve a model and open its page: where to begin.
    ///
    /// Without MODEL the largest model of the Hugging Face cache that runs and fits here is served. The port is 8000 or the next that
    /// is free. Prints the address, a request to try, and what to set in coding agents; Ctrl-C ends it.
    Start(Box<StartArgs>),
    /// Turn a checkpoint into an artifact: MLX's layout, packed, the MTP head with it.
    Forge(Box<ForgeArgs>),
    /// Say what a model is, what it is worth, and what it takes to run it.
    Inspect(InspectArgs),
    /// Measure whether a model's drafting is exact on this machine, and write the evidence into its contract.
    ///
    /// Loads the model and puts its own loop to the test, through its own logits. What passes drafts without a warning, and
    /// without --allow-unverified.
    Verify(VerifyArgs),
    /// Check device, libraries, memory and folders, and say what to do.
    Doctor(DoctorArgs),
    /// List the architectures that this binary can run.
    Archs(ArchsArgs),
    /// Compare a model with expected tensors.
    ///
    /// Runs the reference's tokens through the model's trunk and MTP head and compares what comes out, tensor by tensor.
    Parity(ParityArgs),
    /// Download a model from the Hugging Face hub.
    Pull(PullArgs),
    /// List the models in the Hugging Face cache that this binary can run.
    Models(ModelsArgs),
    /// Remove a model, or one revision of it, from the Hugging Face cache.
    Remove(RemoveArgs),
    /// Measure speed, the cost of verification, and acceptance.
    Bench(Box<BenchArgs>),
    /// Find the depth that is fastest on this machine, plain decoding included, and keep it for `run`.
    Tune(Box<TuneArgs>),
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions(CompletionsArgs),
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

/// The whole command line.
pub fn command() -> clap::Command {
    serve::with_variables(Cli::command())
}

#[derive(Debug, Args)]
pub struct ArchsArgs {
    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "REFERENCE needs `input_ids` and any of `trunk.post_norm`, `trunk.logits`; `mtp.next_ids` with \
`mtp.post_norm`, `mtp.logits`; `mtp.chain_ids` with `mtp.chain_logits`; `mtp_multi.*` for heads of several layers.\n\n\
Exit status: 0 everything within the tolerance, 1 something beyond it or nothing to compare."
)]
pub struct ParityArgs {
    /// The model's folder, a repository in the Hugging Face cache (OWNER/NAME[@REVISION]), or `builtin`.
    pub model: Model,

    /// A safetensors file with tokens and expected tensors.
    pub reference: PathBuf,

    /// The largest absolute difference that passes [default: 2e-4 for f32; for native a mean difference of 0.05 and the
    /// same most probable token in 95 % of the rows, ties aside].
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub tolerance: Option<f64>,

    /// Compute in f32, or in the checkpoint's own type.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub dtype: Dtype,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn values_have_ranges() {
        let error = |args: &[&str]| {
            let args = ["mtplx", "run", "x"].iter().chain(args);
            Cli::try_parse_from(args).map(drop).map_err(|error| error.to_string().lines().next().unwrap().to_owned())
        };
        for args in [
            &["--temperature", "0"][..],
            &["--temperature", "0.000001"],
            &["--repetition-penalty", "0.01"],
            &["--top-p", "1"],
            &["--presence-penalty", "-2"],
            &["--mtp-depth", "8"],
            &["--mtp-depth", "auto"],
            &["--logit-bias", "3=-100", "--logit-bias", "4=1"],
            &["--stop", "a", "--stop", "\n"],
        ] {
            assert_eq!(error(args), Ok(()), "{args:?}");
        }
        for args in [
            &["--temperature", "-1"][..],
            &["--temperature", "NaN"],
            &["--temperature", "1e-40"],
            &["--repetition-penalty", "1e-40"],
            &["--repetition-penalty", "1e38"],
            &["--top-p", "0"],
            &["--top-p", "1.1"],
            &["--mtp-depth", "9"],
            &["--mtp-depth", "-1"],
            &["--logit-bias", "3"],
            &["--logit-bias", "x=1"],
            &["--logit-bias", "3=inf"],
            &["--stop", ""],
            &["--max-tokens", "0"],
            &["--mtp-depth", "2", "--no-mtp"],
            &["--raw", "--chat"],
            &["--raw", "--system", "x"],
            &["--prompt-ids", "1,2"],
        ] {
            assert!(error(args).is_err_and(|line| line.starts_with("error: ")), "{args:?}");
        }
        let cli = Cli::try_parse_from(["mtplx", "run", "--prompt-ids", "1,2,3"]).unwrap();
        let Some(Command::Run(run)) = cli.command else { panic!() };
        assert_eq!(run.prompt_ids, Some(vec![1, 2, 3]));
    }
}
