//! Links in Markdown that point into this repository must lead somewhere.

use std::collections::BTreeSet;

use super::file::{Complaint, File, is_data};

pub fn check(files: &[File]) -> Vec<Complaint> {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        // The file, and every folder it is in.
        known.extend(file.path.match_indices('/').map(|(at, _)| &file.path[..at]));
        known.insert(&file.path);
    }
    let markdown = files.iter().filter(|file| file.path.ends_with(".md") && !is_data(&file.path));
    markdown.flat_map(|file| broken(file, &known)).collect()
}

fn broken(file: &File, known: &BTreeSet<&str>) -> Vec<Complaint> {
    let text = file.text.as_deref().unwrap_or_default();
    let mut in_block = false;
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        let targets = if in_block { Vec::new() } else { targets(line) };
        for target in targets {
            let place = resolve(&file.path, target);
            if place.as_deref().is_none_or(|place| !place.is_empty() && !known.contains(place)) {
                let message = format!("the link to {target} leads nowhere: correct the path");
                complaints.push(Complaint::new(file, index + 1, message));
            }
        }
    }
    complaints
}

/// The local targets of `[…](target)`, without `#anchor`.
fn targets(line: &str) -> Vec<&str> {
    // Every other piece between back quotes is code.
    let prose = line.split('`').step_by(2);
    prose
        .flat_map(|prose| prose.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next()?.split_whitespace().next())
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// The path from the root; `None` if it leaves the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{super::file::sample, *};

    fn lines(page: &str, text: &str) -> Vec<usize> {
        let files = [sample(page, text), sample("docs/guide.md", ""), sample("runtime/src/lib.rs", "")];
        check(&files).into_iter().filter_map(|complaint| complaint.line).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "[a](docs/guide.md#part) [b](runtime/src/) [c](https://x.y/z) [d](#here) `[e](gone)`\n```\n[f](gone)\n```\n";
        assert_eq!(lines("README.md", text), [0; 0]);
        assert_eq!(lines("docs/page.md", "[a](guide.md) [b](../runtime/src/lib.rs \"title\") [r](..)\n"), [0; 0]);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        assert_eq!(lines("README.md", "fine\n[a](docs/gone.md)\n"), [2]);
        assert_eq!(lines("README.md", "![picture](gone.png) and [b](../outside.md)\n"), [1, 1]);
    }
}
