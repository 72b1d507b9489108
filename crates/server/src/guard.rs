//! Who may ask: host, origin, key, and the type of a body.
//!
//! A page of any site can make a browser send requests to this machine. `Host` tells a name that was bound to 127.0.0.1 afterwards, `Origin`
//! a page of another site, and a JSON content type is one that no form can send.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use crate::page;
use crate::wire::internal::{Failure, FailureKind};

/// Bytes of a request's head at most.
pub const HEAD_BYTES: usize = 64 << 10;

/// A key, of which only the digest is kept.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// A key.
    pub fn new(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Compares in a time that does not depend on the keys.
    fn is(&self, key: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(key).into();
        self.0.ct_eq(&digest).into()
    }
}

/// Rules for every request.
#[derive(Clone, Default)]
pub struct Guard {
    /// Keys, one of which a request brings; none where empty.
    pub keys: Vec<Key>,
    /// Host names beside this machine's own.
    pub allow_hosts: Vec<String>,
    /// Origins beside this machine's own, as `scheme://host:port`.
    pub allow_origins: Vec<String>,
    /// True where the server is reached from other machines: hosts that are addresses are right then.
    pub exposed: bool,
}

impl Guard {
    /// Refuses a request that may not be made.
    ///
    /// # Errors
    /// The host is another one's, the origin a foreign page's, the key is missing or wrong, or a body is no JSON.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
        head(uri, headers)?;
        self.host(uri, headers)?;
        if *method != Method::GET && *method != Method::HEAD {
            self.origin(headers)?;
        }
        if !is_open(method, uri.path()) {
            self.key(headers)?;
        }
        if *method == Method::POST {
            content_type(headers)?;
        }
        Ok(())
    }

    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
        let refused = |shown: &str| {
            let message = format!("Host: {shown}: not a name of this server; its setting allow-host adds one");
            Err(Failure::new(FailureKind::Forbidden, message))
        };
        let header = headers.get(HOST).map(|value| value.to_str().unwrap_or("?"));
        let Some(host) = uri.authority().map(axum::http::uri::Authority::as_str).or(header) else {
            return refused("missing");
        };
        let Some(name) = host_name(host) else { return refused("malformed") };
        let allowed = is_loopback(&name)
            || self.allow_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name))
            || self.exposed && address(&name).is_some();
        if allowed { Ok(()) } else { refused(&format!("{name:?}")) }
    }

    fn origin(&self, headers: &HeaderMap) -> Result<(), Failure> {
        match headers.get(ORIGIN) {
            Some(origin) if !self.allows_origin(origin) => {
                let message =
                    format!("Origin: {origin:?}: a page of another site; the server's setting allow-origin allows it");
                Err(Failure::new(FailureKind::Forbidden, message))
            }
            _ => Ok(()),
        }
    }

    /// True for the origins of this machine's pages, and those that were allowed.
    pub fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let Ok(text) = origin.to_str() else { return false };
        let Ok(url) = Url::parse(text) else { return false };
        // An origin has no path: a longer text is something else.
        let stated = url.origin().ascii_serialization();
        if !["http", "https"].contains(&url.scheme()) || stated != text {
            return false;
        }
        url.host_str().is_some_and(is_loopback) || self.allow_origins.contains(&stated)
    }

    fn key(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let bearer = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).and_then(|value| {
            let (scheme, key) = value.split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
        });
        let sent = [bearer, headers.get("x-api-key").map(HeaderValue::as_bytes)];
        // All are compared, so that time tells nothing of which.
        let right = sent
            .into_iter()
            .flatten()
            .fold(false, |right, sent| self.keys.iter().fold(right, |right, key| key.is(sent.trim_ascii()) | right));
        if right {
            return Ok(());
        }
        let message = match sent {
            [None, None] => "no key was sent; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
            _ => "the key is wrong; the server was started with another one",
        };
        Err(Failure::new(FailureKind::Unauthorized, message))
    }
}

/// The head's size: the buffer that it is read into may be larger than its bound.
fn head(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    let bytes = path + fields.sum::<usize>();
    if bytes <= HEAD_BYTES {
        return Ok(());
    }
    let message = format!("the request's head has {bytes} bytes, and {HEAD_BYTES} is the most");
    Err(Failure::new(FailureKind::HeadTooLarge, message))
}

/// True where no key is asked for: the state of the server, the files of the page, and what a browser asks before it asks.
fn is_open(method: &Method, path: &str) -> bool {
    *method == Method::OPTIONS || path == "/health" || page::is_page(path)
}

