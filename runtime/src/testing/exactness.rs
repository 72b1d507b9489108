//! The joint law of short sequences from a whole model, against the loops that claim to draw from it.
//!
//! A tiny model has a vocabulary of a few tokens, so the law of every sequence of [`LENGTH`] tokens behind a prompt can be
//! written down from the trunk's own logits and the host's filters in f64. A loop runs thousands of times from one
//! snapshot, each with a seed of its own, and a chi-square test compares: errors across positions show here, among them
//! stale caches, which no test of one position can see.

use std::ops::ControlFlow;
use std::rc::Rc;

use super::reference::{ReferenceLoop, ReferenceOptions, Start};
use crate::Result;
use crate::model::{DraftVocabulary, MtpModel};
use crate::sampling::{SamplingParams, TokenCounts, filter};
use crate::speculation::statistics::{self, ChiSquare};
use crate::speculative::{DepthPolicy, DraftOptions, Rule, Sequence, SequenceError, SequenceOptions};
use crate::verify::host::{self, token_array};

/// Tokens of a sequence.
pub const LENGTH: usize = 5;
/// Limit of a round that is not to be clipped.
const ROUND_LIMIT: usize = 64;

/// Sequences between two looks at a negative control.
const CHECK_EVERY: u64 = 250;

/// When enough sequences were drawn.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// So many.
    Drawn(u64),
    /// So many, or fewer if they do not fit the law before: for negative controls.
    Detected(u64),
}

/// A prompt, the output's first token, and how the tokens behind it are drawn.
#[derive(Debug, Clone)]
pub struct Setting {
    /// What it is called in a failure.
    pub name: &'static str,
    /// The prompt.
    pub prompt: Vec<u32>,
    /// The target distribution.
    pub sampling: SamplingParams,
    /// That of the sequence's drafts, if it is another.
    pub draft_sampling: Option<SamplingParams>,
    /// The tokens that drafts are restricted to; `None` for all.
    pub draft_vocabulary: Option<Rc<DraftVocabulary>>,
}

impl Setting {
    /// The law of the tokens behind prompt and `anchor`, by [`statistics::cell`].
    ///
    /// # Errors
    /// When MLX fails.
    pub fn law(&self, model: &MtpModel, anchor: u32) -> Result<Vec<f64>> {
        let vocab = model.info.vocab_size;
        let mut counts = TokenCounts::from_prompt(&self.prompt);
        counts.push(anchor);
        let mut failed = None;
        let law = statistics::joint(vocab, LENGTH, |prefix| {
            let text = [&self.prompt, &[anchor][..], prefix].concat();
            let logits = || -> Result<Vec<f32>> {
                let mut cache = model.trunk.new_cache();
                let hidden = model.trunk.append(&token_array(&text), &mut cache)?;
                let last = text.len() as i32;
                host::values(&model.trunk.logits(&host::rows(&hidden, last - 1, last)?)?)
            };
            match logits() {
                Ok(logits) => filter::distribution(&logits, &self.sampling, &counts.with(prefix)),
                Err(error) => {
                    failed = Some(error);
                    vec![0.0; vocab]
                }
            }
        });
        failed.map_or(Ok(law), Err)
    }

    /// A sequence's options.
    #[must_use]
    pub fn options(&self, rule: Rule, depth: DepthPolicy, seed: u64) -> SequenceOptions {
        SequenceOptions {
            sampling: self.sampling.clone(),
            drafts: Some(DraftOptions {
                depth,
                sampling: self.draft_sampling.clone(),
                vocabulary: self.draft_vocabulary.clone(),
            }),
            rule,
            seed,
            stop_tokens: Vec::new(),
            logprobs: None,
        }
    }

    /// Draws sequences with [`Sequence`] for the test against the law.
    ///
    /// Every second sequence is clipped by its limit, which must not change the law either.
    pub fn test_sequence(&self, model: &MtpModel, rule: Rule, depth: &DepthPolicy, until: Until) -> Joint {
        let mut sequence = Sequence::new(model, self.options(rule, depth.clone(), 0)).expect("a sequence");
        let anchor = sequence.prefill(model, &self.prompt, |_, _| ControlFlow::Continue(())).expect("prefill");
        let snapshot = sequence.snapshot().expect("a snapshot");
        self.test(model, anchor, until, |model, seed| {
            let mut sequence = Sequence::resume(model, self.options(rule, depth.clone(), seed), &snapshot)?;
            let mut tokens = Vec::new();
            while tokens.len() < LENGTH {
                let limit = if seed % 2 == 0 { LENGTH - tokens.len() } else { ROUND_LIMIT };
                tokens.extend(sequence.round(model, limit)?.tokens);
            }
            Ok::<_, SequenceError>(tokens)
        })
    }

    /// The same with the reference, faulty or not.
    pub fn test_reference(&self, model: &MtpModel, options: &ReferenceOptions, until: Until) -> Joint {
        let anchor = 0;
        let mut start = Start::new(model, &self.prompt, anchor).expect("prefill");
        self.test(model, anchor, until, |model, seed| {
            let mut sequence = ReferenceLoop::new(&mut start, ReferenceOptions { seed, ..options.clone() })?;
            let mut tokens = Vec::new();
            while tokens.len() < LENGTH {
                tokens.extend(sequence.round(model)?.tokens);
            }
            Ok::<_, crate::Error>(tokens)
        })
    }

    fn test<E: std::fmt::Display>(
        &self,
        model: &MtpModel,
        anchor: u32,
        until: Until,
        mut draw: impl FnMut(&MtpModel, u64) -> Result<Vec<u32>, E>,
    ) -> Joint {
        let law = self.law(model, anchor).expect("the law");
        let mut joint = Joint { name: self.name, observed: vec![0; law.len()], law };
        let (Until::Drawn(samples) | Until::Detected(samples)) = until;
        for seed in 1..=samples {
            let tokens = draw(model, seed).unwrap_or_else(|error| panic!("{}: seed {seed}: {error}", self.name));
            joint.observed[statistics::cell(&tokens[..LENGTH], model.info.vocab_size)] += 1;
            if matches!(until, Until::Detected(_)) && seed % CHECK_EVERY == 0 && !joint.result().fits() {
                break;
            }
        }
        joint
    }
}

/// Sequences drawn, by cell, and the law that they should follow.
pub struct Joint {
    name: &'static str,
    law: Vec<f64>,
    observed: Vec<u64>,
}

impl Joint {
    /// The test's result.
    #[must_use]
    pub fn result(&self) -> ChiSquare {
        statistics::goodness_of_fit(&self.observed, &self.law)
    }

    /// Sequences drawn.
    #[must_use]
    pub fn drawn(&self) -> u64 {
        self.observed.iter().sum()
    }

    /// The draws follow the law.
    pub fn assert_exact(&self, what: &str) {
        statistics::assert_fits(&format!("{}: {what}", self.name), &self.observed, &self.law);
    }

    /// The draws do not follow the law, and the test sees it.
    pub fn assert_detected(&self, what: &str) {
        let result = self.result();
        assert!(!result.fits(), "{}: {what}: not detected: {result:?}", self.name);
    }
}
