//! The page at `/`: static files that are part of the program, with headers that keep everything else out of them.
//!
//! The files are in `crates/server/page`. No step builds them, and they load nothing from other hosts.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use sha2::{Digest as _, Sha256};

/// Sources that a browser may load from for this page: this server alone. Styles and scripts stand in files.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Folder of the page's files on the wire.
const FOLDER: &str = "/page/";

/// Files by their names.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../page/", $name)))),*]
    };
}

const FILES: &[(&str, &[u8])] = files![
    "index.html",
    "style.css",
    "code.css",
    "icon.svg",
    "app.js",
    "api.js",
    "chat.js",
    "compare.js",
    "completion.js",
    "composer.js",
    "dialogs.js",
    "dom.js",
    "generate.js",
    "icons.js",
    "markdown.js",
    "message.js",
    "meter.js",
    "settings.js",
    "sidebar.js",
    "status.js",
    "store.js",
    "transfer.js",
    "tree.js",
    "vendor/highlight.js",
    "vendor/LICENSE.highlight",
    "vendor/markdown-it.js",
    "vendor/LICENSE.markdown-it",
];

/// A file as it is sent.
struct PageFile {
    bytes: &'static [u8],
    kind: &'static str,
    /// Its hash in quotes.
    tag: String,
}

static BY_NAME: LazyLock<BTreeMap<&str, PageFile>> = LazyLock::new(|| {
    let file = |&(name, bytes): &(&'static str, &'static [u8])| {
        let digest: String = Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        (name, PageFile { bytes, kind: content_type(name), tag: format!("\"{digest}\"") })
    };
    FILES.iter().map(file).collect()
});

/// True for the paths of the page, which are open to everybody: they say nothing about the server.
pub fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with(FOLDER)
}

