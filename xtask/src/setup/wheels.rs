//! Wheels from PyPI: fetched by pip, which checks their sha256, and unpacked into the cache.
//!
//! Nothing is installed into a Python. A wheel is a zip file; only the parts we use are kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::cache::{Cache, Lock};
use crate::{
    failure::{DISK_HINT, Failure, IoContext, Result},
    process,
    report::{Step, megabytes},
};

/// The pinned wheels with their hashes, as pip reads them.
pub const REQUIREMENTS: &str = include_str!("../../requirements.txt");

/// argv: the wheel, the folder to unpack into, then the prefixes of the members to keep.
const UNPACK: &str = "\
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sys.argv[2], [m for m in wheel.namelist() if m.startswith(tuple(sys.argv[3:])) or '/licenses/' in m])
";

/// One pinned wheel.
#[derive(Clone, Debug)]
pub struct Wheel {
    /// Name on PyPI.
    pub name: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// Its lines in the requirements file.
    pin: &'static str,
}

impl Wheel {
    /// The wheel of that name in the requirements file.
    pub fn pinned(name: &str) -> Result<Self> {
        REQUIREMENTS
            .split("\n\n")
            .flat_map(wheels_of)
            .find(|wheel| wheel.name == name)
            .ok_or_else(|| Failure::new(format!("xtask/requirements.txt does not pin {name}")))
    }

    /// Where it is, or will be, unpacked.
    pub fn place(&self, cache: &Cache) -> PathBuf {
        let key = super::cache::key([self.pin, UNPACK]);
        cache.root().join(format!("wheels/{}-{}-{}", self.name, self.version, &key[..8]))
    }

    /// Fetches and unpacks it, keeping the members that begin with one of `keep`.
    pub fn fetch(&self, cache: &Cache, lock: &Lock, keep: &[&str], step: &Step) -> Result<PathBuf> {
        let place = self.place(cache);
        if place.is_dir() {
            return Ok(place);
        }
        let python = Python::with_pip(lock)?;
        let wheel = self.download(&python, lock, step)?;
        step.progress("unpacking");
        let unpacked = lock.scratch("unpacked")?;
        let mut unpack = python.command();
        unpack.args(["-c", UNPACK]).arg(&wheel).arg(&unpacked).args(keep);
        let output = process::quiet(&mut unpack)?;
        if !output.status.success() {
            let said = process::last_lines(&output.stderr, 1);
            let failure = Failure::new(format!("cannot unpack {} {}", self.name, self.version));
            return Err(explain(failure.detail(&said), &said));
        }
        lock.publish(&unpacked, &place)?;
        Ok(place)
    }

    fn download(&self, python: &Python, lock: &Lock, step: &Step) -> Result<PathBuf> {
        let folder = lock.scratch("download")?;
        fs::create_dir(&folder).context("create", &folder)?;
        let pins = folder.join("requirements.txt");
        fs::write(&pins, self.pin).context("write", &pins)?;
        let mut pip = python.command();
        pip.args(["-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--no-cache-dir"])
            .args(["--disable-pip-version-check", "--retries", "3", "--only-binary", ":all:", "--require-hashes"])
            .arg("--requirement")
            .arg(&pins)
            .arg("--dest")
            .arg(&folder)
            // pip downloads into a temporary folder first; here we see it grow, and clean it up.
            .env("TMPDIR", &folder);
        let output = process::watch(&mut pip, || step.progress(&fetched(size(&folder))))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let failure = Failure::new(format!("pip could not fetch {} {}", self.name, self.version));
            return Err(explain(failure.detail(essence(&said)), &said));
        }
        let mut files = fs::read_dir(&folder).context("read", &folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        files
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .ok_or_else(|| Failure::new(format!("pip fetched no wheel for {}", self.name)))
    }
}

/// The pins in one paragraph of the requirements file.
fn wheels_of(paragraph: &'static str) -> Option<Wheel> {
    let start = paragraph.lines().find(|line| line.contains("=="))?;
    let (name, rest) = start.split_once("==")?;
    let version = rest.split_whitespace().next()?;
    let from = paragraph.find(start)?;
    Some(Wheel { name, version, pin: &paragraph[from..] })
}

/// pip's last words, without its account of every retry.
pub fn essence(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("WARNING: Retrying")).collect();
    process::last_lines(lines.join("\n").as_bytes(), 8)
}

