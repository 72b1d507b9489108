//! A hub on the loopback: lists of files, their bytes with redirects to a store under another name, and whatever goes
//! wrong with them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte that is wanted.
    fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    cut: Option<usize>,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The part of the body that was asked for.
    pub fn ranged(mut self, request: &Request) -> Self {
        let all = self.body.len();
        match request.from() {
            None => self,
            Some(from) if from >= all => Self::status(416),
            Some(from) => {
                self.status = 206;
                self.body.drain(..from);
                self.header("Content-Range", format!("bytes {from}-{}/{all}", all - 1))
            }
        }
    }

    /// A part of the body that nobody asked for.
    pub fn ranged_elsewhere(mut self) -> Self {
        self.status = 206;
        self.body.truncate(10);
        self.header("Content-Range", "bytes 0-9/10")
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

/// Answers a request instead of the hub; `usize` counts earlier requests for the same path.
type Instead = dyn Fn(&Request, usize) -> Option<Reply> + Send + Sync;

/// The files of `o/n`, at every revision that is a key of `commits`.
#[derive(Default)]
pub struct Repository {
    pub commits: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub branches: BTreeMap<String, String>,
}

impl Repository {
    /// One commit, which `main` means.
    pub fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        let commits = BTreeMap::from([(COMMIT.to_owned(), files)]);
        Self { commits, branches: BTreeMap::from([("main".to_owned(), COMMIT.to_owned())]) }
    }
}

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub struct Hub {
    /// For `HF_ENDPOINT`.
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Hub {
    pub fn new(repository: Repository) -> Self {
        Self::with(repository, |_, _| None)
    }

    pub fn with(
        repository: Repository,
        instead: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((repository, Box::new(instead) as Box<Instead>, Arc::clone(&seen), port));
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (repository, instead, seen, port) = &*shared;
                    serve(stream, repository, instead, seen, *port)
                });
            }
        });
        Self { endpoint: format!("http://127.0.0.1:{port}"), seen }
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// What was asked of files, list aside.
    pub fn files_asked(&self) -> Vec<String> {
        let requests = self.requests();
        requests.iter().filter_map(|r| Some(r.path.split_once("/resolve/")?.1.split_once('/')?.1.to_owned())).collect()
    }
}

fn serve(stream: TcpStream, repository: &Repository, instead: &Instead, seen: &Mutex<Vec<Request>>, port: u16) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read(&mut reader) {
        let before = {
            let mut seen = seen.lock().unwrap();
            let before = seen.iter().filter(|earlier| earlier.path == request.path).count();
            seen.push(request.clone());
            before
        };
        let reply = instead(&request, before).unwrap_or_else(|| answer(&request, repository, port));
        let sent = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", reply.body.len());
        let written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&reply.body[..sent]));
        if written.is_err() || reply.cut.is_some() {
            return;
        }
    }
}

fn read(reader: &mut impl std::io::BufRead) -> Option<Request> {
    let mut lines = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some(Request { path, headers: headers.collect() })
}

fn answer(request: &Request, repository: &Repository, port: u16) -> Reply {
    let find = |revision: &str| {
        let commit = repository.branches.get(revision).map_or(revision, String::as_str);
        repository.commits.get_key_value(commit)
    };
    let path = request.path.split('?').next().unwrap();
    if let Some(revision) = path.strip_prefix("/api/models/o/n/revision/") {
        return match find(&revision.replace("%2F", "/")) {
            Some((commit, files)) => Reply::body(list(commit, files).to_string()),
            None => Reply::status(404).header("X-Error-Code", "RevisionNotFound"),
        };
    }
    if let Some((commit, name)) = path.strip_prefix("/o/n/resolve/").and_then(|rest| rest.split_once('/')) {
        let Some(bytes) = find(commit).and_then(|(_, files)| files.get(name)) else {
            return Reply::status(404).header("X-Error-Code", "EntryNotFound");
        };
        return match is_large(name) {
            // Another name for the same machine: to a client it is another host.
            true => Reply::status(302).header("Location", format!("http://localhost:{port}/lfs/{commit}/{name}")),
            false => Reply::body(bytes.clone()).ranged(request),
        };
    }
    if let Some((commit, name)) = path.strip_prefix("/lfs/").and_then(|rest| rest.split_once('/')) {
        if request.header("authorization").is_some() {
            return Reply::status(400);
        }
        return Reply::body(find(commit).unwrap().1[name].clone()).ranged(request);
    }
    Reply::status(404).header("X-Error-Code", "RepoNotFound")
}

fn is_large(name: &str) -> bool {
    !name.ends_with(".json") && !name.ends_with(".jinja") && !name.ends_with(".md") && !name.ends_with(".py")
}

/// The hub's answer for a revision.
pub fn list(commit: &str, files: &BTreeMap<String, Vec<u8>>) -> Value {
    let siblings: Vec<Value> = files.iter().map(|(name, bytes)| sibling(name, bytes)).collect();
    json!({"id": "o/n", "sha": commit, "private": false, "gated": false, "siblings": siblings})
}

pub fn sibling(name: &str, bytes: &[u8]) -> Value {
    let mut value = json!({"rfilename": name, "size": bytes.len(), "blobId": git_hash(bytes)});
    if is_large(name) {
        value["lfs"] = json!({"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134});
    }
    value
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn git_hash(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
