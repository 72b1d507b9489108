//! The repository's own rules, checked on every file that git knows or would add. Each complaint
//! says how to mend it.

mod circles;
mod code;
mod file;
mod layers;
mod links;
mod names;
mod sizes;

use std::{collections::BTreeSet, fs, path::Path};

use self::file::{Complaint, File, is_data};
use crate::{
    failure::{Failure, Result},
    process,
};

/// Checks everything; the failure lists every complaint.
pub fn tidy(root: &Path) -> Result {
    let files = files(root)?;
    let mut complaints = sizes::check(&files);
    for file in files.iter().filter(|file| !is_data(&file.path)) {
        complaints.extend(code::check(file));
        complaints.extend(names::check(file));
    }
    complaints.extend(links::check(&files));
    complaints.extend(circles::check(&files));
    let manifests = process::capture(process::cargo(root).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    complaints.extend(layers::check(&manifests));
    if complaints.is_empty() {
        eprintln!("tidy: {} files checked", files.len());
        return Ok(());
    }
    for Complaint { path, line, message } in &complaints {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        eprintln!("{path}{line}: {message}");
    }
    Err(Failure::new(format!("tidy found {} thing(s) to mend", complaints.len())))
}

fn files(root: &Path) -> Result<Vec<File>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = process::capture(&mut git)
        .map_err(|failure| failure.hint("tidy asks git for the files: it needs git and a clone, not an archive"))?;
    // A set: git lists a file twice in the middle of a merge.
    let paths: BTreeSet<&str> = listed.split('\0').filter(|path| !path.is_empty()).collect();
    Ok(paths.into_iter().filter_map(|path| read(root, path)).collect())
}

/// `None` for what is listed and not there (deleted, and not yet so in the index), and for what is
/// no plain file.
fn read(root: &Path, path: &str) -> Option<File> {
    let place = root.join(path);
    let metadata = fs::symlink_metadata(&place).ok()?;
    let worth_reading = metadata.is_file() && metadata.len() <= sizes::LARGEST;
    let text = if worth_reading { fs::read(&place).ok().and_then(|bytes| String::from_utf8(bytes).ok()) } else { None };
    metadata.is_file().then(|| File { path: path.to_owned(), bytes: metadata.len(), text })
}
