//! Splitter of generated text into answer, reasoning and tool calls.
//!
//! [`OutputFormat::detect`] reads a model's chat template once. An [`OutputSplitter`] takes the text of one answer as
//! it comes and emits [`Piece`]s. Its state advances by characters, so the pieces are a function of the text and not of
//! how the text was cut; only the borders between neighbouring pieces of one kind differ.
//!
//! # Text
//!
//! * Held back is only what can still become a marker, or blanks that may have to be dropped (64 bytes at most).
//! * Blanks in front of `<think>` are dropped, so are newlines behind `<think>` and `</think>`, and one newline in
//!   front of `</think>`.
//! * A text of blanks alone between reasoning, calls and the end of the output is dropped. A text with other characters
//!   keeps its blanks, those next to a call too. An output of nothing but blanks is emitted as it is.
//! * `<think>` opens reasoning only at the start of the output; elsewhere both markers are text.
//! * A call inside reasoning ends the reasoning. A `</think>` directly behind such a call is dropped.
//!
//! # Calls
//!
//! * Markup is a call if it is whole up to the arguments and names a declared tool; otherwise it comes back as text,
//!   exactly as generated. Without tools in the request all markup of calls is text.
//! * A Hermes call whose name follows the arguments is held until the name comes or its JSON ends.
//! * The first 256 bytes of a call's markup are held until the call ends. One that breaks, or that the model leaves open,
//!   within them comes back as text. Longer ones stream.
//! * A [`Piece::Call`] is always followed by one [`Piece::EndOfCall`]. Its arguments in between are a whole JSON object if
//!   the call is complete.
//! * A longer call that breaks ends there and is not complete; the rest is text. So is one that a limit cuts. The
//!   arguments of neither are closed: JSON that looks whole could be executed, half a file written.
//! * End markers behind a call are dropped, also where the model writes one too many or leaves one out.

mod format;
mod json;
mod json_call;
mod markup;
mod pattern;
mod schema;
mod splitter;
#[cfg(test)]
mod tests;
mod xml_call;

pub use format::{ArgumentsAs, OutputFormat};
pub use markup::ToolFormat;
pub use schema::ToolSchema;
pub use splitter::OutputSplitter;

/// Decided output, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text of the answer.
    Text(String),
    /// Text of the reasoning.
    Reasoning(String),
    /// Start of a call of a declared tool.
    Call {
        /// Name of the tool.
        name: String,
    },
    /// Part of the JSON text of the call's arguments.
    Arguments(String),
    /// End of a call.
    EndOfCall {
        /// False if the markup was malformed or the output ended inside it. Of a call that is not complete the
        /// arguments may lack their end.
        complete: bool,
    },
}

/// Pieces under construction. Text joins the last piece where that is of the same kind.
struct Sink<'o>(&'o mut Vec<Piece>);

impl Sink<'_> {
    fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.0.push(Piece::Text(text.to_owned())),
        }
    }

    fn reasoning(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Reasoning(last)) => last.push_str(text),
            _ => self.0.push(Piece::Reasoning(text.to_owned())),
        }
    }

    fn extend(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.text(&text),
                Piece::Reasoning(text) => self.reasoning(&text),
                Piece::Arguments(json) => self.arguments(&json),
                piece => self.0.push(piece),
            }
        }
    }

    fn call(&mut self, name: &str) {
        self.0.push(Piece::Call { name: name.to_owned() });
    }

    fn arguments(&mut self, json: &str) {
        match self.0.last_mut() {
            _ if json.is_empty() => {}
            Some(Piece::Arguments(last)) => last.push_str(json),
            _ => self.0.push(Piece::Arguments(json.to_owned())),
        }
    }

    fn end_of_call(&mut self, complete: bool) {
        self.0.push(Piece::EndOfCall { complete });
    }
}

/// Result of one character inside a call.
enum Step {
    /// The call goes on.
    More,
    /// The call ended, complete or not. The text was read and does not belong to it.
    Ended(String),
    /// The text is no call: all of it from the start marker up to the last character, which was not taken.
    Rejected(String),
}
