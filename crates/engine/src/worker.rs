//! The thread that owns the model: it takes requests, runs one unit of work after another, and sends events.
//!
//! It never waits for a reader: events that do not fit into a request's channel stay with the request, which is passed over until they do.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use mtplx_runtime::speculative::Snapshot;
use mtplx_runtime::text::Tokenizer;
use tokio::sync::mpsc::Sender;

use crate::admission::{Share, TextMemory};
use crate::batch::{BatchPolicy, Part};
use crate::drawn::Drawn;
use crate::error::RequestError;
use crate::prefix_store::PrefixStore;
use crate::request::{Event, Request};
use crate::running::{Running, held, pass};
use crate::scheduler::{self, Candidate, Unit};
use crate::source::Sources;

/// Time between two looks at readers that do not keep up, while there is nothing else to do.
const POLL: Duration = Duration::from_millis(2);

/// A request on its way in.
pub(crate) struct Submission {
    pub request: Request,
    pub events: Sender<Result<Event, RequestError>>,
}

/// Counters that the engine's owner reads.
#[derive(Debug)]
pub(crate) struct Counters {
    pub started: Instant,
    /// Requests that were submitted and have not ended.
    pub requests: AtomicUsize,
    /// Units of work that were done.
    pub units: AtomicU64,
    /// Milliseconds from the engine's start to that of the unit under way, plus one; 0 for none.
    pub since: AtomicU64,
    /// Bytes of kept prefixes.
    pub kept: AtomicUsize,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            requests: AtomicUsize::new(0),
            units: AtomicU64::new(0),
            since: AtomicU64::new(0),
            kept: AtomicUsize::new(0),
        }
    }
}

/// The model, and the requests that it serves.
pub(crate) struct Worker {
    pub sources: Sources,
    pub tokenizer: Arc<Tokenizer>,
    pub store: PrefixStore<Snapshot>,
    pub batch: BatchPolicy,
    pub memory: TextMemory,
    pub submissions: Receiver<Submission>,
    /// Requests that run at once.
    pub most: usize,
    /// Time after which a reader that does not read is given up.
    pub patience: Duration,
    pub counters: Arc<Counters>,
}

