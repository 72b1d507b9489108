//! Frames of a streamed answer, and the text of each.

use std::fmt::Write as _;

use serde_json::Value;

use crate::wire::internal::Failure;

/// `content-type` of an answer in server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// `content-type` of an answer with one JSON object a line.
pub const NDJSON: &str = "application/x-ndjson";
/// Headers of a streamed answer, without `content-type`: no proxy may store or buffer its frames.
pub const STREAM_HEADERS: [(&str, &str); 2] = [("cache-control", "no-cache"), ("x-accel-buffering", "no")];

/// One frame of a streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A server-sent event.
    Data {
        /// Its name; clients of the OpenAI dialect expect none.
        event: Option<&'static str>,
        /// Its data.
        data: Value,
    },
    /// A comment of one line, which every reader of server-sent events passes over.
    Comment(&'static str),
    /// `data: [DONE]`.
    Done,
    /// A line of NDJSON.
    Line(Value),
    /// The last frame of an answer that failed.
    Failed {
        /// The error in the dialect's words.
        frame: Box<Frame>,
        /// The error itself, for the status of an answer that is sent whole.
        failure: Failure,
    },
}

impl Frame {
    /// A server-sent event without a name.
    #[must_use]
    pub fn data(data: Value) -> Self {
        Self::Data { event: None, data }
    }

    /// A server-sent event with a name.
    #[must_use]
    pub fn named(event: &'static str, data: Value) -> Self {
        Self::Data { event: Some(event), data }
    }

    /// The last frame of an answer that failed.
    #[must_use]
    pub fn failed(frame: Self, failure: &Failure) -> Self {
        Self::Failed { frame: Box::new(frame), failure: failure.clone() }
    }

    /// JSON of the frame, if it has any.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Data { data, .. } | Self::Line(data) => Some(data),
            Self::Failed { frame, .. } => frame.value(),
            Self::Comment(_) | Self::Done => None,
        }
    }

    /// Bytes of the frame on the wire, its terminator included.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Data { event: None, data } => format!("data: {}\n\n", line(data)),
            Self::Data { event: Some(event), data } => format!("event: {event}\ndata: {}\n\n", line(data)),
            Self::Comment(text) => format!(": {text}\n\n"),
            Self::Done => "data: [DONE]\n\n".to_owned(),
            Self::Line(data) => format!("{}\n", line(data)),
            Self::Failed { frame, .. } => frame.encode(),
        }
    }
}

/// JSON on one line for every notion of a line.
///
/// JSON escapes line feeds and carriage returns. U+0085, U+2028 and U+2029 may stand in a string as they are, but httpx
/// and other readers split lines at them, so they are escaped as well. They occur within strings only.
fn line(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(is_line_break) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_line_break(character) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

fn is_line_break(character: char) -> bool {
    matches!(character, '\u{85}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_end_themselves() {
        for (frame, expected) in [
            (Frame::data(json!({"a": 1})), "data: {\"a\":1}\n\n"),
            (Frame::named("ping", json!({"type": "ping"})), "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
            (Frame::Comment("keep-alive"), ": keep-alive\n\n"),
            (Frame::Done, "data: [DONE]\n\n"),
            (Frame::Line(json!({"done": true})), "{\"done\":true}\n"),
        ] {
            assert_eq!(frame.encode(), expected);
        }
    }

    #[test]
    fn no_text_breaks_a_line() {
        let text = "a\nb\rc\u{85}d\u{2028}e\u{2029}f\u{b}g\u{c}h\u{1c}i";
        let encoded = Frame::Line(json!({ "content": text })).encode();
        assert_eq!(encoded, "{\"content\":\"a\\nb\\rc\\u0085d\\u2028e\\u2029f\\u000bg\\fh\\u001ci\"}\n");
        assert_eq!(serde_json::from_str::<Value>(&encoded).unwrap(), json!({ "content": text }));
    }
}
