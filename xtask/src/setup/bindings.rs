//! bindings.rs: what mlx-sys's build script would generate, by the same library and settings.
//!
//! bindgen runs in a process of its own: libclang is found through an environment variable, and
//! is free to crash there.

use std::{
    env,
    ffi::OsStr,
    fs, panic,
    path::{Path, PathBuf},
    process::Command,
};

use super::{cache::Lock, compiler::Compiler};
use crate::{
    failure::{Failure, IoContext, Result},
    process,
};

/// The hidden subcommand that [`generate`] runs this program with.
pub const SUBCOMMAND: &str = "__bindings";

/// Writes `place` from mlx-c's headers.
pub fn generate(
    mlx_c: &Path,
    prelude: &Path,
    libclang: &Path,
    compiler: &Compiler,
    lock: &Lock,
    place: &Path,
) -> Result {
    let myself = env::current_exe().context("find", Path::new("the xtask program"))?;
    let made = lock.scratch("bindings.rs")?;
    let mut child = Command::new(myself);
    child.arg(SUBCOMMAND).arg(&made).arg(mlx_c).arg(prelude).args(compiler.include_folders()?);
    child.env("LIBCLANG_PATH", libclang).env_remove("BINDGEN_EXTRA_CLANG_ARGS");
    let output = process::quiet(&mut child)?;
    if !output.status.success() {
        return Err(Failure::new("bindgen cannot make the Rust bindings of mlx-c")
            .detail(process::last_lines(&output.stderr, 12))
            .hint("if libclang does not load, this machine's glibc may be older than the wheels need (2.35)"));
    }
    lock.publish(&made, place)
}

/// The other end of [`generate`]: `<out> <mlx-c> <prelude> <system include folder>…`.
pub fn generate_here(arguments: &[PathBuf]) -> Result {
    let [out, mlx_c, prelude, include @ ..] = arguments else {
        return Err(Failure::new("internal: wrong arguments for bindgen"));
    };
    // bindgen panics when libclang does not load: our parent shows the reason, not the place.
    panic::set_hook(Box::new(|panic| eprintln!("{}", panic.payload_as_str().unwrap_or("bindgen gave up"))));
    // From here to `generate`: mlx-sys 0.7's `src/bindgen_config.rs`, and the prelude.
    let mut builder = bindgen::Builder::default()
        .rust_target("1.73.0".parse().map_err(|error| Failure::new(format!("internal: {error}")))?)
        .clang_arg(format!("-I{}", mlx_c.display()))
        .blocklist_function("malloc")
        .blocklist_function("realloc")
        .clang_args(["-include".to_owned(), prelude.display().to_string()]);
    for folder in include {
        builder = builder.clang_arg(format!("-isystem{}", folder.display()));
    }
    for header in headers(mlx_c)? {
        builder = builder.header(header.to_string_lossy());
    }
    let bindings = builder.generate().map_err(|error| Failure::new(format!("bindgen: {error}")))?;
    bindings.write_to_file(out).context("write", out)
}

fn headers(mlx_c: &Path) -> Result<Vec<PathBuf>> {
    let folder = mlx_c.join("mlx/c");
    let entries = fs::read_dir(&folder).context("read", &folder)?;
    let mut headers: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new("h")))
        .collect();
    headers.sort();
    Ok(headers)
}