impl Worker {
    /// Serves until no more requests can come and all have ended.
    pub(crate) fn run(mut self) {
        let mut waiting: VecDeque<Submission> = VecDeque::new();
        let mut running: Vec<Running> = Vec::new();
        let mut unit = 0;
        let started = self.counters.started;
        let mut open = true;
        while open || !running.is_empty() || !waiting.is_empty() {
            if running.is_empty() && waiting.is_empty() {
                match self.submissions.recv() {
                    Ok(submission) => waiting.push_back(submission),
                    Err(_) => return,
                }
            }
            while open {
                match self.submissions.try_recv() {
                    Ok(submission) => waiting.push_back(submission),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => open = false,
                }
            }
            self.begin(&mut waiting, &mut running);
            for request in &mut running {
                request.send(self.patience);
            }
            let before = running.len();
            running.retain(|request| !request.is_over());
            self.counters.requests.fetch_sub(before - running.len(), Ordering::Relaxed);
            let candidates: Vec<Candidate> = running.iter().map(Running::candidate).collect();
            match scheduler::next(&candidates) {
                Some(work) => {
                    unit += 1;
                    self.counters.since.store(started.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
                    match work {
                        Unit::Chunk(place) => {
                            let request = &mut running[place];
                            request.served = unit;
                            request.attempt(self.patience, |request| request.feed(&self.sources, &mut self.store));
                        }
                        Unit::Round(places) => self.round(&mut running, &places, unit),
                    }
                    self.counters.kept.store(self.store.bytes(), Ordering::Relaxed);
                    self.counters.since.store(0, Ordering::Relaxed);
                    self.counters.units.store(unit, Ordering::Relaxed);
                }
                None if running.is_empty() => {}
                None => match self.submissions.recv_timeout(POLL) {
                    Ok(submission) => waiting.push_back(submission),
                    Err(RecvTimeoutError::Timeout) => {}
                    // Nothing to wait for but readers.
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(POLL),
                },
            }
        }
    }

    /// Begins requests that wait, the oldest first, and drops those that were cancelled meanwhile.
    fn begin(&mut self, waiting: &mut VecDeque<Submission>, running: &mut Vec<Running>) {
        let before = waiting.len();
        waiting.retain(|waiting| !(waiting.request.cancel.is_set() || waiting.events.is_closed()));
        self.counters.requests.fetch_sub(before - waiting.len(), Ordering::Relaxed);
        // Texts that gave their memory up come first, the oldest before the others.
        for place in 0..running.len() {
            if running[place].is_released() {
                if !self.memory.fits(held(running, place), running[place].share) {
                    return;
                }
                running[place].readmit();
            }
        }
        while running.len() < self.most {
            let Some(next) = waiting.front().map(|waiting| self.share(&waiting.request)) else { return };
            if !self.memory.fits(held(running, usize::MAX), next) {
                return;
            }
            let Some(Submission { request, events }) = waiting.pop_front() else { return };
            let started = catch_unwind(AssertUnwindSafe(|| self.start(request, events.clone())));
            match started.unwrap_or(Err(RequestError::Panicked)) {
                Ok(request) => running.push(request),
                Err(error) => {
                    // The channel of a request that has not begun has room.
                    let _ = events.try_send(Err(error));
                    self.counters.requests.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// A round of the first of `places`, of as many as pay.
    fn round(&mut self, running: &mut [Running], places: &[usize], unit: u64) {
        let size = self.batch.size(places.len());
        let mut chosen = places[..size].to_vec();
        chosen.sort_unstable();
        chosen.retain(|&place| !running[place].is_released() && self.grow(running, place));
        let mut members: Vec<&mut Running> = Vec::with_capacity(size);
        for (place, request) in running.iter_mut().enumerate() {
            if chosen.contains(&place) && !request.is_read_again() {
                request.served = unit;
                // A request that ends, or whose reasoning does, takes no part in the pass.
                if request.is_cancelled() || request.thinking_left() == Some(0) {
                    request.attempt(self.patience, |request| request.aside(&self.sources));
                } else {
                    members.push(request);
                }
            }
        }
        let size = members.len();
        let depth = self.batch.depth(size);
        let adapts: Vec<bool> =
            members.iter_mut().map(|request| depth.is_some_and(|depth| request.plan_depth(depth))).collect();
        let begun = Instant::now();
        let rounds = pass(&self.sources, &mut members);
        let seconds = begun.elapsed().as_secs_f64();
        let mut parts = Vec::with_capacity(members.len());
        for ((request, round), adapts) in members.into_iter().zip(rounds).zip(adapts) {
            if let Ok(Drawn { tokens, acceptance: Some(acceptance), .. }) = &round {
                parts.push(Part { tokens: tokens.len(), acceptance: *acceptance, adapts });
            }
            request.attempt(self.patience, |request| request.take(round?));
        }
        // A round in which one failed was no round of this size.
        if parts.len() == size {
            self.batch.observe(&parts, seconds);
        }
    }

    /// The memory that is set aside for a request when it begins.
    fn share(&self, request: &Request) -> Share {
        let prompt = request.prompt.len();
        self.memory.share(prompt, prompt.saturating_add(request.max_tokens))
    }

    /// Sets memory aside for the next round of the request at `place`. Where there is none, the newest text gives its own up; false where
    /// that is this one.
    fn grow(&self, running: &mut [Running], place: usize) -> bool {
        let request = &running[place];
        let next = request.tokens() + self.sources.max_depth() + 1;
        if next <= request.share.tokens || request.share.tokens >= request.share.most {
            return true;
        }
        let share = self.memory.share(next, request.share.most);
        while !self.memory.fits(held(running, place), share) {
            let newest = (0..running.len()).rev().find(|&place| running[place].holds_rows());
            let Some(newest) = newest else { break };
            if !running[newest].give_up_rows(&self.sources) {
                break;
            }
            if newest == place {
                return false;
            }
        }
        running[place].share = share;
        true
    }

    fn start(
        &mut self,
        request: Request,
        events: Sender<Result<Event, RequestError>>,
    ) -> Result<Running, RequestError> {
        let stop_tokens = if request.ignore_eos { Vec::new() } else { self.tokenizer.eos_ids().to_vec() };
        let fits = |kept: &Snapshot| kept.drafts() || request.drafts.is_none() || !self.sources.drafts();
        let share = self.share(&request);
        let found = self.store.find(&request.prompt, fits);
        let cached = found.map_or(0, |(tokens, _)| tokens);
        let source = self.sources.begin(&request, stop_tokens, found.map(|(_, kept)| kept))?;
        let miss = self.store.miss(&request.prompt, cached);
        let mut running = Running::new(request, events, source, share, &self.tokenizer)?;
        running.begun(cached, miss);
        Ok(running)
    }
}
