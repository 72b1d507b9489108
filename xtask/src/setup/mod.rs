//! What a Linux machine needs before mlx-rs compiles on it, made once and kept in the user's cache.
//!
//! The published mlx-sys builds MLX with cmake for Apple's frameworks. On Linux we put its parts
//! together ourselves: MLX from a PyPI wheel, mlx-c from the mlx-sys crate, the bindings that its
//! build script would generate, and OpenBLAS in front of the wheel's BLAS. Then we tell Cargo where
//! they are (`config.rs`). Afterwards plain cargo and editors work; nothing refers to xtask.
//!
//! To move to another mlx-rs: change its version in the workspace, run `cargo xtask setup`, and pin
//! the mlx-cpu version that it asks for in `requirements.txt`.

mod bindings;
mod blas;
mod cache;
mod compiler;
mod config;
mod link;
mod lockfile;
mod mlx_c;
mod platform;
mod venv;
mod wheels;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

pub use bindings::{SUBCOMMAND as BINDINGS, generate_here as generate_bindings};
pub use link::FILE as LIBRARY;
pub use platform::Platform;
pub use venv::python;

use self::{
    blas::Blas,
    cache::{Cache, Lock},
    compiler::{Compiler, FLAGS},
    link::Link,
    mlx_c::Source,
    wheels::Wheel,
};
use crate::{
    failure::{IoContext, Result},
    report::{Step, Steps, seconds},
};

/// Part of every key: raise it when the way things are put together changes.
const RECIPE: &str = "1";

/// The shims, as text for the key.
const SHIMS: &[&str] = &[
    include_str!("../../native/mlx_c.hpp"),
    include_str!("../../native/bindings.h"),
    include_str!("../../../crates/mlx/native/mach_time.cpp"),
    include_str!("../../../crates/mlx/native/launch.cpp"),
    include_str!("../../../crates/mlx/native/host.cpp"),
    include_str!("../../../crates/mlx/native/termination.cpp"),
    include_str!("../../native/blas_forward.cpp"),
    include_str!("../../native/blas_probe.cpp"),
];

const MLX_PARTS: &[&str] = &["mlx/lib/", "mlx/include/", "mlx_cpu.libs/"];
const OPENBLAS_PARTS: &[&str] = &["scipy_openblas32/lib/libscipy_openblas.so"];

/// The outcome of a step that had nothing to do.
const THERE: &str = "already there";

/// Sets up what is missing. `None` where there is nothing to set up (macOS).
pub fn ensure(root: &Path) -> Result<Option<Installation>> {
    let Platform::Linux(triple) = Platform::current()? else { return Ok(None) };
    let installation = Installation::plan(root, triple)?;
    if !installation.is_complete() {
        let lock = installation.cache.lock()?;
        // Another set-up may have made it while we waited.
        if !installation.is_complete() {
            installation.make(&lock)?;
        }
    }
    Ok(Some(installation))
}

/// Everything set-up makes, and where; made or not.
pub struct Installation {
    root: PathBuf,
    /// The Rust target.
    pub triple: &'static str,
    cache: Cache,
    compiler: Compiler,
    mlx: Wheel,
    libclang: Wheel,
    openblas: Wheel,
    /// What was compiled here. The folder's name is the key of all that it was made from.
    pub build: PathBuf,
}

impl Installation {
    /// Decides every path, without making anything: this is all that a finished set-up costs.
    fn plan(root: &Path, triple: &'static str) -> Result<Self> {
        let cache = Cache::locate()?;
        let compiler = Compiler::find()?;
        let mlx_sys = lockfile::package(root, "mlx-sys")?;
        let bindgen = lockfile::package(root, "bindgen")?;
        let cache_root = cache.root().display().to_string();
        let mut inputs =
            vec![RECIPE, triple, &cache_root, &compiler.identity, &mlx_sys.entry, &bindgen.entry, wheels::REQUIREMENTS];
        inputs.extend(SHIMS);
        inputs.extend(FLAGS);
        let key = cache::key(inputs);
        Ok(Installation {
            root: root.to_owned(),
            triple,
            build: cache.root().join(format!("builds/mlx-sys-{}-{key}", mlx_sys.version)),
            mlx: Wheel::pinned("mlx-cpu")?,
            libclang: Wheel::pinned("libclang")?,
            openblas: Wheel::pinned("scipy-openblas32")?,
            cache,
            compiler,
        })
    }

