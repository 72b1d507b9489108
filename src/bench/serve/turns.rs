//! Conversations: the first token of a further turn beside that of a cold prompt as long as what the turn had to read.

use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::client::{Answer, Ask, Client, Conversation};
use super::fault::{Fault, FaultCount, FaultKind, Faults};
use super::prompts::{Scale, Texts};
use crate::bench::summary::{Percentiles, Summary, Times};

/// Attempts at a prompt of a certain length, and the share of it that may be missing.
const ATTEMPTS: usize = 4;
const CLOSE: f64 = 0.03;

/// Conversations that were measured.
#[derive(Debug, Clone, Serialize)]
pub struct TurnsReport {
    pub turns: usize,
    pub conversations: usize,
    pub history_tokens: usize,
    pub new_tokens: usize,
    /// Tokens of the first prompt, and its time to the first token.
    pub first: Option<FirstTurn>,
    /// Each further turn.
    pub rows: Vec<TurnRow>,
    pub errors: Vec<FaultCount>,
}

/// The first turn, whose prompt is cold.
#[derive(Debug, Clone, Serialize)]
pub struct FirstTurn {
    pub prompt_tokens: Option<Summary>,
    pub ttft_s: Percentiles,
}

/// A further turn beside cold prompts, measured one after the other. Tokens are as the server counts them.
#[derive(Debug, Clone, Serialize)]
pub struct TurnRow {
    pub turn: usize,
    pub prompt_tokens: Option<Summary>,
    /// Tokens that were kept from the turns before; `None` where the server does not say.
    pub cached_tokens: Option<Summary>,
    /// Tokens of the cold prompt: about as many as the turn had to read.
    pub cold_tokens: Option<Summary>,
    pub ttft_s: Percentiles,
    /// Of the cold prompt.
    pub cold_ttft_s: Percentiles,
    /// Of the same conversation with another beginning.
    pub whole_ttft_s: Percentiles,
    /// The turn's time over that of the cold prompt.
    pub over_cold: Summary,
    /// The turn's time over that of the whole conversation cold.
    pub over_whole: Summary,
}

/// Settings of a measurement of conversations.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub turns: usize,
    pub conversations: usize,
    pub history_tokens: usize,
    pub new_tokens: usize,
    pub max_tokens: usize,
    pub texts: Texts,
    /// Seed that requests carry.
    pub seed: Option<u64>,
    pub scale: Scale,
}

/// The measurement in the making.
struct Tally {
    first: (Vec<f64>, Times),
    rows: Vec<TurnTally>,
    faults: Faults,
    done: usize,
}

struct TurnTally {
    prompt_tokens: Vec<f64>,
    cached_tokens: Vec<f64>,
    cold_tokens: Vec<f64>,
    times: [Times; 3],
    over_cold: Vec<f64>,
    over_whole: Vec<f64>,
}

/// Measures conversations. `say` is told of the progress. The second value is false where the user interrupted.
pub fn measure(client: &Client, plan: &Plan, stop: &AtomicBool, say: impl Fn(String)) -> (TurnsReport, bool) {
    let mut tally = Tally::new(plan.turns);
    let mut whole = true;
    for conversation in 0..plan.conversations {
        say(format!("conversation {} of {}", conversation + 1, plan.conversations));
        match converse(client, plan, conversation, stop, &mut tally) {
            Ok(()) => tally.done += 1,
            Err(fault) if fault.kind == FaultKind::Interrupted => {
                whole = false;
                break;
            }
            Err(fault) => tally.faults.add(&fault),
        }
    }
    (tally.report(plan), whole)
}

