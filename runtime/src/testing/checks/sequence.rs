//! The loop itself: what it emits, at any depth, from the start or from a snapshot.

use super::greedy_options;
use crate::Array;
use crate::architecture::MtpArchitecture;
use crate::model::{MtpModel, Positions};
use crate::sampling::SamplingParams;
use crate::speculative::{
    DepthPolicy, DraftOptions, Origin, PromptChunk, Round, Rule, Sequence, SequenceOptions, step,
};
use crate::testing::fixture::{Fixture, TraceRound};
use crate::testing::host::{self, token_array};
use crate::testing::state::{self, assert_same_state};
use std::ops::ControlFlow;

/// Tokens of a text that is compared.
const TEXT: usize = 32;
/// A margin between two logits below which widths may disagree: an order of magnitude above what they differ by.
const NEAR_TIE: f32 = 1e-3;
/// Depths that a fixed policy is tried at.
const DEPTHS: [usize; 6] = [0, 1, 2, 3, 4, 8];

/// Greedy text at any depth is that of the trunk alone, one token at a time; the first difference, if there is one, is a
/// near-tie. Where the fixture states the text, that is it.
pub fn greedy_is_plain_greedy(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    let golden = fixture.ids("greedy_ids");
    let count = golden.as_ref().map_or(TEXT, Vec::len);
    let (plain, margins) = plain_greedy(&model, &prompt, count);
    if let Some(golden) = golden {
        assert_same_text(&format!("{}: golden text", fixture.name), &plain, &golden, &margins);
    }
    for depth in DEPTHS {
        let what = format!("{}: depth {depth}", fixture.name);
        let (text, _) = generate(&model, &prompt, greedy_options(depth), count);
        assert_same_text(&what, &text, &plain, &margins);
    }
}

/// The rounds that the fixture states: the same drafts, the same number of them accepted, at every depth stated.
pub fn traces_are_golden(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    for depth in 1..=8 {
        let Some(trace) = fixture.trace(depth) else { continue };
        let mut sequence = Sequence::new(&model, greedy_options(depth)).expect("a sequence");
        sequence.prefill(&model, &prompt, |_, _| ControlFlow::Continue(())).expect("a prompt");
        for (number, expected) in trace.iter().enumerate() {
            let Round { drafts, acceptance, .. } = sequence.round(&model, usize::MAX).expect("a round");
            let found = TraceRound { drafts, accepted: acceptance.accepted };
            assert_eq!(&found, expected, "{}: depth {depth}: round {number}", fixture.name);
        }
    }
}

/// What the loop drafts first in each round is what the head says when it is fed the whole text at once: it is fed the
/// right pairs, whatever was drafted and rejected in between.
pub fn teacher_forced_acceptance_is_the_loops(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    for depth in [1, 3] {
        let what = format!("{}: depth {depth}", fixture.name);
        let (text, rounds) = generate(&model, &prompt, greedy_options(depth), TEXT);
        let whole = [prompt.as_slice(), &text].concat();
        let (_, hidden) = state::fresh(&model, &whole).expect("a forward pass");
        let pairs = whole.len() as i32 - 1;
        let head = model.drafter.as_ref().expect("a draft head");
        let mut state = head.new_state();
        let rows = host::rows(&hidden, 0, pairs).expect("rows");
        head.feed(&mut state, &rows, &token_array(&whole[1..])).expect("an ingest");
        let logits =
            host::table(&head.logits(&state.round().expect("a round").rows[0]).expect("logits")).expect("values");
        // The anchor of a round is at `anchor`; the row before it was fed that anchor.
        let (mut anchor, mut forced, mut accepted) = (prompt.len(), 0, 0);
        for (number, round) in rounds.iter().enumerate() {
            let row = &logits[anchor - 1];
            let draft = host::argmax(row);
            if host::margin(row) > NEAR_TIE {
                assert_eq!(round.drafts[0], draft as u32, "{what}: round {number}: the first draft");
            }
            forced += usize::from(whole[anchor + 1] == draft as u32);
            accepted += round.acceptance.accepted.min(1);
            anchor += round.tokens.len();
        }
        assert!(forced.abs_diff(accepted) <= 1, "{what}: {accepted} first drafts accepted, {forced} teacher-forced");
    }
}

