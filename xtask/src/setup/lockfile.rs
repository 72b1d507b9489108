//! What Cargo.lock says of a package, read without starting cargo.

use std::{fs, path::Path};

use crate::failure::{Failure, IoContext, Result};

/// One `[[package]]` of Cargo.lock.
#[derive(Debug, PartialEq, Eq)]
pub struct Locked {
    /// Version, or several, separated by commas.
    pub version: String,
    /// Everything the lock file says of it, checksum included: it identifies the sources.
    pub entry: String,
}

/// The package of that name in the lock file of the workspace at `root`.
pub fn package(root: &Path, name: &str) -> Result<Locked> {
    let path = root.join("Cargo.lock");
    let text = fs::read_to_string(&path).context("read", &path)?;
    find(&text, name).ok_or_else(|| {
        Failure::new(format!("{} has no package {name}", path.display()))
            .hint("mlx-rs must be a dependency of the workspace; `cargo metadata` renews the lock file")
    })
}

fn find(lock: &str, name: &str) -> Option<Locked> {
    let wanted = format!("name = \"{name}\"");
    let entries: Vec<&str> =
        lock.split("[[package]]").filter(|entry| entry.lines().any(|line| line == wanted)).map(str::trim).collect();
    let version = |entry: &&str| {
        let line = entry.lines().find_map(|line| line.strip_prefix("version = \""))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    let versions: Vec<String> = entries.iter().filter_map(version).collect();
    (!versions.is_empty()).then(|| Locked { version: versions.join(", "), entry: entries.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"mlx-rs\"\nversion = \"0.33.0\"\n\n[[package]]\n\
        name = \"mlx-sys\"\nversion = \"0.7.0\"\nchecksum = \"abc\"\ndependencies = [\n \"cc\",\n]\n";

    #[test]
    fn a_package_is_found_with_its_checksum() {
        let found = find(LOCK, "mlx-sys").unwrap();
        assert_eq!(found.version, "0.7.0");
        assert!(found.entry.contains("checksum = \"abc\""));
        assert!(!found.entry.contains("mlx-rs"));
    }

    #[test]
    fn a_name_is_matched_whole() {
        assert_eq!(find(LOCK, "mlx"), None);
    }
}
