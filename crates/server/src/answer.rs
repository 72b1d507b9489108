//! One answer: the engine's events become a dialect's frames, sent one by one or folded into a whole.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use futures_util::stream;
use mtplx_engine::{End, Event as EngineEvent, Miss, Piece as EnginePiece, Request, RequestError, Stream};
use mtplx_runtime::speculative::{Origin as EngineOrigin, SpeculationStats, TokenLogprobs as EngineLogprobs};
use mtplx_runtime::text::{Ending, Tokenizer};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use crate::app::App;
use crate::dialect::{Fold, Writer};
use crate::host::Lease;
use crate::ids;
use crate::listen::stopped;
use crate::log::{Answered, LogEvent};
use crate::prepare::failure;
use crate::wire::frame::Frame;
use crate::wire::internal::{
    self, Event, Failure, FailureKind, FinishReason, Origin, Piece, Timings, TokenInfo, TokenLogprobs, TopLogprob,
    Usage,
};

/// Time between two attempts to begin a further prompt of one request.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// An answer that is being made. Dropping it ends its text.
pub struct Answer {
    app: Arc<App>,
    writer: Box<dyn Writer>,
    waiting: VecDeque<Request>,
    stream: Option<Stream>,
    lease: Lease,
    text: TextState,
    index: usize,
    stop: watch::Receiver<bool>,
    /// Time at which the answer is cut off, once the server is to stop.
    cut_at: Option<Instant>,
    /// Units of work that the engine had done at the last sign of life.
    units: u64,
    quiet_since: Instant,
    over: bool,
    failed: bool,
    record: Answered,
    arrived: Instant,
}

/// State of the text that is being made.
#[derive(Default)]
struct TextState {
    calls: usize,
    stops: Vec<String>,
    /// True where tokens are shown, with their log-probabilities or origins.
    shows_tokens: bool,
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
    first_token: Option<Instant>,
    begun: Option<Instant>,
    /// Tokens of the prompt's first chunk, and when it was read.
    first_chunk: Option<(u64, Instant)>,
    announced: bool,
    finish: Option<&'static str>,
}

/// Everything that an answer is made of.
pub struct Parts {
    /// The server.
    pub app: Arc<App>,
    /// The writer of its dialect.
    pub writer: Box<dyn Writer>,
    /// The engine.
    pub lease: Lease,
    /// Requests behind the first.
    pub waiting: VecDeque<Request>,
    /// Events of the first.
    pub first: (Stream, Request),
    /// True where tokens are shown.
    pub shows_tokens: bool,
    /// The log's line so far.
    pub record: Answered,
    /// When the request arrived.
    pub arrived: Instant,
}

impl Answer {
    /// An answer whose first text has begun.
    pub fn new(parts: Parts) -> Self {
        let Parts { app, writer, lease, waiting, first: (stream, request), shows_tokens, record, arrived } = parts;
        let stop = app.stop.clone();
        let units = lease.units();
        let mut answer = Self {
            app,
            writer,
            waiting,
            stream: Some(stream),
            lease,
            text: TextState { shows_tokens, ..TextState::default() },
            index: 0,
            stop,
            cut_at: None,
            units,
            quiet_since: Instant::now(),
            over: false,
            failed: false,
            record,
            arrived,
        };
        answer.begin(&request);
        answer
    }

    fn begin(&mut self, request: &Request) {
        self.text = TextState {
            stops: request.stop.clone(),
            shows_tokens: self.text.shows_tokens,
            prompt_tokens: request.prompt.len() as u64,
            begun: Some(if self.index == 0 { self.arrived } else { Instant::now() }),
            ..TextState::default()
        };
    }

