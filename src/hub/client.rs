//! Requests to the hub: where it is, who asks, what is tried again, and what its refusals mean.
//!
//! Two kinds of request: a revision's list of files, and a file's bytes from some place on. Redirects are followed here
//! rather than by the HTTP library, because the token may go to the hub alone: its files lie with other hosts.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::cache::home;
use super::id::RepoId;
use crate::error::{Exit, Failure, warn};

const ENDPOINT: &str = "https://huggingface.co";
/// Tries in a row that bring nothing.
const TRIES: u32 = 5;
/// Wait after the first of them; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;
/// Longest token.
const MAX_TOKEN: usize = 4096;
/// Largest list of files: thousands of shards take a few megabytes.
const MAX_LISTING: u64 = 32 << 20;

/// A connection to the hub.
pub struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// Whether to give up early: the user interrupted, or another file failed.
pub(super) type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// Why a request came to nothing.
pub(super) struct RequestError {
    pub failure: Failure,
    /// Whether it may go better next time, and after what the server asks for.
    pub again: Retry,
}

pub(super) enum Retry {
    No,
    Yes(Option<Duration>),
}

impl Hub {
    /// The hub as the environment has it (`HF_ENDPOINT`), for whoever holds the token: in `token_file`, else in `HF_TOKEN`,
    /// else where the Hugging Face tools keep it.
    ///
    /// # Errors
    /// `HF_HUB_OFFLINE` is set; the token's file cannot be read; `HF_ENDPOINT` is no address.
    pub fn of_environment(token_file: Option<&Path>) -> Result<Self, Failure> {
        if is_on("HF_HUB_OFFLINE") {
            let what = "HF_HUB_OFFLINE is set: nothing is downloaded";
            return Err(Failure::usage(what, "unset it to download; `mtplx models` lists what is here already"));
        }
        let endpoint = text_of("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let uri = endpoint.parse::<Uri>().ok().filter(|uri| origin(uri).is_some() && uri.query().is_none());
        let Some(uri) = uri else {
            let what = format!("HF_ENDPOINT: {endpoint}: no address of a hub");
            return Err(Failure::usage(what, "such as https://huggingface.co"));
        };
        let mut token = token(token_file)?;
        if token.is_some() && uri.scheme_str() == Some("http") && !is_loopback(&uri) {
            warn(&format!("the token stays here: {endpoint} is not encrypted"));
            token = None;
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("mtplx/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build();
        Ok(Self { agent: config.new_agent(), endpoint, token })
    }

    /// The hub's answer to which files a revision has, as JSON.
    ///
    /// # Errors
    /// There is no such repository or revision, it may not be read, or the hub does not answer.
    pub(super) fn listing(&self, id: &RepoId, halted: Cancelled<'_>) -> Result<Vec<u8>, Failure> {
        let revision = encoded(id.revision.as_deref().unwrap_or(super::cache::MAIN));
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, id.repository());
        persist(halted, || {
            let mut response = self.get(id, &url, 0)?;
            let body = response.body_mut().with_config().limit(MAX_LISTING);
            body.read_to_vec().map_err(|error| transport(&url, &error))
        })
    }

    /// A file's bytes from `from` on.
    ///
    /// # Errors
    /// As [`Hub::listing`]; nothing is tried again here.
    pub(super) fn file(
        &self,
        id: &RepoId,
        commit: &str,
        name: &str,
        from: u64,
    ) -> Result<Response<Body>, RequestError> {
        let name: Vec<String> = name.split('/').map(encoded).collect();
        let url = format!("{}/{}/resolve/{commit}/{}", self.endpoint, id.repository(), name.join("/"));
        self.get(id, &url, from)
    }

    /// One request with its redirects. Succeeds with status 200 or 206, or 416 where `from` is not 0.
    fn get(&self, id: &RepoId, url: &str, from: u64) -> Result<Response<Body>, RequestError> {
        let home = self.endpoint.parse::<Uri>().ok().as_ref().and_then(origin);
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| no_address(&url))?;
            let here = origin(&uri).ok_or_else(|| no_address(&url))?;
            let mut request = self.agent.get(&url);
            if let Some(token) = self.token.as_ref().filter(|_| home.as_ref() == Some(&here)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| transport(&url, &error))?;
            match response.status().as_u16() {
                200 | 206 => return Ok(response),
                416 if from > 0 => return Ok(response),
                301 | 302 | 303 | 307 | 308 => {
                    let location = header(&response, "location").unwrap_or_default();
                    url = resolved(&here, location).ok_or_else(|| no_address(location))?;
                }
                _ => return Err(self.refusal(id, &response)),
            }
        }
        Err(RequestError::last(Exit::Failed, format!("{id}: more than {MAX_REDIRECTS} redirects in a row")))
    }

