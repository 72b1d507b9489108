//! `mtplx start` as a process: the model that it takes, what it prints, the port, and its end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::command::{json, model, mtplx, run};

/// A server that was started, with what it printed until it was ready.
struct Started {
    child: Child,
    url: String,
    printed: String,
}

impl Started {
    fn with(args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = mtplx(&[&["start", "--no-open"], args].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        for line in &mut lines {
            let line = line.unwrap();
            printed.push_str(&line);
            printed.push('\n');
            if line.starts_with("Ctrl-C") {
                break;
            }
        }
        let url = printed.split(" is ready: ").nth(1).unwrap_or_else(|| panic!("{printed}")).lines().next().unwrap();
        Self { url: url.to_owned(), printed, child }
    }

    /// The answer to the request that was printed as a `curl`.
    fn asked(&self) -> Value {
        let line = self.printed.lines().find_map(|line| line.strip_prefix("  curl ")).unwrap();
        let (url, rest) = line.split_once(' ').unwrap();
        let body = rest.split_once("-d '").unwrap().1.strip_suffix('\'').unwrap();
        let path = url.strip_prefix(&self.url).unwrap();
        let mut stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"
        );
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    /// Its exit code after Ctrl-C.
    fn interrupted(mut self) -> i32 {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code().unwrap()
    }
}

/// A free port with the one before it taken.
fn taken_port() -> (TcpListener, u16) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    (taken, port)
}

/// An empty cache, no terminal to ask on: the built-in model, at the next free port, and a request that works as it is printed.
#[test]
fn the_built_in_model_at_the_next_free_port() {
    let (_taken, port) = taken_port();
    let started = Started::with(&["--port", &port.to_string()], |_| {});
    let own: u16 = started.url.rsplit(':').next().unwrap().parse().unwrap();
    assert!(own > port && own <= port + 64, "{}", started.url);
    let answer = started.asked();
    assert!(!answer["choices"][0]["text"].as_str().unwrap().is_empty(), "{answer}");
    assert!(started.printed.contains(&format!("ANTHROPIC_BASE_URL={}", started.url)), "{}", started.printed);
    assert_eq!(started.interrupted(), 0);
}

/// The model of the cache that runs, named as it was pulled.
#[test]
fn a_model_of_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let repository = home.path().join("hub/models--o--n");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let snapshot = repository.join("snapshots").join(commit);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), commit).unwrap();
    for entry in std::fs::read_dir(model("trained_qwen3_5/mlx_q4g32")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, snapshot.join(path.file_name().unwrap())).unwrap();
    }
    let (taken, port) = taken_port();
    drop(taken);
    let started = Started::with(&["--port", &port.to_string()], |command| {
        command.env("HF_HOME", home.path());
    });
    assert!(started.printed.contains("o/n is ready: "), "{}", started.printed);
    assert_eq!(started.asked()["model"], "o/n");
    assert_eq!(started.interrupted(), 0);
}

#[test]
fn settings_are_those_of_serve() {
    let ran = run(&["start", "--print-config", "--port", "7", "builtin"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let port = ran.stdout.lines().find(|line| line.starts_with("port ")).unwrap();
    assert!(port.contains("\"7\"") && port.ends_with("--port"), "{port}");
    let mut command = mtplx(&["start", "--print-config"]);
    let output = command.env("MTPLX_MAX_QUEUE", "3").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("max-queue") && line.ends_with("MTPLX_MAX_QUEUE")), "{text}");
    assert_eq!(run(&["start", "no/such/model/here"]).code, 5);
    assert_eq!(run(&["start", "builtin", "--model", "builtin"]).code, 2);
}

#[test]
fn known_models() {
    let rows = json(&["models", "--known", "--json"]);
    let rows = rows.as_array().unwrap();
    assert!(rows.len() >= 10);
    for row in rows {
        let [short, long] = [0, 1].map(|i| row["computed"]["memory"][i].as_u64().unwrap());
        assert!(short < long && row["source"].as_str().unwrap().starts_with("https://"), "{row}");
        assert_eq!(
            (&row["device"], &row["contexts"][1], &row["in_cache"]),
            (&"cpu".into(), &32768.into(), &false.into())
        );
    }
    // The figures are those of a shape that is made and inspected.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("shape").display().to_string();
    let made = run(&["forge", "synth", "--like", "qwen3.5-0.8b", &out, "--policy", "flat4"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let fit = &json(&["inspect", &out, "--context", "4096", "--json"])["fit"];
    let smallest = rows.iter().find(|row| row["shape"] == "qwen3.5-0.8b").unwrap();
    assert_eq!(fit["total"], smallest["computed"]["memory"][0]);
    let table = run(&["models", "--known"]);
    assert!(table.code == 0 && table.stderr.starts_with("~: computed"), "{table:?}");
    assert!(table.stdout.lines().skip(1).all(|line| line.contains("fits") || line.contains("does not fit")));
}
