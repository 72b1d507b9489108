//! `cargo xtask`: what this repository needs beyond cargo. `cargo xtask help` lists it.

mod args;
mod browser;
mod clients;
mod dist;
mod failure;
mod known;
mod mlx_lm;
mod new_arch;
mod process;
mod report;
mod run;
mod setup;
mod test;
mod third_party;
mod tidy;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use args::Task;
use failure::Result;

fn main() -> ExitCode {
    let root = root();
    let done = args::parse(env::args_os().skip(1)).and_then(|task| perform(task, &root));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task, root: &Path) -> Result {
    match task {
        Task::Help => {
            print!("{}", args::HELP);
            Ok(())
        }
        Task::Setup => match setup::ensure(root)? {
            Some(installation) => {
                eprintln!("MLX is set up: {}", installation.build.display());
                Ok(())
            }
            None => {
                eprintln!("Nothing to set up on macOS: mlx-rs builds MLX itself.");
                Ok(())
            }
        },
        Task::Run(arguments) => run::run(root, &arguments),
        Task::Test { names, long } => test::test(root, &names, long),
        Task::Tidy => tidy::tidy(root),
        Task::Known => known::known(root),
        Task::Dist { out } => dist::dist(root, out),
        Task::NewArch { name, dir } => new_arch::new_arch(root, &name, dir.as_deref()),
        Task::Bindings(arguments) => setup::generate_bindings(&arguments),
    }
}

/// The workspace's root. Cargo says where the package is when it runs us.
fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(Path::to_owned).unwrap_or(package)
}
