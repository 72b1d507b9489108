//! `verify` passes a sound model and fails every spoilt one, gate by gate.

use std::ops::ControlFlow;

use mtplx_runtime::model::MtpModel;
use mtplx_runtime::sampling::SamplingParams;
use mtplx_runtime::testing::doubles::{LaggingHead, NoisyTrunk, Stale, StaleTrunk};
use mtplx_runtime::verify::{Effort, Options, Report, VerifyError, verify};

use crate::tiny;

/// The prompt that stale trunks count rows from.
const PROMPT: [u32; 5] = [0, 1, 2, 3, 1];

fn options(samples: usize, tokens: usize) -> Options {
    Options {
        prompts: vec![PROMPT.to_vec()],
        depth: 3,
        sampling: SamplingParams::unfiltered(),
        stop_tokens: Vec::new(),
        effort: Effort { prompts: 1, rows: 4, samples, tokens, ..Effort::QUICK },
        seed: 1,
    }
}

fn report(model: &mut MtpModel, options: &Options) -> Report {
    verify(model, options, |_| ControlFlow::Continue(())).expect("a report")
}

/// The gates that `model` does not pass.
fn failed(model: &mut MtpModel, options: &Options) -> Vec<&'static str> {
    let report = report(model, options);
    report.gates.iter().filter(|gate| !gate.passed).map(|gate| gate.name).collect()
}

#[test]
fn a_sound_model_passes() {
    for seed in [5, 6] {
        let report = report(&mut tiny::model(seed), &options(100, 24));
        assert!(report.passed(), "{report:#?}");
        let names: Vec<&str> = report.gates.iter().map(|gate| gate.name).collect();
        assert_eq!(names, ["state", "marginal", "joint", "teacher-forced", "greedy"]);
        let first = report.acceptance_by_depth[0];
        assert_eq!((report.depth, report.acceptance_by_depth.len(), report.dtype), (3, 3, "float32"));
        assert!(first.drafted > 10 && first.accepted > 0 && first.accepted < first.drafted, "{first:?}");
    }
}

#[test]
fn rows_that_are_not_taken_back_fail() {
    for stale in [Stale::Everything, Stale::Recurrent] {
        let mut model = tiny::model(5);
        assert!(StaleTrunk::install(&mut model, stale, PROMPT.len()));
        let failed = failed(&mut model, &options(300, 16));
        // Of these gates greedy text is the blunt one: here it passes what is rolled back by nobody.
        for gate in ["state", "joint"] {
            assert!(failed.contains(&gate), "{stale:?}: {gate} passed: {failed:?}");
        }
    }
}

#[test]
fn a_head_that_is_fed_the_wrong_rows_fails() {
    let mut model = tiny::model(5);
    LaggingHead::install(&mut model);
    let failed = failed(&mut model, &options(1, 64));
    assert!(failed.contains(&"teacher-forced"), "{failed:?}");
    // Whatever is drafted, the text is exact.
    assert!(!failed.contains(&"greedy") && !failed.contains(&"joint"), "{failed:?}");
}

#[test]
fn a_width_that_computes_something_else_fails() {
    let mut model = tiny::model(5);
    NoisyTrunk::install(&mut model, 20.0);
    // The quick effort, which draws no short sequences, sees what is not small.
    let failed = failed(&mut model, &options(Effort::QUICK.samples, 32));
    for gate in ["state", "joint", "greedy"] {
        assert!(failed.contains(&gate), "{gate} passed: {failed:?}");
    }
    // Noise within what rounding may do is none.
    let mut model = tiny::model(5);
    NoisyTrunk::install(&mut model, 1e-6);
    assert!(report(&mut model, &options(40, 16)).passed());
}

#[test]
fn logits_that_are_no_numbers_fail() {
    let mut model = tiny::model(5);
    NoisyTrunk::install(&mut model, f32::NAN);
    let failed = failed(&mut model, &options(4, 8));
    assert!(failed.contains(&"state") && failed.contains(&"greedy"), "{failed:?}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let mut model = tiny::model(5);
    let error = |model: &mut MtpModel, options: &Options| verify(model, options, |_| ControlFlow::Continue(())).err();
    let none = Options { prompts: vec![vec![1], vec![]], ..options(1, 8) };
    assert!(matches!(error(&mut model, &none), Some(VerifyError::NoPrompt)));
    let broken_off = verify(&mut model, &options(1, 8), |_| ControlFlow::Break(()));
    assert!(matches!(broken_off, Err(VerifyError::Interrupted)));
    model.drafter = None;
    assert!(matches!(error(&mut model, &options(1, 8)), Some(VerifyError::NoDraftHead)));
}
