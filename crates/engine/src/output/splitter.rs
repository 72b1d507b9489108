//! State of one output.

use std::collections::VecDeque;

use super::format::OutputFormat;
use super::json_call::{HermesCall, JsonCall};
use super::markup::{CallStart, Context, END_THINK, THINK, ToolFormat};
use super::pattern::{MAX_BLANKS, Rest, Stop, first, is_blank, literal};
use super::schema::ToolSchema;
use super::xml_call::XmlCall;
use super::{Piece, Sink, Step};

/// First characters of what begins or ends a turn in the families' templates. Text in front of them is not the
/// model's.
const TURN_MARKERS: [&str; 4] = ["<|", "<｜", "]~b]", "[e~["];

/// Bytes of a call's markup that are held until the call ends: one that is malformed comes back as text. Longer calls stream.
const HELD_CALL: usize = 256;

/// A splitter for one output.
#[derive(Debug, Clone)]
pub struct OutputSplitter {
    /// Format of calls; `None` if the request has no tools.
    calls: Option<ToolFormat>,
    format: OutputFormat,
    tools: Vec<ToolSchema>,
    state: State,
    text: TextState,
    /// Text in front of the next character that may still become a marker.
    held: String,
    /// Characters that are still to be read.
    input: VecDeque<char>,
    trial: Option<Trial>,
}

/// Beginning of a call that may still turn out malformed.
#[derive(Debug, Clone)]
struct Trial {
    /// Markup from the start marker on.
    raw: String,
    /// Pieces of the call.
    pieces: Vec<Piece>,
    /// State in front of it.
    text: TextState,
}

/// Innermost element at the current character.
#[derive(Debug, Clone)]
enum State {
    Text,
    Hermes(HermesCall),
    Json(JsonCall),
    /// A call and the index of its tool.
    Xml(XmlCall, usize),
}

/// Text outside of calls.
#[derive(Debug, Clone)]
struct TextState {
    kind: Kind,
    /// True while nothing but blanks came since `<think>`, `</think>`, a call or the output's start.
    leading: bool,
    /// Blanks of a text that has nothing else yet.
    blanks: String,
    /// True from a call inside reasoning on: a `</think>` behind it is no text.
    think_open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Answer from the output's start on.
    Start,
    Reasoning,
    AfterReasoning,
    AfterCall,
}

/// Marker in the text.
enum Marker {
    Think(usize),
    EndThink(usize),
    EndOfBlock(usize),
    Call(CallStart),
}

impl OutputSplitter {
    /// A splitter for the output behind `prompt`, a rendered prompt or its tail. Without `tools` markup of calls is
    /// text.
    ///
    /// The output begins as reasoning if the last of `<think>` and `</think>` in the prompt's last turn opens it.
    pub fn new(format: &OutputFormat, prompt: &str, tools: &[ToolSchema]) -> Self {
        let turn = TURN_MARKERS.iter().filter_map(|marker| prompt.rfind(marker)).max().unwrap_or(0);
        let turn = &prompt[turn..];
        let reasons = format.reasoning && turn.rfind(THINK) > turn.rfind(END_THINK);
        Self {
            calls: format.tools.filter(|_| tools.iter().any(|tool| !tool.name.is_empty())),
            format: *format,
            tools: tools.to_vec(),
            state: State::Text,
            text: TextState {
                kind: if reasons { Kind::Reasoning } else { Kind::Start },
                leading: true,
                blanks: String::new(),
                think_open: false,
            },
            held: String::new(),
            input: VecDeque::new(),
            trial: None,
        }
    }

