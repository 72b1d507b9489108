//! Counters of an mtplx server before and after a load, beside the sum of the answers.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::chunk::Drafts;
use super::client::{Answer, Client};
use crate::args::Route;

/// Time that a server has to notice clients that are gone.
const SETTLE: Duration = Duration::from_secs(30);

/// A counter's growth and what the answers say of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counter {
    pub name: String,
    pub server: u64,
    pub answers: u64,
    /// Upper bound of the growth: requests that hung up were answered further than was read.
    pub at_most: u64,
    pub agrees: bool,
}

/// A page of counters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page(BTreeMap<String, f64>);

impl Page {
    /// The server's page; `None` where it has none, or none of an mtplx.
    pub fn fetch(client: &Client) -> Option<Self> {
        let page = Self::parse(&client.get("/metrics").ok()?);
        page.0.keys().any(|name| name.starts_with("mtplx_")).then_some(page)
    }

    /// The page once no request is left, or as it is when patience ends.
    pub fn settled(client: &Client) -> Option<Self> {
        let start = Instant::now();
        loop {
            let page = Self::fetch(client)?;
            let left = page.value("mtplx_requests_running") + page.value("mtplx_requests_queued");
            if left == 0.0 || start.elapsed() > SETTLE {
                return Some(page);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        // A label's value may hold spaces; what stands behind the last one is the number.
        let pairs = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(pairs.collect())
    }

    fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    fn growth(&self, before: &Self, name: &str) -> u64 {
        (self.value(name) - before.value(name)).max(0.0) as u64
    }
}

/// Sums over answers.
#[derive(Debug, Default)]
pub struct Sums {
    statuses: BTreeMap<u16, u64>,
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
    drafts: Drafts,
    /// Requests of whose answers not everything was read, and bounds of what they add.
    cut_off: u64,
    prompt_tokens_unread: u64,
    completion_tokens_unread: u64,
}

impl Sums {
    /// Adds the status of a request.
    pub fn status(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    /// Adds an answer; `prompt_tokens` and `max_tokens` bound one that was not read to its end.
    pub fn answer(&mut self, answer: &Answer, prompt_tokens: u64, max_tokens: u64) {
        match answer.usage {
            Some(usage) => {
                self.counts(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, answer.drafts.as_ref())
            }
            None => self.cut_off(prompt_tokens, max_tokens),
        }
    }

    /// Adds counts.
    pub fn counts(&mut self, prompt: u64, completion: u64, cached: Option<u64>, drafts: Option<&Drafts>) {
        self.prompt_tokens += prompt;
        self.completion_tokens += completion;
        self.cached_tokens += cached.unwrap_or(0);
        if let Some(drafts) = drafts {
            self.drafts.add(drafts);
        }
    }

    /// Adds a request of whose answer not everything was read.
    pub fn cut_off(&mut self, prompt_tokens: u64, max_tokens: u64) {
        self.cut_off += 1;
        self.prompt_tokens_unread += prompt_tokens;
        self.completion_tokens_unread += max_tokens;
    }

    /// The counters, with what the server says of them.
    pub fn compared(&self, before: &Page, after: &Page, route: Route) -> Vec<Counter> {
        let counter = |name: &str, answers: u64, more: u64| {
            let server = after.growth(before, name);
            let at_most = answers + more;
            Counter { name: name.to_owned(), server, answers, at_most, agrees: (answers..=at_most).contains(&server) }
        };
        let mut counters = Vec::new();
        for (status, &count) in &self.statuses {
            let name = format!("mtplx_requests_total{{route=\"{}\",status=\"{status}\"}}", route.path());
            counters.push(counter(&name, count, 0));
        }
        let unread = self.prompt_tokens_unread;
        counters.push(counter("mtplx_prompt_tokens_total", self.prompt_tokens, unread));
        counters.push(counter("mtplx_cached_prompt_tokens_total", self.cached_tokens, unread));
        counters.push(counter("mtplx_generated_tokens_total", self.completion_tokens, self.completion_tokens_unread));
        for (name, counts) in [("drafted", &self.drafts.drafted), ("accepted", &self.drafts.accepted)] {
            for (place, &count) in (1..).zip(counts) {
                let name = format!("mtplx_{name}_tokens_total{{position=\"{place}\"}}");
                // Drafts of a text that was cut off are counted or not, as the server does.
                counters.push(counter(&name, count, self.completion_tokens_unread));
            }
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Usage;
    use super::*;

    #[test]
    fn counters_beside_sums() {
        let page = |requests: u64, tokens: u64| {
            Page::parse(&format!(
                "# HELP mtplx_x text\nmtplx_requests_total{{route=\"/v1/chat/completions\",status=\"200\"}} {requests}\n\
                 mtplx_prompt_tokens_total {tokens}\nmtplx_generated_tokens_total {tokens}\n# EOF\n"
            ))
        };
        let mut sums = Sums::default();
        let usage = Some(Usage { prompt_tokens: 7, completion_tokens: 5, cached_tokens: Some(0) });
        sums.status(200);
        sums.answer(&Answer { usage, ..Answer::default() }, 7, 9);
        let compared = |sums: &Sums, after| sums.compared(&page(2, 10), &after, Route::Chat);
        let whole = compared(&sums, page(3, 17));
        let agrees = |counters: &[Counter]| counters.iter().map(|counter| counter.agrees).collect::<Vec<_>>();
        assert_eq!(agrees(&whole), [true, true, true, false], "{whole:?}");
        sums.status(200);
        sums.answer(&Answer { hung_up: true, ..Answer::default() }, 7, 9);
        let cut = compared(&sums, page(4, 24));
        assert_eq!(agrees(&cut), [true, true, true, true], "{cut:?}");
        assert_eq!((cut[3].answers, cut[3].at_most, cut[3].server), (5, 14, 14));
        assert_eq!(agrees(&compared(&sums, page(5, 25))), [false, false, true, false]);
    }
}
