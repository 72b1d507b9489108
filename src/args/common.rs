//! Arguments that several commands take, and the values that they parse.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
pub use mtplx_engine::settings::MAX_DEPTH;
use mtplx_runtime::sampling::{REPETITION_PENALTIES, TEMPERATURES};

#[derive(Debug, Args)]
#[command(
    after_help = "Settings come from these flags, then (the depth) from what `mtplx tune` found here, then from the model's \
contract (mtplx_runtime.json), then from its generation_config.json, then from built-in defaults (temperature 0.6, top-p 0.95, top-k 20). --json names the source \
of each.\n\nExit status: 0 done, 1 failed while running, 2 wrong usage, 3 model incomplete or unverified, 4 model not \
supported, 5 file missing or damaged, 130 interrupted."
)]
pub struct RunArgs {
    /// What to continue or answer; `-` reads standard input.
    #[arg(value_name = "PROMPT", group = "input")]
    pub prompt: Option<String>,

    /// Read the prompt from a file.
    #[arg(long, value_name = "PATH", group = "input", help_heading = "Prompt")]
    pub file: Option<PathBuf>,

    /// Give the prompt as token ids, separated by commas.
    #[arg(long, value_name = "ID,...", group = "input", value_delimiter = ',', num_args = 1)]
    #[arg(conflicts_with_all = ["raw", "chat", "system", "think", "no_think"], help_heading = "Prompt")]
    pub prompt_ids: Option<Vec<u32>>,

    #[command(flatten)]
    pub template: TemplateArgs,

    #[command(flatten)]
    pub model: ModelArgs,

    #[command(flatten)]
    pub drafting: DraftingArgs,

    #[command(flatten)]
    pub sampling: SamplingArgs,

    #[command(flatten)]
    pub length: LengthArgs,

    /// Print one JSON document with text, tokens, settings and figures instead of streaming text.
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// Run the prompt once more without drafting, and report the speedup.
    #[arg(long, help_heading = "Output")]
    pub stats: bool,
}

/// The way from a prompt to tokens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Prompt")]
pub struct TemplateArgs {
    /// Continue the prompt as it is, without the model's chat template.
    #[arg(long, conflicts_with_all = ["system", "think", "no_think"])]
    pub raw: bool,

    /// Answer the prompt as a message, through the model's chat template. The default where there is one, unless the
    /// model's contract asks for raw text.
    #[arg(long, conflicts_with = "raw")]
    pub chat: bool,

    /// A system message to begin the chat with.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,

    /// Ask the chat template for an answer with thinking.
    #[arg(long, conflicts_with = "no_think")]
    pub think: bool,

    /// Ask the chat template for an answer without thinking.
    #[arg(long)]
    pub no_think: bool,
}

/// The end of a text.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Length")]
pub struct LengthArgs {
    /// Generate at most so many tokens [default: 512, or what the context still holds].
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    pub max_tokens: Option<usize>,

    /// End the text where this string would appear; may be repeated.
    #[arg(long, value_name = "TEXT", value_parser = not_empty)]
    pub stop: Vec<String>,

    /// Go on when the model ends its text.
    #[arg(long)]
    pub ignore_eos: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A model's folder, a repository in the Hugging Face cache (OWNER/NAME[@REVISION]), or `builtin`.
    #[arg(short, long, value_name = "MODEL", default_value = "builtin")]
    pub model: Model,

    #[command(flatten)]
    pub evidence: EvidenceArgs,

    #[command(flatten)]
    pub device: DeviceArgs,
}

/// The evidence that drafting takes. Without either flag that depends on the architecture: `mtplx archs`.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Model")]
pub struct EvidenceArgs {
    /// Draft without evidence that covers these very files, whatever the architecture, or against evidence.
    #[arg(long)]
    pub allow_unverified: bool,

