//! Tests of answers: full event lists, and the whole answer against its own stream.

use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::wire::frame::Frame;
use crate::wire::internal::{Event, Failure, FinishReason, Origin};
use crate::wire::messages::{Fold, Writer, parse};
use crate::wire::testing::{self, end};

fn writer(fields: &str) -> Writer {
    let body = format!(r#"{{"messages": [{{"role": "user", "content": "a"}}]{fields}}}"#);
    Writer::new(&parse(body.as_bytes()).unwrap(), "msg_1", "req_1", "claude-x", 10)
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

/// Frames of a named answer behind `message_start`, and the content of the whole.
fn answer(name: &str) -> String {
    let frames = frames(writer(""), &testing::answer(name));
    let whole = match fold(&frames) {
        Ok(whole) => whole["content"].to_string(),
        Err(failure) => failure.to_string(),
    };
    format!("{}whole: {whole}\n", testing::lines(&frames[1..]))
}

#[test]
fn the_first_frame_is_a_message_without_content() {
    assert_snapshot!(testing::lines(&writer("").start()), @r##"message_start {"message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}"##);
}

#[test]
fn a_whole_message_has_counts_and_times() {
    let whole = fold(&frames(writer(""), &testing::answer("text"))).unwrap();
    assert_snapshot!(format!("{whole:#}"), @r##"
    {
      "id": "msg_1",
      "type": "message",
      "role": "assistant",
      "model": "claude-x",
      "content": [
        {
          "type": "text",
          "text": "Hello"
        }
      ],
      "stop_reason": "end_turn",
      "stop_sequence": null,
      "usage": {
        "input_tokens": 4,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 8,
        "output_tokens": 5,
        "output_tokens_details": {
          "thinking_tokens": 2
        }
      },
      "timings": {
        "prompt_tokens": 12,
        "cached_tokens": 8,
        "completion_tokens": 5,
        "ttft_ms": 250.0,
        "tokens_per_second": 8.0,
        "rounds": 2,
        "drafted": [
          2,
          1
        ],
        "accepted": [
          1,
          0
        ]
      }
    }
    "##);
}

#[test]
fn text_is_one_block() {
    assert_snapshot!(answer("text"), @r##"
    content_block_start {"index":0,"content_block":{"type":"text","text":""}}
    content_block_delta {"index":0,"delta":{"type":"text_delta","text":"Hel"}}
    content_block_delta {"index":0,"delta":{"type":"text_delta","text":"lo"}}
    content_block_stop {"index":0}
    message_delta {"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2}}}
    message_stop {}
    whole: [{"type":"text","text":"Hello"}]
    "##);
}

#[test]
fn reasoning_is_a_signed_block() {
    assert_snapshot!(answer("reasoning"), @r##"
    content_block_start {"index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
    content_block_delta {"index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}
    content_block_delta {"index":0,"delta":{"type":"thinking_delta","thinking":"m."}}
    content_block_delta {"index":0,"delta":{"type":"signature_delta","signature":"dW5zaWduZWQ="}}
    content_block_stop {"index":0}
    content_block_start {"index":1,"content_block":{"type":"text","text":""}}
    content_block_delta {"index":1,"delta":{"type":"text_delta","text":"Hello"}}
    content_block_stop {"index":1}
    message_delta {"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2}}}
    message_stop {}
    whole: [{"type":"thinking","thinking":"Hmm.","signature":"dW5zaWduZWQ="},{"type":"text","text":"Hello"}]
    "##);
}

#[test]
fn calls_are_blocks_in_turn() {
    assert_snapshot!(answer("two_calls"), @r##"
    content_block_start {"index":0,"content_block":{"type":"text","text":""}}
    content_block_delta {"index":0,"delta":{"type":"text_delta","text":"I look."}}
    content_block_stop {"index":0}
    content_block_start {"index":1,"content_block":{"type":"tool_use","id":"toolu_0","name":"read","input":{}}}
    content_block_delta {"index":1,"delta":{"type":"input_json_delta","partial_json":"{\"path\":"}}
    content_block_delta {"index":1,"delta":{"type":"input_json_delta","partial_json":" \"a\"}"}}
    content_block_stop {"index":1}
    content_block_start {"index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"read","input":{}}}
    content_block_delta {"index":2,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"b\"}"}}
    content_block_stop {"index":2}
    message_delta {"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2}}}
    message_stop {}
    whole: [{"type":"text","text":"I look."},{"type":"tool_use","id":"toolu_0","name":"read","input":{"path":"a"}},{"type":"tool_use","id":"toolu_1","name":"read","input":{"path":"b"}}]
    "##);
}

#[test]
fn reasoning_leads_to_a_call() {
    assert_snapshot!(answer("reasoning_call"), @r##"
    content_block_start {"index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
    content_block_delta {"index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}
    content_block_delta {"index":0,"delta":{"type":"signature_delta","signature":"dW5zaWduZWQ="}}
    content_block_stop {"index":0}
    content_block_start {"index":1,"content_block":{"type":"tool_use","id":"toolu_0","name":"read","input":{}}}
    content_block_delta {"index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}
    content_block_stop {"index":1}
    message_delta {"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2}}}
    message_stop {}
    whole: [{"type":"thinking","thinking":"Hm.","signature":"dW5zaWduZWQ="},{"type":"tool_use","id":"toolu_0","name":"read","input":{}}]
    "##);
}

#[test]
fn a_limit_leaves_what_is_complete() {
    assert_snapshot!(answer("limit_in_call"), @r##"
    content_block_start {"index":0,"content_block":{"type":"tool_use","id":"toolu_0","name":"read","input":{}}}
    content_block_delta {"index":0,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"a\", \"li"}}
    content_block_stop {"index":0}
    message_delta {"delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2}}}
    message_stop {}
    whole: [{"type":"tool_use","id":"toolu_0","name":"read","input":{"path":"a"}}]
    "##);
}

#[test]
fn a_stop_string_is_told() {
    assert_snapshot!(answer("stop_string"), @r##"
    content_block_start {"index":0,"content_block":{"type":"text","text":""}}
    content_block_delta {"index":0,"delta":{"type":"text_delta","text":"Hello "}}
    content_block_stop {"index":0}
    message_delta {"delta":{"stop_reason":"stop_sequence","stop_sequence":"END"},"usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2}}}
    message_stop {}
    whole: [{"type":"text","text":"Hello "}]
    "##);
}

#[test]
fn an_error_ends_the_stream() {
    assert_snapshot!(answer("error"), @r##"
    content_block_start {"index":0,"content_block":{"type":"text","text":""}}
    content_block_delta {"index":0,"delta":{"type":"text_delta","text":"Hel"}}
    error {"error":{"type":"api_error","message":"the engine stopped; send the request again"},"request_id":"req_1"}
    whole: the engine stopped; send the request again
    "##);
}

#[test]
fn an_empty_answer_has_one_block() {
    assert_snapshot!(answer("empty"), @r##"
    content_block_start {"index":0,"content_block":{"type":"text","text":""}}
    content_block_stop {"index":0}
    message_delta {"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5,"output_tokens_details":{"thinking_tokens":2}}}
    message_stop {}
    whole: [{"type":"text","text":""}]
    "##);
}

#[test]
fn every_token_tells_its_origin() {
    let events = [
        Event::Reasoning(testing::numbered(1, "Hm", Origin::Plain)),
        // A marker has no text, and goes with the next frame.
        Event::Reasoning(testing::numbered(2, "", Origin::Draft(1))),
        Event::Text(testing::numbered(3, "Hello", Origin::Recovered)),
        Event::Text(testing::numbered(4, "", Origin::Bonus)),
        end(FinishReason::Stop),
    ];
    let frames = frames(writer(r#", "mtp": {"origins": true}"#), &events);
    let streamed: Vec<&Value> = frames.iter().filter_map(|frame| frame.value()?.get("mtp")).collect();
    assert_eq!(
        streamed,
        [
            &json!({"tokens": [{"id": 1, "text": "Hm", "origin": "plain"}]}),
            &json!({"tokens": [{"id": 2, "text": "", "origin": "draft", "depth": 1}]}),
            &json!({"tokens": [{"id": 3, "text": "Hello", "origin": "recovered"}]}),
            &json!({"tokens": [{"id": 4, "text": "", "origin": "bonus"}]}),
        ]
    );
    let ids: Vec<Value> =
        fold(&frames).unwrap()["mtp"]["tokens"].as_array().unwrap().iter().map(|token| token["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    assert_eq!(fold(&self::frames(writer(""), &events)).unwrap().get("mtp"), None);
}

#[test]
fn the_budget_of_reasoning_is_told() {
    let Event::End(mut over) = end(FinishReason::Stop) else { unreachable!() };
    over.usage.thinking_budget_reached = true;
    let whole = fold(&frames(writer(""), &[Event::End(over)])).unwrap();
    assert_eq!(whole["usage"]["thinking_budget_reached"], true);
}

#[test]
fn a_silence_is_a_ping() {
    assert_eq!(writer("").keep_alive().encode(), "event: ping\ndata: {\"type\":\"ping\"}\n\n");
}

#[test]
fn a_stream_without_an_end_is_no_answer() {
    assert!(fold(&writer("").start()).is_err());
    assert!(fold(&[]).is_err());
}

proptest! {
    /// Blocks never overlap, and their text is that of the events, in any grouping of pieces.
    #[test]
    fn pieces_do_not_matter(events in testing::events()) {
        let frames = frames(writer(""), &events);
        let mut open = None;
        let mut blocks = 0;
        for frame in &frames {
            let data = frame.value().unwrap();
            match data["type"].as_str().unwrap() {
                "content_block_start" => {
                    prop_assert_eq!(open.replace(blocks), None);
                    prop_assert_eq!(&data["index"], blocks);
                    blocks += 1;
                }
                "content_block_delta" => prop_assert_eq!(data["index"].as_i64(), open.map(i64::from)),
                "content_block_stop" => prop_assert_eq!(data["index"].as_i64(), open.take().map(i64::from)),
                _ => prop_assert_eq!(open, None),
            }
        }
        let whole = fold(&frames).unwrap();
        let mut joined = fold(&self::frames(writer(""), &testing::joined(&events))).unwrap();
        prop_assert_eq!(&whole, &joined);
        let content = joined["content"].take();
        let text = |kind: &str, key: &str| -> String {
            let blocks = content.as_array().into_iter().flatten().filter(|block| block["type"] == kind);
            blocks.map(|block| block[key].as_str().unwrap_or_default().to_owned()).collect()
        };
        prop_assert_eq!((text("thinking", "thinking"), text("text", "text")), testing::texts(&events));
    }
}
