//! The model that is served where none was named.

use std::env;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::Command;

use mtplx_engine::assess::Verdict;
use mtplx_runtime::artifact::size_shown;
use mtplx_runtime::mlx::{self, Device};

use crate::args::{Model, ServeArgs};
use crate::error::{Exit, stderr, warn};
use crate::hub::Cache;
use crate::known::{self, CONTEXTS, KnownModel};
use crate::model;

/// A decision.
pub enum Choice {
    Model {
        model: Model,
        /// The reason, for people.
        why: String,
    },
    /// The user interrupted.
    Interrupted,
}

/// A model of the cache that runs and fits.
struct Candidate {
    id: String,
    verified: bool,
    parameters: u64,
    says: String,
}

/// Chooses.
///
/// # Errors
/// The list of known models is wrong; the terminal is gone.
pub fn model(args: &ServeArgs) -> anyhow::Result<Choice> {
    if let Some(found) = in_cache(args) {
        let why = format!("the largest model in the Hugging Face cache that runs here ({})", found.says);
        return Ok(Choice::Model { model: Model::Dir(found.id.into()), why });
    }
    let none = "no model in the Hugging Face cache runs and fits here";
    let builtin = || Choice::Model { model: Model::Builtin, why: format!("{none}; `mtplx models --known` lists some") };
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(builtin());
    }
    let Some(offered) = offered(known::list()?)? else { return Ok(builtin()) };
    writeln!(stderr(), "{none}.")?;
    if !agrees(&offered)? {
        return Ok(builtin());
    }
    // A process of its own: its handling of signals ends with it.
    let id = offered.repository.to_string();
    let pulled = Command::new(env::current_exe()?).args(["pull", &id]).status()?;
    match pulled.code() {
        Some(0) => Ok(Choice::Model { model: Model::Dir(id.into()), why: "pulled".to_owned() }),
        Some(code) if code == Exit::Interrupted as i32 => Ok(Choice::Interrupted),
        _ => {
            warn(&format!("{id} was not pulled"));
            Ok(builtin())
        }
    }
}

/// The model of the cache that has most parameters among those that run and fit, verified ones first.
fn in_cache(args: &ServeArgs) -> Option<Candidate> {
    // A cache that cannot be read holds nothing that could run.
    let repositories = Cache::of_user().ok()?.repositories().unwrap_or_default();
    let candidates = repositories.iter().filter_map(|repository| {
        let Ok(Ok(snapshot)) = repository.find(None) else { return None };
        let id = repository.id.to_string();
        candidate(id, &Model::Dir(snapshot.dir), args)
    });
    candidates.max_by_key(|candidate| (candidate.verified, candidate.parameters))
}

fn candidate(id: String, place: &Model, args: &ServeArgs) -> Option<Candidate> {
    let opened = model::open(place).ok()?;
    let trunk_only = args.drafting.no_mtp;
    opened.admit(trunk_only, args.model.evidence.into()).ok()?;
    opened.text(true).ok()?;
    let tokens = opened.context().map_or(CONTEXTS[0], |most| most.min(CONTEXTS[0]));
    let fit = opened.fit(tokens, trunk_only)?;
    let verified = opened.assessment.verdict == Verdict::Verified;
    let parameters = opened.parameters();
    fit.fits().then(|| Candidate { id, verified, parameters, says: fit.to_string() })
}

/// The model to offer: with most parameters on a GPU, with fewest on a processor, which reads four bytes of each for every token.
fn offered(list: Vec<KnownModel>) -> anyhow::Result<Option<KnownModel>> {
    let mut best: Option<(u64, KnownModel)> = None;
    for model in list {
        let computed = model.computed()?;
        let fits = computed.fits.is_some_and(|[_, long]| long);
        let better = best.as_ref().is_none_or(|(parameters, _)| match mlx::default_device() {
            Device::Gpu => computed.parameters > *parameters,
            Device::Cpu => computed.parameters < *parameters,
        });
        if fits && better {
            best = Some((computed.parameters, model));
        }
    }
    Ok(best.map(|(_, model)| model))
}

/// Asks on the terminal.
fn agrees(model: &KnownModel) -> anyhow::Result<bool> {
    let bytes = match model.bytes {
        Some(bytes) => size_shown(bytes),
        None => format!("about {}, computed", size_shown(model.computed()?.bytes)),
    };
    write!(stderr(), "pull {} ({bytes}; {})? [y/N] ", model.repository, model.purpose)?;
    stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    #[test]
    fn a_processor_is_offered_a_small_model_that_fits() {
        model::choose_device(Some(args::Device::Cpu)).unwrap();
        let list = known::list().unwrap();
        let smallest = list.last().unwrap().repository.clone();
        let fits = list.iter().any(|model| model.computed().unwrap().fits.is_some_and(|[_, long]| long));
        let offered = offered(list).unwrap();
        assert_eq!(offered.map(|model| model.repository), fits.then_some(smallest));
    }
}
