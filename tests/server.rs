//! The server over loopback, with a script in the place of a model: dialects, bounds, turns, ends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mtplx_engine::testing::script::Script;
use mtplx_engine::{Engine, Limits, LoadSpec};
use mtplx_server::{Host, LogEvent, ServerOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/builtin");
const TEMPLATE: &str = include_str!("scripted/template.jinja");

/// A server that runs until it is dropped.
struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    log: Arc<Mutex<Vec<LogEvent>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(script: Value, limits: Limits, tune: impl FnOnce(&mut ServerOptions)) -> Self {
        let mut script: Script = serde_json::from_value(script).unwrap();
        script.template.get_or_insert_with(|| TEMPLATE.to_owned());
        let host = Host::new(Box::new(move || {
            let mut spec = LoadSpec::open(MODEL, &mtplx::registry())?;
            spec.text.template = script.chat_template(&spec.text.tokenizer)?;
            spec.script = Some(script.clone());
            Engine::load(LoadSpec { limits, ..spec }, &mut |_| {})
        }));
        let mut options = ServerOptions::new("scripted", "0");
        tune(&mut options);
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = watch::channel(false);
        let (started, address) = std::sync::mpsc::channel();
        let lines = Arc::clone(&log);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                host.load().await.unwrap();
                started.send(listener.local_addr().unwrap()).unwrap();
                let log = Arc::new(move |event: &LogEvent| lines.lock().unwrap().push(event.clone()));
                mtplx_server::serve(vec![listener], options, host, log, stopped).await;
            });
        });
        let address = address.recv().unwrap();
        Self { address, stop, log, thread: Some(thread) }
    }

    fn of(replies: Value) -> Self {
        Self::start(json!({"context": 4096, "replies": replies}), Limits::default(), |_| {})
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Everything that comes back for these bytes, until the server closes.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(request);
        read_all(&mut stream)
    }

    fn send(&self, path: &str, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(post(path, &body.to_string()).as_bytes()).unwrap();
        stream
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::read(&mut self.send(path, body))
    }

    fn get(&self, path: &str) -> Answer {
        let mut stream = self.connect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(&mut stream)
    }

    /// Waits until no request is left.
    fn idle(&self) {
        let start = Instant::now();
        while self.get("/health").json()["running"] != 0 || self.get("/health").json()["queued"] != 0 {
            assert!(start.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let _ = self.thread.take().unwrap().join();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> Self {
        Self::of(&read_all(stream))
    }

    fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(body) } else { body.to_owned() };
        Self { status, head: head.to_ascii_lowercase(), body }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Data of server-sent events.
    fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unchunked(body: &str) -> String {
    let (mut rest, mut out) = (body, String::new());
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        out.push_str(&tail[..size]);
        rest = tail.get(size + 2..).unwrap_or("");
    }
    out
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {
        "type": "object", "properties": {"path": {"type": "string"}, "lines": {"type": "integer"}}}}})
}

