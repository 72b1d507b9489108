//! The conformance suite: what every architecture must show, by one macro in its crate's tests.

use std::path::Path;

use super::checks;
use super::fixture::Fixture;
use crate::architecture::MtpArchitecture;

/// A check of one fixture.
pub type Check = fn(&dyn MtpArchitecture, &Fixture);

/// Every check of one fixture, by name.
pub const CHECKS: [(&str, Check); 22] = [
    ("golden_tensors", checks::golden_tensors),
    ("golden_states", checks::golden_states),
    ("contracts_choose_the_hidden_states", checks::contracts_choose_the_hidden_states),
    ("chunked_prefill_is_prefill", checks::chunked_prefill_is_prefill),
    ("verified_rows_are_single_steps", checks::verified_rows_are_single_steps),
    ("every_keep_is_a_fresh_forward", checks::every_keep_is_a_fresh_forward),
    ("sequence_commits_what_it_emits", checks::sequence_commits_what_it_emits),
    ("drafts_leave_the_history_alone", checks::drafts_leave_the_history_alone),
    ("greedy_is_plain_greedy", checks::greedy_is_plain_greedy),
    ("traces_are_golden", checks::traces_are_golden),
    ("teacher_forced_acceptance_is_the_loops", checks::teacher_forced_acceptance_is_the_loops),
    ("coupled_text_is_that_of_its_seed", checks::coupled_text_is_that_of_its_seed),
    ("snapshots_resume", checks::snapshots_resume),
    ("rounds_sent_ahead_change_nothing", checks::rounds_sent_ahead_change_nothing),
    ("prompts_go_on", checks::prompts_go_on),
    ("sequences_together_are_sequences_alone", checks::sequences_together_are_sequences_alone),
    ("logprobs_are_the_trunks", checks::logprobs_are_the_trunks),
    ("faults_stay_behind_the_text", checks::faults_stay_behind_the_text),
    ("names_each_missing_tensor", checks::names_each_missing_tensor),
    ("names_each_misshapen_tensor", checks::names_each_misshapen_tensor),
    ("names_each_unread_tensor", checks::names_each_unread_tensor),
    ("forged_artifacts_are_the_same_model", checks::forged_artifacts_are_the_same_model),
];

/// Sequences that a test of the joint distribution draws for each setting; negative controls stop when they are noticed.
pub const SAMPLES: u64 = 500;

/// Sequences where another family's suite draws [`SAMPLES`]: the loop is the same, and the family's own arithmetic is compared exactly.
pub const FEWER_SAMPLES: u64 = 150;

/// Checks of files, in which no model runs beside others.
const OF_FILES: [&str; 4] = [
    "names_each_missing_tensor",
    "names_each_misshapen_tensor",
    "names_each_unread_tensor",
    "forged_artifacts_are_the_same_model",
];

/// Runs the check `name` over the checkpoints in `folder`; over the first in a batch of three as well: rows of other sequences meet in the
/// same products whatever a weight's packing.
pub fn run(name: &str, check: Check, architecture: &dyn MtpArchitecture, folder: &Path) {
    for (index, fixture) in Fixture::all(folder).into_iter().enumerate() {
        check(architecture, &fixture);
        if index == 0 && !OF_FILES.contains(&name) {
            check(architecture, &fixture.in_company());
        }
    }
}

/// [`checks::claims_its_fixtures_only`] over the checkpoints in all `folders`.
pub fn run_detection(architecture: &dyn MtpArchitecture, folders: &[&Path]) {
    let fixtures: Vec<Fixture> = folders.iter().flat_map(|folder| Fixture::all(folder)).collect();
    checks::claims_its_fixtures_only(architecture, &fixtures);
}

