//! Arguments of `chat`, and the values of its `/set`.

use clap::{Args, Parser};

use super::common::{Acceptance, DraftingArgs, LengthArgs, Model, ModelArgs, RunArgs, SamplingArgs, TemplateArgs};

#[derive(Debug, Args)]
#[command(
    mut_arg("model", |model| model.hide(true)),
    mut_arg("max_tokens", |tokens| tokens.help("Generate at most so many tokens an answer [default: what the context still holds; 512 \
where text is continued]")),
    after_help = "Settings have the sources that `mtplx run --help` names; `/set` shows and changes them. Lines are kept in chat_history in \
mtplx's state folder, but for those that begin with a space.\n\nExit status: 0 left, 1 failed while running, 2 wrong usage or no terminal, 3 \
model incomplete or unverified, 4 model not supported, 5 file missing or damaged."
)]
pub struct ChatArgs {
    /// A model's folder, a repository in the Hugging Face cache (OWNER/NAME[@REVISION]), or `builtin` [default: `builtin`].
    #[arg(id = "chosen", value_name = "MODEL", conflicts_with = "model")]
    pub chosen: Option<Model>,

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

    /// Print the figures of each answer.
    #[arg(long, help_heading = "Output")]
    pub stats: bool,
}

impl ChatArgs {
    /// The model that was asked for.
    pub fn model(&self) -> &Model {
        self.chosen.as_ref().unwrap_or(&self.model.model)
    }
}

/// A run without a prompt.
impl From<&RunArgs> for ChatArgs {
    fn from(run: &RunArgs) -> Self {
        Self {
            chosen: None,
            template: run.template.clone(),
            model: run.model.clone(),
            drafting: run.drafting.clone(),
            sampling: run.sampling.clone(),
            length: run.length.clone(),
            stats: run.stats,
        }
    }
}

/// Settings that a chat changes between answers, with the ranges that the flags have.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
pub struct SetArgs {
    #[command(flatten)]
    pub sampling: SamplingArgs,

    #[command(flatten)]
    pub length: LengthArgs,

    /// How drafts are judged.
    #[arg(long, value_name = "RULE")]
    pub acceptance: Option<Acceptance>,
}
