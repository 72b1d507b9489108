//! `mtplx pull`, and everything that a hub, a network or a disk can do to it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{COMMIT, Hub, Reply, Repository, git_hash, list, sha256, sibling};
use super::{User, model, names, small};

/// A hub with a repository of a few bytes, some of whose answers are others.
fn hub_with(instead: impl Fn(&super::server::Request, usize) -> Option<Reply> + Send + Sync + 'static) -> (Hub, User) {
    let hub = Hub::with(Repository::of(small()), instead);
    let user = User::of(&hub);
    (hub, user)
}

fn is_weights(request: &super::server::Request) -> bool {
    request.path.starts_with("/lfs/") && request.path.ends_with("/model.safetensors")
}

/// Nothing that looks like a model: no snapshot, no name, no whole or partial content of these weights.
#[track_caller]
fn nothing_of_the_weights(user: &User) {
    assert_eq!(user.names("snapshots"), [""; 0]);
    assert_eq!(user.names("refs"), [""; 0]);
    let weights = sha256(&small()["model.safetensors"]);
    let blobs = user.names("blobs");
    assert!(!blobs.iter().any(|name| name.starts_with(&weights)), "{blobs:?}");
}

#[test]
fn a_model_is_pulled_listed_run_and_removed() {
    let hub = Hub::new(Repository::of(model()));
    let user = User::of(&hub);
    let ran = user.run_with_token(&["pull", "o/n"]);
    assert_eq!((ran.code, ran.stdout.trim_end()), (0, user.snapshot().to_str().unwrap()), "{}", ran.stderr);
    assert!(ran.stderr.contains("model.safetensors (630.0 kB)\n"), "{}", ran.stderr);

    // What a checkpoint needs and nothing else, as the Python tools lay it out.
    let kept = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "mtp.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&user.snapshot()), kept);
    assert_eq!(fs::read_to_string(user.repository().join("refs/main")).unwrap(), COMMIT);
    for name in kept {
        let bytes = &model()[name];
        let hash = if name.ends_with(".json") { git_hash(bytes) } else { sha256(bytes) };
        assert_eq!(fs::read_link(user.snapshot().join(name)).unwrap().to_str().unwrap(), format!("../../blobs/{hash}"));
        assert_eq!(&fs::read(user.snapshot().join(name)).unwrap(), bytes);
    }
    assert_eq!(user.names("blobs").len(), kept.len());
    // The hub was told who asks; the store that it sends one to was not.
    for request in hub.requests() {
        let told = request.header("authorization") == Some("Bearer hf_secret");
        assert_eq!(told, !request.path.starts_with("/lfs/"), "{request:?}");
    }

    // Again: only the list is asked for, and nothing is written.
    let asked = hub.files_asked().len();
    let name = || fs::metadata(user.repository().join("refs/main")).unwrap().ino();
    let before = name();
    assert!(user.succeeds(&["pull", "o/n"]).stderr.contains("model.safetensors (630.0 kB, here already)"));
    assert_eq!((hub.files_asked().len(), name()), (asked, before));

    let models: Value = serde_json::from_str(&user.succeeds(&["models", "--json"]).stdout).unwrap();
    let bytes: usize = kept.iter().map(|name| model()[*name].len()).sum();
    let expected = json!({"id": "o/n", "revision": COMMIT, "names": ["main"], "bytes": bytes, "folder": user.snapshot(),
        "verdict": "unverified", "architecture": "qwen3-next-mtp"});
    assert_eq!(models[0].as_object().unwrap().iter().filter(|(k, _)| *k != "why").count(), 7);
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&models[0][field], value);
    }
    let table = user.succeeds(&["models"]).stdout;
    assert_eq!(table, "o/n  0123456789ab (main)  809.1 kB  unverified  qwen3-next-mtp\n");

    for id in ["o/n", "o/n@main", &format!("o/n@{COMMIT}"), "o/n@0123456"] {
        let args = ["run", "x", "--model", id, "--allow-unverified", "-n", "4", "--json", "--seed", "1"];
        let document: Value = serde_json::from_str(&user.succeeds(&args).stdout).unwrap();
        assert_eq!(document["token_ids"].as_array().unwrap().len(), 4);
    }
    let (error, hint) = user.fails(&["run", "x", "--model", "o/n@v2"], 5);
    assert_eq!(
        error,
        "o/n@v2: not found: no folder of this name here, and the cache (HOME/hub) has o/n at 0123456789ab, not at v2"
    );
    assert_eq!(hint, "`mtplx pull o/n@v2` downloads it");

    let (error, hint) = user.fails(&["remove", "o/n"], 2);
    assert_eq!(error, "o/n at 0123456789ab (main): 809.2 kB: nobody to ask whether to remove it");
    assert_eq!(hint, "--yes removes without asking");
    let ran = user.succeeds(&["remove", "o/n", "--yes"]);
    assert_eq!(ran.stdout, "removed o/n at 0123456789ab, freed 809.2 kB\n");
    assert_eq!(names(&user.cache()), [".locks"]);
    assert_eq!(names(&user.cache().join(".locks")), [""; 0]);
}

