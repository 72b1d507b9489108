//! `cargo xtask known`: asks the hub for the commit and the weight files' bytes of every model in `models/known.toml`, and writes them in.
//!
//! `curl` makes the requests: an HTTP library would be compiled by everybody who sets the repository up.

use std::{env, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    failure::{Failure, IoContext as _, Result},
    process,
};

/// The list, from the root of the repository.
const LIST: &str = "models/known.toml";
const ENDPOINT: &str = "https://huggingface.co";
/// Bytes of the longest answer.
const MAX_ANSWER: &str = "33554432";

/// Renews the list. One that cannot be asked about keeps what it has; the others are written all the same.
pub fn known(root: &Path) -> Result {
    let endpoint = env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
    let path = root.join(LIST);
    let text = fs::read_to_string(&path).context("read", &path)?;
    let (renewed, failures) = renew(&text, |repository| ask(endpoint.as_deref().unwrap_or(ENDPOINT), repository));
    if renewed != text {
        fs::write(&path, &renewed).context("write", &path)?;
    }
    match failures.first() {
        None => {
            eprintln!("{LIST}: revisions and bytes are the hub's");
            Ok(())
        }
        Some(first) => Err(Failure::new(format!("{} models were not asked about, the first: {first}", failures.len()))
            .hint("HF_ENDPOINT names another hub; the others are written")),
    }
}

/// A repository's commit and the bytes of its weight files.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    revision: String,
    bytes: u64,
}

/// The list with what `ask` says of each model, and what it could not say.
fn renew(text: &str, ask: impl Fn(&str) -> Result<Facts>) -> (String, Vec<String>) {
    let (mut renewed, mut failures) = (String::new(), Vec::new());
    let mut facts = None;
    for line in text.lines() {
        if line.trim() == "[[model]]" {
            facts = None;
        }
        let value =
            |field: &str| Some(line.strip_prefix(field)?.trim_start().strip_prefix('=')?.trim().trim_matches('"'));
        // Written anew behind the repository.
        if facts.is_some() && (value("revision").is_some() || value("bytes").is_some()) {
            continue;
        }
        renewed.push_str(line);
        renewed.push('\n');
        let Some(repository) = value("repository") else { continue };
        match ask(repository) {
            Ok(found) => {
                renewed.push_str(&format!("revision = \"{}\"\nbytes = {}\n", found.revision, found.bytes));
                facts = Some(found);
            }
            Err(failure) => failures.push(format!("{repository}: {failure}")),
        }
    }
    (renewed, failures)
}

fn ask(endpoint: &str, repository: &str) -> Result<Facts> {
    let url = format!("{}/api/models/{repository}/revision/main?blobs=true", endpoint.trim_end_matches('/'));
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--silent", "--show-error", "--location", "--max-time", "60", "--max-filesize", MAX_ANSWER])
        .arg(&url);
    read(&process::capture(&mut curl)?)
}

/// Reads the hub's answer about a revision.
fn read(answer: &str) -> Result<Facts> {
    let fault = |what: &str| Failure::new(format!("the hub's answer: {what}"));
    let answer: Value = serde_json::from_str(answer).map_err(|error| fault(&error.to_string()))?;
    let revision = answer["sha"].as_str().filter(|sha| sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit()));
    let revision = revision.ok_or_else(|| fault("`sha` is no commit"))?.to_owned();
    let files = answer["siblings"].as_array().ok_or_else(|| fault("`siblings` is missing"))?;
    let mut bytes = 0_u64;
    for file in files {
        let name = file["rfilename"].as_str().unwrap_or_default();
        if !name.ends_with(".safetensors") {
            continue;
        }
        let size = file["lfs"]["size"].as_u64().or_else(|| file["size"].as_u64());
        let size = size.ok_or_else(|| fault(&format!("{name}: no size")))?;
        bytes = bytes.checked_add(size).ok_or_else(|| fault("sizes beyond any repository's"))?;
    }
    if bytes == 0 {
        return Err(fault("no safetensors files"));
    }
    Ok(Facts { revision, bytes })
}

/// The hub of the program's own tests, which serves `o/n`.
#[cfg(test)]
#[path = "../../tests/hub/server.rs"]
#[expect(dead_code, reason = "those tests ask for more than these")]
mod server;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const TEXT: &str = "# List.\n\n[[model]]\nrepository = \"o/n\"\nrevision = \"old\"\nbytes = 1\nshape = \"x\"\n\n\
         [[model]]\nrepository = \"o/other\"\nrevision = \"kept\"\nbytes = 2\n";

    #[test]
    fn facts_of_the_hub_are_written_in() {
        let files = [("a.safetensors", 100), ("b.safetensors", 23), ("config.json", 7)];
        let files: BTreeMap<String, Vec<u8>> = files.map(|(name, size)| (name.to_owned(), vec![b' '; size])).into();
        let hub = server::Hub::new(server::Repository::of(files));
        let (renewed, failures) = renew(TEXT, |repository| ask(&hub.endpoint, repository));
        let expected =
            TEXT.replace("\"old\"", &format!("\"{}\"", server::COMMIT)).replace("bytes = 1\n", "bytes = 123\n");
        // What the hub does not have stays as it was.
        assert_eq!(renewed, expected);
        assert!(failures.len() == 1 && failures[0].starts_with("o/other: "), "{failures:?}");
        // A second time changes nothing.
        assert_eq!(renew(&renewed, |repository| ask(&hub.endpoint, repository)).0, renewed);
    }

    #[test]
    fn fields_are_added_where_there_were_none() {
        let text = "[[model]]\nrepository = \"a/b\"\nuse = \"x\"\n";
        let facts = |_: &str| Ok(Facts { revision: "r".into(), bytes: 5 });
        let (renewed, _) = renew(text, facts);
        assert_eq!(renewed, "[[model]]\nrepository = \"a/b\"\nrevision = \"r\"\nbytes = 5\nuse = \"x\"\n");
    }

    #[test]
    fn answers_that_are_none() {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        for (answer, said) in [
            ("<html>".to_owned(), "expected"),
            ("{}".to_owned(), "sha"),
            (format!(r#"{{"sha": "{sha}"}}"#), "siblings"),
            (format!(r#"{{"sha": "{sha}", "siblings": []}}"#), "no safetensors"),
            (format!(r#"{{"sha": "{sha}", "siblings": [{{"rfilename": "a.safetensors"}}]}}"#), "no size"),
        ] {
            let failure = read(&answer).unwrap_err().to_string();
            assert!(failure.contains(said), "{failure}");
        }
    }
}