/// With the coupled rule a seed means a text: without a head, at any depth, with a depth that adapts.
pub fn coupled_text_is_that_of_its_seed(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    let penalized = SamplingParams { repetition_penalty: 1.2, frequency_penalty: 0.2, ..SamplingParams::unfiltered() };
    for (seed, sampling) in [(1, SamplingParams::default()), (2, SamplingParams::unfiltered()), (3, penalized)] {
        let options = |drafts: Option<DraftOptions>| SequenceOptions {
            sampling: sampling.clone(),
            rule: Rule::Coupled,
            drafts,
            seed,
            ..greedy_options(0)
        };
        let (plain, _) = generate(&model, &prompt, options(None), TEXT);
        // Every depth once, and the settings at one each.
        let depths: &[usize] = if seed == 1 { &DEPTHS } else { &[3] };
        let fixed = depths.iter().map(|&depth| DepthPolicy::Fixed(depth));
        for depth in fixed.chain([DepthPolicy::adaptive(4)]) {
            let what = format!("{}: seed {seed}, {sampling:?}, {depth:?}", fixture.name);
            let (text, _) = generate(&model, &prompt, options(Some(DraftOptions::new(depth))), TEXT);
            assert_eq!(text, plain, "{what}");
        }
        // Whatever it decides, and whichever rounds it sends ahead.
        let adapting = Sequence::new(&model, options(Some(DraftOptions::new(DepthPolicy::adaptive(4)))))
            .expect("a sequence")
            .looking_ahead();
        assert_eq!(play(adapting, &model, &prompt, TEXT).0, plain, "{}: seed {seed}, sent ahead", fixture.name);
    }
}

/// A sequence that is resumed from a snapshot goes on as the one that the snapshot was taken of, as often as one likes.
pub fn snapshots_resume(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    for depth in [0, 3] {
        let what = format!("{}: depth {depth}", fixture.name);
        let options = SequenceOptions { sampling: SamplingParams::unfiltered(), seed: 9, ..greedy_options(depth) };
        let mut sequence = Sequence::new(&model, options.clone()).expect("a sequence");
        sequence.prefill(&model, &prompt, |_, _| ControlFlow::Continue(())).expect("a prompt");
        let rounds = |sequence: &mut Sequence, count: usize| -> Vec<Round> {
            (0..count).map(|_| sequence.round(&model, TEXT).expect("a round")).collect()
        };
        rounds(&mut sequence, 4);
        let snapshot = sequence.snapshot().expect("a snapshot");
        let on = rounds(&mut sequence, 6);
        for time in 0..2 {
            let mut resumed = Sequence::resume(&model, options.clone(), &snapshot).expect("a sequence");
            let again: Vec<Round> = (0..on.len()).map(|_| resumed.round(&model, TEXT).expect("a round")).collect();
            assert_eq!(again, on, "{what}: resumed {time} times before");
            assert_same_state(&what, resumed.cache(), sequence.cache());
        }
    }
}

