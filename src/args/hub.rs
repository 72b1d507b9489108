//! What is typed for the models of the Hugging Face cache.

use std::path::PathBuf;

use clap::Args;

use super::common::DeviceArgs;
use crate::hub::RepoId;

#[derive(Debug, Args)]
#[command(
    after_help = "Downloads what a checkpoint needs: configuration, weights in safetensors, tokenizer, chat template, \
contract, vision parts; never pickle or code. An interrupted download goes on where it stopped; every file \
is compared with the hub's hash, those that are here already too; a contract that `mtplx verify` wrote here is kept. Prints the \
folder.\n\nEnvironment: HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, \
as the Hugging Face tools use them.\n\nExit status: 0 done, 1 no connection, no room, or refused, 2 wrong usage, 4 nothing in \
it that could run here, 5 no such repository or a damaged file, 130 interrupted."
)]
pub struct PullArgs {
    /// The repository, at a branch, tag or commit [default: main].
    #[arg(value_name = "OWNER/NAME[@REVISION]")]
    pub repository: RepoId,

    /// Read the token for private and gated repositories from a file [default: HF_TOKEN, or what the Hugging Face tools
    /// keep].
    #[arg(long, value_name = "PATH")]
    pub token_file: Option<PathBuf>,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// List also what has no weights, and models that no linked architecture runs.
    #[arg(long)]
    pub all: bool,

    /// List the models that this program knows by name instead, and what fits this machine.
    #[arg(long, conflicts_with = "all")]
    pub known: bool,

    #[command(flatten)]
    pub device: DeviceArgs,

    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The repository, or only one branch, tag or commit of it.
    #[arg(value_name = "OWNER/NAME[@REVISION]")]
    pub repository: RepoId,

    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}
