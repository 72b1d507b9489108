//! Tests of a stream against itself: numbers, tokens, and the whole answer.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{fold, frames, writer};
use crate::wire::frame::Frame;
use crate::wire::internal::{Event, Failure, FinishReason, Origin};
use crate::wire::testing::{self, end, text};

#[test]
fn a_silence_repeats_the_state() {
    let mut writer = writer("");
    let mut frames = writer.start();
    frames.extend(writer.event(&text("a")));
    frames.push(writer.keep_alive());
    frames.extend(writer.event(&end(FinishReason::Stop)));
    let numbers: Vec<_> = frames.iter().map(|frame| frame.value().unwrap()["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..frames.len() as u64).map(Some).collect::<Vec<_>>());
    let repeated = frames[5].value().unwrap();
    assert_eq!(repeated["type"], "response.in_progress");
    assert_eq!(repeated["response"]["output"][0]["content"][0]["text"], "a", "the open item is in the response");
    assert!(writer.event(&text("b")).is_empty(), "nothing comes behind the end");
}

#[test]
fn log_probabilities_and_origins_go_with_their_text() {
    let events = [
        Event::Reasoning(testing::numbered(1, "Hm", Origin::Plain)),
        Event::Reasoning(testing::numbered(2, "", Origin::Draft(1))),
        Event::Text(testing::numbered(3, "a", Origin::Recovered)),
        Event::Text(testing::numbered(4, "", Origin::Bonus)),
        end(FinishReason::Stop),
    ];
    let frames = frames(writer(r#", "mtp": {"origins": true}, "top_logprobs": 1"#), &events);
    let ids = |value: &Value| -> Vec<u64> {
        let tokens = value.pointer("/mtp/tokens").and_then(Value::as_array);
        tokens.into_iter().flatten().filter_map(|token| token["id"].as_u64()).collect()
    };
    let streamed: Vec<(&str, Vec<u64>)> = frames
        .iter()
        .filter_map(Frame::value)
        .filter(|data| data.get("mtp").is_some())
        .map(|data| (data["type"].as_str().unwrap(), ids(data)))
        .collect();
    assert_eq!(
        streamed,
        [
            ("response.reasoning_text.delta", vec![1]),
            ("response.output_text.delta", vec![2, 3]),
            ("response.completed", vec![4]),
        ]
    );
    let whole = fold(&frames).unwrap();
    assert_eq!(ids(&whole), [1, 2, 3, 4]);
    let entry = |token: &str| {
        let top = json!([{"token": token, "logprob": -0.5, "bytes": token.as_bytes()}]);
        json!({"token": token, "logprob": -0.5, "bytes": token.as_bytes(), "top_logprobs": top})
    };
    assert_eq!(whole["output"][1]["content"][0]["logprobs"], json!([entry("a"), entry("")]));
}

#[test]
fn a_failure_has_a_code() {
    use crate::wire::internal::FailureKind::{Busy, ContextExceeded, Internal, Invalid, Unavailable};
    for (kind, code) in [
        (Internal, "server_error"),
        (Unavailable, "server_error"),
        (Busy, "rate_limit_exceeded"),
        (ContextExceeded { prompt: 9, context: 8 }, "context_length_exceeded"),
        (Invalid, "invalid_prompt"),
    ] {
        let failure = Failure::new(kind, "m");
        let frames = frames(writer(""), &[Event::Failed(failure.clone())]);
        let last = frames.last().and_then(Frame::value).unwrap();
        assert_eq!(last["response"]["error"], json!({"code": code, "message": "m"}));
        assert_eq!(fold(&frames), Err(failure));
    }
    let frames = frames(writer(""), &testing::answer("error"));
    let output = &frames.last().and_then(Frame::value).unwrap()["response"]["output"];
    assert_eq!(output[0]["status"], "incomplete", "the open item is in the response");
    assert!(fold(&writer("").start()).is_err(), "a stream without an end is no answer");
}

proptest! {
    /// Numbers have no gap, items never overlap, and the last response holds what the deltas said, in any grouping of
    /// pieces.
    #[test]
    fn pieces_do_not_matter(events in testing::events()) {
        let frames = frames(writer(""), &events);
        let mut open: Option<(Value, String)> = None;
        let mut output = Vec::new();
        for (number, frame) in frames.iter().enumerate() {
            let data = frame.value().unwrap();
            prop_assert_eq!(&data["sequence_number"], number);
            match data["type"].as_str().unwrap() {
                "response.output_item.added" => {
                    prop_assert!(open.replace((data["item"]["id"].clone(), String::new())).is_none());
                    prop_assert_eq!(&data["output_index"], output.len());
                }
                "response.output_item.done" => {
                    let (id, text) = open.take().unwrap();
                    let item = &data["item"];
                    prop_assert_eq!(&id, &item["id"]);
                    let whole = [&item["arguments"], &item["input"], &item["content"][0]["text"]];
                    prop_assert_eq!(whole.into_iter().find_map(Value::as_str), Some(text.as_str()));
                    output.push(item.clone());
                }
                kind => {
                    if let Some(delta) = data["delta"].as_str() {
                        open.as_mut().unwrap().1.push_str(delta);
                    } else if !kind.starts_with("response.c") {
                        prop_assert_eq!(open.is_some(), data.get("item_id").is_some());
                    }
                }
            }
        }
        let whole = fold(&frames).unwrap();
        prop_assert_eq!(&whole["output"], &Value::from(output));
        prop_assert_eq!(&whole, &fold(&super::frames(writer(""), &testing::joined(&events))).unwrap());
    }
}
