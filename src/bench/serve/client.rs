//! One request at a time against a server: the streamed answer, with the times at which it arrived.

use std::io::{BufReader, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Response;
use ureq::{Agent, Body};

use super::chunk::{self, Chunk, Drafts, Usage};
use super::fault::{Fault, FaultKind};
use super::sse::Events;
use crate::args::{Fields, Route};

/// Bytes of a body that is no stream, at most.
const MAX_BODY: u64 = 1 << 20;

/// A server, and what every request to it carries.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: String,
    pub key: Option<String>,
    pub model: String,
    pub route: Route,
    pub timeout: Duration,
    /// Fields beside prompt, length and seed.
    pub fields: Fields,
    /// Asks for `usage` at the end of the stream. Some servers refuse the field.
    pub asks_for_usage: bool,
}

/// A prompt: a conversation, the user's turn first and last.
pub type Conversation = Vec<String>;

/// One request.
#[derive(Debug, Clone)]
pub struct Ask {
    pub conversation: Conversation,
    pub max_tokens: usize,
    pub seed: Option<u64>,
    /// Chunks of text after which the client hangs up.
    pub hang_up_after: Option<u64>,
}

impl Ask {
    /// A request of one message, without a seed.
    pub fn of(prompt: String, max_tokens: usize) -> Self {
        Self { conversation: vec![prompt], max_tokens, seed: None, hang_up_after: None }
    }
}

/// An answer, whole or as far as the client listened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Seconds from sending to the first text.
    pub ttft: Option<f64>,
    /// Seconds between chunks of text.
    pub gaps: Vec<f64>,
    /// Seconds from sending to the end.
    pub total: f64,
    /// Text, that of reasoning and of tool calls included.
    pub text: String,
    /// Text of the answer alone, as it goes back into a conversation.
    pub content: String,
    /// Chunks with text.
    pub chunks: u64,
    pub finish_reason: Option<String>,
    pub usage: Option<Usage>,
    pub drafts: Option<Drafts>,
    pub hung_up: bool,
}

impl Answer {
    /// Tokens of the answer: as counted by the server, else chunks.
    pub fn tokens(&self) -> u64 {
        self.usage.map_or(self.chunks, |usage| usage.completion_tokens)
    }

    /// Tokens a second behind the first chunk of text, whose tokens are taken for as many as those of any other.
    pub fn rate(&self) -> Option<f64> {
        let seconds: f64 = self.gaps.iter().sum();
        let tokens = self.tokens() as f64 * self.gaps.len() as f64 / self.chunks.max(1) as f64;
        (seconds > 0.0 && tokens > 0.0).then(|| tokens / seconds)
    }
}

