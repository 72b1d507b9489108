//! `mtplx remove`: a model out of the cache.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::args::RemoveArgs;
use crate::error::{Exit, Failure, stderr};
use crate::hub::{self, Cache, Removal};
use mtplx_runtime::artifact::size_shown;

/// Says what goes, asks, and deletes.
pub fn remove(args: &RemoveArgs) -> anyhow::Result<Exit> {
    let cache = Cache::of_user()?;
    let removal = Removal::plan(&cache, &args.repository)?;
    let repository = args.repository.repository();
    let commits: Vec<&str> = removal.snapshots.iter().map(|snapshot| snapshot.short()).collect();
    let at = if commits.is_empty() { String::new() } else { format!(" at {}", commits.join(", ")) };
    let names = if removal.names.is_empty() { String::new() } else { format!(" ({})", removal.names.join(", ")) };
    let rest = if removal.whole { "" } else { ", keeping its other revisions" };
    let what = format!("{repository}{at}{names}: {}{rest}", size_shown(removal.bytes));
    if !args.yes && !confirmed(&what)? {
        return Err(Failure::new(Exit::Failed, "nothing was removed").hint("answer y, or give --yes").into());
    }
    let freed = hub::remove(&removal)?;
    writeln!(io::stdout().lock(), "removed {repository}{at}, freed {}", size_shown(freed))?;
    Ok(Exit::Done)
}

/// Asks on the terminal; where there is none to ask on, nobody has agreed.
fn confirmed(what: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let failure =
            Failure::usage(format!("{what}: nobody to ask whether to remove it"), "--yes removes without asking");
        return Err(failure.into());
    }
    write!(stderr(), "remove {what}? [y/N] ")?;
    stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
