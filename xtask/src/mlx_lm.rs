//! The step `mlx-lm` of `cargo xtask test`: mlx-lm loads what `mtplx forge` packs, strictly, and both programs compute the
//! same logits from it.
//!
//! mlx-lm computes the expected logits, and `mtplx parity` compares. The logits of the checkpoint that was packed must
//! not pass: the tolerance tells rounding to four bits from the same weights read alike.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    failure::{Failure, IoContext as _, Result},
    process, run, setup,
};

/// The packages that `tools/mlx_lm_check.py` was written for. MLX is newer than the one that mtplx is linked with.
const PACKAGES: [&str; 2] = ["mlx-lm==0.32.2", "mlx[cpu]==0.32.4"];
/// A dense model and a mixture of experts, of `tests/fixtures`.
const FIXTURES: [&str; 2] = ["qwen3_5_dense_bf16", "deepseek_v3_bf16"];
/// Four bits, in groups that fit the fixtures' narrow rows; the rest in f32, so that both programs compute in f32.
const POLICY: &str = "name = \"mlx-lm\"\nbits = 4\ngroup_size = 32\ndense = \"f32\"\n";
/// Status of `mtplx parity` beyond its tolerance.
const BEYOND: i32 = 1;

/// Forges each fixture and compares.
pub fn check(root: &Path) -> Result {
    let python = setup::python("mlx-lm", &PACKAGES)?;
    let program = build(root)?;
    let work = run::target(root)?.join("mlx-lm");
    if work.exists() {
        fs::remove_dir_all(&work).context("remove", &work)?;
    }
    fs::create_dir_all(&work).context("create", &work)?;
    let policy = work.join("policy.toml");
    fs::write(&policy, POLICY).context("write", &policy)?;
    for fixture in FIXTURES {
        let source = root.join("tests/fixtures").join(fixture);
        let (artifact, logits) = (work.join(fixture), work.join(format!("{fixture}.safetensors")));
        let expected = source.join("golden.safetensors");

        let mut forge = mtplx(&program);
        process::capture(forge.arg("forge").arg(&source).arg(&artifact).arg("--policy").arg(&policy))?;
        let mut script = Command::new(&python);
        script.arg(root.join("tools/mlx_lm_check.py")).arg(&artifact).arg(&expected).arg("--save").arg(&logits);
        process::capture(&mut script)?;
        let report = process::capture(&mut parity(&program, &artifact, &logits))?;
        eprintln!("{fixture}: {}", said(&report));

        let mut control = parity(&program, &artifact, &expected);
        if process::quiet(&mut control)?.status.code() != Some(BEYOND) {
            return Err(Failure::new(format!("{fixture}: the logits before packing agree, or cannot be compared"))
                .detail(process::shown(&control))
                .hint("they must differ by more than the tolerance: pack with fewer bits in xtask/src/mlx_lm.rs"));
        }
    }
    Ok(())
}

/// The debug build, which the tests have made already.
fn build(root: &Path) -> Result<PathBuf> {
    let mut build = process::cargo(root);
    build.args(["build", "--locked", "--package", "mtplx", "--bin", "mtplx"]);
    build.args(["--message-format", "json-render-diagnostics"]);
    let messages = process::output(build.stderr(Stdio::inherit()))?;
    run::executable(&messages, "mtplx").ok_or_else(|| Failure::new("cargo built mtplx but does not say where it is"))
}

fn parity(program: &Path, artifact: &Path, logits: &Path) -> Command {
    let mut parity = mtplx(program);
    parity.args(["parity", "--device", "cpu", "--json"]).arg(artifact).arg(logits);
    parity
}

fn mtplx(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("OPENBLAS_NUM_THREADS", "1");
    command
}

/// The tensors that were compared, and their largest difference.
fn said(report: &str) -> String {
    let report: Value = serde_json::from_str(report).unwrap_or_default();
    let compared = report["compared"].as_array().into_iter().flatten();
    let line = |of: &Value| {
        let apart = of["max_abs_diff"].as_f64().unwrap_or(f64::NAN);
        format!("{} at most {apart:.1e} apart", of["name"].as_str().unwrap_or("?"))
    };
    compared.map(line).collect::<Vec<_>>().join("; ")
}
