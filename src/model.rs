//! Models as this program opens them: folders, the Hugging Face cache and the built-in one, with the hashes and the machine that it knows.

use mtplx_engine::assess::{AssessOptions, Assessment, Verdict, assess_with};
use mtplx_engine::{AssessedModel, DraftVocab, read_text};
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::mlx::{self, MemoryBudget};
use mtplx_runtime::registry::{Registry, Verified};
use mtplx_runtime::text::{TextAssets, Tokenizer};

use crate::args::{self, Model};
use crate::error::{Failure, warn};
use crate::state_dirs::StateDirs;
use crate::terminal::Progress;
use crate::{builtin, hint, hub, input, threads};

/// The architectures that this program vouches for: checked against independent references, with evidence shipped.
const VERIFIED: [Verified; 1] = [("qwen3-next-mtp", "mtplx-arch-qwen3-next")];

/// The linked architectures, as this program judges them.
pub fn registry() -> Registry {
    Registry::linked().verified(&VERIFIED)
}

/// Opens a model: headers, configuration and text files, and the files' hashes where the contract has evidence to compare
/// with.
///
/// # Errors
/// There is no such model, or its folder cannot be read.
pub fn open(model: &Model) -> anyhow::Result<AssessedModel> {
    let checkpoint = checkpoint(model)?;
    Ok(with_known(false, |options| AssessedModel::new(checkpoint, &registry(), options)))
}

/// What the files are worth. `thorough`: compares hashes even where the verdict is clear without them.
pub fn judge(checkpoint: &Checkpoint, thorough: bool) -> Assessment {
    assess(checkpoint, &read_text(checkpoint), thorough)
}

/// What the files are worth, whose text side was read already.
pub fn assess(checkpoint: &Checkpoint, text: &TextAssets, thorough: bool) -> Assessment {
    with_known(thorough, |options| assess_with(checkpoint, &registry(), text, options))
}

/// Assesses with the hashes that are known here, keeps those that were made, and shows how far hashing is.
fn with_known<T>(thorough: bool, assess: impl FnOnce(AssessOptions<'_>) -> T) -> T {
    let home = StateDirs::of_user();
    let (before, machine) = (home.known_hashes(), home.machine());
    let mut known = before.clone();
    let mut bar = None;
    let mut progress = |done: u64, all: u64| {
        let bar = bar.get_or_insert_with(|| Progress::start("comparing the files with their evidence", false));
        bar.update((done >> 20) as usize, (all >> 20) as usize);
    };
    let options =
        AssessOptions { machine: machine.as_deref(), known: Some(&mut known), progress: Some(&mut progress), thorough };
    let assessed = assess(options);
    if known != before {
        home.keep_hashes(&known);
    }
    assessed
}

/// Opens a model's files, without judging them: what cannot or may not be read is left out, and the verdict says so.
///
/// # Errors
/// There is no such model, or its folder cannot be read.
pub fn checkpoint(model: &Model) -> anyhow::Result<Checkpoint> {
    Ok(match model {
        Model::Dir(typed) => Checkpoint::open_lenient(&hub::folder_of(typed)?)?,
        Model::Builtin => {
            let files = builtin::files().ok_or_else(|| {
                Failure::usage(
                    "this binary has no built-in model",
                    "`--model MODEL` runs one from a folder or the Hugging Face cache",
                )
            })?;
            Checkpoint::embedded(builtin::LABEL, files)?
        }
    })
}

/// Warnings about the files before anything runs, drafting or (`trunk_only`) not.
pub fn warnings(model: &AssessedModel, trunk_only: bool) -> Vec<String> {
    let verdict = &model.assessment.verdict;
    let (doubted, next): (&[String], _) = match verdict {
        Verdict::Unverified { why, .. } => (why, ": `mtplx verify` measures whether its drafting is exact"),
        Verdict::Contradicted { why, .. } => (why, ": `mtplx verify` replaces such evidence"),
        _ => (&[], ""),
    };
    // What is not drafted needs no measuring.
    let next = if trunk_only { "" } else { next };
    let doubts = (!doubted.is_empty()).then(|| format!("{}: {verdict}{next}", model.checkpoint.label()));
    doubts.into_iter().chain(model.warnings(doubted)).collect()
}

/// The verdict on memory at `tokens` of context, in a line; said as a warning where the model does not fit. Loading refuses weights
/// that do not fit by themselves.
pub fn fit(model: &AssessedModel, tokens: usize, trunk_only: bool) -> Option<String> {
    let fit = model.fit(tokens, trunk_only)?;
    if let Some(hint) = hint::of_fit(&fit) {
        warn(&format!("{} at {tokens} tokens of context: {fit}; {hint}", model.checkpoint.label()));
    }
    Some(fit.to_string())
}

/// The tokens that drafts are to be restricted to, as `args` ask.
///
/// # Errors
/// The text cannot be read.
pub fn draft_vocab(args: &args::DraftVocabArgs, tokenizer: &Tokenizer) -> anyhow::Result<Option<DraftVocab>> {
    let Some(count) = args.draft_vocab else { return Ok(None) };
    let sample = match &args.draft_corpus {
        Some(path) => tokenizer.encode(&input::from_file(path)?, false)?,
        None => Vec::new(),
    };
    Ok(Some(DraftVocab { count, sample }))
}

/// Chooses the device for everything that follows.
///
/// # Errors
/// There is no such device.
pub fn choose_device(wanted: Option<args::Device>) -> Result<(), Failure> {
    match wanted {
        None => {}
        Some(args::Device::Cpu) => mlx::set_default_device(mlx::Device::Cpu),
        Some(args::Device::Gpu) if mlx::gpu_available() => mlx::set_default_device(mlx::Device::Gpu),
        Some(args::Device::Gpu) => {
            let what = "--device gpu: MLX finds no GPU here";
            return Err(Failure::usage(what, "`--device cpu` computes on the processor"));
        }
    }
    if mlx::default_device() == mlx::Device::Cpu {
        threads::follow_free_cores();
    }
    if let Some(budget) = MemoryBudget::of_default() {
        budget.apply();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mtplx_runtime::architecture::Precision;
    use mtplx_runtime::artifact::HiddenVariant;

    use super::*;

    /// The contract says which hidden states the drafter is fed: one that is replaced between judging and loading changes nothing.
    #[test]
    fn what_was_judged_is_what_is_loaded() {
        choose_device(Some(args::Device::Cpu)).unwrap();
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trained_qwen3_5/mlx_q4g32");
        let folder = tempfile::TempDir::new().unwrap();
        for entry in std::fs::read_dir(fixture).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let contract = |variant: &str| {
            let text = format!(r#"{{"mtp_contract": {{"base_hidden_variant": "{variant}"}}}}"#);
            std::fs::write(folder.path().join("mtplx_runtime.json"), text).unwrap();
        };
        let judged = || open(&Model::Dir(folder.path().to_owned())).unwrap();
        let loaded = |opened: &AssessedModel| opened.load(false, Precision::Auto).unwrap().model.info.hidden_variant;
        contract("post_norm");
        let opened = judged();
        contract("pre_norm");
        assert_eq!(loaded(&opened), HiddenVariant::PostNorm);
        assert_eq!(loaded(&judged()), HiddenVariant::PreNorm);
    }
}