/// A client with a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    pub target: Arc<Target>,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(target: Arc<Target>) -> Self {
        let host = target.url.split("://").nth(1).unwrap_or_default();
        let is_local = ["localhost", "127.", "[::1]"].iter().any(|local| host.starts_with(local));
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("mtplx/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(target.timeout))
            .timeout_per_read(Some(target.timeout));
        if is_local {
            // A proxy between this machine and itself would be measured.
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent(), target }
    }

    /// As [`Client::ask`], but ends as soon as `stop` is set, whatever the server does.
    ///
    /// # Errors
    /// As [`Client::ask`]; interrupted.
    pub fn ask_until(&self, ask: &Ask, stop: &AtomicBool) -> Result<Answer, Fault> {
        let (sender, answer) = mpsc::channel();
        let (client, ask) = (self.clone(), ask.clone());
        thread::spawn(move || {
            // Nobody waits any more after an interrupt.
            let _ = sender.send(client.ask(&ask));
        });
        loop {
            match answer.recv_timeout(Duration::from_millis(50)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
                Err(_) => return Err(Fault::new(FaultKind::Interrupted, "interrupted")),
            }
        }
    }

    /// A page as JSON or text.
    ///
    /// # Errors
    /// There is no answer, or one with another status than 200.
    pub fn get(&self, path: &str) -> Result<String, Fault> {
        let mut request = self.agent.get(format!("{}{path}", self.target.url));
        if let Some(key) = &self.target.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.call().map_err(|error| Fault::transport(error, false))?;
        if response.status().as_u16() != 200 {
            return Err(refusal(&mut response));
        }
        response
            .body_mut()
            .with_config()
            .limit(16 * MAX_BODY)
            .read_to_string()
            .map_err(|error| Fault::transport(error, true))
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or its stream breaks.
    pub fn ask(&self, ask: &Ask) -> Result<Answer, Fault> {
        let body = self.body(ask).to_string();
        let start = Instant::now();
        let mut response = self.send(&body)?;
        if response.status().as_u16() != 200 {
            return Err(refusal(&mut response));
        }
        let kind = response.body().mime_type().unwrap_or("no type").to_owned();
        if kind != "text/event-stream" {
            let beginning = beginning(&mut response);
            let what = format!("{kind} came where a stream of events was asked for: {beginning}");
            return Err(Fault { status: Some(200), ..Fault::new(FaultKind::NoStream, what) });
        }
        let events = Events::new(BufReader::new(response.into_body().into_reader()));
        listen(events, start, ask.hang_up_after).map_err(|fault| Fault { status: Some(200), ..fault })
    }

    fn send(&self, body: &str) -> Result<Response<Body>, Fault> {
        let url = format!("{}{}", self.target.url, self.target.route.path());
        let mut request =
            self.agent.post(url).header("Content-Type", "application/json").header("Accept", "text/event-stream");
        if let Some(key) = &self.target.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        request.send(body).map_err(|error| Fault::transport(error, false))
    }

    /// The body of a request.
    pub fn body(&self, ask: &Ask) -> Value {
        let target = &self.target;
        let mut body = json!({"model": target.model, "stream": true, "max_tokens": ask.max_tokens});
        if target.asks_for_usage {
            body["stream_options"] = json!({"include_usage": true});
        }
        match target.route {
            Route::Chat => {
                let roles = ["user", "assistant"].iter().cycle();
                let messages = ask.conversation.iter().zip(roles);
                body["messages"] = messages.map(|(text, role)| json!({"role": role, "content": text})).collect();
            }
            Route::Completions => body["prompt"] = ask.conversation.concat().into(),
        }
        if let Some(seed) = ask.seed {
            body["seed"] = seed.into();
        }
        for (name, value) in &target.fields {
            body[name] = value.clone();
        }
        body
    }
}

/// Reads a stream of chunks.
fn listen<R: std::io::BufRead>(
    mut events: Events<R>,
    start: Instant,
    hang_up_after: Option<u64>,
) -> Result<Answer, Fault> {
    let mut answer = Answer::default();
    let mut last: Option<f64> = None;
    let broken = |what: String| Fault::new(FaultKind::Broken, what);
    let done = loop {
        let data = match events.next() {
            Ok(Some(data)) => data,
            Ok(None) => break false,
            Err(error) => return Err(Fault::transport(error.into(), true)),
        };
        let now = start.elapsed().as_secs_f64();
        if data == "[DONE]" {
            break true;
        }
        let Some(chunk) = Chunk::parse(&data) else {
            return Err(Fault::new(FaultKind::Malformed, format!("an event is no JSON object: {}", shortened(&data))));
        };
        if let Some(message) = chunk.error {
            return Err(Fault::new(FaultKind::InStream, message));
        }
        if !chunk.text.is_empty() {
            match last {
                None => answer.ttft = Some(now),
                Some(last) => answer.gaps.push(now - last),
            }
            last = Some(now);
            answer.chunks += 1;
            answer.text.push_str(&chunk.text);
            answer.content.push_str(&chunk.content);
        }
        answer.finish_reason = chunk.finish_reason.or(answer.finish_reason);
        answer.usage = chunk.usage.or(answer.usage);
        answer.drafts = chunk.drafts.or(answer.drafts);
        if hang_up_after.is_some_and(|chunks| answer.chunks >= chunks) && answer.finish_reason.is_none() {
            answer.hung_up = true;
            break true;
        }
    };
    answer.total = start.elapsed().as_secs_f64();
    if !done && answer.finish_reason.is_none() {
        return Err(broken(format!(
            "the stream ends after {} chunks, before [DONE] and without finish_reason",
            answer.chunks
        )));
    }
    Ok(answer)
}

