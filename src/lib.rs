//! The mtplx application: the command line, the terminal, the environment and the exit code.
//!
//! The engine is `mtplx_engine`; from a folder to text, with the architectures of this program:
//!
#![doc = concat!("```no_run\n", include_str!("../examples/generate.rs"), "```")]
//!
//! A program with other architectures is three lines:
//!
//! ```ignore
//! use acme_architecture as _;
//! fn main() -> std::process::ExitCode {
//!     mtplx::main()
//! }
//! ```

// The linker drops an architecture that nobody names, and its registration with it; this lint notices. (Test builds also
// see what only the integration tests use.)
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

/// Lets the runtime hold the template engine and the tokenizer library to a budget of memory.
#[global_allocator]
static ALLOCATOR: mtplx_runtime::artifact::memory::BudgetAllocator = mtplx_runtime::artifact::memory::BudgetAllocator;

mod args;
mod bench;
mod builtin;
mod commands;
mod error;
mod hint;
mod hub;
mod input;
mod known;
mod log;
mod machine;
mod model;
mod overrides;
mod state_dirs;
mod terminal;
#[cfg(test)]
mod tests;
mod threads;
mod tuned;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::FromArgMatches as _;
#[cfg(feature = "deepseek-v3")]
use mtplx_arch_deepseek_v3 as _;
#[cfg(feature = "glm4-moe")]
use mtplx_arch_glm4_moe as _;
#[cfg(feature = "glm4-moe-lite")]
use mtplx_arch_glm4_moe_lite as _;
#[cfg(feature = "mimo")]
use mtplx_arch_mimo as _;
#[cfg(feature = "minimax-m2")]
use mtplx_arch_minimax_m2 as _;
#[cfg(feature = "qwen3-next")]
use mtplx_arch_qwen3_next as _;

use crate::args::{Cli, Command};
use crate::error::Exit;
pub use crate::model::registry;

/// Runs the program with the process's arguments, and ends the process.
pub fn main() -> ExitCode {
    hide_expected_panics();
    log::init();
    mtplx_runtime::mlx::configure_cuda(state_dirs::StateDirs::of_user().kernels());
    let parsed = args::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let exit = match parsed {
        Ok(cli) => dispatch(cli).unwrap_or_else(|error| error::report(&error)),
        Err(error) => {
            // Help goes to standard output and is a success; a closed pipe is nobody's fault.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage } else { Exit::Done }
        }
    };
    // Commands have said what could not be written.
    let _ = io::stdout().flush();
    mtplx_runtime::mlx::exit(exit as u8)
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    match cli.command {
        _ if cli.version => commands::version(),
        Some(Command::Run(args)) => commands::run(&args),
        Some(Command::Chat(args)) => commands::chat(&args),
        Some(Command::Serve(args)) => commands::serve(&args),
        Some(Command::Start(args)) => commands::start(&args),
        Some(Command::Inspect(args)) => commands::inspect(&args),
        Some(Command::Verify(args)) => commands::verify(&args),
        Some(Command::Forge(args)) => commands::forge(&args),
        Some(Command::Doctor(args)) => commands::doctor(&args),
        Some(Command::Archs(args)) => commands::archs(&args),
        Some(Command::Parity(args)) => commands::parity(&args),
        Some(Command::Bench(args)) => commands::bench(&args),
        Some(Command::Tune(args)) => commands::tune(&args),
        Some(Command::Pull(args)) => commands::pull(&args),
        Some(Command::Models(args)) => commands::models(&args),
        Some(Command::Remove(args)) => commands::remove(&args),
        Some(Command::Completions(args)) => commands::completions(args::command(), &args),
        Some(Command::Man) => commands::man(args::command()),
        None => Err(error::Failure::usage("a command was expected", "`mtplx --help` lists them").into()),
    }
}

/// Panics that the library turns into errors are no news for the user.
fn hide_expected_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !mtplx_runtime::text::panic_is_expected() {
            default(info);
        }
    }));
}