    fn is_complete(&self) -> bool {
        let config = fs::read_to_string(self.root.join(config::PLACE));
        let blas = Blas::recorded(&self.build.join("blas"));
        config.is_ok_and(|config| config == self.config())
            && self.library().is_file()
            && self.bindings().join("bindings.rs").is_file()
            && self.mlx_libraries().is_dir()
            && blas.is_some_and(|blas| blas != Blas::Wheel || self.openblas_libraries().is_dir())
    }

    fn make(&self, lock: &Lock) -> Result {
        let start = Instant::now();
        eprintln!("Setting up MLX {} for {} in {}", self.mlx.version, self.triple, self.cache.root().display());
        let mut steps = Steps::new(6);
        steps.run("MLX runtime", |step| self.fetch(&self.mlx, MLX_PARTS, lock, step))?;

        // Where mlx-c is. Cargo may have to download it: part of the step that needs it first.
        let mut mlx_c = PathBuf::new();
        let objects = steps.run("mlx-c, the C interface of MLX", |step| {
            mlx_c = mlx_c::locate(&self.root, self.triple)?;
            mlx_c::check_version(&mlx_c, self.mlx.version)?;
            let sources = self.sources(&mlx_c)?;
            let new = sources.iter().filter(|source| !source.object.exists()).count();
            mlx_c::compile(&sources, &self.compiler, lock, step)?;
            let objects: Vec<PathBuf> = sources.into_iter().map(|source| source.object).collect();
            Ok((objects, if new == 0 { THERE.to_owned() } else { format!("{new} files compiled") }))
        })?;

        let bindings = self.bindings().join("bindings.rs");
        if bindings.is_file() {
            steps.skip("libclang", "not needed");
            steps.skip("Rust bindings", THERE);
        } else {
            let native = format!("libclang-{}.data/platlib/clang/native/", self.libclang.version);
            let libclang = steps.run("libclang", |step| self.fetch(&self.libclang, &[&native], lock, step))?;
            steps.run("Rust bindings", |_| {
                let prelude = self.native("bindings.h");
                bindings::generate(&mlx_c, &prelude, &libclang.join(&native), &self.compiler, lock, &bindings)?;
                // The largest download, and of no further use.
                fs::remove_dir_all(&libclang).context("remove", &libclang)?;
                Ok(((), "generated".to_owned()))
            })?;
        }

        let blas = steps.run("OpenBLAS", |step| self.choose_blas(lock, step))?;
        steps.run("libmlxc.so, .cargo/mlx.toml", |_| {
            let mlx = self.mlx_libraries();
            let openblas = (blas == Blas::Wheel).then(|| self.openblas_libraries());
            let openblas_folder = match &blas {
                Blas::Wheel => openblas.as_deref(),
                Blas::System(library) => library.parent(),
            };
            let run_path = [Some(&*mlx), openblas_folder].into_iter().flatten();
            let library = Link {
                soname: self.library().display().to_string(),
                objects: self.with_blas(objects, &blas, lock)?,
                run_path: run_path.map(|folder| folder.display().to_string()).collect(),
                mlx: mlx.clone(),
                openblas: openblas.clone(),
            };
            library.make(&self.compiler, lock, &self.library())?;
            // Last: these two say that all of it is there.
            self.record(&blas, lock)?;
            let place = self.root.join(config::PLACE);
            fs::write(&place, self.config()).context("write", &place)?;
            Ok(((), "written".to_owned()))
        })?;
        eprintln!("Set up in {}. Plain cargo and editors work from here on.", seconds(start.elapsed()));
        Ok(())
    }

    /// Makes a folder that holds all that a binary needs at run time, to be found by
    /// `$ORIGIN`: `libmlxc.so`, and beside it the parts of the wheels. Always the wheel's OpenBLAS:
    /// the machine's own may not be there on the next.
    pub fn portable(&self, folder: &Path) -> Result {
        let lock = self.cache.lock()?;
        let mut steps = Steps::new(1);
        steps.run("portable libraries", |step| {
            let openblas = self.openblas.fetch(&self.cache, &lock, OPENBLAS_PARTS, step)?;
            let mlx_c = mlx_c::locate(&self.root, self.triple)?;
            let objects = self.sources(&mlx_c)?.into_iter().map(|source| source.object).collect();
            let library = Link {
                soname: LIBRARY.to_owned(),
                objects: self.with_blas(objects, &Blas::Wheel, &lock)?,
                mlx: self.mlx_libraries(),
                openblas: Some(self.openblas_libraries()),
                run_path: ["$ORIGIN/mlx/lib", "$ORIGIN/scipy_openblas32/lib"].map(str::to_owned).to_vec(),
            };
            library.make(&self.compiler, &lock, &folder.join(LIBRARY))?;
            let mlx = self.mlx.place(&self.cache);
            for (wheel, part) in [(&mlx, "mlx/lib"), (&mlx, "mlx_cpu.libs"), (&openblas, "scipy_openblas32/lib")] {
                copy_folder(&wheel.join(part), &folder.join(part))?;
            }
            Ok(((), "made".to_owned()))
        })
    }

