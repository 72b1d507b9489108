//! `mtplx inspect`, as typed.

use clap::Args;

use super::common::{DeviceArgs, Model, positive};

#[derive(Debug, Args)]
#[command(
    after_help = "Reads configuration, headers and text files, and hashes the files where the contract states hashes; \
loads nothing. The verdict lists everything that `mtplx run` would stop at. Memory is an estimate.\n\nExit status: 0 \
whatever the verdict (its `exit_code` is what other commands would end with); 2 usage; 5 no such model, or a folder \
that cannot be read."
)]
pub struct InspectArgs {
    /// The model's folder, a repository in the Hugging Face cache (OWNER/NAME[@REVISION]), or `builtin`.
    pub model: Model,

    /// Tokens of context that memory is estimated for [default: 32768, or the model's context].
    #[arg(long, value_name = "N", value_parser = positive)]
    pub context: Option<usize>,

    #[command(flatten)]
    pub device: DeviceArgs,

    /// List every tensor.
    #[arg(long)]
    pub tensors: bool,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}
