//! `mtplx inspect`, as typed.

use clap::Args;

use super::Model;

#[derive(Debug, Args)]
#[command(
    after_help = "Reads configuration and headers, and hashes the files where the contract states hashes; loads \
nothing. Memory is an estimate.\n\nExit status: 0 whenever it can be said what the model is, whatever the verdict; 5 \
file missing or damaged."
)]
pub struct InspectArgs {
    /// The model's folder, a repository in the Hugging Face cache (OWNER/NAME[@REVISION]), or `builtin`.
    pub model: Model,

    /// List every tensor.
    #[arg(long)]
    pub tensors: bool,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}
