//! The joint law of a tiny model's texts: sequences draw from it, and every way to get it wrong is noticed.
//!
//! Negative controls go through the same test with the same number of samples. Those that are mistakes of the decision
//! go through the reference loop, which is a `Sequence` round by round ([`sequence_is_the_reference`]); those that are
//! mistakes of the caches go through the `Sequence` itself.

use crate::model::MtpModel;
use crate::sampling::SamplingParams;
use crate::speculative::{DepthPolicy, Rule, Sequence};
use crate::testing::doubles::{Stale, StaleTrunk};
use crate::testing::exactness::{Setting, Until};
use crate::testing::reference::{Fault, ReferenceLoop, ReferenceOptions, ReferenceRound, Start};
use std::ops::ControlFlow;
use std::rc::Rc;

/// Makes a tiny model from a seed: a vocabulary of about four tokens, every kind of layer of its family, f32.
pub type Tiny = fn(u64) -> MtpModel;

/// The model that is tested. Of the first few seeds this one's drafts are rejected most often, which is where mistakes show.
const SEED: u64 = 5;
/// A negative control may take so many times the samples before it counts as missed. Most are noticed in the first
/// hundreds; a tenth too much acceptance takes thousands.
const PATIENCE: u64 = 10;

fn prompt() -> Vec<u32> {
    vec![0, 1, 2, 3, 1]
}

fn filtered() -> Setting {
    let sampling = SamplingParams { temperature: 0.6, top_p: 0.95, top_k: 3, ..SamplingParams::default() };
    Setting {
        name: "temperature 0.6, top-p 0.95, top-k 3",
        prompt: prompt(),
        sampling,
        draft_sampling: None,
        draft_vocabulary: None,
    }
}

fn unfiltered() -> Setting {
    let sampling = SamplingParams::unfiltered();
    Setting { name: "temperature 1", prompt: prompt(), sampling, draft_sampling: None, draft_vocabulary: None }
}

fn penalized() -> Setting {
    let sampling = SamplingParams {
        repetition_penalty: 1.5,
        presence_penalty: 1.0,
        frequency_penalty: 1.5,
        logit_bias: [(2, 0.5)].into(),
        ..SamplingParams::unfiltered()
    };
    // A prompt that leaves tokens out, so that the repetition penalty tells them apart.
    Setting {
        name: "penalties and a bias",
        prompt: vec![1, 3, 3],
        sampling,
        draft_sampling: None,
        draft_vocabulary: None,
    }
}

fn drafted_otherwise() -> Setting {
    let draft = SamplingParams { temperature: 0.3, top_k: 2, ..SamplingParams::default() };
    Setting { name: "drafts filtered harder than the target", draft_sampling: Some(draft), ..unfiltered() }
}

/// The rejection rule, filtered, at depths 1 to 3.
pub fn rejection_is_exact_when_filtered(tiny: Tiny, samples: u64) {
    let model = tiny(SEED);
    // The deepest, of which the others are a part, gets the most.
    for (depth, samples) in [(1, samples), (2, samples), (3, 2 * samples)] {
        let until = Until::Drawn(samples);
        let joint = filtered().test_sequence(&model, Rule::Rejection, &DepthPolicy::Fixed(depth), until);
        joint.assert_exact(&format!("rejection, depth {depth}"));
    }
}

/// The rejection rule, with nothing filtered, with penalties, and with drafts drawn from something else.
pub fn rejection_is_exact_in_other_settings(tiny: Tiny, samples: u64) {
    let model = tiny(SEED + 1);
    for (setting, depth) in [(unfiltered(), 3), (penalized(), 2), (drafted_otherwise(), 3)] {
        let joint = setting.test_sequence(&model, Rule::Rejection, &DepthPolicy::Fixed(depth), Until::Drawn(samples));
        joint.assert_exact(&format!("rejection, depth {depth}"));
    }
}

/// The coupled rule, at a depth for each setting and one that adapts.
pub fn coupled_is_exact(tiny: Tiny, samples: u64) {
    let model = tiny(SEED + 2);
    let adaptive = DepthPolicy::adaptive(3);
    for (setting, depth) in
        [(filtered(), DepthPolicy::Fixed(3)), (unfiltered(), DepthPolicy::Fixed(1)), (penalized(), adaptive)]
    {
        let joint = setting.test_sequence(&model, Rule::Coupled, &depth, Until::Drawn(samples));
        joint.assert_exact(&format!("coupled, {} drafts at most", depth.max_depth()));
    }
}

