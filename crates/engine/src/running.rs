//! A request that runs: its tokens on the way from a source to events.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mtplx_runtime::speculative::{Released, Snapshot};
use mtplx_runtime::text::{Detokenizer, Ending, TextStream, Tokenizer};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::admission::Share;
use crate::drawn::Drawn;
use crate::error::RequestError;
use crate::output;
use crate::prefix_store::{Miss, PrefixStore, next_place};
use crate::request::{End, Event, Piece, Request, TokenInfo};
use crate::scheduler::Candidate;
use crate::source::{Source, Sources};

/// A request that runs.
pub(crate) struct Running {
    request: Request,
    events: Sender<Result<Event, RequestError>>,
    outbox: VecDeque<Result<Event, RequestError>>,
    /// Time since which the outbox has not been empty.
    blocked: Option<Instant>,
    source: Source,
    /// Memory that is set aside for it.
    pub(crate) share: Share,
    /// Set while the text has to be read again.
    released: Option<Restoration>,
    /// Tokens behind the prompt.
    generated: Vec<u32>,
    tokenizer: Arc<Tokenizer>,
    text: TextStream<Arc<Tokenizer>>,
    /// Prompt tokens that were kept.
    cached: usize,
    /// Prompt tokens that were kept or fed.
    fed: usize,
    /// Tokens of the text.
    drawn: usize,
    reasoning: usize,
    budget_reached: bool,
    calls: usize,
    stop_token: Option<TokenInfo>,
    /// The number of the unit that served it last.
    pub(crate) served: u64,
    ended: bool,
}

/// The way back of a text that gave its memory up.
struct Restoration {
    released: Released,
    /// Tokens that were read again.
    read: usize,
    /// True once memory is set aside for it again.
    admitted: bool,
}

