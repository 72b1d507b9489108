//! The step `third-party` of `cargo xtask test`: an architecture outside the workspace, in a program of its own, and the
//! skeleton that its author started from.
//!
//! Linkers differ in what they drop, so the program is built and run in debug and link-time optimised; in a long run, in release as well.
//! Outside workspaces share the target folder: with the same lock file and profiles they share what is compiled. So both are
//! given this workspace's, to which cargo adds what is theirs.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    failure::{Failure, IoContext as _, Result},
    new_arch, process, run,
};

const EXAMPLE: &str = "examples/third-party";
/// The builds: how they are called, and their arguments to cargo. Debug takes what the tests were linked with.
const BUILDS: [(&str, &[&str]); 2] = [("debug", &["--workspace", "--all-targets"]), ("LTO", &["--profile", "lto"])];
/// The build of a long run: it drops what one of the others drops, too, and compiles every dependency once more.
const RELEASE: (&str, &[&str]) = ("release", &["--release"]);
/// Sequences a setting in the tests of the joint law: those of the workspace draw more, from the same loop.
const SAMPLES: &str = "100";

/// Tests the example, runs its program in each build, and tests a skeleton.
pub fn check(root: &Path, long: bool) -> Result {
    let target = run::target(root)?;
    let cargo = |command: &str, folder: &Path| {
        let mut cargo = process::cargo(root);
        cargo.arg(command).arg("--manifest-path").arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&target);
        cargo.env("OPENBLAS_NUM_THREADS", "1").env("MTPLX_JOINT_SAMPLES", SAMPLES);
        cargo
    };

    let example = root.join(EXAMPLE);
    let mut format = process::cargo(root);
    shown(format.args(["fmt", "--all", "--check", "--manifest-path"]).arg(example.join("Cargo.toml")))?;
    same_versions(root, &example)?;
    shown(cargo("test", &example).arg("--workspace"))?;
    let model = target.join("third-party");
    let package = ["--quiet", "--package", "acme-architecture", "--example", "tiny", "--"];
    shown(cargo("run", &example).args(package).arg(&model))?;
    for (name, arguments) in BUILDS.into_iter().chain(long.then_some(RELEASE)) {
        let mut build = cargo("build", &example);
        // What the linker drops does not depend on how well the code is optimised; how long this takes does.
        build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_LTO_OPT_LEVEL", "1");
        build.args(["--message-format", "json-render-diagnostics"]).args(arguments);
        eprintln!("{name}: {}", process::shown(&build));
        let messages = process::output(build.stderr(Stdio::inherit()))?;
        let program = run::executable(&messages, "acme")
            .ok_or_else(|| Failure::new("cargo built acme but does not say where it is"))?;
        lists_its_architecture(&program)?;
        drafts(&program, &model)?;
    }

    let skeleton = target.join("skeleton");
    if skeleton.exists() {
        fs::remove_dir_all(&skeleton).context("remove", &skeleton)?;
    }
    new_arch::new_arch(root, "skeleton", Some(&skeleton))?;
    lacks_a_reference_only(cargo("test", &skeleton).args(["--workspace", "--", "--skip", "joint"]))?;
    sees_the_unnamed(&skeleton, &mut cargo("build", &skeleton))?;
    refuses_another_runtime(&skeleton, cargo("check", &skeleton).arg("--offline"))
}

/// Dependencies in the versions that this workspace has.
fn same_versions(root: &Path, folder: &Path) -> Result {
    let lock = folder.join("Cargo.lock");
    fs::copy(root.join("Cargo.lock"), &lock).context("write", &lock).map(drop)
}

fn shown(command: &mut Command) -> Result {
    eprintln!("{}", process::shown(command));
    process::run(command)
}

/// The program's list of architectures is its own alone.
fn lists_its_architecture(program: &Path) -> Result {
    let list = process::capture(Command::new(program).args(["archs", "--json"]))?;
    let list: Value = serde_json::from_str(&list).unwrap_or_default();
    let ids: Vec<&str> = list.as_array().into_iter().flatten().filter_map(|entry| entry["id"].as_str()).collect();
    if ids == ["acme-mtp"] {
        return Ok(());
    }
    Err(Failure::new(format!("{} lists {ids:?}, expected acme-mtp alone", program.display())))
}