fn content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let sent = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let kind = sent.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json") {
        return Ok(());
    }
    let message = match sent {
        Some(sent) => format!("Content-Type: {sent:?}: expected application/json"),
        None => "Content-Type is missing: expected application/json".to_owned(),
    };
    Err(Failure::new(FailureKind::MediaType, message))
}

/// The name or address in `Host`, without its port and brackets.
fn host_name(host: &str) -> Option<String> {
    let url = Url::parse(&format!("http://{host}/")).ok()?;
    let whole = url.username().is_empty() && url.password().is_none() && url.path() == "/" && url.query().is_none();
    let name = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    (whole && !name.is_empty()).then(|| name.trim_end_matches('.').to_owned())
}

fn address(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// True for a name or address of the loopback interface.
pub fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || address(name).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// The status of the refusal, 200 where there is none.
    fn status(guard: &Guard, method: &Method, path: &str, list: &[(&'static str, &str)]) -> u16 {
        guard.check(method, &path.parse().unwrap(), &headers(list)).map_or_else(|failure| failure.status(), |()| 200)
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn hosts() {
        let get = |guard: &Guard, host| status(guard, &Method::GET, "/v1/models", &[("host", host)]);
        let guard = Guard::default();
        for own in [
            "localhost",
            "localhost:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
            "127.8.9.1",
            "LOCALHOST",
            "a.localhost",
            "localhost.",
        ] {
            assert_eq!(get(&guard, own), 200, "{own}");
        }
        for foreign in [
            "evil.com",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "192.168.1.2:8000",
            "",
            "a@localhost",
            "localhost/x",
            "::1",
        ] {
            assert_eq!(get(&guard, foreign), 403, "{foreign}");
        }
        assert_eq!(status(&guard, &Method::GET, "/v1/models", &[]), 403);
        let guard = Guard { exposed: true, allow_hosts: vec!["box.lan".to_owned()], ..guard };
        assert_eq!(
            ["192.168.1.2:8000", "Box.lan:1", "evil.com", "box.lan.evil.com"].map(|host| get(&guard, host)),
            [200, 200, 403, 403]
        );
    }

    #[test]
    fn origins() {
        let guard = Guard { allow_origins: vec!["https://ui.example".to_owned()], ..Guard::default() };
        let post =
            |origin| status(&guard, &Method::POST, "/v1/messages", &[("host", "localhost"), JSON, ("origin", origin)]);
        for own in ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:4", "https://ui.example"] {
            assert_eq!(post(own), 200, "{own}");
        }
        for foreign in [
            "null",
            "https://evil.com",
            "http://localhost.evil.com",
            "http://localhost@evil.com",
            "https://ui.example.evil.com",
            "file://",
            "ftp://localhost",
            "http://ui.example",
        ] {
            assert_eq!(post(foreign), 403, "{foreign}");
        }
        // A form of any site can send these types.
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"] {
            assert_eq!(
                status(&guard, &Method::POST, "/v1/messages", &[("host", "localhost"), ("content-type", kind)]),
                415
            );
        }
        assert_eq!(status(&guard, &Method::POST, "/v1/messages", &[("host", "localhost")]), 415);
    }

    #[test]
    fn keys() {
        let guard = Guard { keys: vec![Key::new("one"), Key::new("two")], ..Guard::default() };
        let get =
            |path, header: (&'static str, &str)| status(&guard, &Method::GET, path, &[("host", "localhost"), header]);
        for right in [
            ("authorization", "Bearer one"),
            ("authorization", "bearer two"),
            ("x-api-key", "two"),
            ("x-api-key", " one "),
        ] {
            assert_eq!(get("/metrics", right), 200, "{right:?}");
        }
        for wrong in [
            ("authorization", "Bearer on"),
            ("authorization", "one"),
            ("authorization", "Bearer "),
            ("x-api-key", ""),
            ("x-api-key", "onetwo"),
            ("accept", "one"),
        ] {
            assert_eq!(get("/metrics", wrong), 401, "{wrong:?}");
        }
        assert_eq!(get("/health", ("accept", "*/*")), 200);
        for open in ["/", "/page/app.js", "/page/none"] {
            assert_eq!(get(open, ("accept", "*/*")), 200, "{open}");
        }
        for closed in ["/openapi.json", "/status", "/page", "//page/app.js", "/v1/page/"] {
            assert_eq!(get(closed, ("accept", "*/*")), 401, "{closed}");
        }
        assert_eq!(status(&guard, &Method::OPTIONS, "/v1/models", &[("host", "localhost")]), 200);
    }
}
