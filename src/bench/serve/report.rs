//! Results of a load: the document that `mtplx bench serve --json` prints.

use serde::Serialize;

use super::bad::{BadAnswer, BadKind};
use super::counters::Counter;
use super::fault::FaultCount;
use super::memory::Memory;
use super::turns::TurnsReport;
use crate::args::Route;
use crate::bench::report::SCHEMA;
use crate::bench::summary::{Percentiles, Rates, Summary};
use crate::machine;

/// The document.
#[derive(Debug, Clone, Serialize)]
pub struct ServeReport {
    pub schema: u32,
    pub kind: &'static str,
    pub server: Server,
    pub method: Method,
    pub provenance: ClientProvenance,
    /// True where the user interrupted: figures are those of the requests that had ended.
    pub interrupted: bool,
    /// One for each number of clients.
    pub rows: Vec<Row>,
    pub turns: Option<TurnsReport>,
    pub check: Option<Check>,
    pub bad_requests: Option<BadCounts>,
    /// Counters of the server beside the sum of the answers, where it is an mtplx.
    pub counters: Option<Vec<Counter>>,
    pub memory: Option<Memory>,
}

/// The server.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    pub url: String,
    pub route: Route,
    pub model: String,
    /// True for a server with mtplx's counters.
    pub is_mtplx: bool,
}

/// How it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Method {
    pub repeats: usize,
    pub warmup: usize,
    pub requests: Option<usize>,
    pub duration_s: Option<f64>,
    /// Tokens of a prompt that were aimed at; `None` for prompts of a file.
    pub prompt_tokens: Option<usize>,
    pub prompts: Option<String>,
    pub distinct: Option<usize>,
    pub max_tokens: usize,
    /// Seed of the prompts.
    pub seed: u64,
    /// True where each request carries a seed.
    pub seeded: bool,
    pub hang_ups: f64,
    pub bad_requests: f64,
    /// Fields beside prompt, length and seed.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// The client's side.
#[derive(Debug, Clone, Serialize)]
pub struct ClientProvenance {
    pub mtplx_version: &'static str,
    pub commit: Option<&'static str>,
    pub debug_build: bool,
    pub cpu: Option<String>,
    pub os: String,
    /// When it was measured, in UTC.
    pub time: String,
}

impl ClientProvenance {
    /// Of this process.
    pub fn this() -> Self {
        Self {
            mtplx_version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("MTPLX_COMMIT"),
            debug_build: cfg!(debug_assertions),
            cpu: machine::processor(),
            os: machine::os(),
            time: machine::timestamp(),
        }
    }
}

/// A number of clients. Rates are by repetition; times are of all requests of all repetitions.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub clients: usize,
    /// Requests that ended, those that failed and those that hung up included.
    pub requests: u64,
    /// Whole answers.
    pub answered: u64,
    pub hung_up: u64,
    pub errors: Vec<FaultCount>,
    /// Seconds from the first request to the end of the last.
    pub duration_s: Option<Summary>,
    pub prompt_tokens: u64,
    pub output_tokens: u64,
    /// Tokens of prompts that were not computed again; `None` where the server does not say.
    pub cached_tokens: Option<u64>,
    /// `usage`, `chunks`, or `mixed` where some answers had no counts.
    pub counted_by: &'static str,
    pub requests_s: Option<Summary>,
    /// Tokens of prompts a second.
    pub prompt_tok_s: Option<Summary>,
    /// Tokens of answers a second, of all clients together.
    pub output_tok_s: Option<Summary>,
    pub total_tok_s: Option<Summary>,
    /// `output_tok_s` over that of the first row in the same repetition.
    pub speedup: Option<Summary>,
    /// From sending a request to its first text.
    pub ttft_s: Option<Percentiles>,
    /// Time between tokens: an arrival's time over the tokens that a chunk of the same answer has on average.
    pub itl_s: Option<Percentiles>,
    /// Time between chunks, which hold as many tokens as a round of the server decided.
    pub arrival_s: Option<Percentiles>,
    /// From sending a request to the end of its answer.
    pub total_s: Option<Percentiles>,
    /// Tokens a second of one answer, behind its first chunk.
    pub request_tok_s: Option<Rates>,
    pub acceptance: Option<Acceptance>,
}

/// Drafts by depth, where the server tells of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Acceptance {
    pub rounds: u64,
    pub drafted_by_depth: Vec<u64>,
    pub accepted_by_depth: Vec<u64>,
    /// Accepted of those drafted.
    pub cumulative_acceptance: Vec<Option<f64>>,
}

/// Answers compared with those of the same prompt and seed alone.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Check {
    /// Prompts that were answered alone first.
    pub references: usize,
    /// Whole answers that are equal, and beginnings that are.
    pub right: u64,
    pub wrong: u64,
    /// Requests without a whole answer, but for refusals of a busy server.
    pub lost: u64,
    /// Refusals of a busy server.
    pub refused: u64,
    /// The first difference.
    pub example: Option<Difference>,
}

