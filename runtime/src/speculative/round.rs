//! One round of one sequence or of several together: draft, verify, decide, commit, emit.
//!
//! Drafts, verification and the draws that decide are one lazy graph: a round reads back once. Who else is in it changes no decision of a
//! sequence but by rounding: rows of other sequences meet in products alone.

use std::time::Instant;

use mlx_rs::ops;

use super::accept::{Acceptance, RowOutcome, decide};
use super::logprobs::{self, TokenLogprobs};
use super::sequence::{Next, Pairs, PlainRound, QUEUE, Result, Sequence, SequenceError, ingest, read_back};
use crate::Array;
use crate::mlx::{async_eval, slice_axis};
use crate::model::{Batch, DraftRound, DraftRow, Input, MtpModel, Positions, SequenceRows, token_array};
use crate::sampling::Role;
use crate::sampling::device::{Outcomes, RoundNoise, TargetDistribution};

/// The tokens of a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// The tokens, in order; at least one.
    pub tokens: Vec<u32>,
    /// The drafts, accepted or not.
    pub drafts: Vec<u32>,
    /// The decision, before clipping.
    pub acceptance: Acceptance,
    /// True where the last token is a stop token.
    pub stopped: bool,
    /// Log-probabilities of the tokens, where they were asked for.
    pub logprobs: Vec<TokenLogprobs>,
}

/// How a token came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Drawn by a round without drafts, or behind the prompt.
    Plain,
    /// The accepted draft of this depth, from 1.
    Draft(usize),
    /// Drawn in place of the first draft that was rejected.
    Recovered,
    /// Drawn behind drafts that were all accepted.
    Bonus,
}

impl Round {
    /// The origin of token `index`.
    pub fn origin(&self, index: usize) -> Origin {
        let Acceptance { drafted, accepted, .. } = self.acceptance;
        match index {
            _ if index < accepted => Origin::Draft(index + 1),
            _ if drafted == 0 => Origin::Plain,
            _ if accepted == drafted => Origin::Bonus,
            _ => Origin::Recovered,
        }
    }
}

/// The decision of a round.
struct Decided {
    /// Hidden states of the anchor and the drafts, `[1 + drafts, hidden]`.
    hidden: Array,
    drafts: Vec<u32>,
    acceptance: Acceptance,
    /// Rows, one for each token that could be emitted, before the first one that is not finite: at least one.
    finite_rows: usize,
    /// Logits of those rows, where log-probabilities were asked for.
    logits: Option<Array>,
}

/// A sequence's part in a round.
struct Plan {
    started: Instant,
    /// After pairs that had waited were fed, which is not this round's cost.
    round_started: Instant,
    anchor: u32,
    depth: usize,
    limit: usize,
    /// `[1]` int32 each.
    drafts: Vec<Array>,
    /// Their distributions, a row each.
    proposals: Vec<TargetDistribution>,
    /// The drafter's round before it drafted: if this round fails, the next one drafts from there again.
    before: Option<DraftRound>,
}

/// One round of each of `sequences`, which emits at most so many tokens of each as `limits` say.
///
/// # Errors
/// When MLX fails: every sequence is then at the end of the round before. Of one sequence: before [`Sequence::first`],
/// [`SequenceError::NotFinite`]; it is then there as well, the others go on.
pub fn step(model: &MtpModel, sequences: &mut [&mut Sequence], limits: &[usize]) -> Result<Vec<Result<Round>>> {
    let alone = sequences.len() == 1;
    let plans = sequences.iter_mut().zip(limits).map(|(sequence, &limit)| sequence.plan(model, limit, alone));
    let mut plans: Vec<Result<Plan>> = plans.collect();
    let decided: Vec<Option<Result<Decided>>> = match (&mut *sequences, &plans[..]) {
        ([sequence], [Ok(Plan { depth: 0, anchor, limit, .. })]) => {
            vec![Some(sequence.decide_plainly(model, *anchor, *limit))]
        }
        _ => together(model, sequences, &mut plans).inspect_err(|_| {
            for (sequence, plan) in sequences.iter_mut().zip(&mut plans) {
                if let Ok(plan) = plan {
                    sequence.abort(plan);
                }
            }
        })?,
    };
    let rounds = sequences.iter_mut().zip(plans).zip(decided).map(|((sequence, plan), decided)| {
        let plan = plan?;
        match decided {
            Some(decided) => sequence.finish(model, &plan, decided?, alone),
            None => Err(SequenceError::Order("a sequence without a limit")),
        }
    });
    Ok(rounds.collect())
}

