//! Next steps in words: the commands and flags of this program for the hints and verdicts of the libraries.

use std::borrow::Cow;

use mtplx_engine::assess::Verdict;
use mtplx_engine::{Fit, Refusal, Room, Shortage};
use mtplx_runtime::architecture::Tier;
use mtplx_runtime::artifact::Hint;

/// An unverified model of a verified architecture.
const MEASURE: &str = "`mtplx verify` measures the evidence on this machine; without, it runs behind a warning, and not at all with \
     --require-verified";
/// One of a recognized architecture.
const MEASURE_FIRST: &str = "`mtplx verify` measures the evidence on this machine; `mtplx run --no-mtp` decodes plainly, which needs \
     none; --allow-unverified drafts without";
/// A model without evidence where evidence is required.
const REQUIRED: &str = "`mtplx verify` measures the evidence on this machine; --require-verified runs nothing without";
/// Weights beyond a graphics card's memory.
const FEWER: &str = "use a model with fewer parameters or fewer bits; `mtplx inspect MODEL` estimates what one takes";
/// Evidence that contradicts the files.
const REPLACE: &str = "`mtplx verify` replaces the evidence with what it measures on this machine; `mtplx run --no-mtp` decodes \
     plainly, which needs none; --allow-unverified drafts all the same";
/// The same where `mtplx verify` would refuse the contract.
const CORRECT: &str = "correct mtplx_runtime.json or move it out of the way, then `mtplx verify` measures the evidence on this \
     machine; `mtplx run --no-mtp` decodes plainly, which needs none; --allow-unverified drafts all the same";

/// The words of a library's hint.
pub fn words(hint: &Hint) -> Cow<'_, str> {
    match hint {
        Hint::Text(text) => Cow::Borrowed(text),
        Hint::Download { reason, repository } => {
            let repository = repository.as_deref().unwrap_or("OWNER/NAME");
            format!("{reason}: `mtplx pull {repository}` fetches what is missing").into()
        }
        Hint::Template => "correct the template, or download it again; `mtplx run --raw` goes without it".into(),
        Hint::ConvertFp8 => "`mtplx forge` converts block-scaled fp8 weights".into(),
        Hint::JoinHead => {
            "put its file beside the trunk as mtp.safetensors, or take it with `mtplx forge TRUNK OUT --mtp-from`".into()
        }
        Hint::Architectures => "`mtplx archs` lists what is linked".into(),
        Hint::Contract => "correct mtplx_runtime.json, or move it out of the way: `mtplx verify` writes a new one; `mtplx run --no-mtp` \
             does without"
            .into(),
        Hint::KeepPacking => "forge from the unquantized checkpoint: what packing lost does not come back; `--policy as-is` keeps it \
             as it is"
            .into(),
        Hint::PolicyFile => "`mtplx forge --help` shows what a policy file looks like".into(),
        Hint::TakeHead => "use a checkpoint that still has its head, or take one with --mtp-from".into(),
    }
}

/// The next step after a verdict; `None` for a model that is ready.
pub fn of_verdict(verdict: &Verdict) -> Option<String> {
    let words = match verdict {
        Verdict::Verified => return None,
        Verdict::Unverified { tier: Tier::Verified, .. } => MEASURE.into(),
        Verdict::Unverified { tier: Tier::Recognized, .. } => MEASURE_FIRST.into(),
        Verdict::Contradicted { needs_correction: true, .. } => CORRECT.into(),
        Verdict::Contradicted { needs_correction: false, .. } => REPLACE.into(),
        Verdict::Incomplete { .. } => "`mtplx run --no-mtp` runs the trunk alone".into(),
        Verdict::NoMtp => "`mtplx run --no-mtp` runs it without drafting".into(),
        Verdict::Damaged { hint, .. } | Verdict::Incompatible { hint, .. } => words(hint),
    };
    Some(words.into_owned())
}

/// The next step after a refusal.
pub fn of_refusal(refusal: &Refusal) -> Option<String> {
    let Refusal { verdict, required, .. } = refusal;
    let more = if verdict.is_shortened() { "; `mtplx inspect` lists every reason" } else { "" };
    match (&**verdict, of_verdict(verdict)) {
        (Verdict::Unverified { .. } | Verdict::Contradicted { .. }, _) if *required => Some(REQUIRED.to_owned()),
        (Verdict::Incomplete { .. } | Verdict::NoMtp, Some(hint)) if *required => {
            Some(format!("{hint}, without --require-verified"))
        }
        (_, hint) => hint.map(|hint| format!("{hint}{more}")),
    }
}

/// The next step where a model does not fit at a context; `None` where it does.
pub fn of_fit(fit: &Fit) -> Option<String> {
    if fit.fits() {
        return None;
    }
    let device = match fit.room {
        Room::Free(_) => "close other programs, or use a GPU: there a weight stays as it is stored",
        Room::Card(_) | Room::Shared(_) => {
            "or another device: --device cpu uses the machine's memory, at four bytes a weight"
        }
    };
    Some(match fit.longest {
        Some(tokens) => format!("{tokens} tokens of context fit; {device}"),
        None if fit.in_f32 => format!("use a model with fewer parameters; {device}"),
        None => format!(
            "use a model with fewer parameters or a policy with fewer bits (`mtplx forge --policy flat4`); {device}"
        ),
    })
}

/// The next step where weights do not fit into memory.
pub fn of_shortage(shortage: &Shortage) -> &'static str {
    match shortage.room {
        Room::Free(_) => {
            "close other programs, or use a model with fewer parameters: on a processor a weight takes four bytes, \
             however few it is stored in"
        }
        Room::Card(_) | Room::Shared(_) => FEWER,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use mtplx_runtime::inspect::Need;

    use super::*;
    use crate::args::Cli;

    /// A hint never sends anyone to a command or a flag that is not there.
    #[test]
    fn hints_name_commands_and_flags_that_exist() {
        let hints = [
            Hint::Download { reason: "x".into(), repository: None },
            Hint::Template,
            Hint::ConvertFp8,
            Hint::JoinHead,
            Hint::Architectures,
            Hint::Contract,
            Hint::KeepPacking,
            Hint::PolicyFile,
            Hint::TakeHead,
        ];
        let mut all: Vec<String> = hints.iter().map(|hint| words(hint).into_owned()).collect();
        all.extend([MEASURE, MEASURE_FIRST, REPLACE, CORRECT, REQUIRED, FEWER].map(str::to_owned));
        let need = Need { tokens: 1, weights: 2, context: 0, working: 0 };
        for (room, in_f32, longest) in
            [(Room::Free(1), true, Some(1)), (Room::Free(1), true, None), (Room::Card(1), false, None)]
        {
            all.extend(of_fit(&Fit { need, room, in_f32, longest }));
        }
        let program = Cli::command();
        let flags: Vec<String> = program
            .get_subcommands()
            .flat_map(clap::Command::get_arguments)
            .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
            .chain(["--help".to_owned()])
            .collect();
        for text in &all {
            let mut command =
                text.split("`mtplx ").skip(1).map(|rest| rest.split([' ', '`']).next().unwrap_or_default());
            let commands_exist = command.all(|name| program.find_subcommand(name).is_some());
            let mut words = text.split([' ', '`', ';', ':', ',']).filter(|word| word.starts_with("--"));
            let flags_exist = words.all(|word| flags.iter().any(|flag| flag == word));
            assert!(commands_exist && flags_exist, "{text}");
        }
    }
}
