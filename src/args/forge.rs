//! What may be typed after `mtplx forge`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::common::{Model, not_empty, positive};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, disable_help_subcommand = true)]
#[command(
    after_help = "Built-in policies: `gdn8-speed4` (Gated DeltaNet 8-bit, the rest 4-bit), `flat4`, `flat8`, `bf16` (nothing \
packed), `as-is` (a packed build stays as it is: with --mtp-from, it gets its head back). A policy of one's own is a TOML file:\n\n  name = \"mine\"\n  bits = 4                # or `keep = true`: not packed\n  \
group_size = 64\n\n  [[rule]]                # the first rule that fits decides\n  groups = [\"linear_attn\", \"self_attn\"]\n  \
bits = 8\n\n  [[rule]]\n  modules = [\"*.layers.0.*\"]   # of the trunk; `mtp.*` is the head\n  keep = true\n\nGroups: embedding, linear_attn, self_attn, mlp, \
experts, shared_expert, router, lm_head, mtp_fc, mtp_layer, mtp_router. `norms = \"f32\"` keeps all of 1 + w where norms are \
stored as w; `dense = \"bf16\"` converts what is not packed.\n\nExit status: 0 done, 1 failed (no room, for one), 2 wrong \
usage, 3 no complete MTP head, 4 not a checkpoint that is converted, 5 file missing or damaged, 130 interrupted: the same \
command goes on where it stopped."
)]
pub struct ForgeArgs {
    #[command(subcommand)]
    pub command: Option<ForgeCommand>,

    /// The checkpoint, with unquantized weights, MTP tensors among them: a folder, or a repository in the Hugging Face
    /// cache (OWNER/NAME[@REVISION]).
    #[arg(required = true)]
    pub checkpoint: Option<Model>,

    /// Where the artifact goes: a folder that does not exist yet.
    #[arg(required = true)]
    pub out: Option<PathBuf>,

    /// Take the MTP head from another checkpoint of the same model, a folder or OWNER/NAME[@REVISION].
    #[arg(long, value_name = "CHECKPOINT")]
    pub mtp_from: Option<Model>,

    #[command(flatten)]
    pub making: MakingArgs,
}

#[derive(Debug, Subcommand)]
pub enum ForgeCommand {
    /// Make an artifact of a real shape with random weights: what speed is measured on.
    Synth(SynthArgs),
}

#[derive(Debug, Args)]
pub struct SynthArgs {
    /// A shape by its name (qwen3.6-35b-a3b, qwen3.6-27b, qwen3.5-9b, qwen3.5-4b, qwen3.5-0.8b, qwen3-next-80b, deepseek-v3,
    /// glm-4.5-air, glm-4.7-flash, mimo-7b, minimax-m2), or a config.json.
    #[arg(long, value_name = "NAME|FILE", value_parser = not_empty)]
    pub like: String,

    /// Where the artifact goes: a folder that does not exist yet.
    pub out: PathBuf,

    /// Keep only the first N layers of the trunk.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub layers: Option<usize>,

    /// Draw other weights.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    #[command(flatten)]
    pub making: MakingArgs,
}

#[derive(Debug, Args)]
pub struct MakingArgs {
    /// How many bits for what: a built-in policy, or a TOML file.
    #[arg(long, value_name = "NAME|FILE", default_value = "gdn8-speed4", value_parser = not_empty)]
    pub policy: String,

    /// Bits of the MTP head's layers, whatever the policy says.
    #[arg(long, value_name = "BITS")]
    pub head: Option<Head>,

    /// Print the plan and write nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Head {
    /// 4 bits; the projection of embedding and hidden state as it is.
    Int4,
    /// Not packed.
    Bf16,
}