/// What `mtplx verify` measured here is not the hub's to take back.
#[test]
fn a_contract_that_was_written_here_stays() {
    let files =
        || small().into_iter().chain([("mtplx_runtime.json".to_owned(), b"{\"of\": \"hub\"}".to_vec())]).collect();
    let hub = Hub::new(Repository::of(files()));
    let user = User::of(&hub);
    let pull = || {
        let ran = user.succeeds(&["pull", "o/n", "--json"]);
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        (document["kept"].clone(), ran.stderr)
    };
    let contract = user.snapshot().join("mtplx_runtime.json");
    let link = || fs::read_link(&contract).ok();
    assert_eq!(pull().0, json!([]));
    let hubs = link().expect("a link to the hub's");

    // As `verify` writes it: a file of its own in the link's place.
    for own in ["{\"of\": \"mtplx\"}", "{\"of\": \"her\"}"] {
        fs::remove_file(&contract).unwrap();
        fs::write(&contract, own).unwrap();
        let (kept, stderr) = pull();
        assert_eq!(kept, json!(["mtplx_runtime.json"]));
        assert!(stderr.contains("mtplx_runtime.json: written on this machine"), "{stderr}");
        assert_eq!((fs::read_to_string(&contract).unwrap().as_str(), link()), (own, None));
    }
    // A copy of the hub's, as there are where links cannot be made, says nothing of its own; nor does what is gone.
    fs::write(&contract, "{\"of\": \"hub\"}").unwrap();
    assert_eq!((pull().0, link()), (json!([]), Some(hubs.clone())));
    fs::remove_file(&contract).unwrap();
    assert_eq!((pull().0, link()), (json!([]), Some(hubs)));
    // Nothing else is spared.
    let config = user.snapshot().join("config.json");
    fs::remove_file(&config).unwrap();
    fs::write(&config, "{}").unwrap();
    pull();
    assert!(fs::read_link(&config).is_ok());
}

#[test]
fn shards_are_those_that_the_index_names() {
    let index = json!({"weight_map": {"x": "a-1.safetensors", "y": "sub/a-2.safetensors"}}).to_string();
    let files: BTreeMap<String, Vec<u8>> = [
        ("config.json", r#"{"model_type":"toy","mlx_lm_extra_tensors":{"mtp_file":"h.safetensors"}}"#),
        ("model.safetensors.index.json", &index),
        ("a-1.safetensors", "1"),
        ("sub/a-2.safetensors", "2"),
        ("consolidated.safetensors", "the same once more"),
        ("h.safetensors", "3"),
        ("model-vision-1.safetensors", "4"),
        ("mtplx_runtime.json", "{}"),
        ("chat_template.jinja", ""),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes.into()))
    .into();
    let hub = Hub::new(Repository::of(files));
    let user = User::of(&hub);
    let document: Value = serde_json::from_str(&user.succeeds(&["pull", "o/n", "--json"]).stdout).unwrap();
    assert_eq!((&document["id"], &document["revision"]), (&json!("o/n"), &json!(COMMIT)));
    assert_eq!(
        names(&user.snapshot()),
        [
            "a-1.safetensors",
            "chat_template.jinja",
            "config.json",
            "h.safetensors",
            "model-vision-1.safetensors",
            "model.safetensors.index.json",
            "mtplx_runtime.json",
            "sub"
        ]
    );
    let link = fs::read_link(user.snapshot().join("sub/a-2.safetensors")).unwrap();
    assert_eq!(link.to_str().unwrap(), format!("../../../blobs/{}", sha256(b"2")));
}