    /// What a status that is no success means.
    fn refusal(&self, id: &RepoId, response: &Response<Body>) -> RequestError {
        let status = response.status().as_u16();
        let code = header(response, "x-error-code").unwrap_or_default();
        let page = format!("{}/{}", self.endpoint, id.repository());
        let failed = |what: String| Failure::new(Exit::Failed, what);
        let failure = match (status, code) {
            (408 | 429 | 500.., _) => {
                let after = header(response, "retry-after").and_then(|text| text.trim().parse().ok());
                let failure = failed(format!("{id}: the hub answers {status}")).hint("try again later");
                return RequestError { failure, again: Retry::Yes(after.map(Duration::from_secs)) };
            }
            (401 | 403, "GatedRepo") => {
                let hint = match self.token {
                    Some(_) => format!("accept them at {page} with the account that the token belongs to"),
                    None => {
                        format!("accept them at {page}, then give that account's token in HF_TOKEN or --token-file")
                    }
                };
                failed(format!("{id}: its authors ask for their conditions to be accepted first")).hint(hint)
            }
            (_, "RevisionNotFound") => {
                let revision = id.revision.as_deref().unwrap_or(super::cache::MAIN);
                let what = format!("{id}: the repository has no revision {revision}");
                Failure::new(Exit::File, what).hint(format!("{page}/tree/main lists its branches"))
            }
            // The hub does not tell strangers what is private.
            (404, _) | (401, "RepoNotFound" | "") if self.token.is_none() => {
                Failure::new(Exit::File, format!("{id}: the hub has no such repository, or it is private"))
                    .hint("check the name; for a private one give a token in HF_TOKEN or --token-file")
            }
            (404, _) | (401, "RepoNotFound") => {
                Failure::new(Exit::File, format!("{id}: the hub has no such repository for this token"))
                    .hint("check the name, and that the token's account may read it")
            }
            (401 | 403, _) => failed(format!("{id}: the hub refuses ({status})"))
                .hint("check the token: it may have run out, or may not be allowed to read this repository"),
            _ => failed(format!("{id}: the hub answers {status}")).hint("check HF_ENDPOINT"),
        };
        RequestError { failure, again: Retry::No }
    }
}

impl RequestError {
    /// Trouble that no second try would mend.
    pub(super) fn last(exit: Exit, what: String) -> Self {
        let failure = Failure::new(exit, what)
            .hint("try again; if it stays so, the hub (HF_ENDPOINT, if it is set) is not sound");
        Self { failure, again: Retry::No }
    }

    /// Trouble that may pass.
    pub(super) fn passing(what: String) -> Self {
        let failure = Failure::new(Exit::Failed, what).hint("run the same command again: it goes on where it stopped");
        Self { failure, again: Retry::Yes(None) }
    }
}

/// Counts tries in a row that brought nothing, and waits between them.
pub(super) struct RetryPolicy {
    tries: u32,
}

impl RetryPolicy {
    pub(super) fn new() -> Self {
        Self { tries: 0 }
    }

    /// Something came of the last try.
    pub(super) fn renew(&mut self) {
        self.tries = 0;
    }

    /// Waits, if there is to be another try.
    ///
    /// # Errors
    /// There is none: the trouble's failure.
    pub(super) fn wait(&mut self, trouble: RequestError, halted: Cancelled<'_>) -> Result<(), Failure> {
        self.tries += 1;
        match trouble.again {
            Retry::Yes(asked) if self.tries < TRIES => {
                let own = FIRST_WAIT * 2_u32.pow(self.tries - 1);
                // Not all clients of a busy server at once.
                let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
                let own = own.mul_f64(0.75 + 0.5 * f64::from(clock % 1000) / 1000.0);
                let until = Instant::now() + asked.unwrap_or(own).min(LONGEST_WAIT);
                while Instant::now() < until && !halted() {
                    thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
                }
                if halted() { Err(trouble.failure) } else { Ok(()) }
            }
            _ => Err(trouble.failure),
        }
    }
}

