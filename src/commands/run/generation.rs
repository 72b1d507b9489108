//! One generation: its rounds, the text layer's view of them, and the same again without drafting.

use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mtplx_runtime::model::{DraftVocabulary, MtpModel};
use mtplx_runtime::speculative::{
    DepthPolicy, DraftOptions, Sequence, SequenceError, SequenceOptions, SpeculationStats,
};
use mtplx_runtime::text::{Ending, Generated, Step, TextOptions, Tokenizer, generate};

use crate::args::Depth;
use crate::settings::{PromptMode, Settings};

/// Set once the user has interrupted.
pub struct Interrupt(pub Arc<AtomicBool>);

impl Interrupt {
    /// Whether the user has interrupted.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether to go on.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What a generation needs beside the model.
pub struct Generation<'a> {
    pub settings: &'a Settings,
    pub prompt: &'a [u32],
    pub tokenizer: &'a Tokenizer,
    /// Tokens that drafts are restricted to.
    pub draft_vocabulary: Option<Rc<DraftVocabulary>>,
}

/// What came of it.
pub struct Outcome {
    pub generated: Generated,
    pub stats: SpeculationStats,
}

impl Generation<'_> {
    /// Generates, telling `progress` about the prompt and `show` about the text.
    ///
    /// # Errors
    /// The sequence's, the decoder's, and those of `show`.
    pub fn run(
        &self,
        model: &MtpModel,
        interrupt: &Interrupt,
        mut progress: impl FnMut(usize, usize),
        mut show: impl FnMut(&str) -> io::Result<()>,
    ) -> anyhow::Result<Outcome> {
        let depth = match self.settings.mtp_depth.value {
            Depth::Fixed(depth) => DepthPolicy::Fixed(depth.min(self.settings.mtp_depth_max.value)),
            Depth::Auto => {
                let Settings { mtp_depth_start, mtp_depth_max, .. } = self.settings;
                DepthPolicy::adaptive_from(mtp_depth_start.value, mtp_depth_max.value)
            }
        };
        let stop_tokens = if self.settings.ignore_eos.value { Vec::new() } else { self.tokenizer.eos_ids().to_vec() };
        let drafts =
            DraftOptions { depth, sampling: self.settings.draft_sampling(), vocabulary: self.draft_vocabulary.clone() };
        let mut sequence = Sequence::new(model, self.options(Some(drafts), stop_tokens.clone()))?;
        let limit = self.settings.max_tokens.value;
        let mut emitted = 0;
        let next = || -> anyhow::Result<Step> {
            if interrupt.is_set() {
                return Ok(Step { tokens: Vec::new(), ending: Some(Ending::Interrupted) });
            }
            let (tokens, stopped) = if emitted == 0 {
                let fed = |done, all| {
                    progress(done, all);
                    interrupt.flow()
                };
                match sequence.prefill(model, self.prompt, fed) {
                    Err(SequenceError::Interrupted) => {
                        return Ok(Step { tokens: Vec::new(), ending: Some(Ending::Interrupted) });
                    }
                    first => first.map(|first| (vec![first], stop_tokens.contains(&first)))?,
                }
            } else {
                let round = sequence.round(model, limit - emitted)?;
                (round.tokens, round.stopped)
            };
            emitted += tokens.len();
            let ending = match stopped {
                true => Some(Ending::StopToken),
                false => (emitted >= limit).then_some(Ending::Length),
            };
            Ok(Step { tokens, ending })
        };
        // Raw text is continued; an answer begins anew.
        let context = if self.settings.prompt_mode.value == PromptMode::Chat { &[] } else { self.prompt };
        let options = TextOptions { context, stop_strings: &self.settings.stop.value };
        let generated = generate(self.tokenizer, &options, next, |piece| Ok(show(piece)?))?;
        let mut stats = sequence.stats().clone();
        // A stop string is found behind the loop, which had drawn further.
        stats.retract(emitted.saturating_sub(generated.token_ids.len()));
        Ok(Outcome { generated, stats })
    }

    /// The same prompt and seed without drafting, for as many tokens; `None` if interrupted.
    ///
    /// # Errors
    /// The sequence's.
    pub fn plain(
        &self,
        model: &MtpModel,
        tokens: usize,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Option<SpeculationStats>> {
        // Stop tokens would end it early where the texts differ; speed is what is asked for.
        let mut sequence = Sequence::new(model, self.options(None, Vec::new()))?;
        match sequence.prefill(model, self.prompt, |_, _| interrupt.flow()) {
            Err(SequenceError::Interrupted) => return Ok(None),
            first => first?,
        };
        for emitted in 1..tokens {
            if interrupt.is_set() {
                return Ok(None);
            }
            sequence.round(model, tokens - emitted)?;
        }
        Ok(Some(sequence.stats().clone()))
    }

    fn options(&self, drafts: Option<DraftOptions>, stop_tokens: Vec<u32>) -> SequenceOptions {
        SequenceOptions {
            sampling: self.settings.sampling(),
            drafts,
            rule: self.settings.acceptance.value,
            seed: self.settings.seed.value,
            stop_tokens,
        }
    }
}