/// One conversation, from its first turn to its last.
fn converse(client: &Client, plan: &Plan, number: usize, stop: &AtomicBool, tally: &mut Tally) -> Result<(), Fault> {
    let scale = &plan.scale;
    // Every text of every conversation has a number of its own.
    let mut place = number as u64 * 1_000;
    let mut fresh = |characters: usize| {
        place += 1;
        plan.texts.text(place, characters)
    };
    let ask = |conversation: &Conversation, max_tokens: usize| {
        client.ask_until(
            &Ask { conversation: conversation.clone(), max_tokens, seed: plan.seed, hang_up_after: None },
            stop,
        )
    };
    let mut conversation = vec![fresh(scale.characters_of(plan.history_tokens))];
    let mut answer = ask(&conversation, plan.max_tokens)?;
    if let Some(ttft) = answer.ttft {
        tally.first.0.extend(prompt_tokens(&answer));
        tally.first.1.add(ttft, 1);
    }
    for row in &mut tally.rows {
        conversation.push(std::mem::take(&mut answer.content));
        conversation.push(fresh(scale.characters_within(plan.new_tokens)));
        answer = ask(&conversation, plan.max_tokens)?;
        let cached = answer.usage.and_then(|usage| usage.cached_tokens);
        let read = prompt_tokens(&answer).zip(cached).map(|(prompt, cached)| (prompt - cached as f64).max(1.0));
        let cold = cold(scale, read, plan.new_tokens, |characters| ask(&vec![fresh(characters)], 1))?;
        // The same length with another beginning: nothing of it is kept.
        let mut other = conversation.clone();
        other[0] = fresh(scale.characters_of(plan.history_tokens));
        let whole = ask(&other, 1)?;
        if let (Some(ttft), Some(cold_ttft), Some(whole_ttft)) = (answer.ttft, cold.ttft, whole.ttft) {
            row.prompt_tokens.extend(prompt_tokens(&answer));
            row.cached_tokens.extend(cached.map(|cached| cached as f64));
            row.cold_tokens.extend(prompt_tokens(&cold));
            row.times.iter_mut().zip([ttft, cold_ttft, whole_ttft]).for_each(|(times, seconds)| times.add(seconds, 1));
            row.over_cold.push(ttft / cold_ttft);
            row.over_whole.push(ttft / whole_ttft);
        }
    }
    Ok(())
}

/// The answer to a prompt of `read` tokens, as exactly as a few attempts bring it; of `otherwise` where nothing is counted.
fn cold(
    scale: &Scale,
    read: Option<f64>,
    otherwise: usize,
    mut ask: impl FnMut(usize) -> Result<Answer, Fault>,
) -> Result<Answer, Fault> {
    let Some(read) = read else { return ask(scale.characters_of(otherwise)) };
    let mut characters = scale.characters_of(read as usize);
    let mut best: Option<(f64, Answer)> = None;
    for _ in 0..ATTEMPTS {
        let answer = ask(characters)?;
        let short = read - prompt_tokens(&answer).unwrap_or(read);
        characters = characters.saturating_add_signed(scale.characters_within(1) as isize * short as isize).max(1);
        if best.as_ref().is_none_or(|(least, _)| short.abs() < *least) {
            best = Some((short.abs(), answer));
        }
        if short.abs() <= (read * CLOSE).max(1.0) {
            break;
        }
    }
    best.map(|(_, answer)| answer).ok_or_else(|| Fault::new(FaultKind::Broken, "no cold prompt was answered"))
}

fn prompt_tokens(answer: &Answer) -> Option<f64> {
    answer.usage.map(|usage| usage.prompt_tokens as f64)
}

impl Tally {
    fn new(turns: usize) -> Self {
        let row = || TurnTally {
            prompt_tokens: Vec::new(),
            cached_tokens: Vec::new(),
            cold_tokens: Vec::new(),
            times: [Times::new(), Times::new(), Times::new()],
            over_cold: Vec::new(),
            over_whole: Vec::new(),
        };
        Self {
            first: (Vec::new(), Times::new()),
            rows: (1..turns).map(|_| row()).collect(),
            faults: Faults::default(),
            done: 0,
        }
    }

    fn report(&self, plan: &Plan) -> TurnsReport {
        let summary = |values: &[f64]| Summary::of(values.iter().copied());
        let (tokens, times) = &self.first;
        TurnsReport {
            turns: plan.turns,
            conversations: self.done,
            history_tokens: plan.history_tokens,
            new_tokens: plan.new_tokens,
            first: times.percentiles().map(|ttft_s| FirstTurn { prompt_tokens: summary(tokens), ttft_s }),
            rows: (2..).zip(&self.rows).filter_map(|(turn, row)| row.row(turn)).collect(),
            errors: self.faults.counts(),
        }
    }
}

impl TurnTally {
    fn row(&self, turn: usize) -> Option<TurnRow> {
        let summary = |values: &[f64]| Summary::of(values.iter().copied());
        let [ttft, cold, whole] = &self.times;
        Some(TurnRow {
            turn,
            prompt_tokens: summary(&self.prompt_tokens),
            cached_tokens: summary(&self.cached_tokens),
            cold_tokens: summary(&self.cold_tokens),
            ttft_s: ttft.percentiles()?,
            cold_ttft_s: cold.percentiles()?,
            whole_ttft_s: whole.percentiles()?,
            over_cold: summary(&self.over_cold)?,
            over_whole: summary(&self.over_whole)?,
        })
    }
}
