//! What was typed. By hand: an argument parser would take longer to compile than all of this.

use std::{ffi::OsString, path::PathBuf};

use crate::{
    failure::{Failure, Result},
    setup, test,
};

/// `cargo xtask help`.
pub const HELP: &str = "\
Usage: cargo xtask <task>

  run [ARGS]          build mtplx and run `mtplx run ARGS`; without ARGS, a demonstration
  test [--long] [STEP…]
                      everything that continuous integration checks, or only these steps:
                      fmt, tidy, clippy, test, example, clients, browser, mlx-lm, third-party,
                      doc; --long: with more samples in statistical tests and a release build
                      of the example
  tidy                the repository's own rules: sizes, layers, unsafe, links
  new-arch NAME [--dir DIR]
                      the skeleton of an architecture: a crate of this workspace, or, in DIR, a
                      workspace of its own with a program (docs/author-guide.md)
  known               commits and bytes of the models in models/known.toml, from the hub
  dist [--out DIR]    a folder with mtplx and its libraries that runs wherever it is copied
  setup               only what run, test and dist do first where it is missing: get MLX

Environment:
  MTPLX_CACHE=DIR     where the set-up is kept (else $XDG_CACHE_HOME/mtplx, ~/.cache/mtplx)
  CXX=COMPILER        the C++ compiler (else c++, g++, clang++)
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Print [`HELP`].
    Help,
    /// Set up and stop.
    Setup,
    /// `mtplx run` with these arguments.
    Run(Vec<OsString>),
    /// Checks.
    Test {
        /// Their names; none for all.
        names: Vec<String>,
        /// With what continuous integration has no time for.
        long: bool,
    },
    /// The repository checks.
    Tidy,
    /// Facts of the hub about known models.
    Known,
    /// The portable folder.
    Dist {
        /// Where, if not in `dist/`.
        out: Option<PathBuf>,
    },
    /// The skeleton of an architecture.
    NewArch {
        /// Lower-case words with dashes between.
        name: String,
        /// Where, if not in this workspace.
        dir: Option<PathBuf>,
    },
    /// Internal: bindgen, in a process of its own.
    Bindings(Vec<PathBuf>),
}

/// Reads the arguments after the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Task> {
    let mut arguments = arguments.into_iter();
    let task = arguments.next().unwrap_or_default();
    let mut rest: Vec<OsString> = arguments.collect();
    let asks_help = |rest: &[OsString]| rest.iter().any(|word| word == "--help" || word == "-h");
    match task.to_string_lossy().as_ref() {
        "" | "help" | "--help" | "-h" => Ok(Task::Help),
        "run" => {
            if rest.first().is_some_and(|word| word == "--") {
                rest.remove(0);
            }
            Ok(Task::Run(rest))
        }
        setup::BINDINGS => Ok(Task::Bindings(rest.into_iter().map(PathBuf::from).collect())),
        "setup" | "test" | "tidy" | "known" | "dist" | "new-arch" if asks_help(&rest) => Ok(Task::Help),
        "test" => {
            let mut names: Vec<String> = rest.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let all = names.len();
            names.retain(|name| name != "--long");
            let long = names.len() < all;
            match names.iter().find(|name| !test::NAMES.contains(&name.as_str())) {
                Some(name) => {
                    Err(wrong(&format!("there is no step `{name}`; the steps are {}", test::NAMES.join(", "))))
                }
                None => Ok(Task::Test { names, long }),
            }
        }
        "dist" => match &*rest {
            [] => Ok(Task::Dist { out: None }),
            [option, out] if option == "--out" => Ok(Task::Dist { out: Some(out.into()) }),
            _ => Err(wrong("dist takes --out DIR and nothing else")),
        },
        "new-arch" => {
            let (name, dir) = match &*rest {
                [name] => (name, None),
                [name, option, dir] if option == "--dir" => (name, Some(dir.into())),
                _ => return Err(wrong("new-arch takes NAME and, where wanted, --dir DIR")),
            };
            Ok(Task::NewArch { name: name.to_string_lossy().into_owned(), dir })
        }
        "setup" | "tidy" | "known" if !rest.is_empty() => Err(wrong(&format!("{} takes no arguments", task.display()))),
        "setup" => Ok(Task::Setup),
        "tidy" => Ok(Task::Tidy),
        "known" => Ok(Task::Known),
        unknown => Err(wrong(&format!("there is no task `{unknown}`"))),
    }
}

fn wrong(message: &str) -> Failure {
    Failure::new(message).hint("cargo xtask help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Task> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn run_passes_everything_on_with_or_without_dashes() {
        let expected = Task::Run(vec!["--model".into(), "x".into(), "--help".into()]);
        assert_eq!(parsed(&["run", "--", "--model", "x", "--help"]).unwrap(), expected);
        assert_eq!(parsed(&["run", "--model", "x", "--help"]).unwrap(), expected);
        assert_eq!(parsed(&["run", "--", "--"]).unwrap(), Task::Run(vec!["--".into()]));
        assert_eq!(parsed(&["run"]).unwrap(), Task::Run(vec![]));
    }

    #[test]
    fn tasks_take_what_they_take() {
        assert_eq!(parsed(&[]).unwrap(), Task::Help);
        assert_eq!(parsed(&["dist", "--help"]).unwrap(), Task::Help);
        assert_eq!(parsed(&["dist", "--out", "x"]).unwrap(), Task::Dist { out: Some("x".into()) });
        let new_arch = |dir: Option<&str>| Task::NewArch { name: "acme".into(), dir: dir.map(PathBuf::from) };
        assert_eq!(parsed(&["new-arch", "acme"]).unwrap(), new_arch(None));
        assert_eq!(parsed(&["new-arch", "acme", "--dir", "x"]).unwrap(), new_arch(Some("x")));
        let test = |names: &[&str], long| Task::Test { names: names.iter().map(|&name| name.into()).collect(), long };
        assert_eq!(parsed(&["test", "fmt", "doc"]).unwrap(), test(&["fmt", "doc"], false));
        assert_eq!(parsed(&["test", "--long", "doc"]).unwrap(), test(&["doc"], true));
    }

    #[test]
    fn mistakes_are_named() {
        for (words, named) in [
            (&["dits"][..], "dits"),
            (&["test", "clipy"], "clipy"),
            (&["dist", "--output", "x"], "--out DIR"),
            (&["tidy", "x"], "no arguments"),
            (&["new-arch"], "NAME"),
        ] {
            let failure = parsed(words).unwrap_err().to_string();
            assert!(failure.contains(named) && failure.contains("hint: cargo xtask help"), "{failure}");
        }
    }
}