    /// Takes generated text and appends what is decided to `out`.
    pub fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        let mut sink = Sink(out);
        for c in text.chars() {
            self.input.push_back(c);
            // A character that ends a call early is read again, and with it the few that were held.
            while let Some(c) = self.input.pop_front() {
                self.step(c, &mut sink);
            }
        }
    }

    /// Ends the output: what is held is decided. Nothing must be pushed afterwards.
    ///
    /// `cut`: the output was ended by a limit and not by the model. A short call without an end is then given as far as it came; otherwise
    /// it is malformed.
    pub fn finish(&mut self, cut: bool, out: &mut Vec<Piece>) {
        let mut sink = Sink(out);
        match self.trial.take() {
            Some(trial) if cut => sink.extend(trial.pieces),
            Some(trial) => {
                self.state = State::Text;
                self.give_back(trial, "", &mut sink);
            }
            None => {}
        }
        match std::mem::replace(&mut self.state, State::Text) {
            State::Text => {}
            State::Hermes(call) => {
                if let Some(text) = call.cut(&mut sink) {
                    text.chars().for_each(|c| self.text.emit(c, &mut sink));
                }
                return;
            }
            State::Json(call) => return call.cut(&mut sink),
            State::Xml(call, _) => return call.cut(&mut sink),
        }
        let held = std::mem::take(&mut self.held);
        let ends_block = self.context() == Context::BehindCall
            && self.calls.is_some_and(|calls| calls.closing(&held) == Err(Stop::More));
        if !ends_block {
            held.chars().for_each(|c| self.text.emit(c, &mut sink));
        }
        if self.text.kind == Kind::Start {
            self.text.emit_blanks(&mut sink);
        }
    }

    /// True while the text that comes is reasoning.
    pub fn in_reasoning(&self) -> bool {
        self.text.kind == Kind::Reasoning
    }

    /// Text that ends the reasoning when its budget is spent. The caller inserts it as if it were generated: into the
    /// sequence and into [`OutputSplitter::push`].
    pub fn end_of_reasoning(&self) -> &'static str {
        // The line ends around the marker are those of the templates.
        match self.format.tools {
            Some(ToolFormat::DeepSeekV3 | ToolFormat::DeepSeekV31) => {
                "\n\nMy time to think is over, so I answer now.</think>"
            }
            Some(ToolFormat::Glm) => "\n\nMy time to think is over, so I answer now.</think>\n",
            _ => "\n\nMy time to think is over, so I answer now.\n</think>\n\n",
        }
    }

    fn step(&mut self, c: char, sink: &mut Sink<'_>) {
        let mut trial = self.trial.take();
        let mut pieces = Sink(trial.as_mut().map_or(&mut *sink.0, |trial| &mut trial.pieces));
        let step = match &mut self.state {
            State::Text => return self.text_step(c, sink),
            State::Hermes(call) => {
                let step = call.step(c, &self.tools, &mut pieces);
                if call.emitted() && self.text.kind != Kind::AfterCall {
                    self.text.begin_call();
                }
                step
            }
            State::Json(call) => call.step(c, &mut pieces),
            State::Xml(call, tool) => call.step(c, &self.tools[*tool].parameters, &mut pieces),
        };
        match step {
            Step::More => {
                let Some(mut trial) = trial else { return };
                trial.raw.push(c);
                if trial.raw.len() <= HELD_CALL {
                    self.trial = Some(trial);
                } else {
                    sink.extend(trial.pieces);
                }
            }
            Step::Ended(rest) => {
                self.state = State::Text;
                let malformed = |trial: &Trial| trial.pieces.last() != Some(&Piece::EndOfCall { complete: true });
                match trial {
                    Some(mut trial) if malformed(&trial) => {
                        trial.raw.push(c);
                        self.give_back(trial, &rest, sink);
                    }
                    trial => {
                        sink.extend(trial.map(|trial| trial.pieces).unwrap_or_default());
                        self.text.end_call();
                    }
                }
                self.read_again(&rest);
            }
            Step::Rejected(text) => {
                self.state = State::Text;
                text.chars().for_each(|c| self.text.emit(c, sink));
                self.input.push_front(c);
            }
        }
    }

    /// One character outside of calls.
    fn text_step(&mut self, c: char, sink: &mut Sink<'_>) {
        self.held.push(c);
        while let Some(c) = self.held.chars().next() {
            match self.marker() {
                Err(Stop::More) => return,
                Err(Stop::Mismatch) => {
                    self.held.remove(0);
                    self.text.emit(c, sink);
                }
                Ok(marker) => return self.pass(marker),
            }
        }
    }

    /// Matches a marker at the start of the held text.
    fn marker(&self) -> Result<Marker, Stop> {
        let held = self.held.as_str();
        let text = &self.text;
        let length = |rest: Rest<'_>| rest.map(|rest| held.len() - rest.len());
        // No marker begins with another character.
        if !held.starts_with(['<', '\n', '}', '`']) {
            return Err(Stop::Mismatch);
        }
        let when = |condition: bool, marker: Result<Marker, Stop>| if condition { marker } else { Err(Stop::Mismatch) };
        let reasoning = text.kind == Kind::Reasoning;
        let opens = text.leading && (reasoning || (text.kind == Kind::Start && self.format.reasoning));
        // One newline in front of the end marker belongs to it.
        let end_think = if reasoning { held.strip_prefix('\n').unwrap_or(held) } else { held };
        let candidates = [
            when(
                reasoning || (text.think_open && text.leading),
                length(literal(end_think, END_THINK)).map(Marker::EndThink),
            ),
            when(opens, length(literal(held, THINK)).map(Marker::Think)),
        ];
        let Some(calls) = self.calls else { return first(candidates) };
        let context = self.context();
        let behind = context == Context::BehindCall;
        first(candidates.into_iter().chain([
            when(behind, length(calls.closing(held)).map(Marker::EndOfBlock)),
            when(held.starts_with('<'), calls.opening(held, &self.tools, context).map(Marker::Call)),
        ]))
    }

    fn context(&self) -> Context {
        match self.text.kind {
            Kind::Reasoning => Context::Reasoning,
            Kind::AfterCall if self.text.leading => Context::BehindCall,
            _ => Context::Answer,
        }
    }

    /// Passes a marker at the start of the held text.
    fn pass(&mut self, marker: Marker) {
        let mut held = std::mem::take(&mut self.held);
        let length = match marker {
            Marker::Think(length) => {
                self.text.enter(Kind::Reasoning);
                length
            }
            Marker::EndThink(length) => {
                self.text.enter(Kind::AfterReasoning);
                self.text.think_open = false;
                length
            }
            Marker::EndOfBlock(length) => {
                self.text.blanks.clear();
                length
            }
            Marker::Call(opening) => {
                let mut trial =
                    Trial { raw: held[..opening.length].to_owned(), pieces: Vec::new(), text: self.text.clone() };
                self.state = match (opening.tool, self.calls.and_then(ToolFormat::xml)) {
                    (None, _) => State::Hermes(HermesCall::new(held[..opening.length].to_owned())),
                    (Some(tool), markup) => {
                        self.text.begin_call();
                        Sink(&mut trial.pieces).call(&self.tools[tool].name);
                        match markup {
                            Some(markup) => State::Xml(XmlCall::new(markup), tool),
                            None => State::Json(JsonCall::new()),
                        }
                    }
                };
                self.trial = Some(trial);
                opening.length
            }
        };
        self.read_again(&held.split_off(length));
    }

    /// Emits a call that is none as text, but for `rest` at its end, which is read again.
    fn give_back(&mut self, trial: Trial, rest: &str, sink: &mut Sink<'_>) {
        self.text = trial.text;
        let text = trial.raw.strip_suffix(rest).unwrap_or(&trial.raw);
        text.chars().for_each(|c| self.text.emit(c, sink));
    }

    fn read_again(&mut self, text: &str) {
        text.chars().rev().for_each(|c| self.input.push_front(c));
    }
}

