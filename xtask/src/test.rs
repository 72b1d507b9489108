//! `cargo xtask test`: every check that continuous integration makes, in the order that finds
//! trouble soonest.

use std::{path::Path, time::Instant};

use crate::{
    failure::{Failure, Result},
    process,
    report::seconds,
    setup, tidy,
};

/// One named check.
struct Check {
    name: &'static str,
    /// Arguments to cargo; none for the repository's own rules.
    cargo: &'static [&'static str],
    hint: &'static str,
}

const CHECKS: [Check; 5] = [
    Check { name: "fmt", cargo: &["fmt", "--all", "--check"], hint: "cargo fmt --all" },
    Check { name: "tidy", cargo: &[], hint: "each line above says what to change; again: cargo xtask tidy" },
    Check {
        name: "clippy",
        cargo: &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
        hint: "again: cargo xtask test clippy (if clippy is missing: rustup component add clippy rustfmt)",
    },
    Check { name: "test", cargo: &["test", "--workspace", "--locked"], hint: "again: cargo test --workspace" },
    Check { name: "doc", cargo: &["doc", "--workspace", "--no-deps", "--locked"], hint: "again: cargo xtask test doc" },
];

/// The names of the checks.
pub const NAMES: [&str; CHECKS.len()] =
    [CHECKS[0].name, CHECKS[1].name, CHECKS[2].name, CHECKS[3].name, CHECKS[4].name];

/// Sets up, then makes the checks of these names, or all. Ends at the first that fails.
pub fn test(root: &Path, names: &[String]) -> Result {
    setup::ensure(root)?;
    let start = Instant::now();
    let wanted = |check: &&Check| names.is_empty() || names.iter().any(|name| name == check.name);
    let checks: Vec<&Check> = CHECKS.iter().filter(wanted).collect();
    for (index, check) in checks.iter().enumerate() {
        let label = format!("[{}/{}] {}", index + 1, checks.len(), check.name);
        let begun = Instant::now();
        check.make(root, &label).map_err(|failure| {
            Failure::new(format!("the step `{}` failed", check.name)).detail(failure.to_string()).hint(check.hint)
        })?;
        eprintln!("{label}: passed ({})", seconds(begun.elapsed()));
    }
    eprintln!("All passed ({}).", seconds(start.elapsed()));
    Ok(())
}

impl Check {
    fn make(&self, root: &Path, label: &str) -> Result {
        if self.cargo.is_empty() {
            return tidy::tidy(root);
        }
        let mut command = process::cargo(root);
        command.args(self.cargo);
        if self.name == "test" {
            // Tests run side by side; OpenBLAS's threads on top of that only wait for each other.
            command.env("OPENBLAS_NUM_THREADS", "1");
        }
        if self.name == "doc" {
            command.env("RUSTDOCFLAGS", "-D warnings");
        }
        eprintln!("{label}: {}", process::shown(&command));
        process::run(&mut command)
    }
}
