//! Tests of answers: full lists of frames, and the whole answer against its own stream.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::wire::chat::{Fold, Parsed, Writer, parse};
use crate::wire::frame::Frame;
use crate::wire::internal::{Event, Failure, FinishReason, Origin, Piece};
use crate::wire::testing::{self, CREATED};

/// A body with one message and these fields.
fn body(fields: Value) -> Vec<u8> {
    let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string().into_bytes()
}

fn frames(parsed: &Parsed, events: &[Event]) -> Vec<Frame> {
    let mut writer = Writer::new(parsed, "chatcmpl-1", CREATED, "org/model");
    let mut frames = writer.start();
    frames.extend(events.iter().flat_map(|event| writer.event(event)));
    if let Some(Event::End(_) | Event::Failed(_)) = events.last() {
        let further = writer.event(&testing::end(FinishReason::Stop));
        assert!(further.is_empty(), "nothing comes behind the last event");
    }
    frames
}

fn whole(parsed: &Parsed, events: &[Event]) -> Result<Value, Failure> {
    let mut parsed = parsed.clone();
    parsed.request.stream = false;
    let mut fold = Fold::new();
    frames(&parsed, events).iter().for_each(|frame| fold.push(frame));
    fold.finish()
}

fn transcript(fields: Value, scripts: &[(&str, Vec<Event>)]) -> String {
    let parsed = parse(&body(fields)).unwrap();
    testing::transcript(scripts, |events| (frames(&parsed, events), whole(&parsed, events)))
}

#[test]
fn answers_are_those_of_the_dialect() {
    insta::assert_snapshot!(transcript(json!({"stream": true}), &testing::answers()), @r##"
    # text
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"lo"},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # reasoning
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"reasoning_content":"Hm","reasoning":"Hm"},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"reasoning_content":"m.","reasoning":"m."},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null,"reasoning_content":"Hmm.","reasoning":"Hmm."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # two_calls
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"I look."},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_0","type":"function","function":{"name":"read","arguments":""}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\":"}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" \"a\"}"}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_1","type":"function","function":{"name":"read","arguments":""}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\"path\": \"b\"}"}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":"I look.","refusal":null,"tool_calls":[{"id":"call_0","type":"function","function":{"name":"read","arguments":"{\"path\": \"a\"}"}},{"id":"call_1","type":"function","function":{"name":"read","arguments":"{\"path\": \"b\"}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # reasoning_call
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"reasoning_content":"Hm.","reasoning":"Hm."},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_0","type":"function","function":{"name":"read","arguments":""}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"reasoning_content":"Hm.","reasoning":"Hm.","tool_calls":[{"id":"call_0","type":"function","function":{"name":"read","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # limit_in_call
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_0","type":"function","function":{"name":"read","arguments":""}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\": \"a\", \"li"}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"call_0","type":"function","function":{"name":"read","arguments":"{\"path\": \"a\", \"li"}}]},"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # stop_string
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"Hello "},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":"Hello ","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # error
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}
    data: {"error":{"message":"the engine stopped; send the request again","type":"server_error","param":null,"code":null}}
    failure: 500: the engine stopped; send the request again

    # empty
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    "##);
}

#[test]
fn usage_comes_in_a_chunk_of_its_own() {
    let fields = json!({"stream": true, "stream_options": {"include_usage": true}});
    insta::assert_snapshot!(transcript(fields, &testing::answers()[..1]), @r##"
    # text
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}],"usage":null}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"lo"},"logprobs":null,"finish_reason":null}],"usage":null}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    "##);
}