#[test]
fn a_cut_connection_is_taken_up_where_it_ended() {
    let (hub, user) = hub_with(|request, before| {
        let weights = || Reply::body(small()["model.safetensors"].clone()).ranged(request);
        (is_weights(request) && before < 2).then(|| weights().cut(6000))
    });
    user.succeeds(&["pull", "o/n"]);
    assert_eq!(fs::read(user.snapshot().join("model.safetensors")).unwrap(), small()["model.safetensors"]);
    let requests = hub.requests();
    let ranges: Vec<Option<&str>> = requests.iter().filter(|r| is_weights(r)).map(|r| r.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=6000-"), Some("bytes=12000-")]);
}

#[test]
fn an_ended_download_is_taken_up_by_the_next_run() {
    let (hub, user) = hub_with(|request, before| match before {
        _ if !is_weights(request) => None,
        0 => Some(Reply::body(small()["model.safetensors"].clone()).cut(7000)),
        1..=5 => Some(Reply::status(503).header("Retry-After", "0")),
        _ => None,
    });
    let (error, hint) = user.fails(&["pull", "o/n"], 1);
    assert_eq!((error.as_str(), hint.as_str()), ("o/n: the hub answers 503", "try again later"));
    let weights = sha256(&small()["model.safetensors"]);
    let partial = user.repository().join(format!("blobs/{weights}.incomplete"));
    assert_eq!(fs::metadata(&partial).unwrap().len(), 7000);
    assert_eq!((user.names("snapshots"), user.names("refs")), (vec![], vec![]));
    // Nothing that could be taken for a model.
    let (error, hint) = user.fails(&["run", "x", "--model", "o/n"], 5);
    assert_eq!(hint, "`mtplx pull o/n` goes on with the download");
    assert!(error.starts_with("o/n: not found: its download ") && error.ends_with(" was interrupted"), "{error}");
    assert_eq!(user.succeeds(&["models", "--all"]).stdout, "");

    user.succeeds(&["pull", "o/n"]);
    assert_eq!(hub.requests().iter().rfind(|r| is_weights(r)).unwrap().header("range"), Some("bytes=7000-"));
    assert_eq!(fs::read(user.snapshot().join("model.safetensors")).unwrap(), small()["model.safetensors"]);
    assert!(!partial.exists());
}

#[test]
fn what_an_earlier_run_left_is_not_believed() {
    let weights = sha256(&small()["model.safetensors"]);
    for left in [vec![9; 7000], vec![9; 20_000], vec![9; 30_000]] {
        let (hub, user) = hub_with(|_, _| None);
        let blobs = user.repository().join("blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{weights}.incomplete")), left).unwrap();
        // A content of another size is no content.
        fs::write(blobs.join(git_hash(&small()["tokenizer.json"])), "").unwrap();
        user.succeeds(&["pull", "o/n"]);
        assert_eq!(fs::read(user.snapshot().join("model.safetensors")).unwrap(), small()["model.safetensors"]);
        assert_eq!(fs::read(user.snapshot().join("tokenizer.json")).unwrap(), b"{}");
        assert!(hub.requests().iter().filter(|r| is_weights(r)).count() <= 2);
    }
}

#[test]
fn a_content_that_changed_in_the_cache_is_fetched_again() {
    let (hub, user) = hub_with(|_, _| None);
    user.succeeds(&["pull", "o/n"]);
    for name in ["model.safetensors", "tokenizer.json"] {
        let place = user.snapshot().join(name);
        let mut bytes = fs::read(&place).unwrap();
        bytes[0] ^= 1;
        fs::write(&place, bytes).unwrap();
        let asked = hub.files_asked().len();
        let stderr = user.succeeds(&["pull", "o/n"]).stderr;
        assert!(stderr.contains(&format!("{name}: damaged in the cache, downloading it again\n")), "{stderr}");
        assert_eq!((hub.files_asked().len() - asked, fs::read(&place).unwrap()), (1, small()[name].clone()));
    }
}

#[test]
fn a_server_that_does_not_resume_is_read_from_the_beginning() {
    // 200 with everything; 206 for another place; 416.
    for answer in 0..3 {
        let (_hub, user) = hub_with(move |request, before| {
            let all = small()["model.safetensors"].clone();
            match (is_weights(request), before, answer) {
                (true, 0, _) => Some(Reply::body(all).cut(6000)),
                (true, 1, 0) => Some(Reply::body(all)),
                (true, 1, 1) => Some(Reply::body(all).ranged_elsewhere()),
                (true, 1, _) => Some(Reply::status(416)),
                _ => None,
            }
        });
        user.succeeds(&["pull", "o/n"]);
        assert_eq!(fs::read(user.snapshot().join("model.safetensors")).unwrap(), small()["model.safetensors"]);
    }
}

