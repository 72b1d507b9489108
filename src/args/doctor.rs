//! `mtplx doctor`, as typed.

use clap::Args;

use super::common::DeviceArgs;

#[derive(Debug, Args)]
#[command(
    after_help = "Each line is ok, a warning or an error: what was found, and what to do about it. Needs no model, and writes nothing \
that stays.\n\nExit status: 0 without an error, 1 with one."
)]
pub struct DoctorArgs {
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub device: DeviceArgs,
}
