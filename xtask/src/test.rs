//! `cargo xtask test`: every check that continuous integration makes, in the order that finds
//! trouble soonest.

use std::{path::Path, time::Instant};

use crate::{
    browser, clients,
    failure::{Failure, Result},
    mlx_lm, process,
    report::{seconds, table},
    setup, third_party, tidy,
};

/// One named check.
struct Check {
    name: &'static str,
    work: Work,
    hint: &'static str,
}

/// What a check does.
enum Work {
    /// Runs cargo with these arguments.
    Cargo(&'static [&'static str]),
    /// Something of our own.
    Own(fn(&Path) -> Result),
    /// The same, with more in a long run.
    Graded(fn(&Path, bool) -> Result),
}

const CHECKS: [Check; 10] = [
    Check { name: "fmt", work: Work::Cargo(&["fmt", "--all", "--check"]), hint: "cargo fmt --all" },
    Check {
        name: "tidy",
        work: Work::Own(tidy::tidy),
        hint: "each line above says what to change; again: cargo xtask tidy",
    },
    Check {
        name: "clippy",
        work: Work::Cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
        hint: "again: cargo xtask test clippy (if clippy is missing: rustup component add clippy rustfmt)",
    },
    // Not cargo-nextest: a process for each test takes the same processor time here, and a newcomer would compile it first.
    Check {
        name: "test",
        work: Work::Cargo(&["test", "--workspace", "--locked"]),
        hint: "again: cargo test --workspace",
    },
    Check {
        name: "example",
        work: Work::Cargo(&["run", "--locked", "--example", "generate", "--", "models/builtin", "fn main() {"]),
        hint: "again: cargo run --example generate -- models/builtin 'fn main() {'",
    },
    Check { name: "clients", work: Work::Graded(clients::check), hint: "again: cargo xtask test clients" },
    Check { name: "browser", work: Work::Own(browser::check), hint: "again: cargo xtask test browser" },
    Check { name: "mlx-lm", work: Work::Own(mlx_lm::check), hint: "again: cargo xtask test mlx-lm" },
    Check { name: "third-party", work: Work::Graded(third_party::check), hint: "again: cargo xtask test third-party" },
    Check {
        name: "doc",
        work: Work::Cargo(&["doc", "--workspace", "--no-deps", "--locked"]),
        hint: "again: cargo xtask test doc",
    },
];

/// The names of the checks.
pub const NAMES: [&str; CHECKS.len()] = {
    let mut names = [""; CHECKS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = CHECKS[index].name;
        index += 1;
    }
    names
};

/// Sequences a setting in the tests of the joint distribution, in a long run.
const LONG_SAMPLES: &str = "2000";

/// Sets up, then makes the checks of these names, or all. Ends at the first that fails, and says what each took.
pub fn test(root: &Path, names: &[String], long: bool) -> Result {
    let start = Instant::now();
    let wanted = |check: &&Check| names.is_empty() || names.iter().any(|name| name == check.name);
    let checks: Vec<&Check> = CHECKS.iter().filter(wanted).collect();
    let mut steps = Vec::new();
    let done = setup::ensure(root).and_then(|_| {
        steps.push(("set-up".to_owned(), start.elapsed()));
        checks.iter().enumerate().try_for_each(|(index, check)| {
            let label = format!("[{}/{}] {}", index + 1, checks.len(), check.name);
            let begun = Instant::now();
            let made = check.make(root, &label, long);
            let state = if made.is_ok() { "" } else { " (failed)" };
            steps.push((format!("{}{state}", check.name), begun.elapsed()));
            made.map_err(|failure| {
                Failure::new(format!("the step `{}` failed", check.name)).detail(failure.to_string()).hint(check.hint)
            })?;
            eprintln!("{label}: passed ({})", seconds(begun.elapsed()));
            Ok(())
        })
    });
    eprint!("{}", table(&steps, start.elapsed()));
    done?;
    eprintln!("All passed.");
    Ok(())
}

impl Check {
    fn make(&self, root: &Path, label: &str, long: bool) -> Result {
        let arguments = match self.work {
            Work::Cargo(arguments) => arguments,
            Work::Own(work) => return work(root),
            Work::Graded(work) => return work(root, long),
        };
        let mut command = process::cargo(root);
        command.args(arguments);
        if self.name == "test" {
            // Tests run side by side; OpenBLAS's threads on top of that only wait for each other.
            command.env("OPENBLAS_NUM_THREADS", "1");
            if long {
                command.env("MTPLX_JOINT_SAMPLES", LONG_SAMPLES);
            }
        }
        if self.name == "doc" {
            command.env("RUSTDOCFLAGS", "-D warnings");
        }
        eprintln!("{label}: {}", process::shown(&command));
        process::run(&mut command)
    }
}