/// The fault of an answer with another status than 200.
fn refusal(response: &mut Response<Body>) -> Fault {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let after = header("retry-after").and_then(|text| text.trim().parse().ok());
    let location = header("location").map(|to| format!(", to {}", shortened(&to)));
    let text = beginning(response);
    let message = serde_json::from_str(&text).ok().and_then(|value: Value| chunk::error(&value));
    let what = match (location, message) {
        (Some(to), _) => format!("redirected{to}"),
        (None, Some(message)) => shortened(&message),
        (None, None) => shortened(&text),
    };
    Fault { status: Some(status), retry_after: after, ..Fault::new(FaultKind::Status, what) }
}

/// The beginning of a body, as far as it comes.
fn beginning(response: &mut Response<Body>) -> String {
    let mut bytes = Vec::new();
    // What came before an error is worth showing.
    let _ = response.body_mut().as_reader().take(4096).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if serde_json::from_str::<Value>(&text).is_ok() { text } else { shortened(&text) }
}

/// The beginning of a text, in one line.
fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(stream: &str, hang_up_after: Option<u64>) -> Result<Answer, FaultKind> {
        listen(Events::new(stream.as_bytes()), Instant::now(), hang_up_after).map_err(|fault| fault.kind)
    }

    const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    const LAST: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const USAGE: &str =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";

    #[test]
    fn streams_with_and_without_counts() {
        let whole = heard(&[TEXT, TEXT, LAST, USAGE].concat(), None).unwrap();
        assert_eq!((whole.text.as_str(), whole.chunks, whole.gaps.len(), whole.tokens()), ("aa", 2, 1, 4));
        assert_eq!(whole.finish_reason.as_deref(), Some("stop"));
        let bare = heard(&[TEXT, TEXT, TEXT, LAST].concat(), None).unwrap();
        assert_eq!((bare.usage, bare.tokens()), (None, 3));
        let nothing = heard(&[LAST, USAGE].concat(), None).unwrap();
        assert_eq!((nothing.ttft, nothing.rate()), (None, None));
    }

    #[test]
    fn streams_that_break() {
        assert_eq!(heard("", None), Err(FaultKind::Broken));
        assert_eq!(heard(TEXT, None), Err(FaultKind::Broken));
        assert_eq!(heard(&[TEXT, "data: {\"cho\n\n"].concat(), None), Err(FaultKind::Malformed));
        assert_eq!(
            heard(&[TEXT, "data: {\"error\":{\"message\":\"x\"}}\n\n"].concat(), None),
            Err(FaultKind::InStream)
        );
        let hung_up = heard(&TEXT.repeat(9), Some(2)).unwrap();
        assert!(hung_up.hung_up && hung_up.text == "aa");
        assert!(!heard(&[TEXT, LAST, USAGE].concat(), Some(2)).unwrap().hung_up, "an answer that is shorter is whole");
    }

    #[test]
    fn rates_leave_out_the_first_chunk() {
        let usage = Some(Usage { completion_tokens: 9, ..Usage::default() });
        let answer = Answer { chunks: 3, gaps: vec![0.5, 0.5], usage, ..Answer::default() };
        assert_eq!(answer.rate(), Some(6.0));
        assert_eq!(Answer { chunks: 1, ..Answer::default() }.rate(), None);
    }
}