/// Adds the hint that pip's words call for.
pub fn explain(failure: Failure, said: &str) -> Failure {
    let any = |needles: &[&str]| needles.iter().any(|needle| said.contains(needle));
    if any(&["No space left on device"]) {
        failure.hint(DISK_HINT)
    } else if any(&["DO NOT MATCH THE HASHES"]) {
        failure.hint(
            "the file differs from the one pinned in xtask/requirements.txt and was thrown away; \
             check the index in use (`python3 -m pip config list`, PIP_INDEX_URL)",
        )
    } else if any(&["Connection", "connection", "Retrying", "timed out", "ProxyError", "SSLError", "resolution"]) {
        failure.hint("check the network (HTTPS_PROXY, PIP_INDEX_URL), then run it again; what is done is kept")
    } else if any(&["No matching distribution"]) {
        failure.hint(
            "the wheels need glibc 2.35 or newer (`ldd --version`; Debian 12, Ubuntu 22.04, Fedora 36 …) \
             and pip 20.3 or newer (`python3 -m pip install --upgrade pip`)",
        )
    } else {
        failure
    }
}

/// How a download stands. Before the first bytes, pip talks to the index.
fn fetched(bytes: u64) -> String {
    if bytes < 50_000 { "asking the package index".to_owned() } else { megabytes(bytes) }
}

/// Bytes in a folder, as far as they can be seen.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(std::result::Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// How to get a python with all that set-up and tests ask of it.
pub const INSTALL: &str = "sudo apt-get install python3 python3-pip python3-venv \
    (Fedora: sudo dnf install python3-pip; Arch: sudo pacman -S python-pip)";

/// A python.
pub struct Python {
    program: PathBuf,
}

impl Python {
    /// The machine's own. `purpose` completes "python3 was not found; …".
    pub fn of_machine(purpose: &str) -> Result<Self> {
        let candidates = ["python3", "python"];
        match candidates.into_iter().find(|program| process::exists(program)) {
            Some(program) => Ok(Python::at(program.into())),
            None => Err(Failure::new(format!("python3 was not found; {purpose}"))
                .detail(format!("tried {}", candidates.join(", ")))
                .hint(INSTALL)),
        }
    }

    /// The one of this path.
    pub fn at(program: PathBuf) -> Self {
        Python { program }
    }

    /// The machine's own if it has pip, else one in a throw-away virtual environment.
    fn with_pip(lock: &Lock) -> Result<Self> {
        let system = Python::of_machine("it fetches the wheels that hold MLX")?;
        let has_pip = process::quiet(system.command().args(["-m", "pip", "--version"]))?;
        if has_pip.status.success() {
            return Ok(system);
        }
        let environment = lock.scratch("venv")?;
        let made = process::quiet(system.command().args(["-m", "venv"]).arg(&environment))?;
        if made.status.success() {
            return Ok(Python::at(environment.join("bin/python")));
        }
        let program = system.program.display();
        Err(Failure::new(format!("{program} has no pip, and no venv to get one from"))
            .detail(format!("{program} -m pip: {}", process::last_lines(&has_pip.stderr, 1)))
            .detail(format!("{program} -m venv: {}", process::last_lines(&made.stderr, 1)))
            .hint(INSTALL))
    }

    /// It, to be given arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // What we read of its output is matched against English.
        command.env("LC_ALL", "C.UTF-8");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_exact_and_hashed_for_both_machines() {
        for name in ["mlx-cpu", "libclang", "scipy-openblas32"] {
            let wheel = Wheel::pinned(name).unwrap();
            assert!(wheel.version.split('.').all(|part| part.parse::<u32>().is_ok()), "{wheel:?}");
            assert!(wheel.pin.starts_with(&format!("{name}=={}", wheel.version)), "{wheel:?}");
            let hashes: Vec<&str> = wheel.pin.split("--hash=sha256:").skip(1).map(|rest| &rest[..64]).collect();
            assert_eq!(hashes.len(), 2, "{wheel:?}");
            assert!(hashes.iter().all(|hash| hash.chars().all(|c| c.is_ascii_hexdigit())), "{wheel:?}");
        }
    }

    #[test]
    fn a_missing_pin_is_named() {
        let failure = Wheel::pinned("numpy").unwrap_err().to_string();
        assert!(failure.contains("numpy"), "{failure}");
    }

    #[test]
    fn what_pip_says_decides_the_hint() {
        let hint = |said: &str| explain(Failure::new("x"), said).to_string();
        assert!(hint("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE").contains("thrown away"));
        let offline = "WARNING: Retrying (Retry(total=2)) … Temporary failure in name resolution\nERROR: No matching distribution";
        assert!(hint(offline).contains("check the network"));
        assert!(hint("ERROR: No matching distribution found for mlx-cpu==0.32.2").contains("glibc"));
        assert!(hint("OSError: [Errno 28] No space left on device").contains("free"));
    }
}
