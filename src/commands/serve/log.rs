//! The server's log on standard error: a line an event, for people or as JSON.

use std::io::{self, Write as _};
use std::time::Duration;

use mtplx_server::{Answered, LogEvent};
use serde_json::{Map, Value, json};

use crate::args::LogFormat;
use crate::error::stderr;
use crate::machine;

/// Writes an event. A log that cannot be written keeps nobody from being answered.
pub fn write(format: LogFormat, event: &LogEvent) {
    let time = machine::timestamp();
    let line = match format {
        LogFormat::Text => text(&time, event),
        LogFormat::Json => object(&time, event).to_string(),
    };
    let _ = writeln!(stderr(), "{line}");
}

fn text(time: &str, event: &LogEvent) -> String {
    match event {
        LogEvent::Answered(answered) => {
            let Answered { id, method, path, status, finish, .. } = answered;
            let mut line = format!("{time} {method} {} {status}", path.escape_debug());
            if let Some(finish) = finish {
                line.push_str(&format!(
                    " {finish}, {} ({} kept) + {} tokens",
                    answered.prompt_tokens, answered.cached_tokens, answered.completion_tokens
                ));
            }
            if let Some(ttft) = answered.ttft_ms {
                line.push_str(&format!(", first after {:.2} s", ttft / 1000.0));
            }
            if let Some(rate) = answered.tokens_per_second {
                line.push_str(&format!(", {rate:.1} tok/s"));
            }
            line.push_str(&format!(", {:.2} s  {id}", answered.total.as_secs_f64()));
            line
        }
        LogEvent::LongPrompt { id, tokens, rate, estimate } => format!(
            "{time} reading a prompt of {tokens} tokens: about {} s at {rate:.0} tok/s  {id}",
            estimate.as_secs()
        ),
        LogEvent::Warning { id, text } => format!("{time} warning: {text}  {id}"),
        LogEvent::PrefixMiss { id, cached, position, kept, sent } => format!(
            "{time} {cached} tokens were kept; the prompt leaves another one at token {position}: {sent} in place of {kept}  {id}"
        ),
        LogEvent::Unloaded => format!("{time} unloaded the model, since nobody used it"),
    }
}

fn object(time: &str, event: &LogEvent) -> Value {
    let mut fields = Map::new();
    fields.insert("time".to_owned(), time.into());
    let own = match event {
        LogEvent::Answered(answered) => json!({
            "event": "answered",
            "id": answered.id,
            "method": answered.method,
            "path": answered.path,
            "status": answered.status,
            "finish": answered.finish,
            "prompt_tokens": answered.prompt_tokens,
            "cached_tokens": answered.cached_tokens,
            "completion_tokens": answered.completion_tokens,
            "ttft_ms": answered.ttft_ms,
            "tokens_per_second": answered.tokens_per_second,
            "total_ms": milliseconds(answered.total),
        }),
        LogEvent::LongPrompt { id, tokens, rate, estimate } => json!({
            "event": "long_prompt",
            "id": id,
            "prompt_tokens": tokens,
            "prompt_tokens_per_second": rate,
            "estimate_ms": milliseconds(*estimate),
        }),
        LogEvent::Warning { id, text } => json!({"event": "warning", "id": id, "text": text}),
        LogEvent::PrefixMiss { id, cached, position, kept, sent } => json!({
            "event": "prefix_miss",
            "id": id,
            "cached_tokens": cached,
            "position": position,
            "kept": kept,
            "sent": sent,
        }),
        LogEvent::Unloaded => json!({"event": "unloaded"}),
    };
    if let Value::Object(own) = own {
        fields.extend(own);
    }
    Value::Object(fields)
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Writes the lines of `--print-config`.
///
/// # Errors
/// Standard output is gone.
pub fn print(out: &mut impl io::Write, settings: &[super::config::Shown]) -> io::Result<()> {
    for super::config::Shown { key, values, source } in settings {
        let value = match values.as_slice() {
            [] => "-".to_owned(),
            [value] => format!("{value:?}"),
            values => format!("{values:?}"),
        };
        writeln!(out, "{key:<20} {value:<28} {source}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_an_event_whatever_it_holds() {
        let answered = Answered {
            id: "req_1".to_owned(),
            method: "POST".to_owned(),
            path: "/v1/\n\u{1b}[31mx".to_owned(),
            status: 200,
            finish: Some("stop"),
            prompt_tokens: 120,
            cached_tokens: 64,
            completion_tokens: 45,
            ttft_ms: Some(312.0),
            tokens_per_second: Some(41.23),
            total: Duration::from_millis(1400),
        };
        let long = LogEvent::LongPrompt {
            id: "req_2".to_owned(),
            tokens: 60_000,
            rate: 1000.0,
            estimate: Duration::from_secs(60),
        };
        let events = [LogEvent::Answered(answered), long, LogEvent::Unloaded];
        let lines: Vec<String> = events.iter().map(|event| text("T", event)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        T POST /v1/\n\u{1b}[31mx 200 stop, 120 (64 kept) + 45 tokens, first after 0.31 s, 41.2 tok/s, 1.40 s  req_1
        T reading a prompt of 60000 tokens: about 60 s at 1000 tok/s  req_2
        T unloaded the model, since nobody used it
        ");
        for event in &events {
            let line = object("T", event).to_string();
            assert!(!line.contains(['\n', '\u{1b}']), "{line}");
        }
        assert_eq!(object("T", &events[0])["total_ms"], 1400.0);
    }
}
