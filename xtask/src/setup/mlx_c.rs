//! mlx-c, MLX's C interface: found inside the mlx-sys crate, compiled against the wheel's headers.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{cache::Lock, compiler::Compiler};
use crate::{
    failure::{Failure, IoContext, Result},
    process,
    report::Step,
};

/// The `src/mlx-c` folder of the mlx-sys that the workspace uses; cargo downloads it if need be.
pub fn locate(root: &Path, triple: &str) -> Result<PathBuf> {
    let mut metadata = process::cargo(root);
    metadata.args(["metadata", "--format-version", "1", "--filter-platform", triple]);
    let text = process::capture(&mut metadata)
        .map_err(|failure| failure.hint("cargo must be able to resolve the workspace; check the network"))?;
    manifest_of(&text, "mlx-sys")
        .and_then(|manifest| Some(manifest.parent()?.join("src/mlx-c")))
        .filter(|sources| sources.is_dir())
        .ok_or_else(|| Failure::new("the mlx-sys crate, or the mlx-c inside it, is not where cargo says"))
}

fn manifest_of(metadata: &str, name: &str) -> Option<PathBuf> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).ok()?;
    let package = metadata["packages"].as_array()?.iter().find(|package| package["name"] == name)?;
    package["manifest_path"].as_str().map(PathBuf::from)
}

/// Refuses a wheel of another MLX than this mlx-c was written for: it would compile, and differ.
pub fn check_version(sources: &Path, wheel: &str) -> Result {
    let path = sources.join("CMakeLists.txt");
    let text = fs::read_to_string(&path).context("read", &path)?;
    match wanted_version(&text) {
        Some(wanted) if wanted == wheel => Ok(()),
        wanted => Err(Failure::new(format!(
            "mlx-c was written for MLX {}, and xtask/requirements.txt pins mlx-cpu {wheel}",
            wanted.unwrap_or("of an unknown version")
        ))
        .hint("pin the mlx-cpu of that version in xtask/requirements.txt, with its hashes")),
    }
}

fn wanted_version(cmake: &str) -> Option<&str> {
    let tag = cmake.lines().find_map(|line| line.trim().strip_prefix("GIT_TAG v"))?;
    tag.split(|c: char| c == ')' || c.is_whitespace()).next()
}

/// Compiles every source file, each in a process of its own, as many at a time as there are
/// cores. Objects that are there already, from a set-up that was interrupted, are kept.
pub fn compile(sources: &[Source], compiler: &Compiler, lock: &Lock, step: &Step) -> Result {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let work = || {
        while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(failure) = source.compile(compiler, lock) {
                // The first is as good as any; the others stop after the file they are at.
                next.store(sources.len(), Ordering::Relaxed);
                *failed.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(failure);
                return;
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            step.progress(&format!("{done}/{}", sources.len()));
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs().min(sources.len()) {
            scope.spawn(work);
        }
    });
    match failed.into_inner().unwrap_or_else(|poison| poison.into_inner()) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// As many as cargo would run.
fn jobs() -> usize {
    let asked = std::env::var("CARGO_BUILD_JOBS").ok().and_then(|jobs| jobs.parse().ok());
    asked.filter(|&jobs| jobs > 0).unwrap_or_else(|| thread::available_parallelism().map_or(4, usize::from))
}

/// One C++ file and what it takes to compile it.
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The object's final place.
    pub object: PathBuf,
    /// `-I` folders.
    pub include: Vec<PathBuf>,
    /// A header to include ahead of everything.
    pub prelude: Option<PathBuf>,
}

impl Source {
    /// Compiles it, unless its object is there.
    pub fn compile(&self, compiler: &Compiler, lock: &Lock) -> Result {
        if self.object.exists() {
            return Ok(());
        }
        let object = lock.scratch(&self.object.file_name().unwrap_or_default().to_string_lossy())?;
        compiler.compile(&self.path, &object, |command| {
            for folder in &self.include {
                command.arg("-I").arg(folder);
            }
            if let Some(prelude) = &self.prelude {
                command.arg("-include").arg(prelude);
            }
        })?;
        lock.publish(&object, &self.object)
    }
}

/// mlx-c's C++ files, the largest first: the last ones to start should be short.
pub fn files(mlx_c: &Path) -> Result<Vec<PathBuf>> {
    let folder = mlx_c.join("mlx/c");
    let entries = fs::read_dir(&folder).context("read", &folder)?;
    let mut files: Vec<(u64, PathBuf)> = entries
        .filter_map(std::result::Result::ok)
        .filter(|entry| entry.path().extension() == Some(OsStr::new("cpp")))
        .map(|entry| (entry.metadata().map_or(0, |metadata| metadata.len()), entry.path()))
        .collect();
    files.sort();
    Ok(files.into_iter().rev().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_mlx_is_read_from_cmake() {
        let cmake = "  FetchContent_Declare(\n    mlx\n    GIT_REPOSITORY \"x\"\n    GIT_TAG v0.32.2)\n";
        assert_eq!(wanted_version(cmake), Some("0.32.2"));
        assert_eq!(wanted_version("project(mlx)"), None);
    }

    #[test]
    fn the_manifest_is_found_by_name() {
        let metadata = r#"{"packages":[{"name":"mlx-rs","manifest_path":"/a"},{"name":"mlx-sys","manifest_path":"/b/Cargo.toml"}]}"#;
        assert_eq!(manifest_of(metadata, "mlx-sys"), Some("/b/Cargo.toml".into()));
        assert_eq!(manifest_of(metadata, "cmake"), None);
    }
}
