//! Sources of tokens: sequences on a model, and for tests a script.

use std::rc::Rc;

use mtplx_runtime::model::{DraftVocabulary, MtpModel};
use mtplx_runtime::speculative::{
    DraftOptions, FirstToken, Origin, PromptChunk, Released, Round, Sequence, SequenceOptions, Snapshot,
    SpeculationStats, prefill_chunk, step,
};

use crate::drawn::Drawn;
use crate::error::RequestError;
use crate::request::{Request, TokenInfo};
#[cfg(any(test, feature = "testing"))]
use crate::testing::script::{Script, ScriptedText};

/// The maker of sources.
pub(crate) enum Sources {
    /// A model.
    Model {
        /// The model.
        model: Box<MtpModel>,
        /// Tokens that drafts are restricted to.
        vocabulary: Option<Rc<DraftVocabulary>>,
    },
    /// A script in a model's place.
    #[cfg(any(test, feature = "testing"))]
    Script(Script),
}

/// Tokens of one text.
pub(crate) enum Source {
    Sequence(Box<Sequence>),
    #[cfg(any(test, feature = "testing"))]
    Script(Box<ScriptedText>),
}

impl Sources {
    /// Tokens of a prompt that are fed in one unit.
    pub(crate) fn chunk(&self) -> usize {
        prefill_chunk()
    }

    /// The source of a request's text, behind the prefix of its prompt that was `kept`.
    ///
    /// # Errors
    /// The request's settings are out of range.
    pub(crate) fn begin(
        &self,
        request: &Request,
        stop_tokens: Vec<u32>,
        kept: Option<&Snapshot>,
    ) -> Result<Source, RequestError> {
        match self {
            Self::Model { model, vocabulary } => {
                let drafts = request.drafts.clone().map(|drafts| DraftOptions {
                    depth: drafts.depth,
                    sampling: drafts.sampling,
                    vocabulary: vocabulary.clone(),
                });
                let options = SequenceOptions {
                    sampling: request.sampling.clone(),
                    drafts,
                    rule: request.rule,
                    seed: request.seed,
                    stop_tokens,
                    logprobs: request.logprobs,
                };
                let sequence = match kept {
                    Some(kept) => Sequence::resume(model, options, kept)?,
                    None => Sequence::new(model, options)?,
                };
                Ok(Source::Sequence(Box::new(sequence)))
            }
            #[cfg(any(test, feature = "testing"))]
            Self::Script(script) => Ok(Source::Script(Box::new(script.text(request, stop_tokens)?))),
        }
    }

    /// True where texts can draft.
    pub(crate) fn drafts(&self) -> bool {
        match self {
            Self::Model { model, .. } => model.drafter.is_some(),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => false,
        }
    }

    /// The largest depth that texts can draft.
    pub(crate) fn max_depth(&self) -> usize {
        match self {
            Self::Model { model, .. } => model.drafter.as_ref().map_or(0, |head| head.max_depth()),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => 0,
        }
    }

    /// Texts that share a pass at most, of so many that run: a script answers one at a time.
    pub(crate) fn most_in_a_pass(&self, running: usize) -> usize {
        match self {
            Self::Model { .. } => running,
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => 1,
        }
    }

    /// One round of each source in one pass: at least one token of each, and at most as many as stand beside it.
    ///
    /// # Errors
    /// The pass as a whole fails, and every source is where it was before. Of one source: its text cannot go on.
    pub(crate) fn rounds(
        &self,
        parts: &mut [(&mut Source, usize)],
    ) -> Result<Vec<Result<Drawn, RequestError>>, RequestError> {
        let limits: Vec<usize> = parts.iter().map(|(_, limit)| *limit).collect();
        let mut sequences = Vec::with_capacity(parts.len());
        for (source, _limit) in parts {
            match source {
                Source::Sequence(sequence) => sequences.push(&mut **sequence),
                // One a pass: see `most_in_a_pass`.
                #[cfg(any(test, feature = "testing"))]
                Source::Script(text) => return Ok(vec![text.round(*_limit)]),
            }
        }
        let rounds = step(self.model()?, &mut sequences, &limits)?;
        Ok(rounds.into_iter().map(|round| Ok(drawn(round?))).collect())
    }

    fn model(&self) -> Result<&MtpModel, RequestError> {
        match self {
            Self::Model { model, .. } => Ok(model),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => Err(RequestError::Ended),
        }
    }
}

/// The tokens of a round.
fn drawn(round: Round) -> Drawn {
    let mut logprobs = round.logprobs.iter();
    let tokens = round.tokens.iter().enumerate().map(|(index, &id)| TokenInfo {
        id,
        origin: round.origin(index),
        logprobs: logprobs.next().cloned(),
    });
    Drawn { tokens: tokens.collect(), stopped: round.stopped, acceptance: Some(round.acceptance) }
}

impl Source {
    /// Feeds tokens behind everything before them.
    ///
    /// # Errors
    /// The sequence cannot go on.
    pub(crate) fn feed(&mut self, sources: &Sources, tokens: &[u32]) -> Result<(), RequestError> {
        match self {
            Self::Sequence(sequence) => Ok(sequence.feed(sources.model()?, PromptChunk::text(tokens))?),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(text) => text.feed(tokens),
        }
    }

    /// The state behind what was fed, to go on from; `None` for a source that has none.
    ///
    /// # Errors
    /// MLX fails.
    pub(crate) fn snapshot(&mut self) -> Result<Option<Snapshot>, RequestError> {
        match self {
            Self::Sequence(sequence) => Ok(Some(sequence.snapshot()?)),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => Ok(None),
        }
    }

    /// Gives the source's memory back, until its text was read again; `None` for a source that has none.
    pub(crate) fn release(&mut self, sources: &Sources) -> Option<Released> {
        match self {
            Self::Sequence(sequence) => sources.model().ok().map(|model| sequence.release(model)),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => None,
        }
    }

    /// Reads tokens of a released source's text again.
    ///
    /// # Errors
    /// MLX fails.
    pub(crate) fn restore(&mut self, sources: &Sources, tokens: &[u32]) -> Result<(), RequestError> {
        match self {
            Self::Sequence(sequence) => Ok(sequence.restore(sources.model()?, tokens)?),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => Ok(()),
        }
    }

    /// Goes on behind what was read again.
    ///
    /// # Errors
    /// Nothing was.
    pub(crate) fn rejoin(&mut self, released: Released) -> Result<(), RequestError> {
        match self {
            Self::Sequence(sequence) => Ok(sequence.rejoin(released)?),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => Ok(()),
        }
    }

    /// The token behind what was fed.
    ///
    /// # Errors
    /// The sequence cannot go on.
    pub(crate) fn first(&mut self, sources: &Sources) -> Result<Drawn, RequestError> {
        match self {
            Self::Sequence(sequence) => {
                let FirstToken { token, stopped, logprobs } = sequence.first(sources.model()?)?;
                let tokens = vec![TokenInfo { id: token, origin: Origin::Plain, logprobs }];
                Ok(Drawn { tokens, stopped, acceptance: None })
            }
            #[cfg(any(test, feature = "testing"))]
            Self::Script(text) => text.round(1),
        }
    }

    /// Sets the depth of the next round; false where the request fixes its own, or does not draft.
    pub(crate) fn plan_depth(&mut self, depth: usize) -> bool {
        match self {
            Self::Sequence(sequence) => sequence.plan_depth(depth),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => false,
        }
    }

    /// Counters of the rounds.
    pub(crate) fn stats(&self) -> SpeculationStats {
        match self {
            Self::Sequence(sequence) => sequence.stats().clone(),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(text) => text.stats(),
        }
    }
}
