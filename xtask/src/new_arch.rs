//! `cargo xtask new-arch NAME`: the skeleton of an architecture, in this workspace or outside of it.
//!
//! The template is plain source in `xtask/template`: `new-arch`, `new_arch` and `NewArch` stand for the name, `MTPLX` for
//! the path to this repository. Outside of it, the skeleton starts with this workspace's `Cargo.lock`: the versions that it
//! was tested with.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use crate::failure::{Failure, IoContext as _, Result};

/// A file of the template: its path below the crate, and its text.
type File = (&'static str, &'static str);

const SOURCES: [File; 4] = [
    ("src/lib.rs", include_str!("../template/architecture/src/lib.rs")),
    ("src/config.rs", include_str!("../template/architecture/src/config.rs")),
    ("src/plan.rs", include_str!("../template/architecture/src/plan.rs")),
    ("src/tests.rs", include_str!("../template/architecture/src/tests.rs")),
];
const MEMBER: File = ("Cargo.toml", include_str!("../template/architecture/workspace.toml"));
const MANIFEST: File = ("Cargo.toml", include_str!("../template/architecture/Cargo.toml"));
const EXAMPLE: File = ("examples/tiny.rs", include_str!("../template/architecture/examples/tiny.rs"));
const PROGRAM: [File; 3] = [
    ("Cargo.toml", include_str!("../template/program/Cargo.toml")),
    ("src/main.rs", include_str!("../template/program/src/main.rs")),
    (".gitignore", "/target\n"),
];

/// Writes the skeleton of `name`: a member of this workspace, or, in `dir`, a workspace of its own with a program.
pub fn new_arch(root: &Path, name: &str, dir: Option<&Path>) -> Result {
    check(name)?;
    match dir {
        Some(dir) => {
            outside(root, name, dir)?;
            eprintln!("{}: written. Next: docs/author-guide.md, step 2; `cargo test --workspace` there", dir.display());
        }
        None => {
            let folder = member(root, name)?;
            eprintln!("{folder}: written, and added to the workspace. To have mtplx link it, as its neighbours:");
            eprintln!(
                "  Cargo.toml   a workspace dependency, an optional dependency, a feature, the feature in `default`"
            );
            eprintln!("  src/lib.rs   `#[cfg(feature = \"{name}\")] use mtplx_arch_{} as _;`", snake(name));
            eprintln!("Next: docs/author-guide.md, step 2; `cargo test -p mtplx-arch-{name}`");
        }
    }
    Ok(())
}

fn check(name: &str) -> Result {
    let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.split('-').all(word) {
        return Ok(());
    }
    Err(Failure::new(format!("`{name}` is no name for a crate"))
        .hint("lower-case words with dashes between: my-model3"))
}

/// Adds `arch-NAME` to this workspace.
fn member(root: &Path, name: &str) -> Result<String> {
    let folder = format!("arch-{name}");
    let manifest = root.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).context("read", &manifest)?;
    let (before, after) = text.split_once("members = [").ok_or_else(|| Failure::new("Cargo.toml has no members"))?;
    let dir = root.join(&folder);
    write(&dir, name, "", SOURCES.iter().chain([&MEMBER]))?;
    let text = format!("{before}members = [\"{folder}\", {after}");
    fs::write(&manifest, text).context("write", &manifest)?;
    Ok(folder)
}

/// Makes a workspace of its own in `dir`.
fn outside(root: &Path, name: &str, dir: &Path) -> Result {
    let absolute = std::path::absolute(dir).context("find", dir)?;
    let inside = absolute.strip_prefix(root).ok();
    let repository = |depth: usize| match inside {
        Some(path) => {
            vec![".."; path.components().filter(|c| matches!(c, Component::Normal(_))).count() + depth].join("/")
        }
        None => root.display().to_string(),
    };
    write(&absolute, name, &repository(0), PROGRAM.iter())?;
    write(&absolute.join("architecture"), name, &repository(1), SOURCES.iter().chain([&MANIFEST, &EXAMPLE]))?;
    // Cargo drops what is this workspace's alone and adds what is the skeleton's.
    let lock = absolute.join("Cargo.lock");
    fs::copy(root.join("Cargo.lock"), &lock).context("write", &lock)?;
    if inside.is_none() {
        // A folder below the repository finds the style of the sources, and where MLX is on this machine, by itself.
        let path = absolute.join("rustfmt.toml");
        fs::copy(root.join("rustfmt.toml"), &path).context("write", &path)?;
        let path = absolute.join(".cargo/config.toml");
        fs::create_dir_all(absolute.join(".cargo")).context("make", &path)?;
        let text = format!("include = [{{ path = {:?}, optional = true }}]\n", root.join(".cargo/mlx.toml"));
        fs::write(&path, text).context("write", &path)?;
    }
    Ok(())
}

fn write<'a>(dir: &Path, name: &str, repository: &str, files: impl Iterator<Item = &'a File>) -> Result {
    if dir.join("Cargo.toml").exists() {
        return Err(Failure::new(format!("{}: there is a crate already", dir.display())).hint("choose another name"));
    }
    for (path, text) in files {
        let path: PathBuf = dir.join(path);
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).context("make", folder)?;
        fs::write(&path, named(text, name, repository)).context("write", &path)?;
    }
    Ok(())
}

/// The template with the name in place.
fn named(text: &str, name: &str, repository: &str) -> String {
    let camel: String = name.split('-').map(capitalized).collect();
    text.replace("NewArch", &camel)
        .replace("new-arch", name)
        .replace("new_arch", &snake(name))
        .replace("MTPLX", repository)
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["acme", "my-model3", "glm4-moe", "a-2"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", "Acme", "a_b", "-a", "a--b", "a-", "3a", "a/b", "..", "é"] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_name_takes_every_form() {
        let text = "use new_arch_architecture as _; struct NewArch; \"new-arch-mtp\" MTPLX/runtime";
        let expected = "use my_model3_architecture as _; struct MyModel3; \"my-model3-mtp\" ../../runtime";
        assert_eq!(named(text, "my-model3", "../.."), expected);
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = std::env::temp_dir().join(format!("mtplx-new-arch-{}", std::process::id()));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        new_arch(root, "acme", Some(&dir)).expect("a skeleton");
        let program = fs::read_to_string(dir.join("src/main.rs")).expect("a program");
        assert!(program.contains("use acme_architecture as _;"), "{program}");
        let manifest = fs::read_to_string(dir.join("architecture/Cargo.toml")).expect("a manifest");
        assert!(manifest.contains(&format!("{}/runtime", root.display())), "{manifest}");
        let locks = [root, dir.as_path()].map(|folder| fs::read(folder.join("Cargo.lock")).expect("a lock file"));
        assert_eq!(locks[0], locks[1]);
        let example = fs::read_to_string(dir.join("architecture/examples/tiny.rs")).expect("an example");
        assert!(example.contains("use acme_architecture::Acme;"), "{example}");
        assert!(dir.join("rustfmt.toml").is_file());
        assert!(new_arch(root, "acme", Some(&dir)).is_err());
        fs::remove_dir_all(&dir).expect("it was there");
    }
}
