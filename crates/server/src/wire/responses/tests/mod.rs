//! Tests of the whole dialect.

mod fold;
mod request;
mod writer;

use serde_json::Value;

use crate::wire::frame::Frame;
use crate::wire::internal::{Event, Failure};
use crate::wire::responses::{Fold, Writer, parse};

/// Tools of the answers' requests.
const TOOLS: &str = r#"[{"type": "function", "name": "read"}, {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "git", "description": "Git", "tools": [{"type": "function", "name": "log"}]}]"#;

fn writer(fields: &str) -> Writer {
    let parsed = parse(format!(r#"{{"input": "a", "tools": {TOOLS}{fields}}}"#).as_bytes()).unwrap();
    Writer::new(&parsed, "resp_1", 1_700_000_000, "m")
}

/// All frames of an answer.
fn frames(mut writer: Writer, events: &[Event]) -> Vec<Frame> {
    let mut frames = writer.start();
    for event in events {
        frames.extend(writer.event(event));
    }
    frames
}

fn fold(frames: &[Frame]) -> Result<Value, Failure> {
    let mut fold = Fold::new();
    frames.iter().for_each(|frame| fold.push(frame));
    fold.finish()
}