impl Running {
    /// A request whose text comes from `source`.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub(crate) fn new(
        request: Request,
        events: Sender<Result<Event, RequestError>>,
        source: Source,
        share: Share,
        tokenizer: &Arc<Tokenizer>,
    ) -> Result<Self, RequestError> {
        let context: &[u32] = if request.continues { &request.prompt } else { &[] };
        let detokenizer = Detokenizer::after(Arc::clone(tokenizer), context)?;
        let detokenizer = if request.special_text { detokenizer.with_special() } else { detokenizer };
        Ok(Self {
            source,
            share,
            released: None,
            generated: Vec::new(),
            tokenizer: Arc::clone(tokenizer),
            text: TextStream::new(detokenizer, request.stop.iter().map(String::as_str)),
            request,
            events,
            outbox: VecDeque::new(),
            blocked: None,
            cached: 0,
            fed: 0,
            drawn: 0,
            reasoning: 0,
            budget_reached: false,
            calls: 0,
            stop_token: None,
            served: 0,
            ended: false,
        })
    }

    /// Says that it begins, behind so many tokens of its prompt that were kept.
    pub(crate) fn begun(&mut self, cached: usize, miss: Option<Miss>) {
        (self.cached, self.fed) = (cached, cached);
        self.outbox.push_back(Ok(Event::Begun { cached, miss }));
    }

    /// True once it has ended and its events were taken.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && self.outbox.is_empty()
    }

    /// Tokens of its text so far.
    pub(crate) fn tokens(&self) -> usize {
        self.fed + self.generated.len()
    }

    /// True where its memory was given up, set aside again or not.
    pub(crate) fn is_read_again(&self) -> bool {
        self.released.is_some()
    }

    /// Lets a text that gave its memory up be read again.
    pub(crate) fn readmit(&mut self) {
        self.released.iter_mut().for_each(|way| way.admitted = true);
    }

    /// Sets the depth of the next round; false where the request fixes its own, or does not draft.
    pub(crate) fn plan_depth(&mut self, depth: usize) -> bool {
        self.source.plan_depth(depth)
    }

    /// The request as the scheduler sees it.
    pub(crate) fn candidate(&self) -> Candidate {
        let waits = self.is_released() && !self.is_cancelled();
        let blocked = self.ended || !self.outbox.is_empty() || waits;
        let prefill = self.released.is_some() || self.fed < self.request.prompt.len();
        Candidate { prefill, served: self.served, blocked }
    }

    /// True where its memory was given up and is not set aside again.
    pub(crate) fn is_released(&self) -> bool {
        self.released.as_ref().is_some_and(|way| !way.admitted)
    }

    /// True where it has memory that it could give up.
    pub(crate) fn holds_rows(&self) -> bool {
        self.released.is_none() && !self.ended
    }

    /// Gives its memory up; false where it has none.
    pub(crate) fn give_up_rows(&mut self, sources: &Sources) -> bool {
        let Some(released) = self.source.release(sources) else { return false };
        self.released = Some(Restoration { released, read: 0, admitted: false });
        true
    }

    /// Reads a piece of the text again; behind the last, it goes on.
    fn restore(&mut self, sources: &Sources) -> Result<(), RequestError> {
        let Some(way) = &mut self.released else { return Ok(()) };
        let total = way.released.rows(self.fed + self.generated.len());
        let end = (way.read + sources.chunk()).min(total);
        let tokens = self.request.prompt[..self.fed].iter().chain(&self.generated);
        let tokens: Vec<u32> = tokens.take(end).skip(way.read).copied().collect();
        if !tokens.is_empty() {
            self.source.restore(sources, &tokens)?;
        }
        way.read = end;
        if end == total
            && let Some(way) = self.released.take()
        {
            self.source.rejoin(way.released)?;
        }
        Ok(())
    }

    /// Sends what the channel has room for. A reader that is gone, or has not read for `patience`, ends the request.
    pub(crate) fn send(&mut self, patience: Duration) {
        while let Some(event) = self.outbox.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => self.blocked = None,
                Err(TrySendError::Full(event)) => {
                    self.outbox.push_front(event);
                    let since = *self.blocked.get_or_insert_with(Instant::now);
                    if since.elapsed() < patience {
                        return;
                    }
                    self.give_up();
                }
                Err(TrySendError::Closed(_)) => self.give_up(),
            }
        }
        self.blocked = None;
    }

    fn give_up(&mut self) {
        self.outbox.clear();
        self.ended = true;
    }

    /// True where the text is not wanted any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.request.cancel.is_set() || self.events.is_closed()
    }

    /// Does a part of a unit of work and sends its events. An error or a panic in it ends this request and no other.
    pub(crate) fn attempt(&mut self, patience: Duration, work: impl FnOnce(&mut Self) -> Result<(), RequestError>) {
        let done = catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or(Err(RequestError::Panicked));
        if let Err(error) = done {
            self.outbox.push_back(Err(error));
            self.ended = true;
        }
        self.send(patience);
    }

    /// Feeds a chunk of the prompt; behind the last, the first token.
    pub(crate) fn feed(&mut self, sources: &Sources, store: &mut PrefixStore<Snapshot>) -> Result<(), RequestError> {
        if self.is_cancelled() {
            return self.finish(Ending::Interrupted);
        }
        if self.released.is_some() {
            return self.restore(sources);
        }
        let total = self.request.prompt.len();
        let place = if store.is_on() { next_place(self.fed, total, self.request.answer_tokens) } else { None };
        let end = (self.fed + sources.chunk()).min(place.unwrap_or(total));
        self.source.feed(sources, &self.request.prompt[self.fed..end])?;
        self.fed = end;
        if Some(end) == place
            && !store.contains(&self.request.prompt[..end])
            && let Some(kept) = self.source.snapshot()?
        {
            let bytes = kept.nbytes();
            store.insert(&self.request.prompt[..end], kept, bytes);
        }
        self.outbox.push_back(Ok(Event::Prefill { done: end, total }));
        if end < total || self.is_cancelled() {
            return Ok(());
        }
        if self.thinking_left() == Some(0) {
            return self.end_reasoning(sources);
        }
        let first = self.source.first(sources)?;
        self.take(first)
    }

    /// The turn of a request that takes no part in a pass: it was cancelled, or its reasoning is over.
    pub(crate) fn aside(&mut self, sources: &Sources) -> Result<(), RequestError> {
        if self.is_cancelled() { self.finish(Ending::Interrupted) } else { self.end_reasoning(sources) }
    }

    /// Tokens that the next round may draw.
    fn room(&self) -> usize {
        let room = self.request.max_tokens - self.drawn;
        self.thinking_left().map_or(room, |left| left.min(room))
    }

    /// Tokens that the reasoning may still take; `None` outside of it, and without a budget.
    pub(crate) fn thinking_left(&self) -> Option<usize> {
        let budget = self.request.thinking_budget?;
        let reasons = self.request.output.as_ref()?.in_reasoning();
        reasons.then(|| budget.saturating_sub(self.reasoning))
    }

    /// Closes the reasoning, as if the model had, and draws on.
    fn end_reasoning(&mut self, sources: &Sources) -> Result<(), RequestError> {
        self.budget_reached = true;
        let closing = self.request.output.as_ref().map_or("", output::OutputSplitter::end_of_reasoning);
        let mut tokens = self.tokenizer.encode(closing, false)?;
        tokens.truncate(self.request.max_tokens - self.drawn);
        self.source.feed(sources, &tokens)?;
        self.take(Drawn::inserted(tokens))?;
        if self.ended {
            return Ok(());
        }
        let first = self.source.first(sources)?;
        self.take(first)
    }

    /// Turns tokens into text, and text into events.
    pub(crate) fn take(&mut self, Drawn { mut tokens, stopped, .. }: Drawn) -> Result<(), RequestError> {
        self.generated.extend(tokens.iter().map(|token| token.id));
        // A stop token has no text, and ends it.
        let shown = tokens.len() - usize::from(stopped);
        let mut events = Events::default();
        for place in 0..shown {
            self.drawn += 1;
            self.reasoning +=
                usize::from(self.request.output.as_ref().is_some_and(output::OutputSplitter::in_reasoning));
            let found = self.text.push(tokens[place].id)?;
            let last_call = self.split(&found.text, &mut events);
            if last_call || found.stopped.is_some() {
                // The round may have drawn further.
                let beyond = tokens.len() - place - 1;
                tokens.truncate(place + 1);
                let ending = if last_call { Ending::StopToken } else { Ending::StopString };
                self.flush(events, tokens);
                if last_call {
                    // Nothing of what follows is read.
                    self.request.output = None;
                }
                self.end(ending, found.stopped, beyond);
                return Ok(());
            }
        }
        let stop_token = if stopped { tokens.pop() } else { None };
        self.flush(events, tokens);
        if stop_token.is_some() {
            self.drawn += 1;
            self.stop_token = stop_token;
            return self.finish(Ending::StopToken);
        }
        if self.drawn >= self.request.max_tokens {
            return self.finish(Ending::Length);
        }
        Ok(())
    }

    /// Ends a text whose tokens are over.
    fn finish(&mut self, ending: Ending) -> Result<(), RequestError> {
        let found = self.text.finish()?;
        let mut events = Events::default();
        self.split(&found.text, &mut events);
        self.flush(events, Vec::new());
        let ending = if found.stopped.is_some() { Ending::StopString } else { ending };
        self.end(ending, found.stopped, 0);
        Ok(())
    }

    /// Reads text as answer, reasoning and calls. True behind the call that is to be the last.
    fn split(&mut self, text: &str, events: &mut Events) -> bool {
        let Some(splitter) = &mut self.request.output else {
            events.text(text);
            return false;
        };
        let mut pieces = Vec::new();
        splitter.push(text, &mut pieces);
        for piece in pieces {
            self.calls += usize::from(matches!(piece, output::Piece::Call { .. }));
            let ends_call = matches!(piece, output::Piece::EndOfCall { .. });
            events.push(piece);
            if self.request.single_call && ends_call {
                return true;
            }
        }
        false
    }

    /// Sends events, the first of which with a text carries the tokens.
    fn flush(&mut self, Events(mut events): Events, tokens: Vec<TokenInfo>) {
        if !tokens.is_empty() {
            let carrier = events.iter_mut().find_map(|event| match event {
                Event::Text(piece) | Event::Reasoning(piece) | Event::Arguments(piece) => Some(piece),
                _ => None,
            });
            match carrier {
                Some(piece) => piece.tokens = tokens,
                None => events.push(Event::Text(Piece { text: String::new(), tokens })),
            }
        }
        self.outbox.extend(events.into_iter().map(Ok));
    }

    fn end(&mut self, ending: Ending, stop_string: Option<usize>, beyond: usize) {
        if let Some(splitter) = &mut self.request.output {
            let mut pieces = Vec::new();
            splitter.finish(ending != Ending::StopToken, &mut pieces);
            let mut events = Events::default();
            for piece in pieces {
                self.calls += usize::from(matches!(piece, output::Piece::Call { .. }));
                events.push(piece);
            }
            self.flush(events, Vec::new());
        }
        let mut stats = self.source.stats();
        stats.retract(beyond);
        self.outbox.push_back(Ok(Event::End(End {
            ending,
            stop_token: self.stop_token.take(),
            stop_string,
            tokens: self.drawn,
            cached_tokens: self.cached,
            reasoning_tokens: self.reasoning,
            thinking_budget_reached: self.budget_reached,
            calls: self.calls,
            stats,
        })));
        self.ended = true;
    }
}

