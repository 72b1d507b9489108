//! Running the program, and what every run of it must keep to.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// What one run gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The program with arguments, in an environment that changes nothing: what it keeps between runs goes where it cannot.
pub fn mtplx(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("mtplx"));
    command.args(args).env_remove("MTPLX_DEVICE").env_remove("CLICOLOR_FORCE").env("MTPLX_DEVICE", "cpu");
    // Nothing of the user who runs the tests is read.
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command.env("MTPLX_HOME", "/dev/null/mtplx");
    command
}

/// Runs it to its end with nothing on standard input. Whatever happens, it neither panics nor colours a pipe.
pub fn run(args: &[&str]) -> Ran {
    run_with(args, b"")
}

/// [`run`] with standard input.
pub fn run_with(args: &[&str], stdin: &[u8]) -> Ran {
    let output = assert_cmd::Command::from_std(mtplx(args)).write_stdin(stdin).output().unwrap();
    let ran = Ran {
        code: output.status.code().expect("ended by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!ran.stderr.contains("panicked") && ran.code != 101, "{ran:?}");
    assert!(!ran.stderr.contains('\x1b') && !ran.stdout.contains('\x1b'), "{ran:?}");
    ran
}

/// The document of a run that succeeds.
pub fn json(args: &[&str]) -> Value {
    let ran = run(args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The error and hint of a run that must fail with `code`: one line each, and nothing on standard output.
pub fn fails(args: &[&str], code: i32) -> (String, String) {
    let ran = run(args);
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{}", ran.stderr);
    let error = ran.stderr.lines().find_map(|line| line.strip_prefix("error: "));
    let hint = ran.stderr.lines().find_map(|line| line.strip_prefix(" hint: "));
    let lines = ran.stderr.lines().filter(|line| !line.starts_with("warning: ")).count();
    assert_eq!(lines, 2, "one line of error, one of hint: {}", ran.stderr);
    (error.expect("an error").to_owned(), hint.expect("a hint").to_owned())
}

/// The vendored part of the golden checkpoints.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// [`fixture`] as an argument.
pub fn model(name: &str) -> String {
    fixture(name).display().to_string()
}

/// A copy of a fixture's files, to be damaged.
pub fn copy(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}