/// The file of a path; `None` where there is none.
pub fn answer(path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let name = if path == "/" { "index.html" } else { path.strip_prefix(FOLDER)? };
    let file = BY_NAME.get(name)?;
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|value| {
        let tags = value.to_str().unwrap_or_default().split(',').map(|tag| tag.trim().trim_start_matches("W/"));
        tags.into_iter().any(|tag| tag == file.tag || tag == "*")
    });
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(file.bytes) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, file.kind),
        // Asked for each time, so that a new version of the program shows its own page at once.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&file.tag) {
        headers.insert(ETAG, tag);
    }
    Some(response)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    fn get(path: &str, tag: Option<&str>) -> Response<Body> {
        let headers = tag.map(|tag| (IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap())).into_iter().collect();
        answer(path, &headers).unwrap()
    }

    fn own() -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = FILES.iter().filter(|(name, _)| !name.starts_with("vendor/"));
        own.map(|(name, bytes)| (*name, std::str::from_utf8(bytes).unwrap()))
    }

    #[test]
    fn headers_keep_other_sites_and_inline_code_out() {
        for (name, bytes) in FILES {
            let response = get(&format!("/page/{name}"), None);
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(response.status(), 200);
            assert!(header("content-security-policy").starts_with("default-src 'self';"), "{name}");
            assert!(!header("content-security-policy").contains("unsafe"), "{name}");
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("referrer-policy"), "no-referrer");
            assert_eq!(header("cache-control"), "no-cache");
            assert!(!bytes.is_empty(), "{name}");
        }
        for (name, kind) in [
            ("/", "text/html; charset=utf-8"),
            ("/page/style.css", "text/css; charset=utf-8"),
            ("/page/app.js", "text/javascript; charset=utf-8"),
            ("/page/icon.svg", "image/svg+xml"),
            ("/page/vendor/LICENSE.highlight", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(get(name, None).headers()[CONTENT_TYPE], kind, "{name}");
        }
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let tag = get("/", None).headers()[ETAG].to_str().unwrap().to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"a\", {tag}"), "*".to_owned()] {
            let response = get("/", Some(&known));
            assert_eq!(response.status(), 304, "{known}");
            assert_eq!(response.headers()[ETAG], tag.as_str());
        }
        assert_eq!(get("/", Some("\"other\"")).status(), 200);
        assert_ne!(get("/page/app.js", None).headers()[ETAG], tag.as_str());
    }

    #[test]
    fn there_is_nothing_but_the_list() {
        for path in
            ["/page", "/page/", "/page/../Cargo.toml", "/page/vendor", "/page//app.js", "/pages/app.js", "/index.html"]
        {
            assert!(answer(path, &HeaderMap::new()).is_none(), "{path}");
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut found = BTreeSet::new();
        for (place, prefix) in [(folder.clone(), ""), (folder.join("vendor"), "vendor/")] {
            let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap());
            let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
            found.extend(files.map(|entry| format!("{prefix}{}", entry.file_name().to_str().unwrap())));
        }
        let of_repository = ["vendor/README.md", "vendor/vendor.json"];
        let sent: BTreeSet<String> =
            FILES.iter().map(|(name, _)| *name).chain(of_repository).map(str::to_owned).collect();
        assert_eq!(sent, found);
    }

    #[test]
    fn vendored_files_are_those_of_their_packages() {
        let list: Value = serde_json::from_str(include_str!("../page/vendor/vendor.json")).unwrap();
        let mut seen = 0;
        for package in list.as_array().unwrap() {
            assert!(package["version"].is_string() && package["licence"].is_string());
            for (name, expected) in package["files"].as_object().unwrap() {
                let (_, bytes) = FILES.iter().find(|(file, _)| *file == format!("vendor/{name}")).unwrap();
                let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(expected, &digest, "{name}");
                seen += 1;
            }
        }
        assert_eq!(seen, FILES.iter().filter(|(name, _)| name.starts_with("vendor/")).count());
    }

    #[test]
    fn nothing_stands_inline_and_nothing_is_loaded_from_elsewhere() {
        for (name, text) in own() {
            let lower = text.to_lowercase();
            // Names of XML, which nobody loads.
            let lower = lower.replace("http://www.w3.org/2000/svg", "").replace("http://127.0.0.1", "");
            // Patterns of links, and protocols that are compared.
            let loads =
                ["src=\"http", "href=\"http", "url(http", "from \"http", "import(\"http", "fetch(\"http", "//cdn"];
            for load in loads {
                assert!(!lower.contains(load), "{name}: {load}");
            }
            for word in ["innerhtml", "outerhtml", "insertadjacenthtml", "document.write", "parsefromstring", "sethtml"]
            {
                assert!(name == "markdown.js" && word == "innerhtml" || !lower.contains(word), "{name}: {word}");
            }
            for word in ["eval(", "new function(", "createcontextualfragment"] {
                assert!(!lower.contains(word), "{name}: {word}");
            }
            if name == "index.html" {
                assert!(!lower.contains("style=") && !lower.contains("<style"), "{name}");
                assert!(!has_handler(&lower), "{name}");
                assert_eq!(lower.matches("<script").count(), lower.matches("<script type=\"module\" src=\"").count());
            }
        }
        assert_eq!(own().filter(|(_, text)| text.contains("innerHTML")).count(), 1);
        assert!(has_handler("<a onclick=\"x\">") && has_handler("<a\nonload = x>") && !has_handler("<a class=\"on\">"));
    }

    /// True where a tag has an attribute that begins with `on`.
    fn has_handler(html: &str) -> bool {
        let words = html.split(|c: char| c.is_whitespace() || c == '/');
        words.into_iter().any(|word| {
            word.strip_prefix("on").is_some_and(|rest| {
                let name = rest.chars().take_while(char::is_ascii_alphabetic).count();
                name > 0 && (rest[name..].starts_with('=') || rest[name..].is_empty())
            })
        })
    }

    #[test]
    fn files_are_small() {
        for (name, text) in own() {
            assert!(text.lines().count() <= 400, "{name} has {} lines", text.lines().count());
        }
    }
}