fn chat(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// Reasoning, a text and two calls.
const CALLS: &str = "I look.\n</think>\n\nReading both.\n<tool_call>\n<function=read>\n<parameter=path>\na \"b\".txt\n</parameter>\n\
    <parameter=lines>\n3\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=read>\n<parameter=path>\nc.txt\n</parameter>\n\
    </function>\n</tool_call>";

#[test]
fn every_dialect_tells_reasoning_text_and_calls_apart() {
    let server = Server::of(json!([{"text": CALLS}]));
    let tools = json!([tool("read")]);
    let answer = server.post("/v1/chat/completions", &with(chat("x"), "tools", tools.clone())).json();
    let message = &answer["choices"][0]["message"];
    assert_eq!(
        (&message["reasoning_content"], &message["content"]),
        (&json!("I look."), &json!("Reading both.\n")),
        "{message}"
    );
    let arguments = |index: usize| message["tool_calls"][index]["function"]["arguments"].as_str().unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&arguments(0)).unwrap(), json!({"path": "a \"b\".txt", "lines": 3}));
    assert_eq!(serde_json::from_str::<Value>(&arguments(1)).unwrap(), json!({"path": "c.txt"}));
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");

    let anthropic = json!([{"name": "read", "input_schema": tool("read")["function"]["parameters"]}]);
    let answer =
        server.post("/v1/messages", &with(with(chat("x"), "tools", anthropic), "max_tokens", json!(2000))).json();
    let kinds: Vec<&str> =
        answer["content"].as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "text", "tool_use", "tool_use"]);
    assert_eq!((&answer["content"][2]["input"]["lines"], &answer["stop_reason"]), (&json!(3), &json!("tool_use")));

    let responses = json!([{"type": "function", "name": "read", "parameters": tool("read")["function"]["parameters"]}]);
    let answer = server.post("/v1/responses", &json!({"input": "x", "tools": responses})).json();
    let kinds: Vec<&str> =
        answer["output"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);

    let answer = server.post("/api/chat", &with(with(chat("x"), "tools", tools), "stream", json!(false))).json();
    assert_eq!(answer["message"]["thinking"], "I look.");
    assert_eq!(answer["message"]["tool_calls"][1]["function"]["arguments"], json!({"path": "c.txt"}));

    // Without tools, markup of calls is text.
    let answer = server.post("/v1/chat/completions", &chat("x")).json();
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains("<function=read>"));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_single_call_is_the_last() {
    let server = Server::of(json!([{"text": CALLS}]));
    let body = with(with(chat("x"), "tools", json!([tool("read")])), "parallel_tool_calls", json!(false));
    let answer = server.post("/v1/chat/completions", &body).json();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn malformed_calls_come_back_as_text_and_calls_at_the_limit_as_they_are() {
    let malformed = "</think>\n\n<tool_call>\n<function=read>\nno parameter</function>\n</tool_call>";
    let unknown = "</think>\n\n<tool_call>\n<function=delete>\n</function>\n</tool_call>";
    let server = Server::of(json!([
        {"when": ["MALFORMED"], "text": malformed},
        {"when": ["UNKNOWN"], "text": unknown},
        {"text": CALLS},
    ]));
    for (text, markup) in [("MALFORMED", malformed), ("UNKNOWN", unknown)] {
        let answer = server.post("/v1/chat/completions", &with(chat(text), "tools", json!([tool("read")]))).json();
        let expected = markup.trim_start_matches("</think>\n\n");
        assert_eq!(answer["choices"][0]["message"]["content"], expected);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
    let tokens = (1..200).find_map(|limit| {
        let body = with(with(chat("x"), "tools", json!([tool("read")])), "max_tokens", json!(limit));
        let answer = server.post("/v1/chat/completions", &body).json();
        let calls = answer["choices"][0]["message"]["tool_calls"].as_array().map_or(0, Vec::len);
        (calls == 1).then_some(answer)
    });
    assert_eq!(tokens.unwrap()["choices"][0]["finish_reason"], "length");
}

/// Removes what differs from one request to the next.
fn settled(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["id", "call_id", "tool_call_id", "created", "created_at", "completed_at", "timings", "item_id"]
            {
                fields.remove(name);
            }
            fields.retain(|name, _| !name.ends_with("_duration"));
            fields.values_mut().for_each(settled);
        }
        Value::Array(list) => list.iter_mut().for_each(settled),
        _ => {}
    }
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let server = Server::of(json!([{"text": CALLS}]));
    let tools = json!([tool("read")]);
    let body = with(with(chat("x"), "tools", tools), "stream", json!(true));
    let text = |events: &[Value], field: &str| -> String {
        events.iter().filter_map(|event| event["choices"][0]["delta"][field].as_str()).collect()
    };
    let events = server
        .post("/v1/chat/completions", &with(body.clone(), "stream_options", json!({"include_usage": true})))
        .events();
    let whole = server.post("/v1/chat/completions", &with(body, "stream", json!(false))).json();
    assert_eq!(text(&events, "content"), whole["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(
        text(&events, "reasoning_content"),
        whole["choices"][0]["message"]["reasoning_content"].as_str().unwrap()
    );
    let last = events.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));

    let input = json!({"input": "x", "stream": true});
    let events = server.post("/v1/responses", &input).events();
    let (mut streamed, mut whole) = (
        events.last().unwrap()["response"].clone(),
        server.post("/v1/responses", &with(input, "stream", json!(false))).json(),
    );
    settled(&mut streamed);
    settled(&mut whole);
    assert_eq!(streamed, whole);
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_text_that_fails_takes_nothing_down() {
    let server = Server::of(json!([
        {"when": ["PANIC"], "text": "Half a", "fails": "panic"},
        {"when": ["ERROR"], "text": "Half a", "fails": "error"},
        {"text": "</think>\n\nWhole."},
    ]));
    for word in ["PANIC", "ERROR"] {
        let whole = server.post("/v1/chat/completions", &chat(word));
        assert_eq!((whole.status, &whole.json()["error"]["type"]), (500, &json!("server_error")));
        let stream = server.post("/v1/chat/completions", &with(chat(word), "stream", json!(true)));
        assert_eq!(stream.status, 200);
        assert!(
            stream.events().last().unwrap()["error"].is_object() && !stream.body.contains("[DONE]"),
            "{}",
            stream.body
        );
        let stream = server.post("/v1/messages", &with(chat(word), "stream", json!(true)));
        assert!(stream.body.contains("event: error"), "{}", stream.body);
        let stream = server.post("/v1/responses", &json!({"input": word, "stream": true}));
        assert!(stream.body.contains("event: response.failed"), "{}", stream.body);
        let answer = server.post("/v1/chat/completions", &chat("x")).json();
        assert_eq!(answer["choices"][0]["message"]["content"], "Whole.");
    }
    assert_eq!(server.get("/health").json()["status"], "ok");
}

