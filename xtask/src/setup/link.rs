//! libmlxc.so: mlx-c, the BLAS in front, and where to find the rest, in one shared library.
//!
//! mlx-sys links mlx-c statically. Here it is a shared library, because a library can carry what
//! would otherwise have to be passed to the linker for every binary, test and example:
//!
//! - its name. In the cache the soname is an absolute path, which the loader opens as it is: no
//!   rpath, no `RUSTFLAGS` (which would rebuild the world and give way to the user's own);
//! - its own run path, to libmlx.so and OpenBLAS. A `RUNPATH` yields to `LD_LIBRARY_PATH`, so the
//!   libmlx.so of the CUDA wheel can take the CPU one's place without relinking;
//! - its place in the symbol search order: the loader looks through a program's direct
//!   dependencies before theirs, so the CBLAS functions here (or in the OpenBLAS named here) are
//!   found before those of the BLAS that libmlx.so names.

use std::path::{Path, PathBuf};

use super::{cache::Lock, compiler::Compiler};
use crate::{failure::Result, process};

/// File name of the library, and the `-l` name that mlx-sys is told.
pub const FILE: &str = "libmlxc.so";

/// What goes into one libmlxc.so.
pub struct Link {
    /// The name that binaries will ask the loader for.
    pub soname: String,
    /// mlx-c's objects and the shims'.
    pub objects: Vec<PathBuf>,
    /// The folder with libmlx.so.
    pub mlx: PathBuf,
    /// The folder with libscipy_openblas.so; it is linked if there is one, else `-lopenblas`.
    pub openblas: Option<PathBuf>,
    /// Where the loader finds those two; `$ORIGIN` is the library's own folder.
    pub run_path: Vec<String>,
}

impl Link {
    /// Links it into `place`.
    pub fn make(&self, compiler: &Compiler, lock: &Lock, place: &Path) -> Result {
        let made = lock.scratch(FILE)?;
        let mut command = compiler.command();
        command.args(["-shared", "-o"]).arg(&made).args(&self.objects);
        // -Xlinker takes a path with a comma in it; -Wl, does not.
        let mut linker = |words: &[&str]| {
            for word in words {
                command.args(["-Xlinker", word]);
            }
        };
        linker(&["-soname", &self.soname, "--no-undefined", "--enable-new-dtags", "--no-as-needed"]);
        for folder in &self.run_path {
            linker(&["-rpath", folder]);
        }
        match &self.openblas {
            Some(folder) => command.arg("-L").arg(folder).arg("-lscipy_openblas"),
            None => command.arg("-lopenblas"),
        };
        command.arg("-L").arg(&self.mlx).arg("-lmlx");
        process::capture(&mut command)?;
        lock.publish(&made, place)
    }
}