#[test]
fn tokens_are_told_of_one_by_one() {
    let piece = Piece {
        text: "Hello".to_owned(),
        tokens: vec![
            testing::token("Hel", Origin::Plain),
            testing::token("lo", Origin::Draft(1)),
            testing::token("", Origin::Recovered),
        ],
    };
    let silent = Piece { text: String::new(), tokens: vec![testing::token("", Origin::Bonus)] };
    let events = vec![
        Event::Reasoning(silent.clone()),
        Event::Text(piece),
        Event::Text(silent),
        testing::end(FinishReason::Stop),
    ];
    let scripts = [("tokens", events)];
    let logprobs = json!({"stream": true, "logprobs": true, "top_logprobs": 2});
    insta::assert_snapshot!(transcript(logprobs, &scripts), @r##"
    # tokens
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":{"content":[{"token":"","logprob":-0.5,"bytes":[],"top_logprobs":[{"token":"","logprob":-0.5,"bytes":[]},{"token":"?","logprob":-9999.0,"bytes":[63]}]}],"refusal":null},"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":{"content":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108],"top_logprobs":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108]},{"token":"?","logprob":-9999.0,"bytes":[63]}]},{"token":"lo","logprob":-0.5,"bytes":[108,111],"top_logprobs":[{"token":"lo","logprob":-0.5,"bytes":[108,111]},{"token":"?","logprob":-9999.0,"bytes":[63]}]},{"token":"","logprob":-0.5,"bytes":[],"top_logprobs":[{"token":"","logprob":-0.5,"bytes":[]},{"token":"?","logprob":-9999.0,"bytes":[63]}]}],"refusal":null},"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":{"content":[{"token":"","logprob":-0.5,"bytes":[],"top_logprobs":[{"token":"","logprob":-0.5,"bytes":[]},{"token":"?","logprob":-9999.0,"bytes":[63]}]}],"refusal":null},"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},"logprobs":{"content":[{"token":"","logprob":-0.5,"bytes":[],"top_logprobs":[{"token":"","logprob":-0.5,"bytes":[]},{"token":"?","logprob":-9999.0,"bytes":[63]}]},{"token":"Hel","logprob":-0.5,"bytes":[72,101,108],"top_logprobs":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108]},{"token":"?","logprob":-9999.0,"bytes":[63]}]},{"token":"lo","logprob":-0.5,"bytes":[108,111],"top_logprobs":[{"token":"lo","logprob":-0.5,"bytes":[108,111]},{"token":"?","logprob":-9999.0,"bytes":[63]}]},{"token":"","logprob":-0.5,"bytes":[],"top_logprobs":[{"token":"","logprob":-0.5,"bytes":[]},{"token":"?","logprob":-9999.0,"bytes":[63]}]},{"token":"","logprob":-0.5,"bytes":[],"top_logprobs":[{"token":"","logprob":-0.5,"bytes":[]},{"token":"?","logprob":-9999.0,"bytes":[63]}]}],"refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    "##);
    insta::assert_snapshot!(transcript(json!({"stream": true, "mtp": {"origins": true}}), &scripts), @r##"
    # tokens
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}],"mtp":{"tokens":[{"id":0,"text":"","origin":"bonus"}]}}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}],"mtp":{"tokens":[{"id":281,"text":"Hel","origin":"plain"},{"id":219,"text":"lo","origin":"draft","depth":1},{"id":0,"text":"","origin":"recovered"}]}}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}],"mtp":{"tokens":[{"id":0,"text":"","origin":"bonus"}]}}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]},"mtp":{"tokens":[{"id":0,"text":"","origin":"bonus"},{"id":281,"text":"Hel","origin":"plain"},{"id":219,"text":"lo","origin":"draft","depth":1},{"id":0,"text":"","origin":"recovered"},{"id":0,"text":"","origin":"bonus"}]}}
    "##);
}