/// Drafts, verifies and decides for all that have a plan; the rows stay pending.
fn together(
    model: &MtpModel,
    sequences: &mut [&mut Sequence],
    plans: &mut [Result<Plan>],
) -> Result<Vec<Option<Result<Decided>>>> {
    draft(model, sequences, plans)?;
    let mut tokens = Vec::new();
    let mut rows = Vec::new();
    for (sequence, plan) in sequences.iter_mut().zip(plans.iter()) {
        if let Ok(plan) = plan {
            tokens.push(token_array(&[plan.anchor]));
            tokens.extend(plan.drafts.iter().cloned());
            let count = 1 + plan.drafts.len();
            rows.push(SequenceRows { cache: &mut sequence.cache, count, positions: Positions::Sequential });
        }
    }
    if rows.is_empty() {
        return Ok(plans.iter().map(|_| None).collect());
    }
    let alone = rows.len() == 1;
    let tokens = ops::concatenate(&tokens, 0)?;
    let hidden = model.trunk.forward(&mut Batch { input: Input::Tokens(&tokens), sequences: rows })?;
    let logits = model.trunk.logits(&hidden)?;
    let mut start = 0;
    let mut sent = Vec::with_capacity(plans.len());
    for (sequence, plan) in sequences.iter_mut().zip(plans.iter()) {
        let Ok(plan) = plan else {
            sent.push(None);
            continue;
        };
        let stop = start + 1 + plan.drafts.len() as i32;
        let own = |a: &Array| if alone { Ok(a.clone()) } else { slice_axis(a, 0, start, stop) };
        let (hidden, logits) = (own(&hidden)?, own(&logits)?);
        start = stop;
        let first = sequence.cache.len() as u64 + 1;
        let draws = RoundNoise { rule: sequence.rule, noise: &sequence.noise, first };
        let counts = sequence.sampler.count_rows(&sequence.counts, &plan.drafts)?;
        let (p, bonus) = sequence.sampler.sample(&logits, counts.as_ref(), &draws, Role::Bonus)?;
        let read = draws.outcomes(&p, &plan.proposals, &plan.drafts, &bonus)?;
        let logits = sequence.logprobs.map(|_| logits);
        sent.push(Some((hidden, read, first, logits)));
    }
    // One read-back.
    async_eval(sent.iter().flatten().map(|(_, read, ..)| read))?;
    let mut decided = Vec::with_capacity(sent.len());
    for ((sequence, plan), sent) in sequences.iter_mut().zip(plans.iter_mut()).zip(sent) {
        decided.push(match (plan, sent) {
            (Ok(plan), Some((hidden, read, first, logits))) => match read_back(&read).and_then(Outcomes::decided) {
                Ok(read) => Some(Ok(sequence.decided(hidden, logits, &read, first))),
                Err(SequenceError::NotFinite) => {
                    sequence.abort(plan);
                    Some(Err(SequenceError::NotFinite))
                }
                Err(error) => return Err(error),
            },
            _ => None,
        });
    }
    Ok(decided)
}

