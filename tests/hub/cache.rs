//! The cache without a hub: what an argument means, what is listed, and what goes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use super::server::{COMMIT, Hub, Repository, sha256};
use super::{User, model, names, small};
use crate::command::fixture;

const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// Two revisions of a model that share all but their configuration; `main` is the first, `v2` the second.
fn two_revisions() -> User {
    let mut repository = Repository::of(model());
    let mut second = model();
    second.insert("generation_config.json".to_owned(), b"{}".to_vec());
    repository.commits.insert(OTHER.to_owned(), second);
    repository.branches.insert("v2".to_owned(), OTHER.to_owned());
    let hub = Hub::new(repository);
    let user = User::of(&hub);
    user.succeeds(&["pull", "o/n"]);
    user.succeeds(&["pull", "o/n@v2"]);
    user
}

#[test]
fn a_folder_of_the_same_name_is_meant_first() {
    let user = two_revisions();
    let folder = user.home.path().join("o/n");
    fs::create_dir_all(&folder).unwrap();
    let (error, _) = user.fails(&["run", "x", "--model", "o/n"], 5);
    assert!(
        error.starts_with("o/n: damaged: o/n/config.json: not found; o/n/model.safetensors: not found; "),
        "{error}"
    );
    let ran = user.run(&["run", "x", "--model", "o/n"]);
    assert!(
        ran.stderr.starts_with(
            "warning: o/n: the folder of this name here is meant, not the repository in the cache, \
        which is `o/n@main`\n"
        ),
        "{}",
        ran.stderr
    );
    user.succeeds(&["run", "x", "--model", "o/n@main", "--allow-unverified", "-n1"]);
    // What no repository can be called is a folder, and only that.
    for (typed, error) in
        [("o/n/x", "o/n/x: not found"), ("./o2/n", "./o2/n: not found"), ("nothing", "nothing: not found")]
    {
        assert_eq!(user.fails(&["run", "x", "--model", typed], 5).0, error);
    }
}