/// Every check over every checkpoint of `architecture` below `root`, a folder of folders.
pub fn run_all(architecture: &dyn MtpArchitecture, root: &Path) {
    let entries = std::fs::read_dir(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut folders: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    let fixtures: Vec<Fixture> = folders
        .iter()
        .filter(|folder| folder.join("config.json").is_file())
        .flat_map(|folder| Fixture::all(folder))
        .collect();
    let own: Vec<Fixture> = fixtures.into_iter().filter(|fixture| fixture.is_of(architecture)).collect();
    assert!(!own.is_empty(), "{}: no checkpoint of {}", root.display(), architecture.descriptor().id);
    for fixture in &own {
        for (name, check) in CHECKS {
            println!("{}: {name}", fixture.name);
            check(architecture, fixture);
            if !OF_FILES.contains(&name) {
                check(architecture, &fixture.in_company());
            }
        }
    }
    checks::claims_its_fixtures_only(architecture, &own);
}

/// The conformance suite of an architecture, as one module of tests.
///
/// ```ignore
/// mtplx_runtime::conformance!(Acme, tiny: tiny::model, made: [small], fixtures: "../tests/fixtures", [acme_dense]);
/// ```
///
/// `tiny` is a [`Tiny`](crate::testing::checks::joint::Tiny): the joint law of its model's sequences is tested in the
/// module `joint`, with [`SAMPLES`] sequences a setting, or `samples` (may be left out), or as many as `MTPLX_JOINT_SAMPLES` says.
///
/// `made` (may be left out) are functions, each of which writes a checkpoint to a folder of its own: `fn() -> TempDir`, as
/// [`TinyCheckpoint::write`](crate::testing::TinyCheckpoint::write) does.
///
/// `fixtures` (may be left out) are folders under a path relative to the crate, each a checkpoint with variants in
/// subfolders and, as a rule, expected values (see [`fixture`](crate::testing::fixture)). If `MTPLX_GOLDEN` names a folder
/// of such folders, one more test runs every check over all of the architecture's checkpoints in it.
///
/// Each function and each folder becomes a module with one test for each check.
#[macro_export]
macro_rules! conformance {
    (
        $architecture:expr,
        tiny: $tiny:expr
        $(, samples: $samples:expr)?
        $(, made: [$($made:ident),+ $(,)?])?
        $(, fixtures: $root:literal, [$($folder:ident),+ $(,)?])?
        $(,)?
    ) => {
        mod conformance {
            #[allow(unused_imports, reason = "the architecture may be named by a path")]
            use super::*;
            use ::std::path::{Path, PathBuf};
            use $crate::testing::conformance::{run_all, run_detection};

            #[test]
            fn claims_its_fixtures_only() {
                $($(
                    let dir = super::$made();
                    run_detection(&$architecture, &[dir.path()]);
                )+)?
                $(
                    let folders: &[PathBuf] = &[$(Path::new(env!("CARGO_MANIFEST_DIR")).join($root).join(stringify!($folder))),+];
                    run_detection(&$architecture, &folders.iter().map(PathBuf::as_path).collect::<Vec<_>>());
                )?
            }

            #[test]
            fn full_golden_set() {
                if let Some(golden) = ::std::env::var_os("MTPLX_GOLDEN").filter(|folder| !folder.is_empty()) {
                    run_all(&$architecture, Path::new(&golden));
                }
            }

            #[allow(unused_assignments, unused_mut, reason = "no samples may be stated")]
            fn samples() -> u64 {
                let mut samples = $crate::testing::conformance::SAMPLES;
                $(samples = $samples;)?
                let asked = ::std::env::var("MTPLX_JOINT_SAMPLES").ok();
                asked.map_or(samples, |asked| asked.parse().expect("MTPLX_JOINT_SAMPLES"))
            }

            $crate::conformance! { @joint $tiny, [
                plain_decoding_is_exact,
                rejection_is_exact_when_filtered,
                rejection_is_exact_in_other_settings,
                coupled_is_exact,
                restricted_drafts_are_exact,
                sequence_is_the_reference,
            ] }

            $($($crate::conformance! { @checkpoint $architecture, $made, super::super::$made() })+)?
            $($($crate::conformance! {
                @checkpoint $architecture, $folder,
                ::std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join($root).join(stringify!($folder))
            })+)?
        }
    };
    (@joint $tiny:expr, [$($check:ident,)+]) => {
        mod joint {
            #[allow(unused_imports, reason = "the model may be named by a path")]
            use super::*;

            fn in_company(seed: u64) -> $crate::model::MtpModel {
                $crate::testing::company::in_company($tiny(seed))
            }

            $(
                #[test]
                fn $check() {
                    $crate::testing::checks::joint::$check($tiny, samples());
                    $crate::testing::checks::joint::$check(in_company, samples() / 4);
                }
            )+
        }
    };
    (@checkpoint $architecture:expr, $name:ident, $folder:expr) => {
        $crate::conformance! { @checks $architecture, $name, $folder, [
            golden_tensors,
            golden_states,
            contracts_choose_the_hidden_states,
            chunked_prefill_is_prefill,
            verified_rows_are_single_steps,
            every_keep_is_a_fresh_forward,
            sequence_commits_what_it_emits,
            drafts_leave_the_history_alone,
            greedy_is_plain_greedy,
            traces_are_golden,
            teacher_forced_acceptance_is_the_loops,
            coupled_text_is_that_of_its_seed,
            snapshots_resume,
            rounds_sent_ahead_change_nothing,
            prompts_go_on,
            sequences_together_are_sequences_alone,
            logprobs_are_the_trunks,
            faults_stay_behind_the_text,
            names_each_missing_tensor,
            names_each_misshapen_tensor,
            names_each_unread_tensor,
            forged_artifacts_are_the_same_model,
        ] }
    };
    (@checks $architecture:expr, $name:ident, $folder:expr, [$($check:ident,)+]) => {
        mod $name {
            #[allow(unused_imports, reason = "the architecture may be named by a path")]
            use super::*;

            $(
                #[test]
                fn $check() {
                    let folder = $folder;
                    let folder: &::std::path::Path = folder.as_ref();
                    let name = stringify!($check);
                    $crate::testing::conformance::run(name, $crate::testing::checks::$check, &$architecture, folder);
                }
            )+
        }
    };
}