/// A plain round that is sent before the one ahead of it is read back changes nothing: not the rounds, not the state behind a stop
/// token, a limit or a snapshot, not what comes after them.
pub fn rounds_sent_ahead_change_nothing(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let mut model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    // A few tokens are likelier than all others until their penalties, which must know of the newest one, have worn that off.
    let logit_bias = (0..4).map(|token| (token, 8.0)).collect();
    let penalized = SamplingParams { frequency_penalty: 2.0, logit_bias, ..SamplingParams::unfiltered() };
    for (seed, sampling) in [(4u64, SamplingParams::unfiltered()), (5, penalized)] {
        let what = format!("{}: seed {seed}", fixture.name);
        let options = SequenceOptions { sampling, seed, ..greedy_options(0) };
        let (text, _) = generate(&model, &prompt, options.clone(), 8);
        let options = SequenceOptions { stop_tokens: vec![text[5]], ..options };
        let new = || Sequence::new(&model, options.clone()).expect("a sequence");
        let (mut ahead, mut behind) = (new().looking_ahead(), new());
        for sequence in [&mut ahead, &mut behind] {
            sequence.prefill(&model, &prompt, |_, _| ControlFlow::Continue(())).expect("a prompt");
        }
        let both = |model: &MtpModel, ahead: &mut Sequence, behind: &mut Sequence, limits: &[usize]| {
            for &limit in limits {
                let found = ahead.round(model, limit).expect("a round");
                let expected = behind.round(model, limit).expect("a round");
                assert_eq!(found, expected, "{what}");
                let sent = usize::from(limit > 1 && !found.stopped);
                assert_eq!(ahead.cache().pending(), sent, "{what}: rows sent ahead, limit {limit}, {found:?}");
            }
        };
        both(&mut model, &mut ahead, &mut behind, &[TEXT; 9]);
        both(&mut model, &mut ahead, &mut behind, &[3, 2, 1]);
        assert_same_state(&what, ahead.cache(), behind.cache());
        both(&mut model, &mut ahead, &mut behind, &[TEXT; 2]);
        let snapshot = ahead.snapshot().expect("a snapshot");
        both(&mut model, &mut ahead, &mut behind, &[TEXT, 1]);
        let mut resumed = Sequence::resume(&model, options.clone(), &snapshot).expect("a sequence");
        let mut again = Sequence::resume(&model, options.clone(), &snapshot).expect("a sequence").looking_ahead();
        both(&mut model, &mut again, &mut resumed, &[TEXT, 1]);
        assert_same_state(&what, again.cache(), ahead.cache());
    }
}

/// Tokens generated from `prompt`, at least `count`, cut to so many, and the rounds whose tokens are all among them.
fn generate(model: &MtpModel, prompt: &[u32], options: SequenceOptions, count: usize) -> (Vec<u32>, Vec<Round>) {
    let sequence = Sequence::new(model, options).expect("a sequence");
    play(sequence, model, prompt, count)
}

/// The same with a sequence.
fn play(mut sequence: Sequence, model: &MtpModel, prompt: &[u32], count: usize) -> (Vec<u32>, Vec<Round>) {
    let mut text = vec![sequence.prefill(model, prompt, |_, _| ControlFlow::Continue(())).expect("a prompt")];
    let mut rounds = Vec::new();
    while text.len() < count {
        let round = sequence.round(model, usize::MAX).expect("a round");
        text.extend(&round.tokens);
        if text.len() <= count {
            rounds.push(round);
        }
    }
    text.truncate(count);
    (text, rounds)
}

/// The trunk's own greedy text, and by how much each token led.
fn plain_greedy(model: &MtpModel, prompt: &[u32], count: usize) -> (Vec<u32>, Vec<f32>) {
    let (mut cache, hidden) = state::fresh(model, prompt).expect("a forward pass");
    let rows = prompt.len() as i32;
    let mut last = host::rows(&hidden, rows - 1, rows).expect("a row");
    let (mut text, mut margins) = (Vec::new(), Vec::new());
    while text.len() < count {
        let row = host::values(&model.trunk.logits(&last).expect("logits")).expect("values");
        text.push(host::argmax(&row) as u32);
        margins.push(host::margin(&row));
        last = model.trunk.append(&token_array(&text[text.len() - 1..]), &mut cache).expect("a step");
    }
    (text, margins)
}

#[track_caller]
fn assert_same_text(what: &str, found: &[u32], expected: &[u32], margins: &[f32]) {
    if let Some(place) = found.iter().zip(expected).position(|(found, expected)| found != expected) {
        let margin = margins[place];
        assert!(
            margin <= NEAR_TIE,
            "{what}: token {place} is {}, expected {}, which leads by {margin}:\n{found:?}\n{expected:?}",
            found[place],
            expected[place]
        );
    } else {
        assert_eq!(found.len(), expected.len(), "{what}: length");
    }
}