#[test]
fn a_cache_of_other_tools() {
    let user = User::offline();
    // Nothing there at all.
    let ran = user.succeeds(&["models"]);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.replace(user.home.path().to_str().unwrap(), "HOME").as_str()),
        ("", "no models in HOME/hub\n")
    );
    let add = |repository: &str, file: &str, bytes: &[u8]| {
        let dir = user.cache().join(repository).join("snapshots").join(COMMIT);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), bytes).unwrap();
    };
    for entry in fs::read_dir(fixture("mimo_bf16")).unwrap() {
        let path = entry.unwrap().path();
        add("models--b--whole", path.file_name().unwrap().to_str().unwrap(), &fs::read(&path).unwrap());
    }
    add("models--a--damaged", "config.json", br#"{"model_type":"mimo"}"#);
    add("models--a--damaged", "model.safetensors", b"no weights at all");
    add("models--a--partial", "config.json", br#"{"model_type":"mimo"}"#);
    add("models--c--bert", "config.json", br#"{"model_type":"bert"}"#);
    add("models--c--bert", "model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    add("models--c--pickle", "config.json", br#"{"model_type":"mimo"}"#);
    add("models--c--pickle", "pytorch_model.bin", b"x");
    add("datasets--c--d", "config.json", b"{}");
    add("models--..--evil", "config.json", b"{}");
    fs::create_dir_all(user.cache().join("models--b--whole/snapshots/not-a-commit")).unwrap();
    fs::create_dir_all(user.cache().join("models--b--whole/refs")).unwrap();
    fs::write(user.cache().join("models--b--whole/refs/main"), "../../../../etc").unwrap();

    let list = |args: &[&str]| -> Vec<String> {
        let rows: Value = serde_json::from_str(&user.succeeds(args).stdout).unwrap();
        let cell = |row: &Value| format!("{} {}", row["id"].as_str().unwrap(), row["verdict"].as_str().unwrap());
        rows.as_array().unwrap().iter().map(cell).collect()
    };
    assert_eq!(list(&["models", "--json"]), ["a/damaged damaged", "b/whole unverified"]);
    // Without weights nothing runs, whatever the configuration says.
    let all = [
        "a/damaged damaged",
        "a/partial damaged",
        "b/whole unverified",
        "c/bert incompatible",
        "c/pickle incompatible",
    ];
    assert_eq!(list(&["models", "--json", "--all"]), all);
    let ran = user.succeeds(&["models"]);
    assert_eq!(ran.stderr, "3 more that this binary does not run: --all lists them\n");
    assert!(ran.stdout.contains("model.safetensors: "), "says what is damaged: {}", ran.stdout);
    // A name that is no commit leads nowhere, and the commit itself does.
    let (error, _) = user.fails(&["run", "x", "--model", "b/whole"], 5);
    assert!(error.ends_with("has b/whole at 0123456789ab, not at main"), "{error}");
    user.succeeds(&["run", "x", "--allow-unverified", "-n1", "--model", "b/whole@0123456"]);
}

#[test]
fn a_revision_goes_with_what_only_it_uses() {
    let user = two_revisions();
    assert_eq!((user.names("snapshots").len(), user.names("refs")), (2, vec!["main".to_owned(), "v2".to_owned()]));
    let before = user.names("blobs");
    let ran = user.succeeds(&["remove", "-y", "o/n@v2"]);
    assert_eq!(ran.stdout, "removed o/n at fedcba987654, freed 2 B\n");
    assert_eq!((user.names("snapshots"), user.names("refs")), (vec![COMMIT.to_owned()], vec!["main".to_owned()]));
    assert_eq!(user.names("blobs").len(), before.len() - 1);
    user.succeeds(&["run", "x", "--model", "o/n", "--allow-unverified", "-n1"]);
    let (error, hint) = user.fails(&["remove", "-y", "o/n@v2"], 5);
    assert_eq!(error, "o/n@v2: the cache (HOME/hub) has no such revision of it");
    assert_eq!(hint, "`mtplx models --all` lists what the cache holds");
    // The last one takes the repository with it.
    user.succeeds(&["remove", "-y", "o/n@main"]);
    assert!(!user.repository().exists());
    assert_eq!(user.fails(&["remove", "-y", "o/n"], 5).0, "o/n: not in the cache (HOME/hub)");
}

#[test]
fn nothing_outside_is_removed() {
    let hub = Hub::new(Repository::of(small()));
    let user = User::of(&hub);
    user.succeeds(&["pull", "o/n"]);
    let outside = user.home.path().join("outside");
    fs::create_dir_all(outside.join("dir")).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    fs::write(outside.join("dir/precious"), "x").unwrap();
    let neighbour = user.cache().join("models--o--other/blobs");
    fs::create_dir_all(&neighbour).unwrap();
    fs::write(neighbour.join("b"), "x").unwrap();
    // Links of every kind, in the snapshot and among the contents.
    let link = |to: &Path, at: &Path| symlink(to, at).unwrap();
    link(&outside.join("precious"), &user.snapshot().join("out"));
    link(&outside.join("dir"), &user.snapshot().join("dir"));
    link(&neighbour.join("b"), &user.snapshot().join("next-door"));
    link(&outside.join("precious"), &user.repository().join("blobs/l"));
    link(Path::new("../../blobs/l"), &user.snapshot().join("through"));
    link(&outside.join("dir"), &user.repository().join("blobs/d"));
    link(&user.snapshot(), &user.repository().join("snapshots/loop"));
    let there = || {
        assert_eq!(
            (names(&outside), names(&outside.join("dir")), names(&neighbour)),
            (vec!["dir".to_owned(), "precious".to_owned()], vec!["precious".to_owned()], vec!["b".to_owned()])
        );
    };
    // Another revision keeps the shared content, and its own.
    let second = user.repository().join("snapshots").join(OTHER);
    fs::create_dir_all(&second).unwrap();
    let weights = sha256(&small()["model.safetensors"]);
    link(Path::new(&format!("../../blobs/{weights}")), &second.join("model.safetensors"));
    user.succeeds(&["remove", "-y", "o/n@main"]);
    there();
    assert_eq!(fs::read(second.join("model.safetensors")).unwrap(), small()["model.safetensors"]);
    user.succeeds(&["remove", "-y", "o/n"]);
    there();
    assert!(!user.repository().exists());

    // A repository that is a link.
    link(&outside, &user.repository());
    let (error, _) = user.fails(&["remove", "-y", "o/n"], 5);
    assert_eq!(error, "HOME/hub/models--o--n: a link, which is not followed");
    there();
    for id in ["../outside", "o/..", "o", "o/n@../../x", "/etc/passwd"] {
        assert_eq!(user.run(&["remove", "-y", id]).code, 2, "{id}");
    }
}

#[test]
fn a_download_under_way_is_not_removed() {
    let user = two_revisions();
    let locks = user.cache().join(".locks/models--o--n");
    let lock = fs::File::open(locks.join(&names(&locks)[0])).unwrap();
    lock.lock().unwrap();
    assert_eq!(user.fails(&["remove", "-y", "o/n"], 1).0, "o/n: a download of it is under way");
    drop(lock);
    user.succeeds(&["remove", "-y", "o/n"]);
}

/// A repository that was moved to another disk, with a link left behind: it runs, is listed, takes downloads, and is not
/// deleted through the link.
#[test]
fn a_repository_may_be_a_link() {
    let hub = Hub::new(Repository::of(model()));
    let user = User::of(&hub);
    user.succeeds(&["pull", "o/n"]);
    let disk = user.home.path().join("disk/models--o--n");
    fs::create_dir(disk.parent().unwrap()).unwrap();
    fs::rename(user.repository(), &disk).unwrap();
    symlink(&disk, user.repository()).unwrap();

    assert!(user.succeeds(&["models"]).stdout.starts_with("o/n  0123456789ab (main)  809.1 kB  unverified"));
    user.succeeds(&["run", "x", "--raw", "--model", "o/n", "--allow-unverified", "-n", "1"]);
    assert!(user.succeeds(&["pull", "o/n"]).stderr.contains("model.safetensors (630.0 kB, here already)"));
    let (error, hint) = user.fails(&["remove", "o/n", "--yes"], 5);
    assert_eq!(error, "HOME/hub/models--o--n: a link, which is not followed");
    assert_eq!(hint, "remove the link, and what it leads to, by hand");
    assert!(disk.join("snapshots").join(COMMIT).join("config.json").exists());
}
