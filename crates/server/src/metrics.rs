//! Counters of the server, in the text format of Prometheus.

use std::fmt::Error;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::wire::internal::{Timings, Usage};

/// `content-type` of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Position {
    position: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// All counters.
pub struct Metrics {
    registry: Registry,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    generated_tokens: Counter,
    requests: Family<Answered, Counter>,
    running: Gauge,
    queued: Gauge,
    drafted: Family<Position, Counter>,
    accepted: Family<Position, Counter>,
    first_token: Histogram,
    inter_token: Histogram,
    memory: Family<Kind, Gauge>,
    misses: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("mtplx"),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            requests: Family::default(),
            running: Gauge::default(),
            queued: Gauge::default(),
            drafted: Family::default(),
            accepted: Family::default(),
            // 10 ms to 5 min, and 1 ms to 2 s.
            first_token: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
            inter_token: Histogram::new(exponential_buckets(0.001, 2.0, 12)),
            memory: Family::default(),
            misses: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("prompt_tokens", "Tokens of prompts of requests that began", metrics.prompt_tokens.clone());
        registry.register(
            "cached_prompt_tokens",
            "Those of them that were not computed again",
            metrics.cached_tokens.clone(),
        );
        registry.register("generated_tokens", "Tokens of answers", metrics.generated_tokens.clone());
        registry.register("requests", "Requests by route and status", metrics.requests.clone());
        registry.register("requests_running", "Requests that take turns", metrics.running.clone());
        registry.register("requests_queued", "Requests that wait", metrics.queued.clone());
        registry.register("drafted_tokens", "Drafts by their place in a round, from 1", metrics.drafted.clone());
        registry.register("accepted_tokens", "Accepted drafts by their place", metrics.accepted.clone());
        registry.register(
            "time_to_first_token_seconds",
            "From a request's arrival to its first token",
            metrics.first_token.clone(),
        );
        registry.register(
            "inter_token_seconds",
            "Mean time between tokens of an answer, once an answer",
            metrics.inter_token.clone(),
        );
        registry.register("prefix_misses", "Prompts that left a kept prefix before its end", metrics.misses.clone());
        registry.register(
            "memory_bytes",
            "Bytes that MLX holds, and of kept prefixes among them",
            metrics.memory.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Counts an answer.
    pub fn answered(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&Answered { route, status }).inc();
    }

    /// Counts the tokens, the drafts and the times of a text, whole or cut off.
    pub fn text(&self, usage: &Usage, timings: &Timings) {
        self.prompt_tokens.inc_by(usage.prompt_tokens);
        self.cached_tokens.inc_by(usage.cached_tokens);
        self.generated_tokens.inc_by(usage.completion_tokens);
        for (family, counts) in [(&self.drafted, &timings.drafted), (&self.accepted, &timings.accepted)] {
            for (position, &count) in (1..).zip(counts) {
                family.get_or_create(&Position { position }).inc_by(count);
            }
        }
        if usage.completion_tokens > 0 {
            self.first_token.observe(timings.ttft_ms / 1000.0);
        }
        if timings.tokens_per_second > 0.0 {
            self.inter_token.observe(1.0 / timings.tokens_per_second);
        }
    }

    /// Counts a prompt that left a kept prefix.
    pub fn missed(&self) {
        self.misses.inc();
    }

    /// The page, with the state of the moment.
    ///
    /// # Errors
    /// None that the writing of a string has.
    pub fn page(&self, running: usize, queued: usize, memory: &[(&'static str, usize)]) -> Result<String, Error> {
        self.running.set(count(running));
        self.queued.set(count(queued));
        for &(kind, bytes) in memory {
            self.memory.get_or_create(&Kind { kind }).set(count(bytes));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up() {
        let metrics = Metrics::default();
        let usage = Usage { prompt_tokens: 7, completion_tokens: 5, ..Usage::default() };
        let timings = Timings {
            ttft_ms: 30.0,
            tokens_per_second: 50.0,
            drafted: vec![3, 2],
            accepted: vec![2, 0],
            ..Timings::default()
        };
        metrics.text(&usage, &timings);
        metrics.text(&usage, &Timings::default());
        metrics.answered("/v1/messages", 200);
        metrics.answered("/v1/messages", 200);
        let page = metrics.page(1, 2, &[("active", 10)]).unwrap();
        for line in [
            "mtplx_prompt_tokens_total 14",
            "mtplx_generated_tokens_total 10",
            "mtplx_cached_prompt_tokens_total 0",
            "mtplx_requests_total{route=\"/v1/messages\",status=\"200\"} 2",
            "mtplx_requests_running 1",
            "mtplx_requests_queued 2",
            "mtplx_drafted_tokens_total{position=\"1\"} 3",
            "mtplx_accepted_tokens_total{position=\"1\"} 2",
            "mtplx_time_to_first_token_seconds_count 2",
            "mtplx_inter_token_seconds_count 1",
            "mtplx_memory_bytes{kind=\"active\"} 10",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
