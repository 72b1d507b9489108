//! Faults of requests: what kept an answer from being whole.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

/// A request's fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    /// The status, where one came.
    pub status: Option<u16>,
    pub message: String,
    /// Seconds after which the server asks to come again.
    pub retry_after: Option<f64>,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// No connection, or it ended before an answer began.
    Connection,
    /// Nothing came for too long.
    Timeout,
    /// A status that is no success.
    Status,
    /// An answer that is no stream.
    NoStream,
    /// A stream that ended too early.
    Broken,
    /// An event that is no chunk.
    Malformed,
    /// An error within the stream.
    InStream,
    /// The user interrupted.
    Interrupted,
}

impl Fault {
    /// A fault without a status.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, status: None, message: message.into(), retry_after: None }
    }

    /// A fault of the connection. `begun`: the answer had begun.
    pub fn transport(error: ureq::Error, begun: bool) -> Self {
        let kind = match &error {
            ureq::Error::Timeout(_) => FaultKind::Timeout,
            ureq::Error::Io(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                FaultKind::Timeout
            }
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData && begun => FaultKind::Malformed,
            _ if begun => FaultKind::Broken,
            _ => FaultKind::Connection,
        };
        let message = match error {
            ureq::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        };
        Self::new(kind, message)
    }

    /// True for a request that the server turned away because it has enough to do.
    pub fn is_busy(&self) -> bool {
        matches!(self.status, Some(429 | 503)) && self.kind == FaultKind::Status
    }

    /// Its kind in words.
    pub fn label(&self) -> String {
        match (self.kind, self.status) {
            (FaultKind::Connection, _) => "no connection".to_owned(),
            (FaultKind::Timeout, _) => "timeout".to_owned(),
            (FaultKind::Status, Some(status)) => format!("status {status}"),
            (FaultKind::Status, None) => "no status".to_owned(),
            (FaultKind::NoStream, _) => "no stream".to_owned(),
            (FaultKind::Broken, _) => "broken stream".to_owned(),
            (FaultKind::Malformed, _) => "malformed event".to_owned(),
            (FaultKind::InStream, _) => "error in the stream".to_owned(),
            (FaultKind::Interrupted, _) => "interrupted".to_owned(),
        }
    }

    /// A next step.
    pub fn hint(&self) -> &'static str {
        match (self.kind, self.status) {
            (FaultKind::Connection, _) => {
                "is the server running there? `mtplx serve` starts one; --url names another address"
            }
            (FaultKind::Timeout, _) => "--timeout allows more; fewer --clients, shorter prompts or answers take less",
            (FaultKind::Status, Some(401 | 403)) => "--api-key or MTPLX_API_KEY gives the server's key",
            (FaultKind::Status, Some(404)) => {
                "--url is the address before /v1; --model names a model that the server has; --route completions asks on the older route"
            }
            (FaultKind::Status, Some(429 | 503)) => {
                "the server takes no more requests at once: fewer --clients, or a longer queue there"
            }
            (FaultKind::Status, Some(400 | 422)) => {
                "the server refuses the request: shorter --prompt-tokens or --max-tokens, fields that it knows, or another --route"
            }
            (FaultKind::NoStream, _) => {
                "--url is the address of an OpenAI-compatible server, not of a page or a proxy in front of it"
            }
            (_, _) => "the server's log may say why",
        }
    }
}

/// Faults of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultCount {
    pub kind: String,
    pub status: Option<u16>,
    pub count: u64,
    /// The message of the first.
    pub example: String,
    #[serde(skip)]
    pub hint: &'static str,
}

/// Faults, counted by kind.
#[derive(Debug, Clone, Default)]
pub struct Faults(BTreeMap<String, FaultCount>);

impl Faults {
    /// Adds one.
    pub fn add(&mut self, fault: &Fault) {
        let kind = fault.label();
        let count = self.0.entry(kind.clone()).or_insert_with(|| FaultCount {
            kind,
            status: fault.status,
            count: 0,
            example: fault.message.clone(),
            hint: fault.hint(),
        });
        count.count += 1;
    }

    /// The most frequent first.
    pub fn counts(&self) -> Vec<FaultCount> {
        let mut counts: Vec<FaultCount> = self.0.values().cloned().collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.count));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_counted_by_kind() {
        let mut faults = Faults::default();
        let status = |status, message: &str| Fault { status: Some(status), ..Fault::new(FaultKind::Status, message) };
        faults.add(&status(500, "first"));
        faults.add(&status(429, "busy"));
        faults.add(&status(429, "busy again"));
        let counts = faults.counts();
        let shown: Vec<_> =
            counts.iter().map(|count| (count.kind.as_str(), count.count, count.example.as_str())).collect();
        assert_eq!(shown, [("status 429", 2, "busy"), ("status 500", 1, "first")]);
        assert!(status(429, "").is_busy() && !status(500, "").is_busy());
    }

    #[test]
    fn connections_that_fail() {
        let io = |kind: io::ErrorKind| ureq::Error::Io(kind.into());
        let kind = |error, begun| Fault::transport(error, begun).kind;
        assert_eq!(kind(io(io::ErrorKind::ConnectionRefused), false), FaultKind::Connection);
        assert_eq!(kind(io(io::ErrorKind::UnexpectedEof), true), FaultKind::Broken);
        assert_eq!(kind(io(io::ErrorKind::TimedOut), true), FaultKind::Timeout);
        assert_eq!(kind(io(io::ErrorKind::InvalidData), true), FaultKind::Malformed);
    }
}