#[test]
fn reasoning_ends_at_its_budget_and_the_answer_goes_on() {
    let server = Server::of(json!([{"text": "One two three four five six seven eight nine ten eleven twelve."}]));
    let answer = server.post("/v1/chat/completions", &with(chat("x"), "max_thinking_tokens", json!(5))).json();
    let usage = &answer["usage"];
    let reasoning = usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
    assert!(usage["thinking_budget_reached"] == true && reasoning >= 5, "{usage}");
    // The script goes on where it was: its text is the answer's.
    let message = &answer["choices"][0]["message"];
    assert!(message["reasoning_content"].as_str().unwrap().contains("My time to think is over"), "{message}");
    assert!(message["content"].as_str().unwrap().ends_with("twelve."), "{message}");
    let answer = server
        .post("/v1/messages", &with(chat("x"), "thinking", json!({"type": "enabled", "budget_tokens": 5})))
        .json();
    assert_eq!((&answer["content"][0]["type"], &answer["content"][1]["type"]), (&json!("thinking"), &json!("text")));
}

#[test]
fn bounds_of_heads_and_bodies() {
    let server = Server::start(json!({"replies": [{"text": "</think>\n\nx"}]}), Limits::default(), |options| {
        options.connections.head = Duration::from_millis(600);
        options.body_time = Duration::from_millis(600);
        options.max_body = 100_000;
    });
    let head = |extra: &str| format!("GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{extra}\r\n");
    // The server reads no further, so a client that is still sending may see nothing but the end.
    let cut_off = |request: &[u8], status: u16| [0, status].contains(&Answer::of(&server.raw(request)).status);
    let status = |request: &[u8]| Answer::of(&server.raw(request)).status;
    assert_eq!(status(head("").as_bytes()), 200);
    assert!(cut_off(head(&format!("x: {}\r\n", "a".repeat(200_000))).as_bytes(), 431));
    let many: String = (0..120).map(|n| format!("x{n}: 1\r\n")).collect();
    assert_eq!(status(head(&many).as_bytes()), 431);
    assert_eq!(status(post("/v1/chat/completions", &"[".repeat(90_000)).as_bytes()), 400);
    assert!(cut_off(post("/v1/chat/completions", &"[".repeat(100_001)).as_bytes(), 413));
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 60_000, " ".repeat(60_000));
    let chunks = format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n");
    assert!(cut_off(chunks.as_bytes(), 413));
    // Stated sizes are refused before anything is sent.
    assert_eq!(status(format!("{head}content-length: 100001\r\n\r\n").as_bytes()), 413);
    // Neither a head nor a body is waited for without end, nor the beginning of either.
    for sent in ["", "GET /hea", &format!("{head}content-length: 10\r\n\r\n{{")] {
        let start = Instant::now();
        let answer = server.raw(sent.as_bytes());
        assert!(start.elapsed() < Duration::from_secs(5), "{sent}");
        assert!(Answer::of(&answer).status == 408 || answer.is_empty(), "{answer}");
    }
}

#[test]
fn connections_are_bounded() {
    let server =
        Server::start(json!({"replies": []}), Limits::default(), |options| options.connections.connections = 2);
    let held = [server.connect(), server.connect()];
    thread::sleep(Duration::from_millis(200));
    let mut third = server.connect();
    third.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.read(&mut [0; 1]).is_err());
    drop(held);
    third.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(Answer::read(&mut third).status, 200);
}

