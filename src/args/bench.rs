//! What `mtplx bench` and `mtplx tune` are given.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::bench_serve::ServeBenchArgs;
use super::common::{Acceptance, DeviceArgs, DraftVocabArgs, EvidenceArgs, MAX_DEPTH, Model, SamplingArgs, positive};

/// More than this of anything is a slip of the hand.
const MAX_LIST_ITEMS: usize = 64;

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Tokens a second: plain decoding and drafting at each depth, interleaved.
    Decode(MeasureArgs),
    /// The cost of verifying several rows over that of one.
    VerifyCost(MeasureArgs),
    /// Prompt tokens a second, and the time to the first token.
    Prefill(MeasureArgs),
    /// How many drafts are accepted, by depth, on texts.
    Acceptance(MeasureArgs),
    /// All of these, over several lengths of context.
    Sweep(MeasureArgs),
    /// Requests of many clients at once to a running server: rates, times to the first token and between tokens.
    Serve(Box<ServeBenchArgs>),
    /// Compare two results, B over A.
    Compare(CompareArgs),
}

#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// The model's folder, a repository in the Hugging Face cache (OWNER/NAME[@REVISION]), or `builtin`.
    pub model: Model,

    #[command(flatten)]
    pub method: MethodArgs,

    /// Accept drafts by these figures, the share of rounds that accept at least 1, 2, ... of them, whatever the drafts are:
    /// shows what a round costs where weights are random. Nothing else of the round changes, and every output says so.
    #[arg(long, value_name = "P,...", value_delimiter = ',', num_args = 1, value_parser = share)]
    #[arg(allow_negative_numbers = true, help_heading = "What to measure")]
    pub simulate_acceptance: Option<Vec<f64>>,

    #[command(flatten)]
    pub vocab: DraftVocabArgs,

    /// Print one JSON document.
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// Draw the result as an SVG picture as well.
    #[arg(long, value_name = "OUT.svg", help_heading = "Output")]
    pub plot: Option<PathBuf>,
}

/// How to measure, for benchmarks and for tuning.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("seed", |seed| seed.help("Draw other texts and numbers [default: 0]")))]
pub struct MethodArgs {
    #[command(flatten)]
    pub evidence: EvidenceArgs,

    #[command(flatten)]
    pub device: DeviceArgs,

    /// Draft so many tokens a round: numbers and ranges such as `0..3,5`. Plain decoding is always measured
    /// [default: 0 to 3; 0 to 8 for verify-cost, acceptance, sweep and tune].
    #[arg(long, value_name = "LIST", help_heading = "What to measure")]
    pub depths: Option<Depths>,

    /// Tokens of context, a number or several [default: 512; 512,4096 for prefill and sweep, as far as the model's context
    /// reaches].
    #[arg(long, value_name = "N,...", value_delimiter = ',', num_args = 1, value_parser = positive)]
    #[arg(help_heading = "What to measure")]
    pub contexts: Option<Vec<usize>>,

    /// Tokens to generate in each run, at least.
    #[arg(short = 'n', long, value_name = "N", default_value = "128", value_parser = positive)]
    #[arg(help_heading = "What to measure")]
    pub tokens: usize,

    /// Measure so often; medians are reported.
    #[arg(long, value_name = "N", default_value = "5", value_parser = positive, help_heading = "What to measure")]
    pub repeats: usize,

    /// Measure so often before that, and forget it.
    #[arg(long, value_name = "N", default_value = "1", help_heading = "What to measure")]
    pub warmup: usize,

    /// How drafts are judged [default: rejection].
    #[arg(long, value_name = "RULE", help_heading = "What to measure")]
    pub acceptance: Option<Acceptance>,

    /// The text to read instead of the built-in ones.
    #[arg(long, value_name = "TEXT", conflicts_with = "file", help_heading = "What to measure")]
    pub prompt: Option<String>,

    /// Read that text from a file.
    #[arg(long, value_name = "PATH", help_heading = "What to measure")]
    pub file: Option<PathBuf>,

    #[command(flatten)]
    pub sampling: SamplingArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "`mtplx run` drafts at the depth that was found for a model, unless --mtp-depth says otherwise. Depths are \
kept with the program's other files of this user (MTPLX_HOME names another folder), one for each model, device and machine."
)]
pub struct TuneArgs {
    /// The model's folder, a repository in the Hugging Face cache (OWNER/NAME[@REVISION]), or `builtin`.
    #[arg(required_unless_present_any = ["show", "clear"])]
    pub model: Option<Model>,

    #[command(flatten)]
    pub method: MethodArgs,

    /// List the depths that were found, of this model or of all; measure nothing.
    #[arg(long, conflicts_with = "clear")]
    pub show: bool,

    /// Forget the depth that was found for this model here, or for all models; measure nothing.
    #[arg(long)]
    pub clear: bool,

    /// Print one JSON document.
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The result to compare with: what `mtplx bench … --json` printed.
    pub a: PathBuf,

    /// The other result.
    pub b: PathBuf,

    /// Compare results of different devices or models.
    #[arg(long)]
    pub anyway: bool,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Depths as typed: `0..3,5`. Ranges include both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depths(pub Vec<usize>);

impl FromStr for Depths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = |text: &str| text.trim().parse().ok().filter(|&depth: &usize| depth <= MAX_DEPTH);
        let mut depths = Vec::new();
        for part in text.split(',') {
            let range = match part.split_once("..") {
                Some((low, high)) => one(low).zip(one(high)),
                None => one(part).map(|depth| (depth, depth)),
            };
            match range {
                Some((low, high)) if low <= high => depths.extend(low..=high),
                _ => return Err(format!("numbers and ranges from 0 to {MAX_DEPTH} were expected, such as 0..3,5")),
            }
        }
        depths.sort_unstable();
        depths.dedup();
        Ok(Self(depths))
    }
}

impl MethodArgs {
    /// What a list is too long for.
    pub fn too_many(&self) -> Option<&'static str> {
        let contexts = self.contexts.as_ref().is_some_and(|contexts| contexts.len() > MAX_LIST_ITEMS);
        contexts.then_some("--contexts")
    }
}

/// A share of something.
fn share(text: &str) -> Result<f64, String> {
    let share = text.trim().parse().ok().filter(|share: &f64| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a number from 0 to 1 was expected".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_depths() {
        let parsed = |text: &str| text.parse().map(|Depths(depths)| depths);
        assert_eq!(parsed("0..8"), Ok((0..=8).collect()));
        assert_eq!(parsed("3, 0..1,1"), Ok(vec![0, 1, 3]));
        for text in ["", "9", "3..1", "0..9", "-1", "a", "1,", ".."] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
