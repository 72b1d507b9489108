//! Tests of the whole dialect.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Fold, Parsed, Writer, parse};
use crate::wire::frame::Frame;
use crate::wire::internal::{Event, Failure, FinishReason, Origin, Piece};
use crate::wire::testing::{self, CREATED};

/// A body with one message and these fields.
fn body(fields: Value) -> Vec<u8> {
    let mut body = json!({"model": "org/model", "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string().into_bytes()
}

fn frames(parsed: &Parsed, events: &[Event]) -> Vec<Frame> {
    let mut writer = Writer::new(parsed, CREATED, "org/model");
    let mut frames = writer.start();
    frames.extend(events.iter().flat_map(|event| writer.event(event)));
    if let Some(Event::End(_) | Event::Failed(_)) = events.last() {
        let further = writer.event(&testing::end(FinishReason::Stop));
        assert!(further.is_empty(), "nothing comes behind the last event");
    }
    frames
}

fn whole(parsed: &Parsed, events: &[Event]) -> Result<Value, Failure> {
    let mut fold = Fold::new();
    frames(parsed, events).iter().for_each(|frame| fold.push(frame));
    fold.finish()
}

fn transcript(fields: Value, scripts: &[(&str, Vec<Event>)]) -> String {
    let parsed = parse(&body(fields)).unwrap();
    testing::transcript(scripts, |events| (frames(&parsed, events), whole(&parsed, events)))
}

#[test]
fn answers_are_those_of_the_dialect() {
    insta::assert_snapshot!(transcript(json!({}), &testing::answers()), @r##"
    # text
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"Hel"},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"lo"},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    whole: {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"Hello"},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # reasoning
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"","thinking":"m."},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"Hello"},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    whole: {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"Hello","thinking":"Hmm."},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # two_calls
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"I look."},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_0","function":{"index":0,"name":"read","arguments":{"path":"a"}}}]},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_1","function":{"index":1,"name":"read","arguments":{"path":"b"}}}]},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    whole: {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"I look.","tool_calls":[{"id":"call_0","function":{"index":0,"name":"read","arguments":{"path":"a"}}},{"id":"call_1","function":{"index":1,"name":"read","arguments":{"path":"b"}}}]},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # reasoning_call
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"","thinking":"Hm."},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_0","function":{"index":0,"name":"read","arguments":{}}}]},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    whole: {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"","thinking":"Hm.","tool_calls":[{"id":"call_0","function":{"index":0,"name":"read","arguments":{}}}]},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # limit_in_call
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"length","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    whole: {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"length","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # stop_string
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"Hello "},"done":false}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    whole: {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"Hello "},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # error
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"Hel"},"done":false}
    {"error":"the engine stopped; send the request again"}
    failure: 500: the engine stopped; send the request again

    # empty
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    whole: {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    "##);
}

