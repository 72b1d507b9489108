//! The step `browser` of `cargo xtask test`: the page of `mtplx serve` in a headless Chromium.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    clients,
    failure::{Failure, Result},
    process, setup,
};

/// The packages that `tests/browser` was written for; Pillow makes its pictures small.
const PACKAGES: [&str; 2] = ["selenium==4.51.0", "pillow==13.0.0"];

/// Names and places of the browser: Debian's, Ubuntu's and other distributions', macOS's.
const BROWSERS: [&str; 6] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const DRIVERS: [&str; 2] = ["chromedriver", "chromium.chromedriver"];

/// Where no browser is: what gets one.
const INSTALL: &str =
    "Debian: apt-get install chromium chromium-driver; others: Chrome or Chromium, and chromedriver of its version";

/// Runs the suite with the debug builds.
pub fn check(root: &Path) -> Result {
    let (browser, driver) = browser()?;
    let python = setup::python("browser", &PACKAGES)?;
    let program = clients::build(root, "--bin", "mtplx")?;
    let scripted = clients::build(root, "--example", "scripted")?;
    let mut suite = Command::new(python);
    suite.arg(root.join("tests/browser/suite.py")).arg("--mtplx").arg(program).arg("--scripted").arg(scripted);
    suite.arg("--chromium").arg(browser).arg("--chromedriver").arg(driver);
    // The browser needs the other threads.
    suite.env("OPENBLAS_NUM_THREADS", "1");
    process::run(&mut suite)
}

/// The browser and its driver, installed where that can be done.
fn browser() -> Result<(PathBuf, PathBuf)> {
    if let Some(found) = find() {
        return Ok(found);
    }
    if on_path("apt-get").is_some() && is_root() {
        for arguments in
            [&["update"][..], &["install", "--yes", "--no-install-recommends", "chromium", "chromium-driver"]]
        {
            let mut apt = Command::new("apt-get");
            apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
            process::run(&mut apt).map_err(|failure| failure.hint(INSTALL))?;
        }
    }
    find().ok_or_else(|| Failure::new("no Chromium with its chromedriver was found").hint(INSTALL))
}

fn find() -> Option<(PathBuf, PathBuf)> {
    Some((BROWSERS.into_iter().find_map(on_path)?, DRIVERS.into_iter().find_map(on_path)?))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    // A name that is a whole path stays that.
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn is_root() -> bool {
    process::capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(on_path("sh").is_some_and(|path| path.ends_with("sh")));
        assert_eq!(on_path("/bin/sh"), Some("/bin/sh".into()));
        assert_eq!(on_path("no-such-browser"), None);
    }
}
