//! `mtplx bench serve`, against this program's own server and against one that misbehaves.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command::{Ran, fails, mtplx, run};

/// `mtplx serve` with the built-in model, until it is dropped.
struct Real {
    child: Child,
    url: String,
}

impl Real {
    fn start() -> Self {
        let mut command = mtplx(&["serve", "--port", "0", "--host", "127.0.0.1"]);
        let mut child =
            command.env("OPENBLAS_NUM_THREADS", "1").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines.find_map(|line| line.unwrap().strip_prefix("serving builtin on ").map(str::to_owned)).unwrap();
        // Its log must not fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a mock server answers a completion.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    /// Without `usage`.
    Uncounted,
    /// Refuses `stream_options`.
    Old,
    /// Cuts the stream off.
    Broken,
    /// Sends an event that is no JSON.
    Garbage,
    /// Sends an error in the stream.
    Fails,
    Status(u16),
    Html,
    /// Sends the headers, and then nothing.
    Silent,
    /// Another text each time.
    Mixed,
}

/// A server that answers `before` completions well and the rest in its mood.
struct Mock {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Mock {
    fn start(mood: Mood, before: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let (kept, count) = (Arc::clone(&bodies), Arc::new(AtomicUsize::new(0)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, count) = (Arc::clone(&kept), Arc::clone(&count));
                thread::spawn(move || while exchange(stream.as_ref().unwrap(), mood, before, &kept, &count) {});
            }
        });
        Self { url, bodies }
    }

    fn bench(&self, more: &[&str]) -> Ran {
        run(&[
            &["bench", "serve", "--url", &self.url, "--clients", "2", "--requests", "4", "-n", "5", "--warmup", "0"],
            more,
        ]
        .concat())
    }
}