impl TextState {
    /// Emits one character that is no part of a marker.
    fn emit(&mut self, c: char, sink: &mut Sink<'_>) {
        if self.leading {
            let newline = matches!(c, '\n' | '\r');
            match self.kind {
                Kind::Reasoning if newline => return,
                Kind::AfterReasoning if newline && self.blanks.is_empty() => return,
                Kind::Start | Kind::AfterReasoning | Kind::AfterCall
                    if is_blank(c) && self.blanks.len() < MAX_BLANKS =>
                {
                    return self.blanks.push(c);
                }
                _ => {}
            }
            self.emit_blanks(sink);
            self.leading = false;
        }
        let mut text = [0; 4];
        let text = c.encode_utf8(&mut text);
        if self.kind == Kind::Reasoning { sink.reasoning(text) } else { sink.text(text) }
    }

    fn emit_blanks(&mut self, sink: &mut Sink<'_>) {
        sink.text(&self.blanks);
        self.blanks.clear();
    }

    fn enter(&mut self, kind: Kind) {
        self.kind = kind;
        self.leading = true;
        self.blanks.clear();
    }

    fn begin_call(&mut self) {
        self.think_open |= self.kind == Kind::Reasoning;
        self.enter(Kind::AfterCall);
    }

    fn end_call(&mut self) {
        self.enter(Kind::AfterCall);
    }
}
