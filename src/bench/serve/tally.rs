//! Rows of a load in the making.

use super::chunk::Drafts;
use super::client::Answer;
use super::fault::{Fault, Faults};
use super::report::{Acceptance, Row};
use crate::bench::summary::{Rates, Summary, Times};

/// A row in the making.
pub struct RowTally {
    pub clients: usize,
    repetitions: Vec<Repetition>,
    ttft: Times,
    itl: Times,
    arrivals: Times,
    totals: Times,
    rates: Vec<f64>,
    faults: Faults,
    failed: u64,
    cached: Option<u64>,
    counted: [u64; 2],
    drafts: Option<Drafts>,
}

/// Sums of one repetition.
#[derive(Debug, Clone, Copy, Default)]
struct Repetition {
    seconds: f64,
    answered: u64,
    hung_up: u64,
    prompt_tokens: u64,
    output_tokens: u64,
}

impl RowTally {
    /// A row without requests.
    pub fn new(clients: usize) -> Self {
        Self {
            clients,
            repetitions: Vec::new(),
            ttft: Times::new(),
            itl: Times::new(),
            arrivals: Times::new(),
            totals: Times::new(),
            rates: Vec::new(),
            faults: Faults::default(),
            failed: 0,
            cached: None,
            counted: [0; 2],
            drafts: None,
        }
    }

    /// Begins a repetition.
    pub fn begin(&mut self) {
        self.repetitions.push(Repetition::default());
    }

    /// Ends it.
    pub fn end(&mut self, seconds: f64) {
        if let Some(repetition) = self.repetitions.last_mut() {
            repetition.seconds = seconds;
        }
    }

    /// Adds an answer.
    pub fn answer(&mut self, answer: &Answer) {
        let Some(repetition) = self.repetitions.last_mut() else { return };
        repetition.output_tokens += answer.tokens();
        if let Some(ttft) = answer.ttft {
            self.ttft.add(ttft, 1);
        }
        answer.gaps.iter().for_each(|&gap| self.arrivals.add(gap, 1));
        if answer.hung_up {
            repetition.hung_up += 1;
            return;
        }
        repetition.answered += 1;
        self.totals.add(answer.total, 1);
        let a_chunk = (answer.tokens() as f64 / answer.chunks.max(1) as f64).max(1.0);
        for gap in &answer.gaps {
            self.itl.add(gap / a_chunk, a_chunk.round() as u64);
        }
        self.rates.extend(answer.rate());
        self.counted[usize::from(answer.usage.is_none())] += 1;
        if let Some(usage) = answer.usage {
            repetition.prompt_tokens += usage.prompt_tokens;
            if let Some(cached) = usage.cached_tokens {
                *self.cached.get_or_insert(0) += cached;
            }
        }
        if let Some(drafts) = &answer.drafts {
            self.drafts.get_or_insert_with(Drafts::default).add(drafts);
        }
    }

    /// Adds a fault.
    pub fn fault(&mut self, fault: &Fault) {
        self.failed += 1;
        self.faults.add(fault);
    }

