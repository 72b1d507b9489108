//! One answer: the engine's events on the screen.

use std::io::{self, Write};

use mtplx_engine::{End, Engine, Event, Request, RequestError};

use super::screen::Screen;
use crate::terminal::Progress;

/// An answer, or as much as there is of it.
pub struct Answer {
    pub text: String,
    pub reasoning: Option<String>,
    /// Its end, or what ended it too early.
    pub end: Result<End, RequestError>,
}

/// Shows an answer as it comes.
///
/// # Errors
/// The terminal is gone.
pub fn stream<W: Write>(engine: &Engine, request: Request, screen: &mut Screen<W>) -> io::Result<Answer> {
    let (mut text, mut reasoning) = (String::new(), String::new());
    let mut progress = Some(Progress::start("reading the prompt", false));
    let mut end = Err(RequestError::Ended);
    match engine.submit(request) {
        Err(error) => end = Err(error),
        Ok(events) => {
            for event in events {
                match event {
                    Ok(Event::Prefill { done, total }) => {
                        progress.iter().for_each(|progress| progress.update(done, total));
                        if done == total {
                            progress = None;
                        }
                    }
                    Ok(Event::Text(piece)) if !piece.text.is_empty() => {
                        progress = None;
                        screen.text(&piece.text)?;
                        text.push_str(&piece.text);
                    }
                    Ok(Event::Reasoning(piece)) if !piece.text.is_empty() => {
                        progress = None;
                        screen.reasoning(&piece.text)?;
                        reasoning.push_str(&piece.text);
                    }
                    Ok(Event::End(ended)) => {
                        end = Ok(ended);
                        break;
                    }
                    Err(error) => {
                        end = Err(error);
                        break;
                    }
                    // No tools are declared, so there are no calls.
                    Ok(_) => {}
                }
            }
        }
    }
    drop(progress);
    screen.fold()?;
    screen.end_line()?;
    let reasoning = (!reasoning.is_empty()).then_some(reasoning);
    Ok(Answer { text, reasoning, end })
}