/// Sequences that take their rounds together, with other prompts, seeds, depths and rules, write what each writes alone; one that ends
/// leaves the others as they are.
pub fn sequences_together_are_sequences_alone(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    let coupled = |depth: usize, seed: u64| SequenceOptions {
        sampling: SamplingParams::unfiltered(),
        rule: Rule::Coupled,
        seed,
        ..greedy_options(depth)
    };
    let plain = SequenceOptions { drafts: None, ..greedy_options(0) };
    let longest = prompt.len();
    let all = [
        (&prompt[..longest], greedy_options(3)),
        (&prompt[..longest - 5], coupled(1, 7)),
        (&prompt[..longest - 9], plain),
        (&prompt[..longest - 2], coupled(2, 8)),
    ];
    for chosen in [&[0usize, 1][..], &[2, 3], &[0, 1, 2], &[3, 2, 1]] {
        let what = format!("{}: sequences {chosen:?}", fixture.name);
        let started = || -> Vec<(Sequence, Vec<u32>)> {
            let start = |&index: &usize| {
                let (prompt, options) = &all[index];
                let mut sequence = Sequence::new(&model, options.clone()).expect("a sequence");
                let first = sequence.prefill(&model, prompt, |_, _| ControlFlow::Continue(())).expect("a prompt");
                (sequence, vec![first])
            };
            chosen.iter().map(start).collect()
        };
        let mut alone = started();
        for (sequence, text) in &mut alone {
            while text.len() < TEXT {
                text.extend(sequence.round(&model, TEXT - text.len()).expect("a round").tokens);
            }
        }
        let mut together = started();
        while together.iter().any(|(_, text)| text.len() < TEXT) {
            let mut running: Vec<(&mut Sequence, &mut Vec<u32>)> = together
                .iter_mut()
                .filter(|(_, text)| text.len() < TEXT)
                .map(|(sequence, text)| (sequence, text))
                .collect();
            let limits: Vec<usize> = running.iter().map(|(_, text)| TEXT - text.len()).collect();
            let mut sequences: Vec<&mut Sequence> = running.iter_mut().map(|(sequence, _)| &mut **sequence).collect();
            let rounds = step(&model, &mut sequences, &limits).expect("a step");
            for ((_, text), round) in running.iter_mut().zip(rounds) {
                text.extend(round.expect("a round").tokens);
            }
        }
        for (index, ((mut one, text), (mut other, expected))) in together.into_iter().zip(alone).enumerate() {
            assert_eq!(text, expected, "{what}: text {index}");
            let name = format!("{what}: cache {index}");
            assert_same_state(&name, one.cache(), other.cache());
            if let (Some(one), Some(other)) =
                (one.history(&model).expect("a history"), other.history(&model).expect("a history"))
            {
                assert_same_state(&format!("{what}: history {index}"), one, other);
            }
        }
    }
}

/// A prompt that comes in pieces, behind text that was generated, as embeddings, at stated positions: the state is that of the whole.
pub fn prompts_go_on(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    let (before, behind) = prompt.split_at(prompt.len() / 2);
    let proceed = |_, _| ControlFlow::Continue(());
    let mut sequence = Sequence::new(&model, greedy_options(2)).expect("a sequence");
    let mut text = before.to_vec();
    text.push(sequence.prefill(&model, before, proceed).expect("a prompt"));
    for _ in 0..3 {
        text.extend(sequence.round(&model, TEXT).expect("a round").tokens);
    }
    text.extend_from_slice(behind);
    let first = sequence.prefill(&model, behind, proceed).expect("more of the prompt");
    let name = |what: &str| format!("{}: {what}", fixture.name);
    let (expected, _) = state::fresh(&model, &text).expect("a forward pass");
    assert_same_state(&name("cache behind two prompts"), sequence.cache(), &expected);
    text.push(first);
    let history = state::fresh_history(&model, &text).expect("a history");
    let found = sequence.history(&model).expect("a history").expect("a draft head");
    assert_same_state(&name("history behind two prompts"), found, &history);
    text.extend(sequence.round(&model, TEXT).expect("a round").tokens);

    let positions: Vec<i32> = (0..prompt.len() as i32).collect();
    let positions = Positions::Explicit(Array::from_slice(&positions, &[1, prompt.len() as i32]));
    let embeddings = model.trunk.embed(&token_array(&prompt)).expect("embeddings");
    let plain = SequenceOptions { drafts: None, ..greedy_options(0) };
    let mut stated = Sequence::new(&model, plain.clone()).expect("a sequence");
    let chunk = PromptChunk { tokens: &prompt, embeddings: Some(&embeddings), positions: &positions };
    stated.feed(&model, chunk).expect("a chunk");
    let mut usual = Sequence::new(&model, plain).expect("a sequence");
    let first = usual.prefill(&model, &prompt, proceed).expect("a prompt");
    assert_eq!(stated.first(&model).expect("a token").token, first, "{}: stated positions", fixture.name);
    assert_same_state(&name("cache of embeddings at stated positions"), stated.cache(), usual.cache());
    let [one, other] = [&mut stated, &mut usual].map(|sequence| sequence.round(&model, 1).expect("a round").tokens);
    assert_eq!(one, other, "{}: behind stated positions", fixture.name);
}

