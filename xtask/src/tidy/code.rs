//! Rules about single files: white space everywhere, and a few words in Rust.

use super::file::{Complaint, File};

pub fn check(file: &File) -> Vec<Complaint> {
    let Some(text) = &file.text else { return Vec::new() };
    let mut complaints = white_space(file, text);
    if file.path.ends_with(".rs") {
        complaints.extend(opening(file, text));
        complaints.extend(words(file, text));
        complaints.extend(commands(file, text));
    }
    complaints
}

fn white_space(file: &File, text: &str) -> Vec<Complaint> {
    let trailing = text.lines().enumerate().filter(|(_, line)| line.ends_with([' ', '\t']));
    let mut complaints: Vec<Complaint> = trailing
        .map(|(index, _)| Complaint::new(file, index + 1, "white space at the end of the line: remove it"))
        .collect();
    if !text.is_empty() && !text.ends_with('\n') {
        complaints.push(Complaint::new(file, text.lines().count(), "no newline at the end of the file: add one"));
    }
    complaints
}

fn opening(file: &File, text: &str) -> Option<Complaint> {
    let message = "open with `//! …`: what the module does, and what it leaves to others";
    (!text.starts_with("//!")).then(|| Complaint::new(file, 1, message))
}

/// A word that some code must do without: where, and what to do instead.
struct Rule {
    word: &'static str,
    applies: fn(&str) -> bool,
    mend: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        word: "unsafe",
        applies: |path| {
            !["crates/cpu/", "crates/mlx/", "crates/artifact/src/memory/"].iter().any(|folder| path.starts_with(folder))
        },
        mend: "`unsafe` lives in crates/cpu, crates/mlx and crates/artifact/src/memory alone: put a safe function there and call it",
    },
    Rule {
        word: "Exception::custom",
        applies: |path| !path.starts_with("crates/mlx/"),
        mend: "errors of ours are typed: `mtplx_runtime::Error`",
    },
    Rule { word: "todo!", applies: |_| true, mend: "finish it, or return an error" },
    Rule { word: "unimplemented!", applies: |_| true, mend: "finish it, or return an error" },
    Rule { word: "dbg!", applies: |_| true, mend: "remove it" },
    Rule { word: "load_safetensors", applies: |_| true, mend: PARSERS },
    Rule { word: "mlx_load", applies: |_| true, mend: PARSERS },
    Rule { word: "mlx_load_safetensors", applies: |_| true, mend: PARSERS },
    Rule { word: "mlx_load_gguf", applies: |_| true, mend: PARSERS },
    Rule { word: "print!", applies: in_runtime, mend: QUIET },
    Rule { word: "println!", applies: in_runtime, mend: QUIET },
    Rule { word: "eprint!", applies: in_runtime, mend: QUIET },
    Rule { word: "eprintln!", applies: in_runtime, mend: QUIET },
    Rule {
        word: "env::",
        applies: in_runtime_but_mlx,
        mend: "the runtime does not read the environment: take it as an argument",
    },
    Rule {
        word: "std::env",
        applies: in_runtime_but_mlx,
        mend: "the runtime does not read the environment: take it as an argument",
    },
];

const PARSERS: &str = "MLX never parses a file: read it with crates/artifact, and hand MLX checked buffers";
const QUIET: &str = "the runtime does not print: return the value, or use tracing";

/// The test kit speaks to whoever runs the tests.
fn in_runtime(path: &str) -> bool {
    let library = path.starts_with("runtime/src/") || path.starts_with("crates/");
    library && !path.contains("/src/testing")
}

/// MLX itself reads the environment, and its wrapper may have to prepare it.
fn in_runtime_but_mlx(path: &str) -> bool {
    in_runtime(path) && !path.starts_with("crates/mlx/")
}

/// Commands and flags of the program in a library's strings: it alone knows them, and words a library's `Hint`.
fn commands(file: &File, text: &str) -> Vec<Complaint> {
    let library = ["runtime/src/", "crates/", "arch-"].iter().any(|folder| file.path.starts_with(folder));
    let for_tests = ["/tests", "/testing"].iter().any(|part| file.path.contains(part));
    // Compilers and tests that call themselves have flags of their own.
    if !library || for_tests || file.path.starts_with("crates/mlx/") {
        return Vec::new();
    }
    let is_flag = |(at, _): (usize, &str), line: &str| {
        let before = line[..at].chars().next_back();
        let after = line[at + 2..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '-') && after.is_some_and(|c| c.is_ascii_lowercase())
    };
    let names = |line: &str| line.contains("`mtplx ") || line.match_indices("--").any(|found| is_flag(found, line));
    let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.filter(|(_, line)| names(line.split(" // ").next().unwrap_or(line)))
        .map(|(index, _)| Complaint::new(file, index + 1, "a library names no command and no flag: give a `Hint`"))
        .collect()
}

fn words(file: &File, text: &str) -> Vec<Complaint> {
    let rules: Vec<&Rule> = RULES.iter().filter(|rule| (rule.applies)(&file.path)).collect();
    let code = code_only(text);
    let lines = code.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let broken = rules.iter().find(|rule| has_word(line, rule.word))?;
            Some(Complaint::new(file, index + 1, format!("`{}`: {}", broken.word, broken.mend)))
        })
        .collect()
}

