//! `mtplx verify`, as typed.

use std::path::PathBuf;

use clap::Args;

use super::common::{DeviceArgs, Model};

#[derive(Debug, Args)]
#[command(
    after_help = "Gates: `state` (trunk and head after every accept count, against the same tokens fed one by one), \
`marginal` (the law of a round's first token, in closed form and as it is drawn), `joint` (drawn sequences against the law that plain decoding \
gives them), `teacher-forced` (drafts accepted against what the distributions promise), `greedy` (the loop's text \
against plain decoding, near-ties aside).\n\n\
FILE holds a prompt a line, or JSON Lines: a string, or an object with `prompt` or `text`; at most 64 KiB and 4096 tokens \
each. The first 8 of two tokens or more are measured with, the first 2 with --quick. Without it a few built-in prompts \
are used.\n\n\
--quick is for a look, and for machines on which a whole measurement would take hours: fewer prompts, rows, draws and \
sequences, and greedy text fed at once.\n\n\
A passed verification writes exactness_baseline, verified_on, sha256 and speed_evidence.acceptance_by_depth into \
mtplx_runtime.json, which is made if there is none; a failed one leaves it as it was.\n\n\
Exit status: 0 passed; 1 a gate failed; 3 no complete MTP head, or a contract with faulty fields; 4 model not supported; \
5 file missing or damaged, a contract among them that is not JSON, states a key twice or is no regular file; 130 interrupted."
)]
pub struct VerifyArgs {
    /// The model's folder, a repository in the Hugging Face cache (OWNER/NAME[@REVISION]), or `builtin`.
    pub model: Model,

    /// Prompts to measure with.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,

    /// Measure a fraction of it; the contract says so.
    #[arg(long)]
    pub quick: bool,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub device: DeviceArgs,
}
