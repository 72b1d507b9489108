//! Numbers that are not finite: a row that decides and has them is an error; one behind the text reaches nothing.

use std::ops::ControlFlow;

use safetensors::tensor::Dtype;
use tempfile::TempDir;

use super::{greedy, greedy_options};
use crate::architecture::MtpArchitecture;
use crate::model::MtpModel;
use crate::sampling::SamplingParams;
use crate::speculative::{Rule, Sequence, SequenceError, SequenceOptions};
use crate::testing::doubles::ScriptedHead;
use crate::testing::fixture::Fixture;
use crate::testing::mutate::{Tensor, rewritten};
use crate::testing::state::{self, assert_same_state};
use crate::testing::tiny;

/// Drafts of the deepest round that is tried.
const DEEPEST: usize = 3;

/// Drafts whose embedding is not finite are rejected as others are, the rows before them untouched, in text and state; where such a
/// token is emitted, the next round is an error at every depth, by both rules, whether it was sent ahead or not.
pub fn faults_stay_behind_the_text(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    // An output matrix that is the embedding has the fault in every row.
    if fixture.checkpoint().config().text().flag_or("tie_word_embeddings", false).unwrap_or(false) {
        return;
    }
    let whole = fixture.load(architecture);
    let prompt = fixture.prompt(whole.info.vocab_size);
    let text = greedy(&whole, &prompt, DEEPEST + 2);
    let fault = (0..whole.info.vocab_size as u32).rev().find(|token| !prompt.contains(token) && !text.contains(token));
    let Some(fault) = fault else { return }; // a vocabulary that the text uses up
    for value in [f32::NAN, f32::INFINITY] {
        let dir = with_embedding(fixture, fault, value);
        let mut model = tiny::load(architecture, dir.path());
        let most = model.drafter.as_ref().map_or(0, |head| head.max_depth()).min(DEEPEST);
        let head = ScriptedHead::install(&mut model);
        for depth in 1..=most {
            for right in 0..depth {
                let what = format!("{}: {value} at draft {right} of {depth}", fixture.name);
                let mut script = text[1..=depth].to_vec();
                script[right..].fill(fault);
                head.set(&script);
                let mut sequence = started(&model, &prompt, greedy_options(depth));
                let round = sequence.round(&model, 64).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(round.tokens, text[1..right + 2], "{what}");
                // Everything but the anchor, of the model without the fault.
                let fed = [&prompt, &text[..right + 1]].concat();
                let (fresh, _) = state::fresh(&whole, &fed).expect("a forward pass");
                assert_same_state(&what, sequence.cache(), &fresh);
            }
        }
        let sampling = SamplingParams { logit_bias: [(fault, 100.0)].into(), ..SamplingParams::unfiltered() };
        for (depth, rule) in (0..=most).flat_map(|depth| [(depth, Rule::Rejection), (depth, Rule::Coupled)]) {
            for sampling in [SamplingParams { temperature: 0.0, ..sampling.clone() }, sampling.clone()] {
                let what = format!("{}: {value} emitted, depth {depth}, {rule:?}, {sampling:?}", fixture.name);
                let options = SequenceOptions { sampling, rule, ..greedy_options(depth) };
                for ahead in [false, true] {
                    head.set(&[fault; DEEPEST]);
                    let mut sequence = Sequence::new(&model, options.clone()).expect("a sequence");
                    if ahead {
                        sequence = sequence.looking_ahead();
                    }
                    let first = sequence.prefill(&model, &prompt, |_, _| ControlFlow::Continue(()));
                    assert_eq!(first.expect("a prompt"), fault, "{what}");
                    let round = sequence.round(&model, 64);
                    assert!(matches!(round, Err(SequenceError::NotFinite)), "{what}: {round:?}");
                }
            }
        }
        let mut sequence = Sequence::new(&model, greedy_options(0)).expect("a sequence");
        let first = sequence.prefill(&model, &[prompt[0], fault], |_, _| ControlFlow::Continue(()));
        assert!(matches!(first, Err(SequenceError::NotFinite)), "{}: {value} in the prompt: {first:?}", fixture.name);
    }
}

/// The fixture with `value` in the embedding of `token`, of trunk and head.
fn with_embedding(fixture: &Fixture, token: u32, value: f32) -> TempDir {
    let change = |name: &str, mut tensor: Tensor| {
        let number: &[u8] = match tensor.dtype {
            Dtype::F32 => &value.to_le_bytes(),
            Dtype::BF16 => &half::bf16::from_f32(value).to_le_bytes(),
            Dtype::F16 => &half::f16::from_f32(value).to_le_bytes(),
            _ => return Some(tensor),
        };
        // Packed rows are their scales' multiples.
        if name.ends_with("embed_tokens.weight") || name.ends_with("embed_tokens.scales") {
            let width = tensor.shape[1] * number.len();
            tensor.bytes[token as usize * width..][..number.len()].copy_from_slice(number);
        }
        Some(tensor)
    };
    rewritten(&fixture.checkpoint(), |_| {}, change)
}

/// A sequence behind the prompt.
fn started(model: &MtpModel, prompt: &[u32], options: SequenceOptions) -> Sequence {
    let mut sequence = Sequence::new(model, options).expect("a sequence");
    sequence.prefill(model, prompt, |_, _| ControlFlow::Continue(())).expect("a prompt");
    sequence
}
