//! Models from the Hugging Face cache: found, pulled from a hub on the loopback, listed, removed.

mod cache;
mod pull;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use self::server::{COMMIT, Hub};
use crate::command::{Ran, fixture, mtplx, run_command};

/// A user's cache and the hub that it is filled from.
struct User {
    home: TempDir,
    endpoint: String,
}

impl User {
    fn of(hub: &Hub) -> Self {
        Self { home: tempfile::tempdir().unwrap(), endpoint: hub.endpoint.clone() }
    }

    /// Without a hub: whatever asks for one fails.
    fn offline() -> Self {
        Self { home: tempfile::tempdir().unwrap(), endpoint: "http://127.0.0.1:1".to_owned() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = mtplx(args);
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", &self.endpoint).current_dir(self.home.path());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        run_command(self.command(args), b"")
    }

    fn run_with_token(&self, args: &[&str]) -> Ran {
        let mut command = self.command(args);
        command.env("HF_TOKEN", "hf_secret");
        run_command(command, b"")
    }

    fn succeeds(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    }

    /// The error and hint of a command that must fail, with the user's folder as `HOME` and the hub as `HUB`.
    #[track_caller]
    fn fails(&self, args: &[&str], code: i32) -> (String, String) {
        let ran = self.run(args);
        self.failed(&ran, code)
    }

    #[track_caller]
    fn failed(&self, ran: &Ran, code: i32) -> (String, String) {
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{}", ran.stderr);
        let line = |start: &str| {
            let line = ran.stderr.lines().find_map(|line| line.strip_prefix(start)).expect(&ran.stderr);
            line.replace(self.home.path().to_str().unwrap(), "HOME").replace(&self.endpoint, "HUB")
        };
        (line("error: "), line(" hint: "))
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("hub")
    }

    fn repository(&self) -> PathBuf {
        self.cache().join("models--o--n")
    }

    fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT)
    }

    /// The names in a folder of the repository, sorted.
    fn names(&self, folder: &str) -> Vec<String> {
        names(&self.repository().join(folder))
    }
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A tiny model's files, and some that no checkpoint needs.
fn model() -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> = fs::read_dir(fixture("trained_qwen3_5/mlx_q4g32"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect();
    for (name, bytes) in [
        ("README.md", "hello"),
        ("modeling_x.py", "import os"),
        ("pytorch_model.bin", "\u{2}pickle"),
        ("x/y.json", "{}"),
    ] {
        files.insert(name.to_owned(), bytes.into());
    }
    files
}

/// A repository of a few bytes, whose weights nobody reads.
fn small() -> BTreeMap<String, Vec<u8>> {
    [
        ("config.json", br#"{"model_type":"toy"}"#.to_vec()),
        ("model.safetensors", (0..5000_u32).flat_map(u32::to_le_bytes).collect()),
        ("tokenizer.json", b"{}".to_vec()),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}
