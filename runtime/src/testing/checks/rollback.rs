//! What is left of rows that were not kept: nothing.

use crate::architecture::MtpArchitecture;
use crate::model::DraftState;
use crate::speculative::Sequence;
use crate::testing::Rng;
use crate::testing::checks::{greedy, greedy_options};
use crate::testing::doubles::ScriptedHead;
use crate::testing::fixture::Fixture;
use crate::testing::host::{self, token_array};
use crate::testing::state::{self, assert_close, assert_same_state};
use std::ops::ControlFlow;

/// Rows of the widest verification: an anchor and eight drafts.
const WIDEST: usize = 9;

/// After any number of kept rows of a verification of any width, the trunk's state is that of a fresh forward pass of
/// what was kept, and so are the logits behind it.
pub fn every_keep_is_a_fresh_forward(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let vocab = model.info.vocab_size;
    let prompt = fixture.prompt(vocab);
    let kept = Rng::new(5).tokens(WIDEST, vocab);
    let mut fresh: Vec<_> = (0..=WIDEST)
        .map(|keep| state::fresh(&model, &[&prompt, &kept[..keep]].concat()).expect("a forward pass").0)
        .collect();
    let probe = token_array(&Rng::new(6).tokens(2, vocab));
    for width in 1..=WIDEST {
        for keep in 0..=width {
            let what = format!("{}: {keep} of {width} rows kept", fixture.name);
            let mut cache = fresh[0].freeze().expect("a prefix").fork();
            // Behind the kept ones other tokens, whose rows must not be seen again.
            let rejected = kept[keep..width].iter().map(|token| (token + 1) % vocab as u32);
            let tokens: Vec<u32> = kept[..keep].iter().copied().chain(rejected).collect();
            model.trunk.verify(&token_array(&tokens), &mut cache).expect("a verification");
            cache.commit(keep).expect("a commit");
            assert_same_state(&what, &cache, &fresh[keep]);
            let mut expected = fresh[keep].freeze().expect("a prefix").fork();
            let rows = [&mut cache, &mut expected].map(|cache| {
                let hidden = model.trunk.append(&probe, cache).expect("a forward pass");
                model.trunk.logits(&hidden).expect("logits")
            });
            assert_close(&format!("{what}: logits behind them"), &rows[0], &rows[1], state::TOLERANCE);
        }
    }
}

/// Whatever number of drafts a round of any depth accepts, trunk and history are those of the text.
pub fn sequence_commits_what_it_emits(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let mut model = fixture.load(architecture);
    let most = model.drafter.as_ref().map_or(0, |head| head.max_depth()).min(WIDEST - 1);
    let prompt = fixture.prompt(model.info.vocab_size);
    let text = greedy(&model, &prompt, 2 * WIDEST);
    let start = Sequence::new(&model, greedy_options(0)).and_then(|mut sequence| {
        sequence.prefill(&model, &prompt, |_, _| ControlFlow::Continue(()))?;
        sequence.snapshot()
    });
    let start = start.expect("a prompt");
    let head = ScriptedHead::install(&mut model);
    for depth in 1..=most {
        for accepted in 0..=depth {
            let what = format!("{}: {accepted} of {depth} drafts accepted", fixture.name);
            // The text's own tokens, then one that it does not have there.
            let mut script = text[1..=depth].to_vec();
            if let Some(wrong) = script.get_mut(accepted) {
                *wrong = (*wrong + 1) % model.info.vocab_size as u32;
            }
            head.set(&script);
            let mut sequence = Sequence::resume(&model, greedy_options(depth), &start).expect("a sequence");
            let round = sequence.round(&model, 64).expect("a round");
            assert_eq!((round.acceptance.drafted, round.acceptance.accepted), (depth, accepted), "{what}");
            assert_eq!(round.tokens, text[1..accepted + 2], "{what}: the text");
            let emitted = [&prompt, &text[..accepted + 2]].concat();
            // Everything but the anchor is in the trunk, every pair in the history.
            let (trunk, _) = state::fresh(&model, &emitted[..emitted.len() - 1]).expect("a forward pass");
            assert_same_state(&what, sequence.cache(), &trunk);
            let expected = state::fresh_history(&model, &emitted).expect("a history");
            let history = sequence.history(&model).expect("a history").expect("a draft head");
            assert_same_state(&format!("{what}: history"), history, &expected);
        }
    }
}

/// Drafting reads the history and does not change it; drafting again gives the same.
pub fn drafts_leave_the_history_alone(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    let before = state::fresh_history(&model, &prompt).expect("a history");
    let (_, hidden) = state::fresh(&model, &prompt).expect("a forward pass");
    let head = model.drafter.as_ref().expect("a draft head");
    let mut state = head.new_state();
    let pairs = prompt.len() as i32 - 1;
    let rows = host::rows(&hidden, 0, pairs).expect("rows");
    head.feed(&mut state, &rows, &token_array(&prompt[1..])).expect("an ingest");
    let (history, round) = state.freeze().expect("a prefix");
    let drafts = Rng::new(8).tokens(head.max_depth(), model.info.vocab_size);
    let mut runs = (0..2).map(|_| {
        let mut state = DraftState::resumed(&history, round.clone());
        let steps = (0..drafts.len()).map(|step| {
            let previous = step.checked_sub(1).map(|before| token_array(&drafts[before..step]));
            head.draft(&mut state, previous.as_ref(), None).expect("a step")
        });
        steps.collect::<Vec<_>>()
    });
    let (first, second) = (runs.next().expect("a run"), runs.next().expect("a run"));
    for (step, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_close(&format!("{}: draft {step}, drafted again", fixture.name), second, first, 0.0);
    }
    assert_same_state(&fixture.name, &state.history, &before);
}