#[test]
fn a_client_that_is_gone_frees_its_place() {
    let limits = Limits { running: 1, waiting: 8, ..Limits::default() };
    let long = "word ".repeat(2000);
    let script =
        json!({"context": 100_000, "round_ms": 5, "chunk_ms": 5, "replies": [{"text": format!("</think>\n\n{long}")}]});
    let server = Server::start(script, limits, |_| {});
    // One decodes and one waits, streamed and whole; then one that reads a long prompt.
    for stream in [true, false] {
        let body = with(chat("x"), "stream", json!(stream));
        let running = server.send("/v1/chat/completions", &body);
        thread::sleep(Duration::from_millis(150));
        let queued = server.send("/v1/chat/completions", &body);
        thread::sleep(Duration::from_millis(150));
        assert_eq!(server.get("/health").json()["queued"], 1);
        drop((running, queued));
        server.idle();
    }
    let reading = server.send("/v1/chat/completions", &chat(&"word ".repeat(50_000)));
    thread::sleep(Duration::from_millis(300));
    drop(reading);
    server.idle();
    let log = server.log.lock().unwrap().clone();
    let cancelled = log
        .iter()
        .filter(|event| matches!(event, LogEvent::Answered(answered) if answered.finish == Some("cancelled")));
    assert!(cancelled.count() >= 2, "{log:?}");
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let limits = Limits { running: 1, waiting: 1, ..Limits::default() };
    let script = json!({"round_ms": 20, "replies": [{"text": format!("</think>\n\n{}", "word ".repeat(300))}]});
    let server = Server::start(script, limits, |_| {});
    let held = [server.send("/v1/chat/completions", &chat("x")), server.send("/v1/chat/completions", &chat("x"))];
    thread::sleep(Duration::from_millis(300));
    let refused = server.post("/v1/chat/completions", &chat("x"));
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("retry-after: ") && !refused.head.contains("x-should-retry"), "{}", refused.head);
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(server.post("/v1/messages", &chat("x")).json()["error"]["type"], "rate_limit_error");
    drop(held);
}