    /// The row; rates over those of `first`.
    pub fn row(&self, first: Option<&Self>) -> Row {
        let all = |value: fn(&Repetition) -> u64| self.repetitions.iter().map(value).sum::<u64>();
        let measured = || self.repetitions.iter().filter(|repetition| repetition.seconds > 0.0);
        let rate = |value: fn(&Repetition) -> u64| {
            Summary::of(measured().map(|repetition| value(repetition) as f64 / repetition.seconds))
        };
        let counted_by = match self.counted {
            [_, 0] => "usage",
            [0, _] => "chunks",
            _ => "mixed",
        };
        let speedup = first.and_then(|first| {
            let output = |repetition: &Repetition| repetition.output_tokens as f64 / repetition.seconds;
            let pairs = self.repetitions.iter().zip(&first.repetitions);
            Summary::of(pairs.map(|(of, to)| output(of) / output(to)).filter(|ratio| ratio.is_finite()))
        });
        let (answered, hung_up) = (all(|repetition| repetition.answered), all(|repetition| repetition.hung_up));
        Row {
            clients: self.clients,
            requests: answered + hung_up + self.failed,
            answered,
            hung_up,
            errors: self.faults.counts(),
            duration_s: Summary::of(measured().map(|repetition| repetition.seconds)),
            prompt_tokens: all(|repetition| repetition.prompt_tokens),
            output_tokens: all(|repetition| repetition.output_tokens),
            cached_tokens: self.cached,
            counted_by,
            requests_s: rate(|repetition| repetition.answered),
            prompt_tok_s: rate(|repetition| repetition.prompt_tokens),
            output_tok_s: rate(|repetition| repetition.output_tokens),
            total_tok_s: rate(|repetition| repetition.prompt_tokens + repetition.output_tokens),
            speedup,
            ttft_s: self.ttft.percentiles(),
            itl_s: self.itl.percentiles(),
            arrival_s: self.arrivals.percentiles(),
            total_s: self.totals.percentiles(),
            request_tok_s: Rates::of(&self.rates),
            acceptance: self.drafts.as_ref().map(Acceptance::of),
        }
    }
}

impl Acceptance {
    fn of(drafts: &Drafts) -> Self {
        let rate = |(&drafted, &accepted): (&u64, &u64)| (drafted > 0).then(|| accepted as f64 / drafted as f64);
        Self {
            rounds: drafts.rounds,
            drafted_by_depth: drafts.drafted.clone(),
            accepted_by_depth: drafts.accepted.clone(),
            cumulative_acceptance: drafts.drafted.iter().zip(&drafts.accepted).map(rate).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Usage;
    use super::super::fault::FaultKind;
    use super::*;

    fn answer(tokens: u64, cached: Option<u64>) -> Answer {
        let usage = Usage { prompt_tokens: 10, completion_tokens: tokens, cached_tokens: cached };
        let drafts = Drafts { rounds: 2, drafted: vec![2, 1], accepted: vec![1, 0] };
        Answer {
            ttft: Some(0.5),
            gaps: vec![0.1; 4],
            total: 0.9,
            chunks: 5,
            usage: Some(usage),
            drafts: Some(drafts),
            ..Answer::default()
        }
    }

    #[test]
    fn rows_add_up() {
        let mut first = RowTally::new(1);
        let mut row = RowTally::new(4);
        for (of_first, of_row) in [(4.0, 2.0), (2.0, 2.0)] {
            for (tally, seconds) in [(&mut first, of_first), (&mut row, of_row)] {
                tally.begin();
                tally.answer(&answer(10, Some(3)));
                tally.answer(&answer(20, Some(0)));
                tally.end(seconds);
            }
        }
        row.answer(&Answer { hung_up: true, chunks: 5, usage: None, ..answer(0, None) });
        row.fault(&Fault { status: Some(429), ..Fault::new(FaultKind::Status, "busy") });
        let found = row.row(Some(&first));
        assert_eq!((found.requests, found.answered, found.hung_up), (6, 4, 1));
        assert_eq!((found.prompt_tokens, found.output_tokens, found.cached_tokens), (40, 65, Some(6)));
        assert_eq!(found.counted_by, "usage");
        let output = found.output_tok_s.unwrap();
        assert_eq!((output.min, output.max), (15.0, 17.5));
        let speedup = found.speedup.unwrap();
        assert_eq!((speedup.min, speedup.max), (35.0 / 30.0, 2.0));
        // Two tokens a chunk in the first answer, four in the second.
        assert!((found.itl_s.unwrap().p50 - 0.025).abs() < 1e-4 && (found.arrival_s.unwrap().p50 - 0.1).abs() < 1e-3);
        let acceptance = found.acceptance.unwrap();
        assert_eq!((acceptance.rounds, acceptance.drafted_by_depth), (8, vec![8, 4]));
        assert_eq!(acceptance.cumulative_acceptance, [Some(0.5), Some(0.0)]);
        let nothing = RowTally::new(2).row(Some(&first));
        assert!(nothing.output_tok_s.is_none() && nothing.ttft_s.is_none() && nothing.speedup.is_none());
    }
}
