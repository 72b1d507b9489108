//! `cargo xtask dist`: a folder with the program, its libraries and its papers, that runs wherever
//! it is copied.
//!
//! The program is the release build, linked once more: against a libmlxc.so that is known by its
//! plain name, found through `$ORIGIN/lib`. Nothing else is compiled again, and no tool edits
//! binaries.

mod licences;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    failure::{Failure, IoContext, Result},
    process, run,
    setup::{self, Installation},
};

/// Shells and the file names that they look for.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "mtplx.bash"), ("zsh", "_mtplx"), ("fish", "mtplx.fish")];

/// Sets up, builds, gathers, and tries the result from another place.
pub fn dist(root: &Path, out: Option<PathBuf>) -> Result {
    let installation = setup::ensure(root)?;
    let place = match out {
        Some(out) => std::path::absolute(&out).context("resolve", &out)?,
        None => root.join("dist/mtplx"),
    };
    // Never take away a folder that is not one of ours.
    if place.exists() && !place.join("mtplx").is_file() {
        return Err(Failure::new(format!("{} is there, and is no earlier dist", place.display()))
            .hint("cargo xtask dist --out DIR with a folder that does not exist yet"));
    }
    // Made under another name and renamed: a folder of the final name is whole.
    let making = place.with_extension("partial");
    remove(&making)?;
    fs::create_dir_all(&making).context("create", &making)?;

    let program = match &installation {
        Some(installation) => build_portable(root, installation, &making)?,
        None => run::build(root, "build", &["--locked"], &[])?,
    };
    copy(&program, &making.join("mtplx"))?;
    for name in ["LICENSE", "README.md"] {
        copy(&root.join(name), &making.join(name))?;
    }
    papers(&making)?;
    let triple = installation.as_ref().map(|installation| installation.triple);
    licences::of_crates(root, triple, &making.join("licenses"))?;
    licences::of_folder(&root.join("crates/server/page/vendor"), &making.join("licenses/page"))?;
    if let Some(installation) = &installation {
        try_elsewhere(&making, installation)?;
        // `target/release/mtplx` is to be the one that runs from here.
        run::build(root, "build", &["--locked", "--quiet"], &[])?;
    }
    remove(&place)?;
    fs::rename(&making, &place).context("write", &place)?;
    eprintln!("{} is complete: copy it anywhere, run mtplx in it.", place.display());
    Ok(())
}

fn build_portable(root: &Path, installation: &Installation, folder: &Path) -> Result<PathBuf> {
    let libraries = folder.join("lib");
    installation.portable(&libraries)?;
    for (name, source) in installation.wheels() {
        licences::of_wheel(&source, &folder.join("licenses").join(name))?;
    }
    // rustc searches the folders of its own command line before those of dependencies, so this
    // libmlxc.so is found before the one in the cache.
    let search = format!("native={}", libraries.display());
    let link = ["-L", &search, "-C", "link-arg=-Wl,-rpath,$ORIGIN/lib", "-C", "link-arg=-Wl,--enable-new-dtags"];
    run::build(root, "rustc", &["--locked"], &link.map(str::to_owned))
}

/// Completions, and the manual page if the program can write one.
fn papers(folder: &Path) -> Result {
    let program = folder.join("mtplx");
    let completions = folder.join("completions");
    fs::create_dir_all(&completions).context("create", &completions)?;
    for (shell, name) in COMPLETIONS {
        let text = process::capture(Command::new(&program).args(["completions", shell]))?;
        fs::write(completions.join(name), text).context("write", &completions.join(name))?;
    }
    if let Ok(text) = process::capture(Command::new(&program).arg("man")) {
        let page = folder.join("man/man1/mtplx.1");
        fs::create_dir_all(folder.join("man/man1")).context("create", &page)?;
        fs::write(&page, text).context("write", &page)?;
    }
    Ok(())
}

/// Copies the folder somewhere else and runs it there, as on a machine that never saw the set-up.
fn try_elsewhere(folder: &Path, installation: &Installation) -> Result {
    let elsewhere = env::temp_dir().join(format!("mtplx dist {}", std::process::id()));
    let tried = setup::copy_folder(folder, &elsewhere).and_then(|()| {
        let program = elsewhere.join("mtplx");
        let bare = || {
            let mut command = Command::new(&program);
            command.env_clear().env("HOME", &elsewhere).current_dir(&elsewhere);
            command
        };
        // What ldd does: the loader lists the libraries instead of running the program.
        let loaded = process::capture(bare().env("LD_TRACE_LOADED_OBJECTS", "1"))?;
        let cache = installation.cache_root().display().to_string();
        let strays: Vec<&str> =
            loaded.lines().filter(|line| line.contains("not found") || line.contains(&cache)).collect();
        if !strays.is_empty() {
            return Err(Failure::new("the copied program does not find its own libraries").detail(strays.join("\n")));
        }
        let version = process::capture(bare().arg("--version"))?;
        eprintln!("tried from {}: {}", elsewhere.display(), version.lines().next().unwrap_or_default());
        Ok(())
    });
    remove(&elsewhere)?;
    tried
}

fn copy(from: &Path, to: &Path) -> Result {
    fs::copy(from, to).context("copy", from)?;
    // On disk before anything refers to it.
    File::open(to).and_then(|file| file.sync_all()).context("write", to)
}

fn remove(folder: &Path) -> Result {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::io("remove", folder, &error)),
        _ => Ok(()),
    }
}