/// Memory of the texts that have some, but for the one at `place`.
pub(crate) fn held(running: &[Running], place: usize) -> impl Iterator<Item = Share> {
    let holding = running.iter().enumerate().filter(move |(other, request)| *other != place && !request.is_released());
    holding.map(|(_, request)| request.share)
}

/// One round of each of `members` in one pass. Where MLX fails, every one is where it was before, and is tried alone: the fault may be
/// one's. A panic ends all of them, since it may have left any of them half done.
pub(crate) fn pass(sources: &Sources, members: &mut [&mut Running]) -> Vec<Result<Drawn, RequestError>> {
    let attempt = |members: &mut [&mut Running]| {
        let limits: Vec<usize> = members.iter().map(|request| request.room()).collect();
        let mut parts: Vec<(&mut Source, usize)> =
            members.iter_mut().zip(limits).map(|(request, limit)| (&mut request.source, limit)).collect();
        catch_unwind(AssertUnwindSafe(|| sources.rounds(&mut parts))).unwrap_or(Err(RequestError::Panicked))
    };
    if members.is_empty() {
        return Vec::new();
    }
    match attempt(members) {
        Ok(rounds) => rounds,
        Err(RequestError::Panicked) => members.iter().map(|_| Err(RequestError::Panicked)).collect(),
        Err(error) if members.len() == 1 => vec![Err(error)],
        Err(_) => members
            .iter_mut()
            .map(|member| attempt(std::slice::from_mut(member))?.pop().unwrap_or(Err(RequestError::Ended)))
            .collect(),
    }
}

/// Events of one unit, in which pieces of one kind are joined.
#[derive(Default)]
struct Events(Vec<Event>);

impl Events {
    fn text(&mut self, text: &str) {
        self.push(output::Piece::Text(text.to_owned()));
    }

    fn push(&mut self, piece: output::Piece) {
        let plain = |text| Piece { text, tokens: Vec::new() };
        match (piece, self.0.last_mut()) {
            (output::Piece::Text(text), Some(Event::Text(last)))
            | (output::Piece::Reasoning(text), Some(Event::Reasoning(last)))
            | (output::Piece::Arguments(text), Some(Event::Arguments(last))) => last.text.push_str(&text),
            (output::Piece::Text(text), _) if text.is_empty() => {}
            (output::Piece::Text(text), _) => self.0.push(Event::Text(plain(text))),
            (output::Piece::Reasoning(text), _) => self.0.push(Event::Reasoning(plain(text))),
            (output::Piece::Arguments(text), _) => self.0.push(Event::Arguments(plain(text))),
            (output::Piece::Call { name }, _) => self.0.push(Event::Call { name }),
            (output::Piece::EndOfCall { complete }, _) => self.0.push(Event::EndOfCall { complete }),
        }
    }
}