/// Drafts of all sequences, depth by depth.
fn draft(model: &MtpModel, sequences: &mut [&mut Sequence], plans: &mut [Result<Plan>]) -> Result<()> {
    let depths: Vec<usize> = plans.iter().map(|plan| plan.as_ref().map_or(0, |plan| plan.depth)).collect();
    let mut drafting: Vec<&mut Sequence> = sequences
        .iter_mut()
        .zip(&depths)
        .filter(|(_, depth)| **depth > 0)
        .map(|(sequence, _)| &mut **sequence)
        .collect();
    ingest(model, &mut drafting)?;
    let Some(head) = &model.drafter else { return Ok(()) };
    for (sequence, plan) in sequences.iter_mut().zip(plans.iter_mut()) {
        if let Ok(plan) = plan {
            plan.before = sequence.draft.as_ref().and_then(|draft| draft.round.clone());
        }
    }
    for row in 0..depths.iter().copied().max().unwrap_or(0) {
        let mut rows = Vec::new();
        for (sequence, plan) in sequences.iter_mut().zip(plans.iter()) {
            let Sequence { draft, vocabulary, .. } = &mut **sequence;
            if let (Ok(plan), Some(state)) = (plan, draft)
                && plan.depth > row
            {
                rows.push(DraftRow { state, previous: plan.drafts.last(), vocabulary: vocabulary.as_deref() });
            }
        }
        let mut logits = head.step(&mut rows)?.into_iter();
        for (sequence, plan) in sequences.iter_mut().zip(plans.iter_mut()) {
            let Ok(plan) = plan else { continue };
            if plan.depth <= row {
                continue;
            }
            let Some(logits) = logits.next() else { break };
            let first = (sequence.cache.len() + 1 + row) as u64;
            let draws = RoundNoise { rule: sequence.rule, noise: &sequence.noise, first };
            let sampler = sequence.draft_sampler.as_ref().unwrap_or(&sequence.sampler);
            let counts = sampler.count_row(&sequence.counts, &plan.drafts)?;
            let (q, draft) = sampler.sample(&logits, counts.as_ref(), &draws, Role::Draft)?;
            async_eval([&draft])?;
            plan.drafts.push(draft);
            plan.proposals.push(q);
        }
    }
    Ok(())
}

impl Sequence {
    /// One round that emits at most `limit` tokens.
    ///
    /// # Errors
    /// Before [`Sequence::prefill`]. [`SequenceError::NotFinite`], or when MLX fails: after either the sequence is at the end of the round
    /// before; or over, if it had sent the next round already.
    pub fn round(&mut self, model: &MtpModel, limit: usize) -> Result<Round> {
        let mut rounds = step(model, &mut [self], &[limit])?;
        rounds.pop().unwrap_or(Err(SequenceError::Order("a round of no sequence")))
    }

    /// The sequence's part in the next round.
    fn plan(&mut self, model: &MtpModel, limit: usize, alone: bool) -> Result<Plan> {
        let started = Instant::now();
        let anchor = self.anchor.ok_or(SequenceError::Order("a round before the prompt, or after an error"))?;
        if self.faulty {
            return Err(SequenceError::NotFinite);
        }
        if !alone {
            self.forget_ahead()?;
        }
        let most = model.drafter.as_ref().filter(|_| self.draft.is_some()).map_or(0, |head| head.max_depth());
        let depth = match self.ahead {
            Some(_) => 0,
            None => {
                let wanted = self.planned.take().unwrap_or_else(|| self.depth.next_depth());
                // A draft that could not be emitted is not worth drawing, and deep MTP layers need as many rows before them.
                wanted.min(most).min(limit.saturating_sub(1)).min(self.cache.len())
            }
        };
        // What waited during plain rounds is not this round's cost: the depth policy must not see it.
        if depth > 0 && self.queued() > most + 1 {
            ingest(model, &mut [&mut *self])?;
            self.settle_history()?;
        }
        let (drafts, proposals) = (Vec::with_capacity(depth), Vec::with_capacity(depth));
        Ok(Plan { started, round_started: Instant::now(), anchor, depth, limit, drafts, proposals, before: None })
    }

    /// Drops what a round that failed left pending. A cache that cannot even do that fails again in the next round.
    fn abort(&mut self, plan: &mut Plan) {
        let _ = self.cache.commit(0);
        if let (Some(draft), Some(before)) = (&mut self.draft, plan.before.take()) {
            let _ = draft.drop_drafts();
            draft.round = Some(before);
        }
    }