/// Reads one request and answers it; false at the end of the connection.
fn exchange(
    mut stream: &TcpStream,
    mood: Mood,
    before: usize,
    bodies: &Mutex<Vec<Value>>,
    count: &AtomicUsize,
) -> bool {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap_or(0) > 0 && line != "\r\n" {
        head.push_str(&line.to_ascii_lowercase());
        line.clear();
    }
    if head.is_empty() {
        return false;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return false;
    }
    if head.starts_with("get ") {
        let found = head.starts_with("get /v1/models");
        let models = if found { r#"{"data": [{"id": "mock"}]}"# } else { "{}" };
        return answer(stream, if found { 200 } else { 404 }, "application/json", models);
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = body.to_string();
    bodies.lock().unwrap().push(body.clone());
    let number = count.fetch_add(1, Ordering::SeqCst);
    let mood = if number < before && mood != Mood::Uncounted && mood != Mood::Old { Mood::Good } else { mood };
    if mood == Mood::Old && text.contains("stream_options") {
        return answer(stream, 400, "application/json", r#"{"error": {"message": "stream_options: unknown field"}}"#);
    }
    match mood {
        Mood::Status(status) => {
            return answer(stream, status, "application/json", r#"{"error": {"message": "so it is"}}"#);
        }
        Mood::Html => return answer(stream, 200, "text/html", "<html><p>Welcome to\nnginx</html>"),
        _ => {}
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";
    let mut send = |text: &str| stream.write_all(text.as_bytes()).is_ok() && stream.flush().is_ok();
    send(head);
    if mood == Mood::Silent {
        thread::sleep(Duration::from_secs(20));
        return false;
    }
    let chunk = |text: &str| json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    for place in 0..5 {
        let word = if mood == Mood::Mixed && place == 3 { format!("{number} ") } else { "word ".to_owned() };
        send(&format!(": comment\n\ndata: {}\r\n\r\n", chunk(&word)));
        thread::sleep(Duration::from_millis(3));
        match (place, mood) {
            (2, Mood::Broken) => return false,
            (2, Mood::Garbage) => send("data: {\"choices\": [\n\n"),
            (2, Mood::Fails) => send("data: {\"error\": {\"message\": \"the engine died\"}}\n\n"),
            _ => true,
        };
    }
    send("data: {\"choices\": [{\"index\": 0, \"delta\": {}, \"finish_reason\": \"length\"}]}\n\n");
    if text.contains("stream_options") && mood != Mood::Uncounted {
        // Four characters a token, and ten tokens of template.
        let prompt = body["messages"][0]["content"].as_str().or(body["prompt"].as_str()).unwrap().len() / 4 + 10;
        let usage = json!({"prompt_tokens": prompt, "completion_tokens": 10, "prompt_tokens_details": null});
        send(&format!("data: {}\n\n", json!({"choices": [], "usage": usage})));
    }
    send("data: [DONE]\n\n");
    false
}

fn answer(mut stream: &TcpStream, status: u16, kind: &str, body: &str) -> bool {
    let head = format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).is_ok() && stream.write_all(body.as_bytes()).is_ok()
}

fn document(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Requests that the mock answers before a measurement begins: one to reach it, two of each length that is counted.
const SET_UP: usize = 5;

#[test]
fn any_server_is_measured_by_what_it_counts() {
    let mock = Mock::start(Mood::Good, 0);
    let ran = mock.bench(&["--json", "--prompt-tokens", "60"]);
    let found = document(&ran);
    assert_eq!((ran.code, &found["server"]["model"], &found["server"]["is_mtplx"]), (0, &json!("mock"), &json!(false)));
    let row = &found["rows"][0];
    assert_eq!((&row["answered"], &row["output_tokens"], &row["counted_by"]), (&json!(4), &json!(40), &json!("usage")));
    assert_eq!((&row["cached_tokens"], &row["acceptance"]), (&Value::Null, &Value::Null));
    // Prompts have the length that was asked for, as this server counts.
    assert_eq!(row["prompt_tokens"], 4 * 60);
    // Two tokens a chunk: a token takes half as long as a chunk.
    let [itl, arrival] = ["itl_s", "arrival_s"].map(|name| row[name]["p50"].as_f64().unwrap());
    assert!(arrival >= 0.003 && (arrival / itl - 2.0).abs() < 0.2, "{itl} {arrival}");
    // Nothing but OpenAI's own fields was sent.
    let known = ["max_tokens", "messages", "model", "stream", "stream_options"];
    for body in mock.bodies.lock().unwrap().iter() {
        assert!(body.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{body}");
    }
    let shown = mock.bench(&[]).stdout;
    assert!(shown.contains("serve: mock at http://127.0.0.1:") && !shown.contains("CHUNKS"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 120), "{shown}");
}

#[test]
fn fields_are_sent_where_they_are_asked_for() {
    let mock = Mock::start(Mood::Good, 0);
    let asked =
        ["--seed", "7", "-t", "0.6", "--top-p", "0.9", "--ignore-eos", "--no-mtp", "--extra-body", "{\"top_k\": 3}"];
    mock.bench(&[&asked[..], &["--route", "completions", "--json"]].concat());
    mock.bench(&[&asked[..], &["--route", "completions", "--json"]].concat());
    let bodies = mock.bodies.lock().unwrap();
    let body = bodies.last().unwrap();
    for (field, value) in [
        ("temperature", json!(0.6)),
        ("top_p", json!(0.9)),
        ("ignore_eos", json!(true)),
        ("mtp", json!({"enabled": false})),
        ("top_k", json!(3)),
    ] {
        assert_eq!(body[field], value, "{body}");
    }
    assert!(body["prompt"].is_string() && body["seed"].as_u64().is_some_and(|seed| (7..11).contains(&seed)));
    // The same seed gives the same prompts; without one their first words are others.
    let prompts = |bodies: &[Value]| {
        let mut all: Vec<String> = bodies.iter().map(|body| body["prompt"].to_string()).collect();
        all.sort();
        all
    };
    let (first, second) = bodies.split_at(bodies.len() / 2);
    assert_eq!(prompts(first), prompts(second));
}

#[test]
fn a_server_that_counts_nothing_is_counted_by_chunks() {
    for mood in [Mood::Uncounted, Mood::Old] {
        let mock = Mock::start(mood, 0);
        let ran = mock.bench(&["--json"]);
        let row = &document(&ran)["rows"][0];
        assert_eq!((ran.code, &row["output_tokens"], &row["counted_by"]), (0, &json!(20), &json!("chunks")), "{ran:?}");
        let shown = mock.bench(&[]);
        assert!(shown.stdout.contains("counted by CHUNKS") && shown.stderr.contains("no usage"), "{shown:?}");
    }
}

#[test]
fn faults_are_counted_and_explained() {
    for (mood, kind, named, hint) in [
        (Mood::Status(401), "status 401", "so it is", "--api-key"),
        (Mood::Status(404), "status 404", "so it is", "--model"),
        (Mood::Status(429), "status 429", "so it is", "fewer --clients"),
        (Mood::Status(500), "status 500", "so it is", "log"),
        (Mood::Html, "no stream", "text/html came", "--url"),
        (Mood::Broken, "broken stream", "3 chunks", "log"),
        (Mood::Garbage, "malformed event", "no JSON object", "log"),
        (Mood::Fails, "error in the stream", "the engine died", "log"),
        (Mood::Silent, "timeout", "timeout", "--timeout"),
    ] {
        // From the beginning: an error of one line.
        let mock = Mock::start(mood, 0);
        let (error, advice) = fails(&["bench", "serve", "--url", &mock.url, "--timeout", "0.5"], 1);
        assert!(error.contains(kind) && error.contains(named) && advice.contains(hint), "{error}\n{advice}");
        // After two good answers: both are counted.
        let mock = Mock::start(mood, SET_UP + 2);
        let ran = mock.bench(&["--json", "--timeout", "0.5"]);
        let row = &document(&ran)["rows"][0];
        assert_eq!((ran.code, &row["answered"], &row["requests"]), (0, &json!(2), &json!(4)), "{ran:?}");
        assert_eq!((&row["errors"][0]["kind"], &row["errors"][0]["count"]), (&json!(kind), &json!(2)), "{row}");
        // After none: the table, and why there are no figures.
        let mock = Mock::start(mood, SET_UP);
        let ran = mock.bench(&["--timeout", "0.5"]);
        assert!(ran.code == 1 && ran.stdout.contains(&format!("4 x {kind}: ")), "{ran:?}");
        assert!(
            ran.stderr.contains(&format!("error: nothing was measured: {kind}: ")) && ran.stderr.contains(hint),
            "{ran:?}"
        );
    }
    let (error, hint) = fails(&["bench", "serve", "--url", "127.0.0.1:1"], 1);
    assert!(error.contains("no connection") && hint.contains("mtplx serve"), "{error}");
}

#[test]
fn wrong_and_lost_answers_fail_a_check() {
    let check = ["--check", "--distinct", "2", "--requests", "6"];
    let bench = |mood, before| {
        let mock = Mock::start(mood, before);
        let ran = run(&[
            &["bench", "serve", "--url", &mock.url, "--clients", "2", "-n", "5", "--warmup", "0", "--json"],
            &check[..],
        ]
        .concat());
        let found = document(&ran);
        (ran, found["check"].clone())
    };
    let (ran, check) = bench(Mood::Good, 0);
    assert_eq!(
        (ran.code, &check["right"], &check["wrong"], &check["lost"]),
        (0, &json!(6), &json!(0), &json!(0)),
        "{check}"
    );
    let (ran, check) = bench(Mood::Mixed, 0);
    assert_eq!((ran.code, &check["right"], &check["wrong"]), (1, &json!(0), &json!(6)));
    assert_eq!(check["example"]["at"], "word word word ".len());
    assert!(ran.stderr.contains("6 answers differ"), "{}", ran.stderr);
    let (ran, check) = bench(Mood::Broken, SET_UP + 4);
    assert_eq!((ran.code, &check["right"], &check["lost"]), (1, &json!(2), &json!(4)), "{check}");
    let (ran, check) = bench(Mood::Status(429), SET_UP + 4);
    assert_eq!((ran.code, &check["lost"], &check["refused"]), (0, &json!(0), &json!(4)), "{check}");
}

#[test]
fn an_interrupt_prints_the_figures_so_far() {
    for (before, answered) in [(SET_UP + 3, Some(3)), (0, None)] {
        let mock = Mock::start(Mood::Silent, before);
        let args = [
            "bench",
            "serve",
            "--url",
            &mock.url,
            "--clients",
            "1",
            "--requests",
            "9",
            "-n",
            "5",
            "--warmup",
            "0",
            "--json",
        ];
        let child = mtplx(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while mock.bodies.lock().unwrap().len() <= before {
            assert!(start.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(200));
        let interrupted = Instant::now();
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert!(interrupted.elapsed() < Duration::from_secs(5));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &found["interrupted"]), (Some(130), &json!(true)));
        assert_eq!(found["rows"][0]["answered"].as_u64(), answered);
    }
}

#[test]
fn prompts_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prompts.jsonl");
    std::fs::write(&path, "{\"prompt\": \"first\"}\n\nsecond\n").unwrap();
    let mock = Mock::start(Mood::Good, 0);
    let ran = mock.bench(&["--prompts", path.to_str().unwrap(), "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let content = |body: &Value| body["messages"][0]["content"].as_str().unwrap().to_owned();
    let mut sent: Vec<String> = mock.bodies.lock().unwrap().iter().map(content).collect();
    sent.sort_unstable();
    assert_eq!(sent, ["Hello.", "first", "first", "second", "second"]);
    std::fs::write(&path, "\n").unwrap();
    let (error, _) = fails(&["bench", "serve", "--url", "127.0.0.1:1", "--prompts", path.to_str().unwrap()], 5);
    assert!(error.contains("no prompts"), "{error}");
}

#[test]
fn arguments_that_make_no_sense() {
    for (more, named) in [
        (&["--hang-ups", "0.6", "--bad-requests", "0.6"][..], "more than 0.9"),
        (&["--bad-requests", "0.1", "--url", "https://localhost"], "https"),
        (&["--pid", "4294967294"], "no such process"),
    ] {
        let (error, _) = fails(&[&["bench", "serve"], more].concat(), 2);
        assert!(error.contains(named), "{error}");
    }
    for more in [
        &["--clients", "0"][..],
        &["--clients", "1,x"],
        &["--requests", "3", "--duration", "3"],
        &["--turns", "1"],
        &["--turns", "2", "--check"],
        &["--history-tokens", "9"],
        &["--extra-body", "[]"],
        &["--url", "ftp://x"],
    ] {
        assert_eq!(run(&[&["bench", "serve"], more].concat()).code, 2, "{more:?}");
    }
}

/// All modes against the real server, one after the other: it takes the same time to load for each.
#[test]
fn this_programs_server_is_measured() {
    let server = Real::start();
    let dir = tempfile::tempdir().unwrap();
    let plot = dir.path().join("serve.svg").display().to_string();
    let bench = |more: &[&str]| {
        let ran = run(&[&["bench", "serve", "--url", &server.url, "-n", "12", "--warmup", "1"], more].concat());
        assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
        ran
    };
    let found = document(&bench(&[
        "--clients",
        "1,3",
        "--requests",
        "4",
        "--prompt-tokens",
        "70",
        "--repeats",
        "2",
        "--json",
        "--plot",
        &plot,
    ]));
    assert_eq!((&found["schema"], &found["server"]["is_mtplx"]), (&json!(2), &json!(true)));
    let rows = found["rows"].as_array().unwrap();
    for (row, clients) in rows.iter().zip([1, 3]) {
        assert_eq!((&row["clients"], &row["answered"], &row["errors"]), (&json!(clients), &json!(8), &json!([])));
        let prompt = row["prompt_tokens"].as_f64().unwrap() / 8.0;
        assert!((prompt - 70.0).abs() < 15.0, "{prompt}");
        assert!(row["acceptance"]["drafted_by_depth"][0].as_u64().unwrap() > 0);
        assert_eq!((&row["speedup"]["n"], &row["ttft_s"]["n"]), (&json!(2), &json!(8)));
    }
    let picture = std::fs::read_to_string(&plot).unwrap();
    for said in ["Tokens of all answers a second", "Time to the first token", "Time between tokens"] {
        assert!(picture.contains(said) && !picture.contains("NaN"), "{said}");
    }

    let pid = server.child.id().to_string();
    let soak = [
        "--clients",
        "4",
        "--requests",
        "40",
        "--check",
        "--distinct",
        "3",
        "--hang-ups",
        "0.2",
        "--bad-requests",
        "0.2",
    ];
    let found = document(&bench(&[&soak[..], &["--seed", "5", "--pid", &pid, "--json"]].concat()));
    let check = &found["check"];
    assert_eq!((&check["wrong"], &check["lost"], &check["references"]), (&json!(0), &json!(0), &json!(3)), "{check}");
    let row = &found["rows"][0];
    assert!(row["hung_up"].as_u64().unwrap() > 0 && row["answered"].as_u64().unwrap() > 10, "{row}");
    let bad = found["bad_requests"]["kinds"].as_array().unwrap();
    assert!(bad.len() > 1 && bad.iter().all(|kind| kind["right"] == kind["count"]), "{bad:?}");
    let counters = found["counters"].as_array().unwrap();
    assert!(counters.len() >= 6 && counters.iter().all(|counter| counter["agrees"] == true), "{counters:?}");
    assert!(found["memory"]["max"].as_u64().unwrap() > 50_000_000);

    let turns = document(&bench(&[
        "--turns",
        "3",
        "--repeats",
        "2",
        "--history-tokens",
        "300",
        "--new-tokens",
        "15",
        "--json",
    ]));
    let turns = &turns["turns"];
    assert_eq!((&turns["conversations"], &turns["errors"]), (&json!(2), &json!([])));
    for (row, turn) in turns["rows"].as_array().unwrap().iter().zip([2, 3]) {
        let median = |name: &str| row[name]["median"].as_f64().unwrap();
        assert_eq!(row["turn"], turn);
        // At most 63 tokens are read again, with the new message.
        let read = median("prompt_tokens") - median("cached_tokens");
        assert!(median("cached_tokens") >= 192.0 && (median("cold_tokens") - read).abs() < 12.0, "{row}");
        assert!(median("over_whole") < 1.0, "{row}");
    }
}