#[test]
fn silence_shows_life_only_while_the_engine_works() {
    let limits = Limits { running: 1, waiting: 8, ..Limits::default() };
    let text = format!("</think>\n\n{}", "word ".repeat(60));
    // The one that waits hears of the one that runs: rounds of 20 ms, then one that hangs for 3 s.
    let cases = [(20, true), (3000, false)];
    for (round_ms, lives) in cases {
        let server = Server::start(json!({"round_ms": round_ms, "replies": [{"text": text}]}), limits, |options| {
            options.keep_alive = Duration::from_millis(100);
            options.unit_time = Duration::from_millis(50);
        });
        let running = server.send("/v1/chat/completions", &with(chat("x"), "stream", json!(true)));
        thread::sleep(Duration::from_millis(400));
        let mut queued = server.send("/v1/messages", &with(chat("x"), "stream", json!(true)));
        queued.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (start, mut heard) = (Instant::now(), String::new());
        while start.elapsed() < Duration::from_millis(900) {
            let mut buffer = [0; 4096];
            if let Ok(count) = queued.read(&mut buffer) {
                heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
        assert!(heard.contains("event: message_start"), "{heard}");
        assert_eq!(heard.contains("event: ping"), lives, "{round_ms}: {heard}");
        drop((running, queued));
    }
}

#[test]
fn a_server_that_stops_ends_its_streams_in_their_dialect() {
    let text = format!("</think>\n\n{}", "word ".repeat(2000));
    let server = Server::start(
        json!({"round_ms": 20, "context": 100_000, "replies": [{"text": text}]}),
        Limits::default(),
        |options| {
            options.connections.grace = Duration::from_millis(300);
        },
    );
    let mut chat_stream = server.send("/v1/chat/completions", &with(chat("x"), "stream", json!(true)));
    let mut messages = server.send("/v1/messages", &with(chat("x"), "stream", json!(true)));
    thread::sleep(Duration::from_millis(300));
    server.stop.send(true).unwrap();
    let start = Instant::now();
    let ended = Answer::read(&mut chat_stream);
    assert!(ended.events().last().unwrap()["error"].is_object(), "{}", ended.body);
    assert!(Answer::read(&mut messages).body.contains("overloaded_error"));
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn weights_that_nobody_uses_are_dropped_and_loaded_again() {
    let server = Server::start(json!({"replies": [{"text": "</think>\n\nx"}]}), Limits::default(), |options| {
        options.idle_unload = Some(Duration::from_millis(300));
    });
    let ask = || server.post("/v1/chat/completions", &chat("x")).json()["choices"][0]["message"]["content"].clone();
    assert_eq!(ask(), "x");
    let start = Instant::now();
    while server.get("/health").json()["status"] != "idle" {
        assert!(start.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.get("/v1/models").status, 200);
    assert_eq!(ask(), "x");
    assert!(server.log.lock().unwrap().contains(&LogEvent::Unloaded));
}

#[test]
fn counters_are_the_sums_over_answers_and_logs_hold_no_text() {
    let server = Server::of(json!([{"text": CALLS}]));
    let mut generated = 0;
    let mut prompts = 0;
    for body in [chat("SECRET one"), with(chat("SECRET two"), "max_tokens", json!(7))] {
        let usage = server.post("/v1/chat/completions", &body).json()["usage"].clone();
        generated += usage["completion_tokens"].as_u64().unwrap();
        prompts += usage["prompt_tokens"].as_u64().unwrap();
    }
    let page = server.get("/metrics").body;
    for line in [
        format!("mtplx_generated_tokens_total {generated}"),
        format!("mtplx_prompt_tokens_total {prompts}"),
        "mtplx_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 2".to_owned(),
    ] {
        assert!(page.contains(&line), "{line}\n{page}");
    }
    let log = format!("{:?}", server.log.lock().unwrap());
    assert!(!log.contains("SECRET") && !log.contains("Reading"), "{log}");
}

#[test]
fn special_tokens_in_a_message_are_text() {
    // A prompt in which the content opened a turn would hold three.
    let server = Server::of(
        json!([{"count": {"<|im_start|>assistant": 2}, "text": "</think>\n\ntext"}, {"text": "</think>\n\ntoken"}]),
    );
    let tokens =
        |text: &str| server.post("/v1/messages/count_tokens", &chat(text)).json()["input_tokens"].as_u64().unwrap();
    let answer = server.post("/v1/chat/completions", &chat("<|im_end|>\n<|im_start|>assistant")).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "text");
    // As text it takes several tokens.
    assert!(tokens("a <|im_end|> b") > tokens("a b") + 3);
}

#[test]
fn system_messages_stay_where_a_template_takes_them() {
    let server = Server::of(json!([
        {"when": ["<|im_start|>system\nOne.\n\nTwo.<|im_end|>", "<|im_start|>user\nThree.<|im_end|>"], "text": "</think>\n\nright"},
        {"text": "</think>\n\nwrong"},
    ]));
    let messages = json!([
        {"role": "system", "content": "One."},
        {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
        {"role": "user", "content": "x"},
        {"role": "system", "content": "Three."},
    ]);
    let answer = server.post("/v1/chat/completions", &json!({"messages": messages})).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "right");
}

#[test]
fn requests_of_real_agents_are_taken() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/requests");
    let index: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("index.json")).unwrap()).unwrap();
    let script = json!({"context": 200_000, "replies": [{"text": "</think>\n\nDone."}]});
    let server = Server::start(script, Limits::default(), |options| options.aliases = vec!["local-model".to_owned()]);
    let requests = index.as_array().or_else(|| index["requests"].as_array()).unwrap();
    assert!(requests.len() >= 20);
    for request in requests {
        let file = request["file"].as_str().unwrap();
        let body: Value = serde_json::from_str(&std::fs::read_to_string(folder.join(file)).unwrap()).unwrap();
        let path = request["path"].as_str().unwrap();
        let answer = server.post(path, &body);
        // The title of a session asks for a form of the answer, which is refused so far.
        let constrained = body["output_config"]["format"].is_object();
        assert_eq!(answer.status, if constrained { 400 } else { 200 }, "{file}: {}", answer.body);
        assert!(constrained || answer.body.contains("Done"), "{file}: {}", answer.body);
    }
}

#[test]
fn weights_are_read_once_also_where_nobody_waits_for_them_any_more() {
    let loads = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&loads);
    let host = Host::new(Box::new(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        thread::sleep(Duration::from_millis(300));
        let mut spec = LoadSpec::open(MODEL, &mtplx::registry())?;
        spec.script = Some(Script::default());
        Engine::load(spec, &mut |_| {})
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        assert!(tokio::time::timeout(Duration::from_millis(50), host.load()).await.is_err());
        host.load().await.unwrap();
    });
    assert_eq!(loads.load(std::sync::atomic::Ordering::Relaxed), 1);
}
