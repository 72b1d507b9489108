//! One generation on the engine: its events gathered, and the same again without drafting.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mtplx_engine::{CancelFlag, End, Engine, Event, Request};
use mtplx_runtime::speculative::SpeculationStats;
use mtplx_runtime::text::Ending;

/// Set once the user has interrupted.
pub struct Interrupt(pub Arc<AtomicBool>);

impl Interrupt {
    /// Whether the user has interrupted.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether to go on.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// A generated text.
pub struct Generated {
    pub text: String,
    /// The tokens, up to and including the one that ended the text.
    pub token_ids: Vec<u32>,
    pub ending: Ending,
    /// Which of the stop strings ended it.
    pub stop_string: Option<usize>,
    pub stats: SpeculationStats,
}

/// Generates, telling `progress` about the prompt and `show` about the text.
///
/// # Errors
/// The engine's, and those of `show`.
pub fn generate(
    engine: &Engine,
    request: Request,
    interrupt: &Interrupt,
    mut progress: impl FnMut(usize, usize),
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> anyhow::Result<Generated> {
    let cancel = CancelFlag::shared(Arc::clone(&interrupt.0));
    let (mut text, mut token_ids) = (String::new(), Vec::new());
    for event in engine.submit(Request { cancel, ..request })? {
        match event? {
            Event::Queued { .. } | Event::Begun { .. } => {}
            Event::Prefill { done, total } => progress(done, total),
            Event::Text(piece) => {
                token_ids.extend(piece.tokens.iter().map(|token| token.id));
                text.push_str(&piece.text);
                if !piece.text.is_empty() {
                    show(&piece.text)?;
                }
            }
            // Nothing reads them apart here.
            Event::Reasoning(_) | Event::Call { .. } | Event::Arguments(_) | Event::EndOfCall { .. } => {}
            Event::End(End { ending, stop_token, stop_string, stats, .. }) => {
                token_ids.extend(stop_token.map(|token| token.id));
                return Ok(Generated { text, token_ids, ending, stop_string, stats });
            }
        }
    }
    Err(mtplx_engine::RequestError::Ended.into())
}

/// The counters of `request` without drafting, for as many `tokens`; `None` if interrupted.
///
/// # Errors
/// The engine's.
pub fn plain(
    engine: &Engine,
    request: Request,
    tokens: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<Option<SpeculationStats>> {
    // Stop tokens and strings would end it early where the texts differ; speed is what is asked for.
    let request = Request { drafts: None, ignore_eos: true, stop: Vec::new(), max_tokens: tokens, ..request };
    let plain = generate(engine, request, interrupt, |_, _| {}, |_| Ok(()))?;
    Ok((plain.ending != Ending::Interrupted).then_some(plain.stats))
}
