//! `mtplx archs`: the architectures that this binary can run.

use std::io::{self, Write as _};

use mtplx_runtime::architecture::{Descriptor, Tier};
use mtplx_runtime::registry::Registry;

use crate::args::ArchsArgs;
use crate::error::{Exit, warn};

/// Lists them, for people or as JSON.
pub fn archs(args: &ArchsArgs) -> anyhow::Result<Exit> {
    let registry = Registry::linked();
    let linked: Vec<&Descriptor> = registry.iter().map(|architecture| architecture.descriptor()).collect();
    if linked.is_empty() {
        warn("no architecture is linked: a program has those that its crate names, `use my_architecture as _;`");
    }
    for (model_type, claimants) in registry.conflicts() {
        warn(&format!("no checkpoint of \"{model_type}\" runs: it is claimed by {}", claimants.join(" and ")));
    }
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &linked)?;
        writeln!(out)?;
        return Ok(Exit::Done);
    }
    for architecture in linked {
        let Descriptor { id, name, model_types, tier, max_depth, crate_name, crate_version } = architecture;
        let tier = match tier {
            Tier::Verified => "verified: an artifact runs with evidence that covers its files",
            Tier::Recognized => {
                "recognized: an artifact runs once `mtplx verify` has measured it on this machine, or with --allow-unverified"
            }
        };
        writeln!(out, "{id}  {name}")?;
        writeln!(out, "  model types  {}", model_types.join(", "))?;
        writeln!(out, "  tier         {tier}")?;
        writeln!(out, "  depth        up to {max_depth}")?;
        writeln!(out, "  crate        {crate_name} {crate_version}")?;
    }
    Ok(Exit::Done)
}
