//! Tests of answers: full event lists.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{fold, frames, writer};
use crate::wire::frame::Frame;
use crate::wire::internal::{Event, FinishReason};
use crate::wire::testing::{self, arguments, call, end};

/// Events of an answer, one a line. Of a response only status, error and the items' ids are shown.
fn lines(fields: &str, events: &[Event]) -> String {
    let shortened = |frame: &Frame| {
        let (Frame::Data { event: Some(kind), .. }, Some(data)) = (inner(frame), frame.value()) else { panic!() };
        let mut data = data.clone();
        if let Some(response) = data.get_mut("response") {
            let ids: Value = response["output"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
            let mut short = json!({"status": response["status"], "output": ids});
            for key in ["error", "incomplete_details"] {
                if !response[key].is_null() {
                    short[key] = response[key].clone();
                }
            }
            *response = short;
        }
        Frame::named(kind, data)
    };
    let frames: Vec<Frame> = frames(writer(fields), events).iter().map(shortened).collect();
    testing::lines(&frames)
}

/// The frame on the wire.
fn inner(frame: &Frame) -> &Frame {
    match frame {
        Frame::Failed { frame, .. } => frame,
        frame => frame,
    }
}

/// Events of a named answer.
fn answer(name: &str) -> String {
    lines("", &testing::answer(name))
}

#[test]
fn a_response_repeats_the_request() {
    let whole = fold(&frames(writer(""), &testing::answer("text"))).unwrap();
    assert_snapshot!(format!("{whole:#}"), @r##"
    {
      "id": "resp_1",
      "object": "response",
      "created_at": 1700000000,
      "status": "completed",
      "error": null,
      "incomplete_details": null,
      "model": "m",
      "output": [
        {
          "id": "msg_1_0",
          "type": "message",
          "status": "completed",
          "role": "assistant",
          "content": [
            {
              "type": "output_text",
              "text": "Hello",
              "annotations": [],
              "logprobs": []
            }
          ]
        }
      ],
      "instructions": null,
      "max_output_tokens": null,
      "max_tool_calls": null,
      "parallel_tool_calls": true,
      "prompt_cache_key": null,
      "reasoning": {
        "effort": null,
        "summary": null
      },
      "safety_identifier": null,
      "temperature": null,
      "text": {
        "format": {
          "type": "text"
        }
      },
      "tool_choice": "auto",
      "tools": [
        {
          "type": "function",
          "name": "read"
        },
        {
          "type": "custom",
          "name": "patch"
        },
        {
          "type": "namespace",
          "name": "git",
          "description": "Git",
          "tools": [
            {
              "type": "function",
              "name": "log"
            }
          ]
        }
      ],
      "top_logprobs": 0,
      "top_p": null,
      "truncation": "disabled",
      "user": null,
      "metadata": {},
      "background": false,
      "previous_response_id": null,
      "service_tier": "default",
      "store": false,
      "usage": {
        "input_tokens": 12,
        "input_tokens_details": {
          "cached_tokens": 8,
          "cache_write_tokens": 0
        },
        "output_tokens": 5,
        "output_tokens_details": {
          "reasoning_tokens": 2
        },
        "total_tokens": 17
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
fn text_is_one_item() {
    assert_snapshot!(answer("text"), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"in_progress","role":"assistant","content":[]}}
    response.content_part.added {"sequence_number":3,"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    response.output_text.delta {"sequence_number":4,"item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"Hel","logprobs":[]}
    response.output_text.delta {"sequence_number":5,"item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"lo","logprobs":[]}
    response.output_text.done {"sequence_number":6,"item_id":"msg_1_0","output_index":0,"content_index":0,"text":"Hello","logprobs":[]}
    response.content_part.done {"sequence_number":7,"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}}
    response.output_item.done {"sequence_number":8,"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]}}
    response.completed {"sequence_number":9,"response":{"status":"completed","output":["msg_1_0"]}}
    "##);
}

#[test]
fn reasoning_is_an_item_before_the_answer() {
    assert_snapshot!(answer("reasoning"), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"rs_1_0","type":"reasoning","status":"in_progress","summary":[],"content":[]}}
    response.content_part.added {"sequence_number":3,"item_id":"rs_1_0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""}}
    response.reasoning_text.delta {"sequence_number":4,"item_id":"rs_1_0","output_index":0,"content_index":0,"delta":"Hm"}
    response.reasoning_text.delta {"sequence_number":5,"item_id":"rs_1_0","output_index":0,"content_index":0,"delta":"m."}
    response.reasoning_text.done {"sequence_number":6,"item_id":"rs_1_0","output_index":0,"content_index":0,"text":"Hmm."}
    response.content_part.done {"sequence_number":7,"item_id":"rs_1_0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"Hmm."}}
    response.output_item.done {"sequence_number":8,"output_index":0,"item":{"id":"rs_1_0","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"Hmm."}]}}
    response.output_item.added {"sequence_number":9,"output_index":1,"item":{"id":"msg_1_1","type":"message","status":"in_progress","role":"assistant","content":[]}}
    response.content_part.added {"sequence_number":10,"item_id":"msg_1_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    response.output_text.delta {"sequence_number":11,"item_id":"msg_1_1","output_index":1,"content_index":0,"delta":"Hello","logprobs":[]}
    response.output_text.done {"sequence_number":12,"item_id":"msg_1_1","output_index":1,"content_index":0,"text":"Hello","logprobs":[]}
    response.content_part.done {"sequence_number":13,"item_id":"msg_1_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}}
    response.output_item.done {"sequence_number":14,"output_index":1,"item":{"id":"msg_1_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]}}
    response.completed {"sequence_number":15,"response":{"status":"completed","output":["rs_1_0","msg_1_1"]}}
    "##);
}

#[test]
fn calls_are_items_in_turn() {
    assert_snapshot!(answer("two_calls"), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"in_progress","role":"assistant","content":[]}}
    response.content_part.added {"sequence_number":3,"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    response.output_text.delta {"sequence_number":4,"item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"I look.","logprobs":[]}
    response.output_text.done {"sequence_number":5,"item_id":"msg_1_0","output_index":0,"content_index":0,"text":"I look.","logprobs":[]}
    response.content_part.done {"sequence_number":6,"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"I look.","annotations":[],"logprobs":[]}}
    response.output_item.done {"sequence_number":7,"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"I look.","annotations":[],"logprobs":[]}]}}
    response.output_item.added {"sequence_number":8,"output_index":1,"item":{"id":"fc_0","type":"function_call","status":"in_progress","call_id":"call_0","name":"read","arguments":""}}
    response.function_call_arguments.delta {"sequence_number":9,"item_id":"fc_0","output_index":1,"delta":"{\"path\":"}
    response.function_call_arguments.delta {"sequence_number":10,"item_id":"fc_0","output_index":1,"delta":" \"a\"}"}
    response.function_call_arguments.done {"sequence_number":11,"item_id":"fc_0","output_index":1,"arguments":"{\"path\": \"a\"}","name":"read"}
    response.output_item.done {"sequence_number":12,"output_index":1,"item":{"id":"fc_0","type":"function_call","status":"completed","call_id":"call_0","name":"read","arguments":"{\"path\": \"a\"}"}}
    response.output_item.added {"sequence_number":13,"output_index":2,"item":{"id":"fc_1","type":"function_call","status":"in_progress","call_id":"call_1","name":"read","arguments":""}}
    response.function_call_arguments.delta {"sequence_number":14,"item_id":"fc_1","output_index":2,"delta":"{\"path\": \"b\"}"}
    response.function_call_arguments.done {"sequence_number":15,"item_id":"fc_1","output_index":2,"arguments":"{\"path\": \"b\"}","name":"read"}
    response.output_item.done {"sequence_number":16,"output_index":2,"item":{"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"read","arguments":"{\"path\": \"b\"}"}}
    response.completed {"sequence_number":17,"response":{"status":"completed","output":["msg_1_0","fc_0","fc_1"]}}
    "##);
}

#[test]
fn reasoning_leads_to_a_call() {
    assert_snapshot!(answer("reasoning_call"), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"rs_1_0","type":"reasoning","status":"in_progress","summary":[],"content":[]}}
    response.content_part.added {"sequence_number":3,"item_id":"rs_1_0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""}}
    response.reasoning_text.delta {"sequence_number":4,"item_id":"rs_1_0","output_index":0,"content_index":0,"delta":"Hm."}
    response.reasoning_text.done {"sequence_number":5,"item_id":"rs_1_0","output_index":0,"content_index":0,"text":"Hm."}
    response.content_part.done {"sequence_number":6,"item_id":"rs_1_0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"Hm."}}
    response.output_item.done {"sequence_number":7,"output_index":0,"item":{"id":"rs_1_0","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"Hm."}]}}
    response.output_item.added {"sequence_number":8,"output_index":1,"item":{"id":"fc_0","type":"function_call","status":"in_progress","call_id":"call_0","name":"read","arguments":""}}
    response.function_call_arguments.delta {"sequence_number":9,"item_id":"fc_0","output_index":1,"delta":"{}"}
    response.function_call_arguments.done {"sequence_number":10,"item_id":"fc_0","output_index":1,"arguments":"{}","name":"read"}
    response.output_item.done {"sequence_number":11,"output_index":1,"item":{"id":"fc_0","type":"function_call","status":"completed","call_id":"call_0","name":"read","arguments":"{}"}}
    response.completed {"sequence_number":12,"response":{"status":"completed","output":["rs_1_0","fc_0"]}}
    "##);
}

#[test]
fn a_limit_leaves_an_incomplete_call() {
    assert_snapshot!(answer("limit_in_call"), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"fc_0","type":"function_call","status":"in_progress","call_id":"call_0","name":"read","arguments":""}}
    response.function_call_arguments.delta {"sequence_number":3,"item_id":"fc_0","output_index":0,"delta":"{\"path\": \"a\", \"li"}
    response.function_call_arguments.done {"sequence_number":4,"item_id":"fc_0","output_index":0,"arguments":"{\"path\": \"a\", \"li","name":"read"}
    response.output_item.done {"sequence_number":5,"output_index":0,"item":{"id":"fc_0","type":"function_call","status":"incomplete","call_id":"call_0","name":"read","arguments":"{\"path\": \"a\", \"li"}}
    response.incomplete {"sequence_number":6,"response":{"status":"incomplete","output":["fc_0"],"incomplete_details":{"reason":"max_output_tokens"}}}
    "##);
}

#[test]
fn a_stop_string_completes() {
    assert_snapshot!(answer("stop_string"), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"in_progress","role":"assistant","content":[]}}
    response.content_part.added {"sequence_number":3,"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    response.output_text.delta {"sequence_number":4,"item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"Hello ","logprobs":[]}
    response.output_text.done {"sequence_number":5,"item_id":"msg_1_0","output_index":0,"content_index":0,"text":"Hello ","logprobs":[]}
    response.content_part.done {"sequence_number":6,"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Hello ","annotations":[],"logprobs":[]}}
    response.output_item.done {"sequence_number":7,"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello ","annotations":[],"logprobs":[]}]}}
    response.completed {"sequence_number":8,"response":{"status":"completed","output":["msg_1_0"]}}
    "##);
}

#[test]
fn an_error_fails_the_response() {
    assert_snapshot!(answer("error"), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"msg_1_0","type":"message","status":"in_progress","role":"assistant","content":[]}}
    response.content_part.added {"sequence_number":3,"item_id":"msg_1_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    response.output_text.delta {"sequence_number":4,"item_id":"msg_1_0","output_index":0,"content_index":0,"delta":"Hel","logprobs":[]}
    response.failed {"sequence_number":5,"response":{"status":"failed","output":["msg_1_0"],"error":{"code":"server_error","message":"the engine stopped; send the request again"}}}
    "##);
}

#[test]
fn an_empty_answer_has_no_items() {
    assert_snapshot!(answer("empty"), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.completed {"sequence_number":2,"response":{"status":"completed","output":[]}}
    "##);
}

#[test]
fn reasoning_is_a_summary_where_one_is_asked_for() {
    let fields = r#", "reasoning": {"effort": "low", "summary": "auto"}"#;
    assert_snapshot!(lines(fields, &[testing::reasoning("Hm."), end(FinishReason::Stop)]), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"rs_1_0","type":"reasoning","status":"in_progress","summary":[]}}
    response.reasoning_summary_part.added {"sequence_number":3,"item_id":"rs_1_0","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}
    response.reasoning_summary_text.delta {"sequence_number":4,"item_id":"rs_1_0","output_index":0,"summary_index":0,"delta":"Hm."}
    response.reasoning_summary_text.done {"sequence_number":5,"item_id":"rs_1_0","output_index":0,"summary_index":0,"text":"Hm."}
    response.reasoning_summary_part.done {"sequence_number":6,"item_id":"rs_1_0","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":"Hm."}}
    response.output_item.done {"sequence_number":7,"output_index":0,"item":{"id":"rs_1_0","type":"reasoning","status":"completed","summary":[{"type":"summary_text","text":"Hm."}]}}
    response.completed {"sequence_number":8,"response":{"status":"completed","output":["rs_1_0"]}}
    "##);
}

#[test]
fn a_custom_tool_gets_raw_text() {
    let events = [
        call(0, "patch"),
        arguments(r#"{"inp"#),
        arguments(r#"ut": "*** Begin\"#),
        arguments(r#"n\"x\"\u00"#),
        arguments(r#"e9"}"#),
        Event::EndOfCall,
        end(FinishReason::ToolCalls),
    ];
    assert_snapshot!(lines("", &events), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"ctc_0","type":"custom_tool_call","status":"in_progress","call_id":"call_0","name":"patch","input":""}}
    response.custom_tool_call_input.delta {"sequence_number":3,"item_id":"ctc_0","output_index":0,"delta":"*** Begin"}
    response.custom_tool_call_input.delta {"sequence_number":4,"item_id":"ctc_0","output_index":0,"delta":"\n\"x\""}
    response.custom_tool_call_input.delta {"sequence_number":5,"item_id":"ctc_0","output_index":0,"delta":"é"}
    response.custom_tool_call_input.done {"sequence_number":6,"item_id":"ctc_0","output_index":0,"input":"*** Begin\n\"x\"é"}
    response.output_item.done {"sequence_number":7,"output_index":0,"item":{"id":"ctc_0","type":"custom_tool_call","status":"completed","call_id":"call_0","name":"patch","input":"*** Begin\n\"x\"é"}}
    response.completed {"sequence_number":8,"response":{"status":"completed","output":["ctc_0"]}}
    "##);
}

#[test]
fn a_namespace_comes_back() {
    let events = [call(0, "git__log"), arguments("{}"), Event::EndOfCall, end(FinishReason::ToolCalls)];
    assert_snapshot!(lines("", &events), @r##"
    response.created {"sequence_number":0,"response":{"status":"in_progress","output":[]}}
    response.in_progress {"sequence_number":1,"response":{"status":"in_progress","output":[]}}
    response.output_item.added {"sequence_number":2,"output_index":0,"item":{"id":"fc_0","type":"function_call","status":"in_progress","call_id":"call_0","name":"log","arguments":"","namespace":"git"}}
    response.function_call_arguments.delta {"sequence_number":3,"item_id":"fc_0","output_index":0,"delta":"{}"}
    response.function_call_arguments.done {"sequence_number":4,"item_id":"fc_0","output_index":0,"arguments":"{}","name":"log"}
    response.output_item.done {"sequence_number":5,"output_index":0,"item":{"id":"fc_0","type":"function_call","status":"completed","call_id":"call_0","name":"log","arguments":"{}","namespace":"git"}}
    response.completed {"sequence_number":6,"response":{"status":"completed","output":["fc_0"]}}
    "##);
}
