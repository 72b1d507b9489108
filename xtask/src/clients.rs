//! The step `clients` of `cargo xtask test`: the official Python clients of OpenAI, Anthropic and Ollama against `mtplx serve`, and in a
//! long run coding agents against the same server with a script in the model's place.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    failure::{Failure, Result},
    process, run, setup,
};

/// The packages that `tests/clients` was written for.
const PACKAGES: [&str; 4] = ["openai==3.57.0", "anthropic==2.14.0", "ollama==0.6.3", "openapi-spec-validator==0.9.0"];

/// Agents of a long run. Open WebUI takes 7 GB: `tests/agents/agents.py` runs it by name.
const AGENTS: [&str; 6] = ["claude-code", "codex", "opencode", "cline", "continue", "aider"];

/// Runs the suite with the debug builds, which the tests have made already.
pub fn check(root: &Path, long: bool) -> Result {
    let python = setup::python("clients", &PACKAGES)?;
    let program = build(root, "--bin", "mtplx")?;
    let scripted = build(root, "--example", "scripted")?;
    let mut suite = Command::new(&python);
    suite.arg(root.join("tests/clients/suite.py")).arg("--mtplx").arg(program).arg("--scripted").arg(&scripted);
    // Servers run side by side with the suite; OpenBLAS's threads on top of that only wait for each other.
    suite.env("OPENBLAS_NUM_THREADS", "1");
    process::run(&mut suite)?;
    if long {
        let cache = run::target(root)?.join("agents");
        let mut agents = Command::new(python);
        agents.arg(root.join("tests/agents/agents.py")).arg("--cache").arg(cache).arg("--scripted").arg(scripted);
        process::run(agents.args(AGENTS))?;
    }
    Ok(())
}

/// Builds a debug program and returns where cargo put it.
pub fn build(root: &Path, kind: &str, name: &str) -> Result<PathBuf> {
    let mut build = process::cargo(root);
    build.args(["build", "--locked", "--package", "mtplx", kind, name]);
    build.args(["--message-format", "json-render-diagnostics"]);
    let messages = process::output(build.stderr(Stdio::inherit()))?;
    run::executable(&messages, name)
        .ok_or_else(|| Failure::new(format!("cargo built {name} but does not say where it is")))
}