#[test]
fn changed_bytes_leave_nothing() {
    let (hub, user) = hub_with(|request, _| {
        let mut all = small()["model.safetensors"].clone();
        all[17_000] ^= 1;
        is_weights(request).then(|| Reply::body(all).ranged(request))
    });
    let (error, hint) = user.fails(&["pull", "o/n"], 5);
    assert_eq!(error, "o/n: model.safetensors: the bytes that came have another SHA-256 than the hub's list says");
    assert!(hint.starts_with("try again; "), "{hint}");
    nothing_of_the_weights(&user);
    assert_eq!(hub.requests().iter().filter(|r| is_weights(r)).count(), 1);

    let (_hub, user) = hub_with(|request, _| {
        request.path.ends_with("/config.json").then(|| Reply::body(&br#"{"model_type":"t0y"}"#[..]))
    });
    let (error, _) = user.fails(&["pull", "o/n"], 5);
    assert_eq!(error, "o/n: config.json: the bytes that came have another git's hash than the hub's list says");
    nothing_of_the_weights(&user);
}

#[test]
fn more_or_fewer_bytes_than_stated_leave_nothing() {
    for size in [100, 20_001, 1_000_000] {
        let (_hub, user) = hub_with(move |request, _| is_weights(request).then(|| Reply::body(vec![0; size])));
        let (error, _) = user.fails(&["pull", "o/n"], 5);
        assert_eq!(error, format!("o/n: model.safetensors: {size} bytes come, and the hub's list says 20000"));
        assert_eq!((user.names("snapshots"), user.names("refs")), (vec![], vec![]));
    }
}

#[test]
fn refusals_say_what_to_do() {
    let refused = |status: u16, code: &'static str, token: bool, code_out: i32| {
        let (hub, user) = hub_with(move |_, _| Some(Reply::status(status).header("X-Error-Code", code)));
        let args: &[&str] = &["pull", "o/n"];
        let ran = if token { user.run_with_token(args) } else { user.run(args) };
        assert_eq!(hub.requests().len(), 1, "asked once");
        assert!(!ran.stderr.contains("hf_secret"));
        let (error, hint) = user.failed(&ran, code_out);
        assert!(!user.repository().exists());
        format!("{error} ({hint})")
    };
    assert_eq!(refused(404, "RepoNotFound", false, 5), refused(401, "RepoNotFound", false, 5));
    assert_eq!(
        refused(401, "RepoNotFound", false, 5),
        "o/n: the hub has no such repository, or it is private (check the name; for a private one give a token in HF_TOKEN or --token-file)"
    );
    assert!(refused(404, "RepoNotFound", true, 5).starts_with("o/n: the hub has no such repository for this token ("));
    assert!(refused(401, "", true, 1).starts_with("o/n: the hub refuses (401) (check the token"));
    assert!(
        refused(404, "RevisionNotFound", false, 5)
            .starts_with("o/n: the repository has no revision main (HUB/o/n/tree/main")
    );
    assert_eq!(
        refused(403, "GatedRepo", true, 1),
        "o/n: its authors ask for their conditions to be accepted first (accept them at HUB/o/n with the account that the token belongs to)"
    );
    assert!(refused(401, "GatedRepo", false, 1).contains("then give that account's token in HF_TOKEN or --token-file"));
    assert!(refused(403, "", true, 1).starts_with("o/n: the hub refuses (403) (check the token"));
    assert!(refused(418, "", false, 1).starts_with("o/n: the hub answers 418"));
}

#[test]
fn gated_files_of_a_listed_repository() {
    let (_hub, user) = hub_with(|request, _| {
        request.path.contains("/resolve/").then(|| Reply::status(401).header("X-Error-Code", "GatedRepo"))
    });
    let (error, _) = user.fails(&["pull", "o/n"], 1);
    assert_eq!(error, "o/n: its authors ask for their conditions to be accepted first");
    nothing_of_the_weights(&user);
}

#[test]
fn a_busy_server_is_asked_again() {
    let (hub, user) = hub_with(|_, before| match before {
        0 => Some(Reply::status(429).header("Retry-After", "0")),
        1 => Some(Reply::status(500)),
        _ => None,
    });
    user.succeeds(&["pull", "o/n"]);
    assert_eq!(hub.requests().iter().filter(|r| r.path.starts_with("/api/")).count(), 3);

    let (hub, user) = hub_with(|_, _| Some(Reply::status(502).header("Retry-After", "0")));
    let (error, _) = user.fails(&["pull", "o/n"], 1);
    assert_eq!((error.as_str(), hub.requests().len()), ("o/n: the hub answers 502", 5));
}

#[test]
fn redirects_lead_somewhere_or_are_refused() {
    // A renamed repository: the hub sends to itself, and the token goes along.
    let (hub, user) = hub_with(|request, _| {
        let old = request.path.strip_prefix("/api/models/old/name/").map(|rest| format!("/api/models/o/n/{rest}"));
        let old = old.or_else(|| request.path.strip_prefix("/old/name/").map(|rest| format!("/o/n/{rest}")));
        old.map(|new| Reply::status(307).header("Location", new))
    });
    let ran = user.run_with_token(&["pull", "old/name"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        hub.requests().iter().any(|r| r.path.starts_with("/api/models/o/n/") && r.header("authorization").is_some())
    );

    for (location, what) in [
        ("file:///etc/passwd", "the hub redirects to file:///etc/passwd, which is no address to go to"),
        ("//elsewhere/x", "the hub redirects to //elsewhere/x, which is no address to go to"),
        ("/round/and/round", "o/n: more than 5 redirects in a row"),
    ] {
        let (_hub, user) = hub_with(move |_, _| Some(Reply::status(302).header("Location", location)));
        assert_eq!(user.fails(&["pull", "o/n"], 1).0, what);
    }
}

/// A hub that takes a request and never answers.
#[test]
fn an_interrupt_does_not_wait_for_the_hub() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut user = User::offline();
    user.endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut command = user.command(&["pull", "o/n"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (_held, _) = listener.accept().unwrap();
    let started = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(130), &b""[..]), "{stderr}");
    assert_eq!(stderr, "error: o/n: interrupted\n hint: `mtplx pull o/n` goes on where this stopped\n");
}

#[test]
fn offline_is_offline() {
    let (hub, user) = hub_with(|_, _| None);
    let mut command = user.command(&["pull", "o/n"]);
    command.env("HF_HUB_OFFLINE", "1");
    let (error, _) = user.failed(&crate::command::run_command(command, b""), 2);
    assert_eq!((error.as_str(), hub.requests().len()), ("HF_HUB_OFFLINE is set: nothing is downloaded", 0));
    // Running never asks the hub, set or not.
    let (error, hint) = user.fails(&["run", "x", "--model", "o/n"], 5);
    assert_eq!(error, "o/n: not found: no folder of this name here, and no such repository in the cache (HOME/hub)");
    assert_eq!((hint.as_str(), hub.requests().len()), ("`mtplx pull o/n` downloads it", 0));
}

#[test]
fn nobody_there() {
    // A port that nothing listens on; the tries take a few seconds, so only the list is asked for.
    let user = User::offline();
    let (error, hint) = user.fails(&["pull", "o/n"], 1);
    assert!(error.starts_with("127.0.0.1: "), "{error}");
    assert_eq!(hint, "check the connection, and HF_ENDPOINT if it is set");
    for endpoint in ["ftp://x", "nonsense", "http://", "http://a@b"] {
        let mut command = user.command(&["pull", "o/n"]);
        command.env("HF_ENDPOINT", endpoint);
        let ran = crate::command::run_command(command, b"");
        assert!(user.failed(&ran, 2).0.ends_with("no address of a hub"));
    }
}

#[test]
fn repositories_without_a_model() {
    let files = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), b"{}".to_vec())).collect();
    for (names, what) in [
        (
            &["config.json", "pytorch_model.bin"][..],
            "o/n/pytorch_model.bin: the only weights are pickled, and pickle can run code when read",
        ),
        (&["config.json", "q4.gguf"], "o/n/q4.gguf: the only weights are not safetensors"),
        (
            &["model.safetensors", "README.md"],
            "o/n: the repository has no config.json: not a model that could run here",
        ),
    ] {
        let hub = Hub::new(Repository::of(files(names)));
        let user = User::of(&hub);
        assert_eq!(user.fails(&["pull", "o/n"], 4).0, what);
        assert_eq!((hub.requests().len(), user.repository().exists()), (1, false));
    }
}