    /// Run nothing without evidence that covers these very files, whatever the architecture.
    #[arg(long, conflicts_with = "allow_unverified")]
    pub require_verified: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct DeviceArgs {
    /// What to compute on [default: the GPU where there is one].
    #[arg(long, value_name = "DEVICE", env = "MTPLX_DEVICE")]
    pub device: Option<Device>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Drafting")]
pub struct DraftingArgs {
    /// Draft so many tokens a round (0 to 8), or `auto`: whatever depth pays, by measured cost and acceptance, beginning with
    /// the contract's [default: what `mtplx tune` found, or auto; with `--seed` the contract's, or 3, instead of auto].
    #[arg(long, value_name = "N|auto", allow_negative_numbers = true, conflicts_with = "no_mtp")]
    pub mtp_depth: Option<Depth>,

    /// Leave the MTP head out: plain decoding, which needs no evidence.
    #[arg(long, conflicts_with_all = ["draft_vocab"])]
    pub no_mtp: bool,

    #[command(flatten)]
    pub vocab: DraftVocabArgs,

    /// How drafts are judged. Both are exact: `rejection` accepts most, `coupled` writes the same text for a seed at
    /// every depth [default: rejection].
    #[arg(long, value_name = "RULE")]
    pub acceptance: Option<Acceptance>,
}

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Drafting")]
pub struct DraftVocabArgs {
    /// Compute draft logits for N frequent tokens only (faster drafts, same output distribution): added tokens and those with
    /// the lowest ids.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub draft_vocab: Option<usize>,

    /// Text whose most frequent tokens come first among the N.
    #[arg(long, value_name = "PATH", requires = "draft_vocab", alias = "draft-vocab-text")]
    pub draft_corpus: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Flatten (above 1) or sharpen (below 1) the distribution; 0 always takes the most probable token.
    #[arg(short, long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    pub temperature: Option<f32>,

    /// Keep the most probable tokens until their mass reaches P.
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = |s: &str| number_above(s, 0.0, 1.0))]
    pub top_p: Option<f32>,

    /// Keep the K most probable tokens; 0 keeps all.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub top_k: Option<u32>,

    /// Keep tokens at least P times as probable as the most probable one.
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = |s: &str| number(s, 0.0, 1.0))]
    pub min_p: Option<f32>,

    /// Make tokens of prompt and output less likely (above 1) or likelier (below 1).
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = repetition_penalty)]
    pub repetition_penalty: Option<f32>,

    /// Take X off the logit of every token that the output has.
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = |s: &str| number(s, -2.0, 2.0))]
    pub presence_penalty: Option<f32>,

    /// Take X off a token's logit for every time that the output has it.
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = |s: &str| number(s, -2.0, 2.0))]
    pub frequency_penalty: Option<f32>,

    /// Add to a token's logit (-100 to 100); may be repeated.
    #[arg(long, value_name = "ID=BIAS")]
    pub logit_bias: Vec<LogitBias>,

    /// Draw the same text again: at the same depth and `-n`, or with `--acceptance coupled` at any [default: another one each time].
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
}

/// A model: the one that is compiled in, or one on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    Builtin,
    /// A folder, or a repository in the Hugging Face cache: [`crate::hub::folder_of`] tells.
    Dir(PathBuf),
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("a folder or OWNER/NAME was expected".to_owned()),
            "builtin" => Ok(Self::Builtin),
            dir => Ok(Self::Dir(dir.into())),
        }
    }
}

/// A depth: a number of drafts a round, or whatever pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    Auto,
    Fixed(usize),
}

impl FromStr for Depth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(depth)) if depth <= MAX_DEPTH => Ok(Self::Fixed(depth)),
            _ => Err(format!("0 to {MAX_DEPTH}, or `auto`, was expected")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Acceptance {
    /// Accept a draft with probability min(1, p/q).
    Rejection,
    /// Draw draft and target with the same noise.
    Coupled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A Metal or CUDA device.
    Gpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// Everything in f32.
    F32,
    /// In the checkpoint's own type.
    Native,
}

/// `ID=BIAS`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitBias {
    pub id: u32,
    pub bias: f32,
}

impl FromStr for LogitBias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, bias) = text.split_once('=').ok_or("ID=BIAS was expected, such as 42=-1.5")?;
        let id = id.trim().parse().map_err(|_| format!("`{id}` is no token id"))?;
        Ok(Self { id, bias: number(bias.trim(), -100.0, 100.0)? })
    }
}

pub(super) fn positive(text: &str) -> Result<usize, String> {
    let value = text.parse().ok().filter(|value| *value > 0);
    value.ok_or_else(|| "a whole number, at least 1, was expected".to_owned())
}

pub(super) fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("some text was expected".to_owned()) } else { Ok(text.to_owned()) }
}

pub(super) fn tolerance(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
    value.ok_or_else(|| "a number, at least 0, was expected".to_owned())
}

pub(super) fn temperature(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|value| *value == 0.0 || TEMPERATURES.contains(value));
    let (low, high) = TEMPERATURES.into_inner();
    value.ok_or_else(|| format!("0, or a number from {low} to {high}, was expected"))
}

pub(super) fn repetition_penalty(text: &str) -> Result<f32, String> {
    number(text, *REPETITION_PENALTIES.start(), *REPETITION_PENALTIES.end())
}

/// A number in a closed range; a NaN is in none.
pub(super) fn number(text: &str, low: f32, high: f32) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value >= low && value <= high => Ok(value),
        _ => Err(format!("a number from {low} to {high} was expected")),
    }
}

/// A number above `low`.
pub(super) fn number_above(text: &str, low: f32, high: f32) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > low && value <= high => Ok(value),
        _ => Err(format!("a number above {low}, at most {high}, was expected")),
    }
}