/// Both rules, with drafts restricted to some tokens: the law is the whole vocabulary's.
pub fn restricted_drafts_are_exact(tiny: Tiny, samples: u64) {
    let model = tiny(SEED + 3);
    let head = model.drafter.as_ref().expect("a draft head");
    let vocabulary = Rc::new(head.restrict(&[0, 2]).expect("two tokens"));
    assert_eq!(vocabulary.tokens(), [0, 2]);
    for (setting, rule, depth) in [(filtered(), Rule::Rejection, 3), (penalized(), Rule::Coupled, 2)] {
        let setting = Setting { draft_vocabulary: Some(Rc::clone(&vocabulary)), ..setting };
        let joint = setting.test_sequence(&model, rule, &DepthPolicy::Fixed(depth), Until::Drawn(samples));
        joint.assert_exact(&format!("{rule:?}, restricted drafts"));
    }
    for refused in [&[][..], &[2, 0], &[1, 1], &[0, 1 << 20]] {
        assert!(head.restrict(refused).is_err(), "{refused:?}");
    }
}

/// Plain decoding, from which the other tests' law is taken.
pub fn plain_decoding_is_exact(tiny: Tiny, samples: u64) {
    let joint = filtered().test_sequence(&tiny(SEED), Rule::Rejection, &DepthPolicy::Fixed(0), Until::Drawn(samples));
    joint.assert_exact("plain");
}

/// The sequence's rounds are those of the reference on the host: the same drafts, accepted alike, the same tokens.
pub fn sequence_is_the_reference(tiny: Tiny, samples: u64) {
    let model = tiny(SEED);
    let (mut differing, mut compared) = (0, 0);
    for (setting, depth) in [(filtered(), 1), (filtered(), 3), (unfiltered(), 2), (penalized(), 3)] {
        let options = |seed| setting.options(Rule::Rejection, DepthPolicy::Fixed(depth), seed);
        let mut sequence = Sequence::new(&model, options(0)).expect("a sequence");
        let anchor = sequence.prefill(&model, &setting.prompt, |_, _| ControlFlow::Continue(())).expect("a prompt");
        let snapshot = sequence.snapshot().expect("a snapshot");
        let mut start = Start::new(&model, &setting.prompt, anchor).expect("a prompt");
        for seed in 1..=samples / 8 {
            let mut sequence = Sequence::resume(&model, options(seed), &snapshot).expect("a sequence");
            let sampling = setting.sampling.clone();
            let reference = ReferenceOptions { sampling, rule: Rule::Rejection, depth, seed, fault: None };
            let mut reference = ReferenceLoop::new(&mut start, reference).expect("a reference");
            for _ in 0..3 {
                let expected = reference.round(&model).expect("a round");
                let round = sequence.round(&model, usize::MAX).expect("a round");
                let accepted = round.acceptance.accepted;
                compared += 1;
                // The rest of a sequence differs with the round before.
                if expected != (ReferenceRound { drafts: round.drafts, accepted, tokens: round.tokens }) {
                    differing += 1;
                    break;
                }
            }
        }
    }
    // Numbers within f32's rounding of an edge may fall to either side.
    assert!(differing * 1000 <= compared, "{differing} of {compared} rounds differ");
}

/// The reference is exact without a fault, and each fault of the decision is noticed.
pub fn faults_of_the_decision_are_detected(tiny: Tiny, samples: u64) {
    let model = tiny(SEED);
    let setting = filtered();
    let test = |fault, until| {
        let sampling = setting.sampling.clone();
        let options = ReferenceOptions { sampling, rule: Rule::Rejection, depth: 3, seed: 0, fault };
        setting.test_reference(&model, &options, until)
    };
    test(None, Until::Drawn(samples)).assert_exact("the reference");
    for fault in Fault::ALL {
        test(Some(fault), Until::Detected(PATIENCE * samples)).assert_detected(&format!("{fault:?}"));
    }
}

/// Caches that are not rolled back, or only the keys and values of which are, are noticed.
pub fn faults_of_the_rollback_are_detected(tiny: Tiny, samples: u64) {
    for stale in [Stale::Everything, Stale::Recurrent] {
        let mut model = tiny(SEED);
        let setting = filtered();
        if !StaleTrunk::install(&mut model, stale, setting.prompt.len()) {
            continue;
        }
        let joint =
            setting.test_sequence(&model, Rule::Rejection, &DepthPolicy::Fixed(3), Until::Detected(PATIENCE * samples));
        joint.assert_detected(&format!("{stale:?} is stale"));
    }
}