/// A difference between an answer and the one alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The prompt's place among the different ones.
    pub prompt: u64,
    /// Bytes that are equal.
    pub at: usize,
    pub alone: String,
    pub found: String,
}

/// Requests that were bad on purpose.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BadCounts {
    pub kinds: Vec<BadCount>,
}

/// Those of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct BadCount {
    pub kind: BadKind,
    pub count: u64,
    /// Those that were answered as they should be.
    pub right: u64,
    /// The first other answer.
    pub example: Option<String>,
}

impl BadCounts {
    /// Adds an answer.
    pub fn add(&mut self, answer: &BadAnswer) {
        let place = self.kinds.iter().position(|count| count.kind == answer.kind).unwrap_or_else(|| {
            self.kinds.push(BadCount { kind: answer.kind, count: 0, right: 0, example: None });
            self.kinds.len() - 1
        });
        let count = &mut self.kinds[place];
        count.count += 1;
        if answer.is_right() {
            count.right += 1;
        } else {
            let said = match &answer.status {
                Ok(status) => format!("status {status}"),
                Err(error) => error.clone(),
            };
            count.example.get_or_insert(said);
        }
    }

    /// Those that were answered otherwise than they should be.
    pub fn wrong(&self) -> u64 {
        self.kinds.iter().map(|count| count.count - count.right).sum()
    }
}

impl ServeReport {
    /// A report without figures.
    pub fn new(server: Server, method: Method) -> Self {
        Self {
            schema: SCHEMA,
            kind: "serve",
            server,
            method,
            provenance: ClientProvenance::this(),
            interrupted: false,
            rows: Vec::new(),
            turns: None,
            check: None,
            bad_requests: None,
            counters: None,
            memory: None,
        }
    }

    /// True where no request was answered.
    pub fn is_empty(&self) -> bool {
        let turns = self.turns.iter().all(|turns| turns.rows.is_empty());
        turns && self.rows.iter().all(|row| row.answered + row.hung_up == 0)
    }

    /// The reason and the next step, where nothing was measured.
    pub fn empty_for(&self) -> Option<(String, &'static str)> {
        if !self.is_empty() {
            return None;
        }
        let errors =
            self.rows.iter().flat_map(|row| &row.errors).chain(self.turns.iter().flat_map(|turns| &turns.errors));
        let most = errors.max_by_key(|error| error.count);
        let nothing =
            ("nothing was measured: no request was answered".to_owned(), "longer --duration, or more --requests");
        Some(most.map_or(nothing, |most| (format!("nothing was measured: {}: {}", most.kind, most.example), most.hint)))
    }

    /// Checks that failed, each in a line.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if let Some(check) = &self.check {
            if check.wrong > 0 {
                failures.push(format!("{} answers differ from those alone", check.wrong));
            }
            if check.lost > 0 {
                failures.push(format!("{} requests were lost", check.lost));
            }
        }
        let wrong = self.bad_requests.as_ref().map_or(0, BadCounts::wrong);
        if wrong > 0 {
            failures.push(format!("{wrong} bad requests were not answered as such"));
        }
        let differ = self.counters.iter().flatten().filter(|counter| !counter.agrees);
        failures.extend(differ.map(|counter| {
            format!("the server counts {} of {}, the answers {}", counter.server, counter.name, counter.answers)
        }));
        if self.memory.as_ref().is_some_and(|memory| memory.grew) {
            failures.push("the server's memory grew".to_owned());
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_that_failed() {
        let server = Server { url: String::new(), route: Route::Chat, model: String::new(), is_mtplx: true };
        let method = Method {
            repeats: 1,
            warmup: 0,
            requests: None,
            duration_s: None,
            prompt_tokens: None,
            prompts: None,
            distinct: None,
            max_tokens: 1,
            seed: 0,
            seeded: false,
            hang_ups: 0.0,
            bad_requests: 0.0,
            fields: serde_json::Map::new(),
        };
        let mut report = ServeReport::new(server, method);
        assert!(report.failures().is_empty());
        report.check = Some(Check { wrong: 1, lost: 2, ..Check::default() });
        let mut bad = BadCounts::default();
        bad.add(&BadAnswer { kind: BadKind::Malformed, status: Ok(500), answer: None });
        bad.add(&BadAnswer { kind: BadKind::Malformed, status: Ok(400), answer: None });
        assert_eq!(
            (bad.kinds[0].count, bad.kinds[0].right, bad.kinds[0].example.as_deref()),
            (2, 1, Some("status 500"))
        );
        report.bad_requests = Some(bad);
        report.counters = Some(vec![Counter { name: "x".into(), server: 3, answers: 2, at_most: 2, agrees: false }]);
        assert_eq!(report.failures().len(), 4);
    }
}