    /// The cache folder.
    pub fn cache_root(&self) -> &Path {
        self.cache.root()
    }

    /// The wheels that [`Installation::portable`] takes from, by name, unpacked.
    pub fn wheels(&self) -> [(&'static str, PathBuf); 2] {
        [&self.mlx, &self.openblas].map(|wheel| (wheel.name, wheel.place(&self.cache)))
    }

    fn fetch(&self, wheel: &Wheel, parts: &[&str], lock: &Lock, step: &Step) -> Result<(PathBuf, String)> {
        let there = wheel.place(&self.cache).is_dir();
        let place = wheel.fetch(&self.cache, lock, parts, step)?;
        let state = if there { THERE } else { "fetched" };
        Ok((place, format!("{} {} {state}", wheel.name, wheel.version)))
    }

    fn choose_blas(&self, lock: &Lock, step: &Step) -> Result<(Blas, String)> {
        let blas = Blas::detect(&self.native("blas_probe.cpp"), &self.compiler, lock)?;
        let outcome = match &blas {
            Blas::System(library) => format!("this machine's, {}", library.display()),
            Blas::Wheel => self.fetch(&self.openblas, OPENBLAS_PARTS, lock, step)?.1,
        };
        Ok((blas, outcome))
    }

    /// Notes which BLAS the library was linked with.
    fn record(&self, blas: &Blas, lock: &Lock) -> Result {
        let record = lock.scratch("blas")?;
        fs::write(&record, blas.record()).context("write", &record)?;
        lock.publish(&record, &self.build.join("blas"))
    }

    /// What is compiled whatever the BLAS.
    fn sources(&self, mlx_c: &Path) -> Result<Vec<Source>> {
        let include = vec![mlx_c.to_owned(), self.mlx.place(&self.cache).join("mlx/include")];
        let mut sources: Vec<Source> = mlx_c::files(mlx_c)?
            .into_iter()
            .chain(["launch.cpp", "host.cpp"].map(|name| self.product(name)))
            .map(|path| Source {
                object: self.object(&path),
                path,
                include: include.clone(),
                prelude: Some(self.native("mlx_c.hpp")),
            })
            .collect();
        sources.extend(["mach_time.cpp", "termination.cpp"].map(|name| self.shim(self.product(name))));
        Ok(sources)
    }

    /// Adds the object that puts the wheel's OpenBLAS in front, where it takes one.
    fn with_blas(&self, mut objects: Vec<PathBuf>, blas: &Blas, lock: &Lock) -> Result<Vec<PathBuf>> {
        if *blas == Blas::Wheel {
            let shim = self.shim(self.native("blas_forward.cpp"));
            shim.compile(&self.compiler, lock)?;
            objects.push(shim.object);
        }
        Ok(objects)
    }

    fn shim(&self, path: PathBuf) -> Source {
        Source { object: self.object(&path), path, include: Vec::new(), prelude: None }
    }

    fn object(&self, source: &Path) -> PathBuf {
        let name = source.file_stem().unwrap_or_default();
        self.build.join("objects").join(name).with_extension("o")
    }

    /// A source of the product, which lies with the crate that calls it.
    fn product(&self, name: &str) -> PathBuf {
        self.root.join("crates/mlx/native").join(name)
    }

    /// A source that only putting the library together needs.
    fn native(&self, name: &str) -> PathBuf {
        self.root.join("xtask/native").join(name)
    }

    fn config(&self) -> String {
        config::text(self.triple, &self.build.join("lib"), &self.bindings())
    }

    fn library(&self) -> PathBuf {
        self.build.join("lib").join(LIBRARY)
    }

    fn bindings(&self) -> PathBuf {
        self.build.join("bindings")
    }

    fn mlx_libraries(&self) -> PathBuf {
        self.mlx.place(&self.cache).join("mlx/lib")
    }

    fn openblas_libraries(&self) -> PathBuf {
        self.openblas.place(&self.cache).join("scipy_openblas32/lib")
    }
}

/// Copies a folder with everything in it.
pub fn copy_folder(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to).context("create", to)?;
    for entry in fs::read_dir(from).context("read", from)? {
        let path = entry.context("read", from)?.path();
        let place = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &place)?;
        } else {
            fs::copy(&path, &place).context("copy", &path)?;
        }
    }
    Ok(())
}
