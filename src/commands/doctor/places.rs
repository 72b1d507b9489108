//! Folders and files: settings, what is kept between runs, the Hugging Face cache, the program itself.

use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::Command;
use mtplx_runtime::artifact::size_shown;

use super::check::Check;
use crate::args;
use crate::commands::serve::ConfigFile;
use crate::hub::Cache;
use crate::state_dirs::StateDirs;

/// Checks them.
pub(super) fn all() -> Vec<Check> {
    vec![settings(), state(), cache(), on_path(&search_path(), env::current_exe().ok())]
}

fn settings() -> Check {
    let command = args::command();
    let serve = command.find_subcommand("serve").cloned().unwrap_or_else(|| Command::new("serve"));
    match ConfigFile::find(None, &serve) {
        Ok(file) => match file.path() {
            Some(path) => Check::ok("settings", path.display().to_string()),
            None => Check::ok("settings", "no config.toml: defaults"),
        },
        Err(failure) => Check::error(
            "settings",
            failure.to_string(),
            "correct it: `mtplx serve --print-config` shows settings and sources",
        ),
    }
}

/// Hashes, tuned depths and kernels are kept there; nothing fails without.
fn state() -> Check {
    let home = StateDirs::of_user();
    let places = [home.tuned().and_then(Path::parent), home.kernels().and_then(Path::parent)];
    let mut places: Vec<&Path> = places.into_iter().flatten().collect();
    places.dedup();
    let hint = "MTPLX_HOME names another folder; without one, files are hashed and kernels compiled in every run, and `mtplx tune` keeps nothing";
    if places.is_empty() {
        return Check::warning("state", "there is no home folder", hint);
    }
    let shown = places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
    match places.iter().find_map(|place| unwritable(place)) {
        None => Check::ok("state", shown),
        Some(why) => Check::warning("state", why, hint),
    }
}

/// The reason why nothing can be written to a folder that may not be there yet.
fn unwritable(folder: &Path) -> Option<String> {
    let there = folder.ancestors().find(|ancestor| ancestor.exists())?;
    // Permissions do not tell of read-only file systems: a file is made, and removed at once.
    match tempfile::tempfile_in(there) {
        Ok(_) => None,
        Err(error) => Some(format!("{}: cannot be written: {error}", there.display())),
    }
}

fn cache() -> Check {
    let hint = "HF_HUB_CACHE names another folder for models";
    let cache = match Cache::of_user() {
        Ok(cache) => cache,
        Err(failure) => return Check::warning("models", failure.to_string(), hint),
    };
    let root = cache.root().display();
    let repositories = match cache.repositories() {
        Ok(repositories) => repositories,
        Err(failure) => return Check::warning("models", failure.to_string(), hint),
    };
    let snapshots: Vec<_> =
        repositories.iter().flat_map(|repository| repository.snapshots().unwrap_or_default()).collect();
    let bytes: u64 = snapshots.iter().filter_map(|snapshot| snapshot.size().ok()).sum();
    let interrupted: Vec<String> = repositories
        .iter()
        .filter(|repository| repository.is_interrupted())
        .map(|repository| repository.id.to_string())
        .collect();
    match (&interrupted[..], snapshots.len()) {
        ([], 0) => Check::ok(
            "models",
            format!("none in {root}: `mtplx models --known` lists some, `mtplx pull` downloads one"),
        ),
        ([], count) => Check::ok("models", format!("{count} in {root}, {}", size_shown(bytes))),
        (some, count) => Check::warning(
            "models",
            format!("{count} in {root}, {}; unfinished: {}", size_shown(bytes), some.join(", ")),
            format!("`mtplx pull {}` goes on with the download", some[0]),
        ),
    }
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// Programs of this name in the folders of PATH, against the one that runs.
fn on_path(folders: &[PathBuf], own: Option<PathBuf>) -> Check {
    let Some(own) = own.and_then(|own| fs::canonicalize(own).ok()) else {
        return Check::ok("path", "the system does not say where this program is");
    };
    let name = format!("mtplx{}", env::consts::EXE_SUFFIX);
    let mut found: Vec<PathBuf> = Vec::new();
    for program in folders.iter().filter_map(|folder| fs::canonicalize(folder.join(&name)).ok()) {
        if program.is_file() && !found.contains(&program) {
            found.push(program);
        }
    }
    let shown = own.display();
    match &found[..] {
        [] => Check::ok("path", format!("{shown}, which is not on PATH")),
        [first, ..] if *first != own => Check::warning(
            "path",
            format!("`mtplx` is {}, not the program that runs now, {shown}", first.display()),
            "remove one of them, or put the other's folder first on PATH",
        ),
        [_] => Check::ok("path", shown.to_string()),
        [_, other, ..] => Check::warning(
            "path",
            format!("{shown}, and behind it on PATH {}", other.display()),
            "remove the one that you do not want",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn another_program_of_this_name_is_a_warning() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = |dir: &tempfile::TempDir| {
            let path = dir.path().join("mtplx");
            fs::write(&path, "").unwrap();
            path
        };
        let folders = [a.path().to_owned(), b.path().to_owned()];
        let own = program(&a);
        assert_eq!(on_path(&folders, Some(own.clone())).status, Status::Ok);
        let other = program(&b);
        let behind = on_path(&folders, Some(own));
        assert_eq!(behind.status, Status::Warning, "{}", behind.value);
        let first = on_path(&folders, Some(other));
        assert!(first.status == Status::Warning && first.value.starts_with("`mtplx` is "), "{}", first.value);
        assert_eq!(on_path(&[], Some(program(&a))).status, Status::Ok);
        assert_eq!(on_path(&folders, None).status, Status::Ok);
    }
}