#[test]
fn lists_that_reach_out_of_the_cache() {
    let listed = |extra: Value| {
        let (hub, user) = hub_with(move |request, _| {
            let mut list = list(COMMIT, &small());
            list["siblings"].as_array_mut().unwrap().push(extra.clone());
            request.path.starts_with("/api/").then(|| Reply::body(list.to_string()))
        });
        let (error, _) = user.fails(&["pull", "o/n"], 5);
        assert_eq!((hub.requests().len(), user.cache().exists()), (1, false));
        error
    };
    for name in ["../../x", "../../../../x.safetensors", "/tmp/x.safetensors", "a/../../../x.safetensors", "a\\..\\x"] {
        let error = listed(sibling(name, b"x"));
        assert!(error.starts_with(&format!("o/n: the hub's list of files: {name:?}: a file name ")), "{error}");
    }
    let mut escaping = sibling("tokenizer_config.json", b"x");
    escaping["blobId"] = json!("../../../../x");
    assert!(listed(escaping).ends_with("tokenizer_config.json: \"../../../../x\" is no hash"));
    assert!(
        listed(json!({"rfilename": "vocab.json", "size": 1_u64 << 60, "blobId": "a".repeat(40)}))
            .contains("vocab.json: 1152921504606846976 bytes")
    );
    assert!(
        listed(json!({"rfilename": "vocab.json", "size": 1_u64 << 40, "blobId": "a".repeat(40)}))
            .contains("vocab.json: 1099511627776 bytes")
    );
    assert!(listed(json!(7)).contains("the hub's list of files: invalid type"));
}

