//! Requests that are bad on purpose: malformed, oversized, slowly sent. A server answers each, and none disturbs the others.

use std::io::{self, Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use ureq::http::Uri;

use super::chunk::Chunk;
use super::client::{Ask, Client};

/// Length that an oversized request claims.
const OVERSIZED: u64 = 1 << 36;
/// Bytes of it that are sent.
const SENT: usize = 1 << 16;
/// Pieces of a slow request, and the pause between them.
const PIECES: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of an answer that are read.
const MOST: u64 = 1 << 20;

/// Kinds of bad requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BadKind {
    /// A body that is no JSON.
    Malformed,
    /// A field of the wrong type.
    WrongType,
    /// A body that claims 64 GiB.
    Oversized,
    /// A right request of one token, whose bytes take two seconds.
    Slow,
}

impl BadKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Malformed, Self::WrongType, Self::Oversized, Self::Slow];

    /// The kind in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongType => "wrong type",
            Self::Oversized => "oversized",
            Self::Slow => "slowly sent",
        }
    }
}

/// The answer to a bad request.
#[derive(Debug, Clone)]
pub struct BadAnswer {
    pub kind: BadKind,
    /// Its status, or why none came.
    pub status: Result<u16, String>,
    /// Counts of a slow request's answer.
    pub answer: Option<Chunk>,
}

impl BadAnswer {
    /// True for the answer that such a request should have: a refusal that says that the client is at fault; of one that was
    /// only slow an answer, or that the server did not wait.
    pub fn is_right(&self) -> bool {
        match (self.kind, &self.status) {
            (BadKind::Slow, Ok(200 | 408 | 429 | 503)) => true,
            (BadKind::Slow, _) => false,
            (_, Ok(status)) => (400..500).contains(status),
            (_, Err(_)) => false,
        }
    }
}

/// Sends the bad request that `draw` chooses, on a connection of its own.
pub fn send(client: &Client, ask: &Ask, draw: u64) -> BadAnswer {
    let kind = BadKind::ALL[(draw % BadKind::ALL.len() as u64) as usize];
    match exchange(client, ask, kind) {
        Ok((status, body)) => {
            let answer = if kind == BadKind::Slow { Chunk::parse(&body) } else { None };
            BadAnswer { kind, status: Ok(status), answer }
        }
        Err(error) => BadAnswer { kind, status: Err(error.to_string()), answer: None },
    }
}

fn exchange(client: &Client, ask: &Ask, kind: BadKind) -> io::Result<(u16, String)> {
    let target = &client.target;
    let uri: Uri = target.url.parse().map_err(io::Error::other)?;
    let host = uri.host().unwrap_or("localhost");
    let port = uri.port_u16().unwrap_or(80);
    let address = (host.trim_start_matches('[').trim_end_matches(']'), port).to_socket_addrs()?;
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(target.timeout))?;
    stream.set_write_timeout(Some(target.timeout))?;

    let mut body = client.body(&Ask { max_tokens: 1, ..ask.clone() });
    body["stream"] = false.into();
    if let Value::Object(fields) = &mut body {
        fields.remove("stream_options");
    }
    let (bytes, length) = match kind {
        BadKind::Malformed => {
            let mut bytes = body.to_string().into_bytes();
            bytes.truncate(bytes.len() / 2);
            let length = bytes.len() as u64;
            (bytes, length)
        }
        BadKind::WrongType => {
            body["max_tokens"] = json!({"many": true});
            let bytes = body.to_string().into_bytes();
            let length = bytes.len() as u64;
            (bytes, length)
        }
        BadKind::Oversized => (vec![b' '; SENT], OVERSIZED),
        BadKind::Slow => {
            let bytes = body.to_string().into_bytes();
            let length = bytes.len() as u64;
            (bytes, length)
        }
    };
    let key = target.key.as_ref().map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let path = format!("{}{}", uri.path().trim_end_matches('/'), target.route.path());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n{key}content-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let piece = if kind == BadKind::Slow { bytes.len().div_ceil(PIECES).max(1) } else { SENT };
    for part in bytes.chunks(piece) {
        // A server may refuse and close before everything is sent; its answer says so.
        if stream.write_all(part).is_err() {
            break;
        }
        if kind == BadKind::Slow {
            thread::sleep(PAUSE);
        }
    }
    read_answer(stream)
}

fn connect(addresses: impl Iterator<Item = std::net::SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, Duration::from_secs(20)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Status and body of an answer. One that ends with a reset counts as far as it came.
fn read_answer(stream: impl Read) -> io::Result<(u16, String)> {
    let mut bytes = Vec::new();
    let ended = stream.take(MOST).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    match (status, ended) {
        (Some(status), _) => {
            // Of a body in chunks the JSON is what is between the sizes.
            let json = body.find('{').zip(body.rfind('}')).map_or("", |(from, to)| &body[from..=to]);
            Ok((status, json.to_owned()))
        }
        (None, Err(error)) => Err(error),
        (None, Ok(_)) if bytes.is_empty() => Err(io::Error::other("the connection was closed without an answer")),
        (None, Ok(_)) => Err(io::Error::other("the answer is no HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_they_come() {
        let read = |text: &str| read_answer(text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(read("HTTP/1.1 400 Bad Request\r\na: b\r\n\r\n{\"a\": 1}"), Ok((400, "{\"a\": 1}".to_owned())));
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n8\r\n{\"a\": 1}\r\n0\r\n\r\n"), Ok((200, "{\"a\": 1}".to_owned())));
        assert_eq!(read("HTTP/1.1 413 Too Large\r\n"), Ok((413, String::new())));
        assert!(read("").is_err() && read("hello").is_err());
    }

    #[test]
    fn right_answers() {
        let answer = |kind, status| BadAnswer { kind, status, answer: None }.is_right();
        assert!(
            answer(BadKind::Malformed, Ok(400))
                && answer(BadKind::Oversized, Ok(413))
                && answer(BadKind::Slow, Ok(200))
        );
        for (kind, status) in [
            (BadKind::Malformed, Ok(200)),
            (BadKind::WrongType, Ok(500)),
            (BadKind::Oversized, Err("reset".to_owned())),
            (BadKind::Slow, Ok(500)),
        ] {
            assert!(!answer(kind, status.clone()), "{kind:?} {status:?}");
        }
    }
}