#[test]
fn tokens_are_told_of_one_by_one() {
    let piece = Piece {
        text: "Hello".to_owned(),
        tokens: vec![testing::token("Hel", Origin::Plain), testing::token("lo", Origin::Draft(1))],
    };
    let scripts = [("tokens", vec![Event::Text(piece), testing::end(FinishReason::Stop)])];
    let fields = json!({"logprobs": true, "top_logprobs": 2, "mtp": {"origins": true}});
    insta::assert_snapshot!(transcript(fields, &scripts), @r##"
    # tokens
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"Hello"},"done":false,"logprobs":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108],"top_logprobs":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108]},{"token":"?","logprob":-9999.0,"bytes":[63]}]},{"token":"lo","logprob":-0.5,"bytes":[108,111],"top_logprobs":[{"token":"lo","logprob":-0.5,"bytes":[108,111]},{"token":"?","logprob":-9999.0,"bytes":[63]}]}],"mtp":{"tokens":[{"id":281,"text":"Hel","origin":"plain"},{"id":219,"text":"lo","origin":"draft","depth":1}]}}
    {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    whole: {"model":"org/model","created_at":"2026-11-30T22:04:01Z","message":{"role":"assistant","content":"Hello"},"done":true,"done_reason":"stop","total_duration":750000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":250000000,"eval_count":5,"eval_duration":500000000,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]},"logprobs":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108],"top_logprobs":[{"token":"Hel","logprob":-0.5,"bytes":[72,101,108]},{"token":"?","logprob":-9999.0,"bytes":[63]}]},{"token":"lo","logprob":-0.5,"bytes":[108,111],"top_logprobs":[{"token":"lo","logprob":-0.5,"bytes":[108,111]},{"token":"?","logprob":-9999.0,"bytes":[63]}]}],"mtp":{"tokens":[{"id":281,"text":"Hel","origin":"plain"},{"id":219,"text":"lo","origin":"draft","depth":1}]}}
    "##);
}

#[test]
fn a_silent_line_adds_nothing() {
    let parsed = parse(&body(json!({}))).unwrap();
    let writer = Writer::new(&parsed, CREATED, "org/model");
    assert_eq!(
        writer.keep_alive().encode(),
        "{\"model\":\"org/model\",\"created_at\":\"2026-11-30T22:04:01Z\",\
         \"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n"
    );
}

#[test]
fn arguments_are_always_a_mapping() {
    let parsed = parse(&body(json!({}))).unwrap();
    for (written, expected) in
        [("{\"b\":1,\"a\":2}", "{\"b\":1,\"a\":2}"), ("[1]", "{}"), ("{\"a\":", "{}"), ("", "{}")]
    {
        let mut events = testing::first_call("read", &[written], false);
        events.push(testing::end(FinishReason::ToolCalls));
        let answer = whole(&parsed, &events).unwrap();
        assert_eq!(answer["message"]["tool_calls"][0]["function"]["arguments"].to_string(), expected);
    }
}

#[test]
fn fields_have_their_meaning() {
    let fields = json!({
        "think": "high",
        "format": "",
        "keep_alive": "5m",
        "options": {
            "temperature": 0, "repeat_penalty": 1.1, "num_predict": 7, "num_ctx": 4096, "stop": ["x"], "seed": -1,
        },
        "messages": [
            {"role": "assistant", "content": "", "thinking": "Hm",
             "tool_calls": [{"function": {"name": "read", "arguments": {"b": 1, "a": 2}}}]},
            {"role": "tool", "tool_name": "read", "content": "text", "images": []},
        ],
    });
    let parsed = parse(&body(fields)).unwrap();
    let options = &parsed.request.options;
    assert!(parsed.request.stream);
    assert_eq!((options.temperature, options.repetition_penalty, options.max_tokens), (Some(0.0), Some(1.1), Some(7)));
    assert_eq!((&options.stop[..], options.seed), (&["x".to_owned()][..], Some(u64::MAX)));
    let conversation = testing::conversation_of(&parsed.request);
    assert_eq!(conversation.thinking, Some(true));
    assert_eq!(conversation.template_kwargs["reasoning_effort"], "high");
    assert_eq!(conversation.messages[0].reasoning.as_deref(), Some("Hm"));
    assert_eq!(conversation.messages[0].calls[0].arguments, "{\"b\":1,\"a\":2}");
    assert_eq!(conversation.messages[1].name.as_deref(), Some("read"));
    for bound in [-1, -2, 0] {
        let parsed = parse(&body(json!({"options": {"num_predict": bound}}))).unwrap();
        assert_eq!(parsed.request.options.max_tokens, None);
    }
    for (think, thinking) in [(json!("of tomorrow"), true), (json!("none"), false), (json!(false), false)] {
        let parsed = parse(&body(json!({ "think": think }))).unwrap();
        assert_eq!(testing::conversation_of(&parsed.request).thinking, Some(thinking), "{think}");
    }
    assert!(!parse(&body(json!({"stream": false}))).unwrap().request.stream);
    for (fields, expected) in [
        (
            json!({"format": "json"}),
            "format: \"json\": formats of the answer are not supported yet; leave the field out and ask for the form in \
             the prompt",
        ),
        (
            json!({"format": {"type": "object"}}),
            "format: an object: formats of the answer are not supported yet; leave the field out and ask for the form in \
             the prompt",
        ),
        (
            json!({"options": {"num_predict": -3}}),
            "options.num_predict: -3: expected an integer in [-2, 9223372036854775807]",
        ),
        (json!({"options": {"top_p": 0}}), "options.top_p: 0: expected a number in (0, 1]"),
        (
            json!({"messages": [{"role": "user", "content": "", "images": ["aGk="]}]}),
            "messages[0].images: models are text-only; send text in place of images",
        ),
        (json!({"think": 5}), "think: 5: expected true, false, or an effort such as \"high\""),
    ] {
        assert_eq!(parse(&body(fields)).unwrap_err().message, expected);
    }
}

proptest! {
    #[test]
    fn whole_answers_do_not_depend_on_the_cuts(
        events in testing::events(),
        logprobs in any::<bool>(),
        origins in any::<bool>(),
    ) {
        let parsed = parse(&body(json!({"logprobs": logprobs, "mtp": {"origins": origins}}))).unwrap();
        let answer = whole(&parsed, &events).unwrap();
        prop_assert_eq!(&answer, &whole(&parsed, &testing::joined(&events)).unwrap());
        let text = |key: &str| answer["message"][key].as_str().unwrap_or_default().to_owned();
        prop_assert_eq!((text("thinking"), text("content")), testing::texts(&events));
        let calls = events.iter().filter(|event| **event == Event::EndOfCall).count();
        prop_assert_eq!(answer["message"]["tool_calls"].as_array().map_or(0, Vec::len), calls);
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