/// Does the word occur, and not as a part of a longer one?
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let ends_in_letter = joins(word.chars().next_back());
    line.match_indices(word).any(|(at, _)| {
        let after = line[at + word.len()..].chars().next();
        let begins = !joins(line[..at].chars().next_back());
        let ends = !ends_in_letter || !joins(after);
        begins && ends
    })
}

/// The text with comments, strings and characters blanked out; line numbers stay.
pub(super) fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_length(rest),
            '"' => string_length(rest),
            'r' | 'b' | 'c' if !ends_in_word(&out) => raw_string_length(rest),
            '\'' => character_length(rest),
            _ => 0,
        };
        let length = if skipped == 0 { c.len_utf8() } else { skipped };
        let (token, after) = rest.split_at(length);
        if skipped == 0 {
            out.push(c);
        } else {
            out.push(' ');
            out.extend(token.chars().filter(|&c| c == '\n'));
        }
        rest = after;
    }
    out
}

fn ends_in_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// `/* … */`, nested.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// `"…"` with escapes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text[1..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// `r"…"`, `r#"…"#`, `br"…"` and so on; 0 if it is none.
fn raw_string_length(text: &str) -> usize {
    let prefix = text.len() - text.trim_start_matches(['b', 'c']).len();
    let Some(body) = text[prefix..].strip_prefix('r') else { return 0 };
    let hashes = body.len() - body.trim_start_matches('#').len();
    if !body[hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let opened = prefix + 1 + hashes + 1;
    text[opened..].find(&close).map_or(text.len(), |end| opened + end + close.len())
}

/// `'x'` or `'\…'`; 0 for a lifetime.
fn character_length(text: &str) -> usize {
    let mut chars = text[1..].chars();
    match chars.next() {
        // The character after the backslash may be the quote itself.
        Some('\\') => text.get(3..).and_then(|rest| rest.find('\'')).map_or(0, |end| end + 4),
        Some(c) if chars.next() == Some('\'') => 2 + c.len_utf8(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::file::sample, *};

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check(&sample(path, text)).into_iter().map(|complaint| format!("{}", complaint.line.unwrap_or(0))).collect()
    }

    #[test]
    fn clean_code_passes() {
        assert_eq!(complaints("runtime/src/a.rs", "//! A module.\n\nfn f() {}\n"), [""; 0]);
    }

    #[test]
    fn unsafe_lives_in_one_folder() {
        let text = "//! A module.\nunsafe { f() }\n";
        assert_eq!(complaints("src/a.rs", text), ["2"]);
        assert_eq!(complaints("crates/mlx/src/a.rs", text), [""; 0]);
    }

    #[test]
    fn words_in_comments_strings_and_names_are_no_code() {
        let text = r##"//! unsafe
fn unsafe_or_not() { "unsafe \" unsafe"; r#"unsafe " unsafe"#; b"unsafe"; /* unsafe /* unsafe */ unsafe */ }
#![deny(unsafe_code)] // todo!()
fn quote<'unsafe_>() { '"'; '\''; "unsafe"; }
"##;
        assert_eq!(complaints("src/a.rs", text), [""; 0]);
    }

    #[test]
    fn code_after_tricky_tokens_is_still_seen() {
        for tricky in [r#"'"'"#, r"'\''", r#"r"\""#, "'a'", "/* \" */", "b'\"'", "&'a str", "r#type", r"'\u{1F600}'"] {
            let text = format!("//! A module.\nlet x = {tricky};\ntodo!();\n");
            assert_eq!(complaints("src/a.rs", &text), ["3"], "{tricky}");
        }
    }

    #[test]
    fn the_runtime_is_quiet_and_takes_arguments() {
        let text = "//! A module.\nprintln!();\nuse std::env;\nlet x = env::var(\"X\");\nenv!(\"CARGO_PKG_VERSION\");\nwriteln!(f);\n";
        assert_eq!(complaints("runtime/src/a.rs", text), ["2", "3", "4"]);
        assert_eq!(complaints("src/a.rs", text), [""; 0]);
    }

    #[test]
    fn libraries_name_no_commands() {
        let text = "//! `mtplx run`\nlet a = \"`mtplx run`\";\nlet b = \"--raw\"; // --raw\nlet c = 1; // --raw\nlet d = \"a--b\";\n";
        assert_eq!(complaints("runtime/src/a.rs", text), ["2", "3"]);
        assert_eq!(complaints("src/a.rs", text), [""; 0]);
        assert_eq!(complaints("crates/engine/src/assess/tests/a.rs", text), [""; 0]);
    }

    #[test]
    fn unfinished_code_is_found() {
        assert_eq!(complaints("src/a.rs", "//! A module.\ndbg!(1);\nunimplemented!()\n"), ["2", "3"]);
    }

    #[test]
    fn modules_open_with_their_purpose() {
        assert_eq!(complaints("src/a.rs", "use x;\n"), ["1"]);
        assert_eq!(complaints("README.md", "# Title\n"), [""; 0]);
    }

    #[test]
    fn white_space_is_trimmed() {
        assert_eq!(complaints("README.md", "a \nb\nc\t\n"), ["1", "3"]);
        assert_eq!(complaints("README.md", "a\nb"), ["2"]);
    }
}
