//! `mtplx archs`: the architectures that this binary can run.

use std::io::{self, Write as _};

use mtplx_runtime::architecture::{Descriptor, Tier};
use mtplx_runtime::registry::Registry;
use serde::Serialize;

use crate::args::ArchsArgs;
use crate::error::{Exit, warn};
use crate::model;

/// An architecture, as this program judges it.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    descriptor: Descriptor,
    /// The tier that its crate claims, where the program's list says less.
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_tier: Option<Tier>,
}

impl Row {
    fn of(registry: &Registry, claimed: &Descriptor) -> Self {
        let descriptor = Descriptor { tier: registry.tier(claimed), ..*claimed };
        let overstated = (claimed.tier, descriptor.tier) == (Tier::Verified, Tier::Recognized);
        Self { descriptor, claimed_tier: overstated.then_some(claimed.tier) }
    }

    fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let Descriptor { id, name, model_types, tier, max_depth, crate_name, crate_version } = self.descriptor;
        let tier = match tier {
            Tier::Verified => "verified: drafts behind a warning until `mtplx verify` has measured the artifact",
            Tier::Recognized => {
                "recognized: drafts once `mtplx verify` has measured the artifact here, or with --allow-unverified"
            }
        };
        writeln!(out, "{id}  {name}")?;
        writeln!(out, "  model types  {}", model_types.join(", "))?;
        writeln!(out, "  tier         {tier}")?;
        if self.claimed_tier.is_some() {
            writeln!(
                out,
                "               (its crate claims to be verified, which this program's own list does not say)"
            )?;
        }
        writeln!(out, "  depth        up to {max_depth}")?;
        writeln!(out, "  crate        {crate_name} {crate_version}")
    }
}

/// Lists them, for people or as JSON.
pub fn archs(args: &ArchsArgs) -> anyhow::Result<Exit> {
    let registry = model::registry();
    let linked: Vec<Row> = registry.iter().map(|linked| Row::of(&registry, linked.descriptor())).collect();
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
    linked.iter().try_for_each(|row| row.write(&mut out))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_said_and_not_believed() {
        let claimed = Descriptor {
            id: "acme-mtp",
            name: "Acme",
            model_types: &["acme"],
            tier: Tier::Verified,
            max_depth: 8,
            crate_name: "acme",
            crate_version: "1.0.0",
        };
        let row = Row::of(&model::registry(), &claimed);
        let document = serde_json::to_value(&row).unwrap();
        assert_eq!((&document["tier"], &document["claimed_tier"]), (&"recognized".into(), &"verified".into()));
        let mut text = Vec::new();
        row.write(&mut text).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap(), @"
        acme-mtp  Acme
          model types  acme
          tier         recognized: drafts once `mtplx verify` has measured the artifact here, or with --allow-unverified
                       (its crate claims to be verified, which this program's own list does not say)
          depth        up to 8
          crate        acme 1.0.0
        ");
        // Of its own crates it says what they claim.
        for linked in model::registry().iter() {
            assert_eq!(Row::of(&model::registry(), linked.descriptor()).claimed_tier, None);
        }
    }
}