    /// Emits what was decided. `alone`: the round was this sequence's only; without drafts its rows are committed already.
    fn finish(&mut self, model: &MtpModel, plan: &Plan, decided: Decided, alone: bool) -> Result<Round> {
        let Decided { hidden, drafts, acceptance, finite_rows, logits } = decided;
        let mut tokens: Vec<u32> = acceptance.tokens(&drafts).take(plan.limit.max(1)).collect();
        // The text goes as far as plain decoding's would, and the error comes with the row that it would come with.
        let faulty = finite_rows < tokens.len();
        tokens.truncate(finite_rows);
        let stop = tokens.iter().position(|token| self.stop_tokens.contains(token));
        if let Some(stop) = stop {
            tokens.truncate(stop + 1);
            self.forget_ahead()?;
        }
        self.faulty = faulty && stop.is_none();
        let logprobs = match (&logits, self.logprobs) {
            (Some(logits), Some(top)) => logprobs::of_rows(logits, &tokens, top)?,
            _ => Vec::new(),
        };
        // The rows of the anchor and of all new tokens but the last, which is the next anchor.
        let kept = tokens.len();
        if !(alone && plan.depth == 0) {
            self.cache.commit(kept)?;
        }
        if let Some(draft) = &mut self.draft {
            let hidden = slice_axis(&hidden, 0, 0, kept as i32)?;
            self.queue.push(Pairs { hidden, next: Next::Tokens(tokens.clone()), positions: Positions::Sequential });
            draft.round = None;
        }
        tokens.iter().for_each(|&token| self.counts.push(token));
        self.anchor = tokens.last().copied();
        // The time of a joint round is no cost of this sequence's depth.
        let seconds = if alone { plan.round_started.elapsed().as_secs_f64() } else { f64::NAN };
        self.depth.observe_round(&acceptance, seconds);
        if self.queued() >= QUEUE {
            ingest(model, &mut [&mut *self])?;
            self.settle_history()?;
        }
        self.stats.record_round(&acceptance, tokens.len(), plan.started.elapsed().as_secs_f64());
        Ok(Round { tokens, drafts, acceptance, stopped: stop.is_some(), logprobs })
    }

    /// A round without drafts, committed. If another one follows, that one is sent before this one's token is known here: the
    /// device need not wait for the processor between them.
    fn decide_plainly(&mut self, model: &MtpModel, anchor: u32, limit: usize) -> Result<Decided> {
        let PlainRound { hidden, token, read, logits } = match self.ahead.take() {
            Some(round) => round,
            None => self.send_plainly(model, &token_array(&[anchor]), &[])?,
        };
        let first = self.cache.len() as u64 + 1;
        if self.looks_ahead && limit > 1 && *self.planned.get_or_insert_with(|| self.depth.next_depth()) == 0 {
            self.planned = None;
            self.cache.commit(1)?;
            // If it fails, it fails again when its turn comes.
            self.ahead = self.send_plainly(model, &token, std::slice::from_ref(&token)).ok();
            let read = read_back(&read).and_then(Outcomes::decided).inspect_err(|_| self.anchor = None)?;
            return Ok(self.decided(hidden, logits, &read, first));
        }
        match read_back(&read).and_then(Outcomes::decided) {
            Ok(read) => {
                self.cache.commit(1)?;
                Ok(self.decided(hidden, logits, &read, first))
            }
            Err(error) => {
                self.cache.commit(0)?;
                Err(error)
            }
        }
    }

    /// The decision of a round whose first token is at position `first`.
    fn decided(&self, hidden: Array, logits: Option<Array>, read: &Outcomes, first: u64) -> Decided {
        let outcomes = read.rows();
        let acceptance = self.acceptance(&outcomes, read.bonus(), first);
        let drafts = outcomes.iter().map(|row| row.draft).collect();
        Decided { hidden, drafts, acceptance, finite_rows: read.finite_rows(), logits }
    }

    /// Sends a round without drafts behind `token` `[1]` int32, which `drawn` holds as well if it is not counted yet.
    fn send_plainly(&mut self, model: &MtpModel, token: &Array, drawn: &[Array]) -> Result<PlainRound> {
        let first = self.cache.len() as u64 + 1;
        let mut send = || {
            let hidden = model.trunk.verify(token, &mut self.cache)?;
            let logits = model.trunk.logits(&hidden)?;
            let counts = self.sampler.count_row(&self.counts, drawn)?;
            let draws = RoundNoise { rule: self.rule, noise: &self.noise, first };
            let (law, token) = self.sampler.sample(&logits, counts.as_ref(), &draws, Role::Bonus)?;
            let read = draws.outcomes(&law, &[], &[], &token)?;
            async_eval([&read])?;
            Ok(PlainRound { hidden, token, read, logits: self.logprobs.map(|_| logits) })
        };
        let sent = send();
        if sent.is_err() {
            self.cache.commit(0)?;
        }
        sent
    }

    /// What a round emits, by the rule or by stated figures.
    fn acceptance(&self, outcomes: &[RowOutcome], bonus: u32, first: u64) -> Acceptance {
        match &self.simulation {
            None => decide(self.rule, outcomes, bonus, first, &self.noise),
            Some(simulation) => simulation.decide(outcomes, bonus, self.stats.rounds(), &self.noise),
        }
    }
}
