//! Pythons with packages from PyPI, for comparisons with the programs of others: virtual environments in the cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    cache::{self, Cache, Lock},
    wheels::{INSTALL, Python, essence, explain},
};
use crate::{
    failure::{Failure, IoContext, Result},
    process,
    report::{Step, Steps},
};

/// The interpreter of a virtual environment that holds these packages, made now if it is not there.
pub fn python(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let cache = Cache::locate()?;
    let system = Python::of_machine(&format!("{name} runs on it"))?;
    // An environment belongs to the version that made it.
    let version = process::capture(system.command().args(["-c", "import sys; print(sys.version)"]))?;
    let key = cache::key(packages.iter().copied().chain([version.as_str()]));
    let place = cache.root().join(format!("venvs/{name}-{}", &key[..8]));
    let python = place.join("bin/python");
    if !python.exists() {
        let lock = cache.lock()?;
        // Another one may have made it while we waited.
        if !python.exists() {
            Steps::new(1).run(&packages.join(", "), |step| {
                make(&system, packages, &place, &lock, step).map(|()| ((), "installed".to_owned()))
            })?;
        }
    }
    Ok(python)
}

fn make(system: &Python, packages: &[&str], place: &Path, lock: &Lock, step: &Step) -> Result {
    let environment = lock.scratch("venv")?;
    let made = process::quiet(system.command().args(["-m", "venv"]).arg(&environment))?;
    if !made.status.success() {
        // venv prints its own failures to standard output.
        let said = [made.stdout, made.stderr].concat();
        return Err(Failure::new("python3 makes no virtual environment with pip")
            .detail(process::last_lines(&said, 4))
            .hint(INSTALL));
    }
    // Its files find each other from where they are, so the folder can be renamed; its scripts, which cannot, are not used.
    let python = Python::at(environment.join("bin/python"));
    let mut pip = python.command();
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--no-cache-dir", "--disable-pip-version-check"]);
    pip.args(["--retries", "3", "--only-binary", ":all:"]).args(packages);
    step.progress("installing");
    let output = process::quiet(&mut pip)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let failure = Failure::new(format!("pip could not install {}", packages.join(", ")));
        return Err(explain(failure.detail(essence(&said)), &said));
    }
    if place.exists() {
        // Its interpreter is gone.
        fs::remove_dir_all(place).context("remove", place)?;
    }
    lock.publish(&environment, place)
}
