//! The files that evidence covers: those whose hashes it states.

use std::collections::BTreeMap;

use mtplx_runtime::artifact::{CONTRACT, Checkpoint, sha256, shown};

use super::doubts::Doubts;

/// Largest file beside configuration and weights whose stated hash is compared.
const MAX_OTHER: usize = 128 << 20;

/// Reasons why `stated` does not cover these files. `hashes` is asked for the files' own only if something is stated.
pub(super) fn uncovered(
    checkpoint: &Checkpoint,
    stated: &BTreeMap<String, String>,
    hashes: impl FnOnce() -> BTreeMap<String, String>,
) -> Doubts {
    let files = std::iter::once("config.json").chain(checkpoint.files().map(|(file, _)| file));
    let lacking = files
        .filter(|file| !stated.contains_key(*file))
        .map(|file| format!("sha256: the evidence does not cover {}", shown(file)))
        .collect();
    let mut faults = Vec::new();
    let own = if stated.is_empty() { BTreeMap::new() } else { hashes() };
    for (file, stated) in stated {
        let found = match own.get(file) {
            Some(found) => found.clone(),
            None => match checkpoint.read(file, MAX_OTHER) {
                Ok(Some(bytes)) => sha256(&bytes),
                Ok(None) => {
                    faults.push(format!("sha256.{}: there is no such file", shown(file)));
                    continue;
                }
                Err(error) => {
                    faults.push(format!("sha256.{}: {error}", shown(file)));
                    continue;
                }
            },
        };
        if found != *stated {
            faults.push(format!(
                "sha256.{}: the file is not the one that the evidence was measured on ({}…, {CONTRACT} has {}…)",
                shown(file),
                &found[..12],
                &stated[..12],
            ));
        }
    }
    Doubts { against: faults, lacking }
}