/// The program runs the model with its draft head.
fn drafts(program: &Path, model: &Path) -> Result {
    let mut command = Command::new(program);
    command.args([
        "run",
        "--raw",
        "--json",
        "--device",
        "cpu",
        "--seed",
        "1",
        "--max-tokens",
        "32",
        "--mtp-depth",
        "2",
    ]);
    command.arg("--allow-unverified").arg("--model").arg(model).arg("fn main");
    let document: Value = serde_json::from_str(&process::capture(&mut command)?).unwrap_or_default();
    let drafted = document["stats"]["drafted_by_depth"][1].as_u64().unwrap_or(0);
    if document["model"]["architecture"] == "acme-mtp" && document["stats"]["tokens"] == 32 && drafted > 0 {
        return Ok(());
    }
    Err(Failure::new(format!("`{}`: no 32 tokens with two drafts a round", process::shown(&command)))
        .detail(document["stats"].to_string()))
}

/// A program that lists the architecture and does not name it: the lint says so, and the program too.
fn sees_the_unnamed(skeleton: &Path, build: &mut Command) -> Result {
    edit(&skeleton.join("src/main.rs"), "use skeleton_architecture as _;", "")?;
    build.args(["--message-format", "json-diagnostic-short"]);
    eprintln!("unnamed: {}", process::shown(build));
    let output = process::quiet(build)?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let lint = messages.contains("`skeleton_architecture` is unused");
    let program = run::executable(&messages, "skeleton").ok_or_else(|| {
        let failure = Failure::new("a program that does not name its architecture: expected it to build");
        failure.detail(process::last_lines(&output.stderr, 20))
    })?;
    let list = process::quiet(Command::new(&program).arg("archs"))?;
    let warned = String::from_utf8_lossy(&list.stderr).contains("no architecture is linked");
    if lint && warned && list.stdout.is_empty() {
        return Ok(());
    }
    let what = "a program that does not name its architecture: expected rustc and `archs` to warn";
    Err(Failure::new(format!("{what} (rustc: {lint}, archs: {warned})")))
}

/// An architecture built against another version of the runtime: cargo refuses it.
fn refuses_another_runtime(skeleton: &Path, check: &mut Command) -> Result {
    let runtime = skeleton.join("runtime");
    fs::create_dir_all(runtime.join("src")).context("make", &runtime)?;
    let files = [("Cargo.toml", OTHER_RUNTIME), ("build.rs", "fn main() {}\n"), ("src/lib.rs", "")];
    for (path, text) in files {
        fs::write(runtime.join(path), text).context("write", &runtime)?;
    }
    let manifest = skeleton.join("architecture/Cargo.toml");
    let text = fs::read_to_string(&manifest).context("read", &manifest)?;
    // Relative or absolute: the target folder may be anywhere.
    let path = text.split('"').find(|part| part.ends_with("/runtime"));
    let path = path.ok_or_else(|| Failure::new(format!("{}: no path of the runtime in it", manifest.display())))?;
    edit(&manifest, path, "../runtime")?;
    eprintln!("another runtime: {}", process::shown(check));
    let output = process::quiet(check)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && complaint.contains("`mtplx-runtime` links to the native library `mtplx_runtime`") {
        return Ok(());
    }
    let failure = Failure::new("an architecture built against another mtplx-runtime: expected cargo to refuse it");
    Err(failure.detail(process::last_lines(&output.stderr, 20)))
}

/// What counts of a runtime of another version, when cargo resolves.
const OTHER_RUNTIME: &str = r#"[package]
name = "mtplx-runtime"
version = "99.0.0"
links = "mtplx_runtime"
build = "build.rs"

[features]
testing = []
"#;

fn edit(path: &Path, from: &str, to: &str) -> Result {
    let text = fs::read_to_string(path).context("read", path)?;
    if !text.contains(from) {
        return Err(Failure::new(format!("{}: expected `{from}` in it", path.display())));
    }
    fs::write(path, text.replace(from, to)).context("write", path)
}

/// Exactly one test fails: the one that stands for what only the author can supply.
fn lacks_a_reference_only(tests: &mut Command) -> Result {
    eprintln!("{}", process::shown(tests));
    let output = process::quiet(tests)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = text.lines().filter(|line| line.ends_with("... FAILED")).collect();
    if failed == ["test tests::agrees_with_an_independent_reference ... FAILED"] {
        return Ok(());
    }
    let failure = Failure::new("the skeleton's tests: expected one to fail, for want of a reference");
    Err(failure.detail(failed.join("\n")).detail(process::last_lines(&output.stderr, 20)))
}
