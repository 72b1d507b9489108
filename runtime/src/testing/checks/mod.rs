//! The checks of the conformance suite: each takes an architecture and a fixture, and fails by panicking.

mod conventions;
mod detection;
mod faults;
mod forge;
mod forward;
pub mod joint;
mod rollback;
mod sequence;

pub use conventions::contracts_choose_the_hidden_states;
pub use detection::{
    claims_its_fixtures_only, names_each_misshapen_tensor, names_each_missing_tensor, names_each_unread_tensor,
};
pub use faults::faults_stay_behind_the_text;
pub use forge::forged_artifacts_are_the_same_model;
pub use forward::{chunked_prefill_is_prefill, golden_states, golden_tensors, verified_rows_are_single_steps};
pub use rollback::{drafts_leave_the_history_alone, every_keep_is_a_fresh_forward, sequence_commits_what_it_emits};
pub use sequence::{
    coupled_text_is_that_of_its_seed, greedy_is_plain_greedy, logprobs_are_the_trunks, prompts_go_on,
    rounds_sent_ahead_change_nothing, sequences_together_are_sequences_alone, snapshots_resume,
    teacher_forced_acceptance_is_the_loops, traces_are_golden,
};

use std::ops::ControlFlow;

use crate::model::MtpModel;
use crate::sampling::SamplingParams;
use crate::speculative::{DepthPolicy, DraftOptions, Rule, Sequence, SequenceOptions};

fn greedy_options(depth: usize) -> SequenceOptions {
    SequenceOptions {
        sampling: SamplingParams::greedy(),
        drafts: Some(DraftOptions::new(DepthPolicy::Fixed(depth))),
        rule: Rule::Rejection,
        seed: 0,
        stop_tokens: Vec::new(),
        logprobs: None,
    }
}

/// Greedy text without drafts, behind a prompt.
fn greedy(model: &MtpModel, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut sequence = Sequence::new(model, greedy_options(0)).expect("a sequence");
    let mut text = vec![sequence.prefill(model, prompt, |_, _| ControlFlow::Continue(())).expect("a prompt")];
    while text.len() < count {
        text.extend(sequence.round(model, 1).expect("a round").tokens);
    }
    text
}