#[test]
fn custom_tools_take_one_string() {
    let fields = json!({"stream": true, "tools": [{"type": "custom", "custom": {"name": "patch"}}]});
    let call =
        |cut| testing::first_call("patch", &["{\"inp", "ut\": \"a\\n\\\"b\\\"", "\"}"][..if cut { 2 } else { 3 }], cut);
    let scripts = [
        ("custom", [call(false), vec![testing::end(FinishReason::ToolCalls)]].concat()),
        ("limit_in_custom", [call(true), vec![testing::end(FinishReason::Length)]].concat()),
    ];
    insta::assert_snapshot!(transcript(fields, &scripts), @r##"
    # custom
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_0","type":"custom","custom":{"name":"patch","input":""}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"custom":{"input":"a\n\"b\""}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"call_0","type":"custom","custom":{"name":"patch","input":"a\n\"b\""}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # limit_in_custom
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_0","type":"custom","custom":{"name":"patch","input":""}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"custom":{"input":"a\n\"b\""}}]},"logprobs":null,"finish_reason":null}]}
    data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1796076241,"model":"org/model","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"chatcmpl-1","object":"chat.completion","created":1796076241,"model":"org/model","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"call_0","type":"custom","custom":{"name":"patch","input":"a\n\"b\""}}]},"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    "##);
}

#[test]
fn a_call_is_told_in_the_reason_unless_the_limit_ended_the_text() {
    let parsed = parse(&body(json!({}))).unwrap();
    let reason = |is_cut, reason| {
        let mut events = testing::first_call("read", &["{}"], is_cut);
        events.push(testing::end(reason));
        whole(&parsed, &events).unwrap()["choices"][0]["finish_reason"].as_str().unwrap().to_owned()
    };
    for (is_cut, found, expected) in [
        (false, FinishReason::ToolCalls, "tool_calls"),
        (false, FinishReason::Stop, "tool_calls"),
        (false, FinishReason::StopString, "tool_calls"),
        (false, FinishReason::Length, "length"),
        (true, FinishReason::Length, "length"),
        (true, FinishReason::StopString, "stop"),
    ] {
        assert_eq!(reason(is_cut, found), expected, "{is_cut} {found:?}");
    }
}

#[test]
fn an_answer_without_an_end_is_an_error() {
    let parsed = parse(&body(json!({}))).unwrap();
    assert_eq!(whole(&parsed, &[Event::Text(testing::piece("Hi"))]).unwrap_err().status(), 500);
}

proptest! {
    #[test]
    fn whole_answers_do_not_depend_on_the_cuts(
        events in testing::events(),
        logprobs in any::<bool>(),
        origins in any::<bool>(),
        custom in any::<bool>(),
    ) {
        let tools = if custom { json!([{"type": "custom", "custom": {"name": "patch"}}]) } else { Value::Null };
        let fields = json!({"logprobs": logprobs, "mtp": {"origins": origins}, "tools": tools});
        let parsed = parse(&body(fields)).unwrap();
        let answer = whole(&parsed, &events).unwrap();
        prop_assert_eq!(&answer, &whole(&parsed, &testing::joined(&events)).unwrap());
        let message = &answer["choices"][0]["message"];
        let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
        prop_assert_eq!((text("reasoning_content"), text("content")), testing::texts(&events));
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        let found: Vec<String> = calls
            .iter()
            .map(|call| match &call["custom"]["input"] {
                Value::String(input) => json!({ "input": input }).to_string(),
                _ => call["function"]["arguments"].as_str().unwrap().to_owned(),
            })
            .collect();
        prop_assert_eq!(found, testing::calls(&events));
        let tokens: usize = testing::pieces(&events).map(|piece| piece.tokens.len()).sum();
        let entries = answer["choices"][0]["logprobs"]["content"].as_array().map_or(0, Vec::len);
        prop_assert_eq!(entries, if logprobs { tokens } else { 0 }, "one entry a token");
    }

    #[test]
    fn no_body_panics(body in testing::request("messages"), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        testing::check_parse(parse, body.as_bytes());
        testing::check_parse(parse, &bytes);
    }

    #[test]
    fn no_fields_panic(fields in testing::request("tools")) {
        testing::check_parse(parse, &body(serde_json::from_str(&fields).unwrap()));
    }
}