/// Log-probabilities are the log-softmax of the trunk's logits, whatever was drafted, sent ahead or penalized; every token says where it
/// came from.
pub fn logprobs_are_the_trunks(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let model = fixture.load(architecture);
    let prompt = fixture.prompt(model.info.vocab_size);
    let sampling = SamplingParams { frequency_penalty: 1.0, ..SamplingParams::unfiltered() };
    for (depth, ahead) in [(0, false), (0, true), (3, false)] {
        let what = format!("{}: depth {depth}, {ahead}", fixture.name);
        let options =
            SequenceOptions { sampling: sampling.clone(), logprobs: Some(3), seed: 5, ..greedy_options(depth) };
        let mut sequence = Sequence::new(&model, options).expect("a sequence");
        if ahead {
            sequence = sequence.looking_ahead();
        }
        sequence.feed(&model, PromptChunk::text(&prompt)).expect("a prompt");
        let first = sequence.first(&model).expect("a token");
        let (mut text, mut found) = (vec![first.token], vec![first.logprobs.expect("asked for")]);
        while text.len() < TEXT / 2 {
            let round = sequence.round(&model, TEXT).expect("a round");
            assert_eq!(round.logprobs.len(), round.tokens.len(), "{what}");
            for index in 0..round.tokens.len() {
                let expected = match (round.acceptance.drafted, index < round.acceptance.accepted) {
                    (0, _) => Origin::Plain,
                    (_, true) => Origin::Draft(index + 1),
                    (drafted, false) if round.acceptance.accepted == drafted => Origin::Bonus,
                    _ => Origin::Recovered,
                };
                assert_eq!(round.origin(index), expected, "{what}: token {index} of {round:?}");
            }
            text.extend(&round.tokens);
            found.extend(round.logprobs);
        }
        let (_, hidden) = state::fresh(&model, &[&prompt[..], &text].concat()).expect("a forward pass");
        for (place, (&token, found)) in text.iter().zip(&found).enumerate() {
            let row = (prompt.len() + place) as i32 - 1;
            let logits = model.trunk.logits(&host::rows(&hidden, row, row + 1).expect("a row")).expect("logits");
            let logits: Vec<f64> = host::values(&logits).expect("values").into_iter().map(f64::from).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
            let close = |found: f32, token: u32| (f64::from(found) - (logits[token as usize] - total)).abs() < 1e-3;
            assert!(close(found.logprob, token), "{what}: token {place}: {found:?}");
            let mut likeliest = logits.clone();
            likeliest.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(found.top.len(), 3, "{what}");
            for ((token, logprob), logit) in found.top.iter().zip(likeliest) {
                assert!(close(*logprob, *token), "{what}: token {place}: {found:?}");
                assert!((f64::from(*logprob) - (logit - total)).abs() < 1e-3, "{what}: token {place}: {found:?}");
            }
        }
    }
}
