//! What packagers and shells ask for: version, completions, manual page.

use std::io::{self, Write as _};

use clap::Command;
use mtplx_runtime::mlx;

use crate::args::CompletionsArgs;
use crate::error::Exit;

/// Prints versions and the device.
pub fn version() -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    writeln!(out, "mtplx {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "mlx {}", mlx::version())?;
    writeln!(out, "device {}", mlx::default_device().name())?;
    Ok(Exit::Done)
}

/// Prints a completion script.
pub fn completions(mut command: Command, args: &CompletionsArgs) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics when its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "mtplx", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}

/// Prints the manual page.
pub fn man(command: Command) -> anyhow::Result<Exit> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    io::stdout().lock().write_all(&page)?;
    Ok(Exit::Done)
}
