//! Which architectures there are. Only [`Registry::linked`] touches `inventory`.

use std::collections::BTreeMap;
use std::fmt;

use crate::architecture::{Descriptor, Detection, HeadStatus, MtpArchitecture, Tier};
use crate::artifact::Checkpoint;

/// An entry that [`crate::register_architecture!`] submits.
pub struct Registration(pub &'static dyn MtpArchitecture);

inventory::collect!(Registration);

/// Registers an architecture: `register_architecture!(&MyArchitecture);` in the crate that implements it.
///
/// The binary's crate must name that crate (`use my_arch as _;`), or the linker drops it with its registration.
#[macro_export]
macro_rules! register_architecture {
    ($architecture:expr) => {
        $crate::inventory::submit! { $crate::registry::Registration($architecture) }
    };
}

/// A list of architectures.
#[derive(Clone)]
pub struct Registry {
    list: Vec<&'static dyn MtpArchitecture>,
    verified: &'static [Verified],
}

/// An architecture whose evidence the program vouches for: its id and the crate that implements it.
pub type Verified = (&'static str, &'static str);

/// An architecture that claims a checkpoint, with the state of the draft head.
#[derive(Debug)]
pub struct Claim {
    /// The claimant.
    pub architecture: &'static dyn MtpArchitecture,
    /// What it says of the draft head.
    pub head: HeadStatus,
}

/// Why no architecture could be chosen.
#[derive(Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// Nobody claims it.
    Unclaimed {
        /// The checkpoint's `model_type`.
        model_type: String,
        /// What is linked: id and model types.
        linked: Vec<String>,
    },
    /// More than one claims it.
    Ambiguous {
        /// The checkpoint's `model_type`.
        model_type: String,
        /// The claimants' ids and crates.
        claimants: Vec<String>,
    },
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclaimed { model_type, linked } => {
                write!(f, "config.json: model_type: no linked architecture claims \"{model_type}\" (linked: ")?;
                write!(f, "{})", if linked.is_empty() { "none".to_owned() } else { linked.join("; ") })
            }
            Self::Ambiguous { model_type, claimants } => write!(
                f,
                "config.json: model_type: \"{model_type}\" is claimed by {} architectures: {}",
                claimants.len(),
                claimants.join(", ")
            ),
        }
    }
}

impl std::error::Error for ResolveError {}

/// An architecture's id, crate and version.
fn claimant(descriptor: &Descriptor) -> String {
    format!("{} ({} {})", descriptor.id, descriptor.crate_name, descriptor.crate_version)
}

impl Registry {
    /// What the linker kept, in the order of their ids.
    pub fn linked() -> Self {
        Self::new(inventory::iter::<Registration>.into_iter().map(|entry| entry.0))
    }

    /// A list of one's own, for tests and embedders. Every architecture is recognized, until [`Registry::verified`] says more.
    pub fn new(list: impl IntoIterator<Item = &'static dyn MtpArchitecture>) -> Self {
        let mut list: Vec<_> = list.into_iter().collect();
        list.sort_by_key(|a| (a.descriptor().id, a.descriptor().crate_name));
        Self { list, verified: &[] }
    }

    /// The same with the architectures that the program vouches for. What a crate claims of itself decides nothing.
    #[must_use]
    pub fn verified(self, verified: &'static [Verified]) -> Self {
        Self { verified, ..self }
    }

    /// How far an architecture's evidence reaches, by the program's list.
    pub fn tier(&self, descriptor: &Descriptor) -> Tier {
        let vouched = self.verified.contains(&(descriptor.id, descriptor.crate_name));
        if vouched { Tier::Verified } else { Tier::Recognized }
    }

    /// The architectures, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &'static dyn MtpArchitecture> + '_ {
        self.list.iter().copied()
    }

    /// Model types that several architectures list, each with their ids and crates: no checkpoint of them can be resolved.
    pub fn conflicts(&self) -> Vec<(&'static str, Vec<String>)> {
        let mut claims: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for descriptor in self.iter().map(MtpArchitecture::descriptor) {
            for model_type in descriptor.model_types {
                claims.entry(model_type).or_default().push(claimant(descriptor));
            }
        }
        claims.into_iter().filter(|(_, claimants)| claimants.len() > 1).collect()
    }

    /// The one architecture that claims `checkpoint`.
    pub fn resolve(&self, checkpoint: &Checkpoint) -> Result<Claim, ResolveError> {
        let mut claims: Vec<Claim> = self
            .iter()
            .filter_map(|architecture| match architecture.detect(checkpoint) {
                Detection::No => None,
                Detection::Claimed { head } => Some(Claim { architecture, head }),
            })
            .collect();
        let model_type = || checkpoint.config().model_type().to_owned();
        match claims.len() {
            1 => Ok(claims.remove(0)),
            0 => Err(ResolveError::Unclaimed {
                model_type: model_type(),
                linked: self
                    .iter()
                    .map(|a| format!("{}: {}", a.descriptor().id, a.descriptor().model_types.join(", ")))
                    .collect(),
            }),
            _ => Err(ResolveError::Ambiguous {
                model_type: model_type(),
                claimants: claims.iter().map(|claim| claimant(claim.architecture.descriptor())).collect(),
            }),
        }
    }
}
