//! `cargo xtask run`: from a fresh clone to text on the screen.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    failure::{Failure, Result},
    process, setup,
};

/// What the built-in model is asked to go on with when nothing else is said.
const DEMONSTRATION: &str = "\
/// A point in the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

impl Point {
";

/// Sets up, builds, and becomes `mtplx run`.
pub fn run(root: &Path, arguments: &[OsString]) -> Result {
    setup::ensure(root)?;
    let program = build(root, "build", &[], &[])?;
    let mut mtplx = Command::new(program);
    mtplx.arg("run");
    if arguments.is_empty() {
        mtplx.args(["--raw", "--stats", "--max-tokens", "160", DEMONSTRATION]);
        eprintln!("\n$ {}\n", process::shown(&mtplx));
    } else {
        mtplx.args(arguments);
    }
    Err(become_program(&mut mtplx))
}

/// Builds the release binary and returns where cargo put it. `rustc` arguments are for
/// `cargo rustc`, and concern the last step only.
pub fn build(root: &Path, command: &str, cargo: &[&str], rustc: &[String]) -> Result<PathBuf> {
    let mut build = process::cargo(root);
    build.args([command, "--release", "--package", "mtplx", "--bin", "mtplx"]).args(cargo);
    build.args(["--message-format", "json-render-diagnostics"]);
    if !rustc.is_empty() {
        build.arg("--").args(rustc);
    }
    // Progress and errors are for the terminal; the messages are for us.
    let messages = process::output(build.stderr(Stdio::inherit()))?;
    executable(&messages, "mtplx").ok_or_else(|| Failure::new("cargo built mtplx but does not say where it is"))
}

/// Cargo's target folder.
pub fn target(root: &Path) -> Result<PathBuf> {
    let metadata = process::capture(process::cargo(root).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap_or_default();
    let target = metadata["target_directory"].as_str().map(PathBuf::from);
    target.ok_or_else(|| Failure::new("cargo does not say where its target folder is"))
}

/// The path of the program `name` in cargo's messages, one JSON document a line.
pub fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let named = messages.filter(|message| message["target"]["name"] == name && message["profile"]["test"] != true);
    named.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

/// Replaces this process, so that signals and the exit status are the program's. Returns only if
/// that fails.
fn become_program(program: &mut Command) -> Failure {
    #[cfg(unix)]
    let error = std::os::unix::process::CommandExt::exec(program);
    #[cfg(not(unix))]
    let error = io::Error::from(io::ErrorKind::Unsupported);
    let error: io::Error = error;
    Failure::new(format!("cannot run `{}`: {error}", process::shown(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"mtplx","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"mtplx","kind":["bin"]},"executable":"/t/release/mtplx"}
{"reason":"compiler-artifact","target":{"name":"mtplx","kind":["bin"]},"profile":{"test":true},"executable":"/t/deps/mtplx"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(messages, "mtplx"), Some("/t/release/mtplx".into()));
        assert_eq!(executable("", "mtplx"), None);
    }
}
