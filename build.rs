//! Lists the files of the built-in model for [`include_bytes!`]: whatever is in `models/builtin` is compiled in, and a
//! checkout or package without that folder gives a binary without a built-in model. And names the commit, for the
//! provenance of benchmarks, where there is one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const FOLDER: &str = "models/builtin";
/// What is compiled: a change here makes a commit's name a different one.
const SOURCES: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "arch-deepseek-v3",
    "arch-glm4-moe",
    "arch-glm4-moe-lite",
    "arch-mimo",
    "arch-minimax-m2",
    "arch-qwen3-next",
    "runtime",
    "src",
];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={FOLDER}");
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name));
    let folder = variable("CARGO_MANIFEST_DIR")?.join(FOLDER);
    let mut files = if env::var_os("CARGO_FEATURE_BUILTIN_MODEL").is_some() { model_files(&folder)? } else { vec![] };
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.file_name().unwrap_or_default();
        let _ = writeln!(list, "    ({name:?}, include_bytes!({file:?})),");
    }
    list.push_str("]\n");
    fs::write(variable("OUT_DIR")?.join("builtin.rs"), list)?;
    if let Some(commit) = commit(&variable("CARGO_MANIFEST_DIR")?) {
        println!("cargo:rustc-env=MTPLX_COMMIT={commit}");
    }
    Ok(())
}

/// The checkout's commit, with `-dirty` behind it where files differ from it; `None` in a package, or without git.
fn commit(root: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    // A package unpacked in somebody else's repository is not that repository's commit.
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    for source in SOURCES.iter().filter(|source| root.join(source).exists()) {
        println!("cargo:rerun-if-changed={source}");
    }
    let log = PathBuf::from(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if root.join(&log).exists() {
        println!("cargo:rerun-if-changed={}", root.join(log).display());
    }
    git(&["describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"])
}

/// The files that a model is read from; notes and pictures beside them are not.
fn model_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.join("config.json").is_file() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_file() && matches!(extension, Some("json" | "safetensors" | "jinja")) {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(files)
}
