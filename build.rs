//! Lists the files of the built-in model for [`include_bytes!`]: whatever is in `models/builtin` is compiled in, and a
//! checkout or package without that folder gives a binary without a built-in model.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const FOLDER: &str = "models/builtin";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={FOLDER}");
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name));
    let folder = variable("CARGO_MANIFEST_DIR")?.join(FOLDER);
    let mut files = if env::var_os("CARGO_FEATURE_BUILTIN_MODEL").is_some() { model_files(&folder)? } else { vec![] };
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.file_name().unwrap_or_default();
        let _ = writeln!(list, "    ({name:?}, include_bytes!({file:?})),");
    }
    list.push_str("]\n");
    fs::write(variable("OUT_DIR")?.join("builtin.rs"), list)
}

/// The files that a model is read from; notes and pictures beside them are not.
fn model_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.join("config.json").is_file() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_file() && matches!(extension, Some("json" | "safetensors" | "jinja")) {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(files)
}