#[test]
fn what_the_disk_cannot_hold_is_not_begun() {
    let (hub, user) = hub_with(|request, _| {
        let mut list = list(COMMIT, &small());
        for file in list["siblings"].as_array_mut().unwrap() {
            if file["rfilename"] == "model.safetensors" {
                file["lfs"]["size"] = json!(1_u64 << 44);
            }
        }
        request.path.starts_with("/api/").then(|| Reply::body(list.to_string()))
    });
    let (error, hint) = user.fails(&["pull", "o/n"], 1);
    assert!(error.starts_with("o/n: 17.6 TB to download, and HOME/hub/models--o--n/blobs has room for "), "{error}");
    assert!(hint.contains("mtplx remove"), "{hint}");
    assert!(!hub.files_asked().contains(&"model.safetensors".to_owned()));
}

#[test]
fn two_at_once_fetch_everything_once() {
    let hub = Hub::new(Repository::of(model()));
    let user = User::of(&hub);
    let children: Vec<_> = (0..2)
        .map(|_| user.command(&["pull", "o/n"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for child in children {
        assert_eq!(
            String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim_end(),
            user.snapshot().to_str().unwrap()
        );
    }
    let mut asked = hub.files_asked();
    asked.sort();
    let all = asked.len();
    asked.dedup();
    assert_eq!(asked.len(), all, "{asked:?}");
}

#[test]
fn tokens() {
    let (hub, user) = hub_with(|_, _| None);
    let file = user.home.path().join("t");
    let path = file.to_str().unwrap();
    fs::write(&file, "hf_file\n").unwrap();
    user.succeeds(&["pull", "o/n", "--token-file", path]);
    assert_eq!(hub.requests()[0].header("authorization"), Some("Bearer hf_file"));
    for (text, what) in
        [("", "HOME/t: empty"), ("two words", "HOME/t: no token"), ("a\r\nX-Evil: 1", "HOME/t: no token")]
    {
        fs::write(&file, text).unwrap();
        assert_eq!(user.fails(&["pull", "o/n", "--token-file", path], 2).0, what);
    }
    fs::write(&file, "h".repeat(5000)).unwrap();
    for endless in [path, "/dev/zero"] {
        let (error, _) = user.fails(&["pull", "o/n", "--token-file", endless], 2);
        assert!(error.ends_with(": no token"), "{error}");
    }
    assert!(user.fails(&["pull", "o/n", "--token-file", "gone"], 5).0.starts_with("gone: "));
    // Where the Hugging Face tools keep one.
    fs::write(user.home.path().join("token"), "hf_kept").unwrap();
    user.succeeds(&["pull", "o/n"]);
    assert_eq!(hub.requests().last().unwrap().header("authorization"), Some("Bearer hf_kept"));
}