    /// The answer, frame by frame.
    pub fn into_stream(mut self, content_type: &'static str) -> Response<Body> {
        let start: String = self.writer.start().iter().map(Frame::encode).collect();
        let first = stream::iter((!start.is_empty()).then(|| Ok::<_, std::convert::Infallible>(Bytes::from(start))));
        let rest = stream::unfold(self, |mut answer| async move {
            let frames = answer.frames().await?;
            let bytes: String = frames.iter().map(Frame::encode).collect();
            Some((Ok(Bytes::from(bytes)), answer))
        });
        let mut response = Response::new(Body::from_stream(futures_util::StreamExt::chain(first, rest)));
        for (name, value) in
            [("content-type", content_type), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
        {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        response
    }

    /// The answer as a whole: the fold of its frames.
    ///
    /// # Errors
    /// The text failed.
    pub async fn into_whole(mut self, mut fold: Box<dyn Fold>) -> Result<Response<Body>, Failure> {
        self.writer.start().iter().for_each(|frame| fold.push(frame));
        while let Some(frames) = self.frames().await {
            frames.iter().for_each(|frame| fold.push(frame));
        }
        let whole = fold.finish().inspect_err(|failure| self.record.status = failure.status())?;
        let mut response = Response::new(Body::from(whole.to_string()));
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// The next frames, of which there is at least one; `None` behind the last.
    async fn frames(&mut self) -> Option<Vec<Frame>> {
        while !self.over {
            let event = match &mut self.stream {
                None => self.next_text().await,
                Some(stream) => {
                    let quiet_until = self.quiet_since + self.app.options.keep_alive;
                    tokio::select! {
                        event = stream.recv() => Some(event.unwrap_or(Err(RequestError::Ended))),
                        () = sleep_until(quiet_until.into()) => {
                            self.quiet_since = Instant::now();
                            // A sign of life is one of the engine's, not of the server's.
                            let units = self.lease.units();
                            let works = self.lease.unit_time().is_some_and(|time| time < self.app.options.unit_time);
                            if std::mem::replace(&mut self.units, units) != units || works {
                                return Some(vec![self.writer.keep_alive()]);
                            }
                            continue;
                        }
                        () = stopped(&mut self.stop), if self.cut_at.is_none() => {
                            self.cut_at = Some(Instant::now() + self.app.options.connections.grace);
                            continue;
                        }
                        () = sleep_until(self.cut_at.unwrap_or(quiet_until).into()), if self.cut_at.is_some() => {
                            return Some(self.fail(Failure::new(FailureKind::Unavailable, "the server is stopping")));
                        }
                    }
                }
            };
            let Some(event) = event else { continue };
            let frames = match event {
                Ok(event) => self.event(event),
                Err(error) => {
                    if matches!(error, RequestError::Ended) {
                        self.app.host.note_dead();
                    }
                    self.fail(failure(&error))
                }
            };
            if !frames.is_empty() {
                self.quiet_since = Instant::now();
                return Some(frames);
            }
        }
        None
    }

    /// Begins the next prompt's text, as soon as the queue has room for it.
    async fn next_text(&mut self) -> Option<Result<EngineEvent, RequestError>> {
        let Some(request) = self.waiting.pop_front() else {
            self.over = true;
            return None;
        };
        self.index += 1;
        self.begin(&request);
        loop {
            match self.lease.submit(request.clone()) {
                Ok(stream) => {
                    self.stream = Some(stream);
                    return None;
                }
                Err(RequestError::Busy { .. }) => sleep(QUEUE_PAUSE).await,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn event(&mut self, event: EngineEvent) -> Vec<Frame> {
        let event = match event {
            EngineEvent::Queued { .. } => return Vec::new(),
            EngineEvent::Begun { cached, miss } => {
                self.text.cached_tokens = cached as u64;
                if let Some(Miss { position, kept, sent }) = miss {
                    self.app.metrics.missed();
                    self.app.log(&LogEvent::PrefixMiss { id: self.record.id.clone(), cached, position, kept, sent });
                }
                return Vec::new();
            }
            EngineEvent::Prefill { done, total } => {
                self.announce(done as u64, total as u64);
                return Vec::new();
            }
            EngineEvent::Text(piece) => Event::Text(self.piece(piece)),
            EngineEvent::Reasoning(piece) => Event::Reasoning(self.piece(piece)),
            EngineEvent::Arguments(piece) => Event::Arguments(self.piece(piece)),
            EngineEvent::Call { name } => {
                self.text.calls += 1;
                Event::Call { index: self.text.calls - 1, id: ids::random("call_"), name }
            }
            EngineEvent::EndOfCall { .. } => Event::EndOfCall,
            EngineEvent::End(end) => {
                let event = Event::End(self.end(&end));
                self.stream = None;
                let frames = self.writer.event(self.index, &event);
                self.over = self.waiting.is_empty();
                return frames;
            }
        };
        if let Event::Text(piece) | Event::Reasoning(piece) | Event::Arguments(piece) = &event
            && piece.text.is_empty()
            && piece.tokens.is_empty()
        {
            return Vec::new();
        }
        self.writer.event(self.index, &event)
    }

    /// Announces a long prompt by the rate of its second chunk, where no earlier prompt has told the rate.
    fn announce(&mut self, done: u64, total: u64) {
        let Some((before, since)) = self.text.first_chunk else {
            self.text.first_chunk = Some((done, Instant::now()));
            return;
        };
        if self.app.prefill_rate.tokens_per_second().is_none() && !std::mem::replace(&mut self.text.announced, true) {
            let rate = (done - before) as f64 / since.elapsed().as_secs_f64().max(1e-9);
            self.app.announce(&self.record.id, total, total - done, rate);
        }
    }

    fn piece(&mut self, EnginePiece { text, tokens }: EnginePiece) -> Piece {
        if !tokens.is_empty() {
            self.text.first_token.get_or_insert_with(Instant::now);
        }
        self.text.completion_tokens += tokens.len() as u64;
        let tokenizer = &self.lease.text().tokenizer;
        let tokens = if self.text.shows_tokens {
            tokens.into_iter().map(|token| shown(token, tokenizer)).collect()
        } else {
            Vec::new()
        };
        Piece { text, tokens }
    }

    fn end(&mut self, end: &End) -> internal::End {
        let reason = match end.ending {
            Ending::StopToken | Ending::StopString if end.calls > 0 => FinishReason::ToolCalls,
            Ending::StopToken => FinishReason::Stop,
            Ending::StopString => FinishReason::StopString,
            Ending::Length | Ending::Interrupted => FinishReason::Length,
        };
        self.text.finish = Some(match reason {
            FinishReason::Stop => "stop",
            FinishReason::StopString => "stop_string",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
        });
        self.text.first_token.get_or_insert_with(Instant::now);
        self.app.prefill_rate.note(end.stats.prompt_tokens(), Duration::from_secs_f64(end.stats.prefill_seconds()));
        self.text.completion_tokens = end.tokens as u64;
        let usage = Usage {
            prompt_tokens: self.text.prompt_tokens,
            cached_tokens: end.cached_tokens as u64,
            completion_tokens: end.tokens as u64,
            reasoning_tokens: end.reasoning_tokens as u64,
            thinking_budget_reached: end.thinking_budget_reached,
        };
        let timings = self.timings(Some(&end.stats));
        self.count(&usage, &timings);
        let stop_string = end.stop_string.and_then(|place| self.text.stops.get(place)).cloned();
        internal::End { reason, stop_string, usage, timings }
    }

    fn timings(&self, stats: Option<&SpeculationStats>) -> Timings {
        let tokens = self.text.completion_tokens;
        let first = self.text.first_token;
        let rate = first.map(|first| tokens.saturating_sub(1) as f64 / first.elapsed().as_secs_f64().max(1e-9));
        Timings {
            prompt_tokens: self.text.prompt_tokens,
            cached_tokens: self.text.cached_tokens,
            completion_tokens: tokens,
            ttft_ms: first.zip(self.text.begun).map_or(0.0, |(first, begun)| 1000.0 * (first - begun).as_secs_f64()),
            tokens_per_second: rate.filter(|_| tokens > 1).unwrap_or(0.0),
            rounds: stats.map_or(0, SpeculationStats::rounds),
            drafted: stats.map_or_else(Vec::new, |stats| stats.drafted_by_depth().to_vec()),
            accepted: stats.map_or_else(Vec::new, |stats| stats.accepted_by_depth().to_vec()),
        }
    }

    /// Adds a text to the counters and to the log's line, once.
    fn count(&mut self, usage: &Usage, timings: &Timings) {
        self.app.metrics.text(usage, timings);
        if let Some(begun) = self.text.begun.take() {
            self.app.text_time.note(begun.elapsed());
        }
        self.record.prompt_tokens += usage.prompt_tokens;
        self.record.cached_tokens += usage.cached_tokens;
        self.record.completion_tokens += usage.completion_tokens;
        self.record.finish = self.text.finish;
        if usage.completion_tokens > 0 {
            self.record.ttft_ms.get_or_insert(timings.ttft_ms);
        }
        if timings.tokens_per_second > 0.0 {
            self.record.tokens_per_second = Some(timings.tokens_per_second);
        }
    }

    fn fail(&mut self, failure: Failure) -> Vec<Frame> {
        self.stream = None;
        self.waiting.clear();
        self.over = true;
        self.failed = true;
        self.text.finish = Some("error");
        self.writer.event(self.index, &Event::Failed(failure))
    }
}

impl Drop for Answer {
    /// The line of the log: also for an answer whose client is gone.
    fn drop(&mut self) {
        if self.text.begun.is_some() {
            self.text.finish = Some(if self.failed { "error" } else { "cancelled" });
            let usage = Usage {
                prompt_tokens: self.text.prompt_tokens,
                cached_tokens: self.text.cached_tokens,
                completion_tokens: self.text.completion_tokens,
                ..Usage::default()
            };
            let timings = self.timings(None);
            self.count(&usage, &timings);
        }
        self.record.total = self.arrived.elapsed();
        self.app.answered(std::mem::take(&mut self.record));
    }
}

fn shown(token: mtplx_engine::TokenInfo, tokenizer: &Tokenizer) -> TokenInfo {
    let bytes = tokenizer.bytes(token.id);
    TokenInfo {
        id: token.id,
        text: String::from_utf8_lossy(&bytes).into_owned(),
        bytes,
        origin: match token.origin {
            EngineOrigin::Plain => Origin::Plain,
            EngineOrigin::Draft(place) => Origin::Draft(place),
            EngineOrigin::Recovered => Origin::Recovered,
            EngineOrigin::Bonus => Origin::Bonus,
        },
        logprobs: token.logprobs.map(|logprobs| logprobs_shown(&logprobs, tokenizer)),
    }
}

fn logprobs_shown(logprobs: &EngineLogprobs, tokenizer: &Tokenizer) -> TokenLogprobs {
    let top = logprobs.top.iter().map(|&(id, logprob)| {
        let bytes = tokenizer.bytes(id);
        TopLogprob { id, text: String::from_utf8_lossy(&bytes).into_owned(), bytes, logprob }
    });
    TokenLogprobs { logprob: logprobs.logprob, top: top.collect() }
}
