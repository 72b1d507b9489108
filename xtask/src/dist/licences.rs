//! The licences of everything that a dist folder holds, copied from where it came.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    failure::{IoContext, Result},
    process,
};

/// Writes a folder for each crate that is in the program, and a list of them all.
pub fn of_crates(root: &Path, triple: Option<&str>, folder: &Path) -> Result {
    let mut cargo = process::cargo(root);
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    if let Some(triple) = triple {
        cargo.args(["--filter-platform", triple]);
    }
    let metadata: Value = serde_json::from_str(&process::capture(&mut cargo)?).unwrap_or_default();
    let mut list = String::new();
    for package in linked(&metadata, "mtplx") {
        // Ours have the LICENSE of the whole.
        if package["source"].is_null() {
            continue;
        }
        let word = |key: &str| package[key].as_str().unwrap_or("?");
        let name = format!("{}-{}", word("name"), word("version"));
        list.push_str(&format!("{name}: {} ({})\n", word("license"), word("repository")));
        if let Some(sources) = Path::new(word("manifest_path")).parent() {
            of_folder(sources, &folder.join(name))?;
        }
    }
    fs::create_dir_all(folder).context("create", folder)?;
    fs::write(folder.join("crates.txt"), list).context("write", &folder.join("crates.txt"))
}

/// Copies the licence files of one folder.
pub fn of_folder(from: &Path, to: &Path) -> Result {
    for entry in fs::read_dir(from).context("read", from)? {
        let path = entry.context("read", from)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_licence = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|beginning| name.starts_with(beginning));
        if is_licence && path.is_file() {
            fs::create_dir_all(to).context("create", to)?;
            fs::copy(&path, to.join(path.file_name().unwrap_or_default())).context("copy", &path)?;
        }
    }
    Ok(())
}

/// The `licenses` folder that a wheel keeps beside its files.
pub fn of_wheel(wheel: &Path, to: &Path) -> Result {
    let entries = fs::read_dir(wheel).context("read", wheel)?;
    let folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path().join("licenses"))).collect();
    folders.iter().filter(|folder| folder.is_dir()).try_for_each(|folder| of_folder(folder, to))
}

/// The packages that end up in that one's program: its normal dependencies, and theirs.
fn linked<'a>(metadata: &'a Value, name: &str) -> Vec<&'a Value> {
    let list = |value: &'a Value| value.as_array().map(Vec::as_slice).unwrap_or_default();
    let id = |value: &'a Value| value.as_str().unwrap_or_default();
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).iter().map(|package| (id(&package["id"]), package)).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (id(&node["id"]), node)).collect();
    let mut open: Vec<&str> =
        packages.iter().filter(|(_, package)| package["name"] == name).map(|(id, _)| *id).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    while let Some(next) = open.pop() {
        if !seen.insert(next) {
            continue;
        }
        let dependencies = nodes.get(next).map(|node| list(&node["deps"])).unwrap_or_default();
        let is_normal =
            |dependency: &&'a Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        open.extend(dependencies.iter().filter(is_normal).map(|dependency| id(&dependency["pkg"])));
    }
    seen.into_iter().filter_map(|id| packages.get(id).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_what_normal_dependencies_reach() {
        let metadata = serde_json::json!({
            "packages": [
                {"id": "m", "name": "mtplx"}, {"id": "a", "name": "a"}, {"id": "b", "name": "b"},
                {"id": "t", "name": "only-in-tests"}, {"id": "x", "name": "xtask"},
            ],
            "resolve": {"nodes": [
                {"id": "m", "deps": [
                    {"pkg": "a", "dep_kinds": [{"kind": null}]},
                    {"pkg": "t", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "a", "deps": [
                    {"pkg": "b", "dep_kinds": [{"kind": "build"}, {"kind": null}]},
                    {"pkg": "m", "dep_kinds": [{"kind": null}]},
                ]},
                {"id": "x", "deps": [{"pkg": "t", "dep_kinds": [{"kind": null}]}]},
            ]},
        });
        let names: Vec<&Value> = linked(&metadata, "mtplx").iter().map(|package| &package["name"]).collect();
        assert_eq!(names, ["a", "b", "mtplx"]);
    }
}