/// Tries until it works, or patience ends.
fn persist<T>(halted: Cancelled<'_>, attempt: impl Fn() -> Result<T, RequestError>) -> Result<T, Failure> {
    let mut patience = RetryPolicy::new();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(trouble) => patience.wait(trouble, halted)?,
        }
    }
}

/// A failure of the connection.
pub(super) fn transport(url: &str, error: &ureq::Error) -> RequestError {
    let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let failure = Failure::new(Exit::Failed, format!("{host}: {error}"));
    match error {
        ureq::Error::BodyExceedsLimit(_) | ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => {
            RequestError { failure, again: Retry::No }
        }
        _ => RequestError {
            failure: failure.hint("check the connection, and HF_ENDPOINT if it is set"),
            again: Retry::Yes(None),
        },
    }
}

/// A header that is text.
pub(super) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Scheme and host with port: what a token belongs to.
fn origin(uri: &Uri) -> Option<(String, String)> {
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "https" | "http"))?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    Some((scheme.to_owned(), authority.as_str().to_ascii_lowercase()))
}

/// Where a redirect leads; never from an encrypted connection to one that is not.
fn resolved((scheme, authority): &(String, String), location: &str) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{scheme}://{authority}{location}"));
    }
    let (target, _) = location.parse::<Uri>().ok().as_ref().and_then(origin)?;
    (target == "https" || scheme == "http").then(|| location.to_owned())
}

fn no_address(url: &str) -> RequestError {
    let shown: String = url.chars().take(120).collect();
    RequestError::last(Exit::Failed, format!("the hub redirects to {shown}, which is no address to go to"))
}

fn is_loopback(uri: &Uri) -> bool {
    matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn token(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let usable = |place: &str, text: &str| {
        let text = text.trim();
        match text {
            "" => Ok(None),
            _ if text.len() <= MAX_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Some(text.to_owned()))
            }
            _ => Err(Failure::usage(format!("{place}: no token"), "a token is one word, such as hf_...")),
        }
    };
    if let Some(file) = file {
        let place = file.display().to_string();
        let text = bounded(file).map_err(|error| {
            Failure::new(Exit::File, format!("{place}: {error}")).hint("--token-file names a file with a token in it")
        })?;
        return match usable(&place, &text)? {
            Some(token) => Ok(Some(token)),
            None => Err(Failure::usage(format!("{place}: empty"), "--token-file names a file with a token in it")),
        };
    }
    if let Some(text) = text_of("HF_TOKEN") {
        return usable("HF_TOKEN", &text);
    }
    if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let kept = text_of("HF_TOKEN_PATH").map(Into::into).or_else(|| Some(home()?.join("token")));
    match kept.and_then(|path| Some((bounded(&path).ok()?, path))) {
        Some((text, path)) => usable(&path.display().to_string(), &text),
        None => Ok(None),
    }
}

/// A file's text, as far as a token's could go: any file may be named, and a pipe too.
fn bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_TOKEN as u64 + 64).read_to_string(&mut text)?;
    Ok(text)
}

fn text_of(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|text| !text.trim().is_empty())
}

/// A variable that is set to what the Hugging Face tools take for yes.
fn is_on(variable: &str) -> bool {
    text_of(variable).is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true"))
}

/// One segment of a path in an address.
fn encoded(segment: &str) -> String {
    let mut out = String::new();
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_encrypted_and_are_told_from_the_hub() {
        let at = |text: &str| origin(&text.parse().unwrap()).unwrap();
        let hub = at("https://Hub.example/x");
        assert_eq!(hub, at("https://hub.example/y?z"));
        assert_ne!(hub, at("https://hub.example:444/"));
        assert_ne!(hub, at("http://hub.example/"));
        assert_eq!(resolved(&hub, "/o/n").as_deref(), Some("https://hub.example/o/n"));
        assert_eq!(resolved(&hub, "https://cdn.example/x?y").as_deref(), Some("https://cdn.example/x?y"));
        for location in
            ["", "x", "//cdn.example/x", "http://cdn.example/x", "file:///etc/passwd", "ftp://a/b", "https://u@h/x"]
        {
            assert_eq!(resolved(&hub, location), None, "{location}");
        }
        assert!(resolved(&at("http://localhost:1"), "http://127.0.0.1:2/x").is_some());
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(encoded("refs/pr/1 #?%é"), "refs%2Fpr%2F1%20%23%3F%25%C3%A9");
    }
}
