//! Tests of the whole dialect.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Fold, Parsed, Writer, parse};
use crate::wire::frame::Frame;
use crate::wire::internal::{Event, Failure, FinishReason, Origin, Piece, Prompt, RawPrompt};
use crate::wire::testing::{self, CREATED};

/// A body with one prompt and these fields.
fn body(fields: Value) -> Vec<u8> {
    let mut body = json!({"prompt": "Once"});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string().into_bytes()
}

fn frames(parsed: &Parsed, events: &[(usize, Event)]) -> Vec<Frame> {
    let mut writer = Writer::new(parsed, "cmpl-1", CREATED, "org/model");
    let mut frames = writer.start();
    frames.extend(events.iter().flat_map(|(index, event)| writer.event(*index, event)));
    if frames.last() == Some(&Frame::Done) {
        let further = writer.event(0, &testing::end(FinishReason::Stop));
        assert!(further.is_empty(), "nothing comes behind the last event");
    }
    frames
}

fn whole(parsed: &Parsed, events: &[(usize, Event)]) -> Result<Value, Failure> {
    let mut parsed = parsed.clone();
    parsed.request.stream = false;
    let mut fold = Fold::new();
    frames(&parsed, events).iter().for_each(|frame| fold.push(frame));
    fold.finish()
}

fn transcript(fields: Value, scripts: &[(&str, Vec<Event>)]) -> String {
    let parsed = parse(&body(fields)).unwrap();
    testing::transcript(scripts, |events| {
        let events: Vec<_> = events.iter().map(|event| (0, event.clone())).collect();
        (frames(&parsed, &events), whole(&parsed, &events))
    })
}

fn texts() -> Vec<(&'static str, Vec<Event>)> {
    let names = ["text", "stop_string", "empty", "error"];
    testing::answers().into_iter().filter(|(name, _)| names.contains(name)).collect()
}

#[test]
fn answers_are_those_of_the_dialect() {
    insta::assert_snapshot!(transcript(json!({"stream": true}), &texts()), @r##"
    # text
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"Hel","logprobs":null,"finish_reason":null}]}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"lo","logprobs":null,"finish_reason":null}]}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"Hello","logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # stop_string
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"Hello ","logprobs":null,"finish_reason":null}]}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"Hello ","logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}

    # error
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"Hel","logprobs":null,"finish_reason":null}]}
    data: {"error":{"message":"the engine stopped; send the request again","type":"server_error","param":null,"code":null}}
    failure: 500: the engine stopped; send the request again

    # empty
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    "##);
}

#[test]
fn usage_comes_in_a_chunk_of_its_own() {
    let fields = json!({"stream": true, "stream_options": {"include_usage": true}});
    insta::assert_snapshot!(transcript(fields, &texts()[..1]), @r##"
    # text
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"Hel","logprobs":null,"finish_reason":null}],"usage":null}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"lo","logprobs":null,"finish_reason":null}],"usage":null}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}],"usage":null,"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}}}
    data: [DONE]
    whole: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"Hello","logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    "##);
}

#[test]
fn tokens_are_told_of_one_by_one() {
    // A character of two tokens.
    let mut half = testing::token("\u{fffd}", Origin::Draft(1));
    half.bytes = vec![0xE2, 0x82];
    let mut rest = testing::token("\u{fffd}", Origin::Bonus);
    rest.bytes = vec![0xAC];
    let piece = Piece {
        text: "5 €!".to_owned(),
        tokens: vec![testing::token("5 ", Origin::Plain), half, rest, testing::token("!", Origin::Recovered)],
    };
    let scripts = [("tokens", vec![Event::Text(piece), testing::end(FinishReason::Length)])];
    insta::assert_snapshot!(transcript(json!({"stream": true, "logprobs": 1}), &scripts), @r##"
    # tokens
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"5 €!","logprobs":{"tokens":["5 ","�","�","!"],"token_logprobs":[-0.5,-0.5,-0.5,-0.5],"top_logprobs":[{"5 ":-0.5},{"�":-0.5},{"�":-0.5},{"!":-0.5}],"text_offset":[0,2,3,3]},"finish_reason":null}]}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"5 €!","logprobs":{"tokens":["5 ","�","�","!"],"token_logprobs":[-0.5,-0.5,-0.5,-0.5],"top_logprobs":[{"5 ":-0.5},{"�":-0.5},{"�":-0.5},{"!":-0.5}],"text_offset":[0,2,3,3]},"finish_reason":"length"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    "##);
    insta::assert_snapshot!(transcript(json!({"stream": true, "mtp": {"origins": true}}), &scripts), @r##"
    # tokens
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"5 €!","logprobs":null,"finish_reason":null}],"mtp":{"tokens":[{"id":85,"text":"5 ","origin":"plain"},{"id":619,"text":"�","origin":"draft","depth":1},{"id":619,"text":"�","origin":"bonus"},{"id":33,"text":"!","origin":"recovered"}]}}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"5 €!","logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}},"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]},"mtp":{"tokens":[{"id":85,"text":"5 ","origin":"plain"},{"id":619,"text":"�","origin":"draft","depth":1},{"id":619,"text":"�","origin":"bonus"},{"id":33,"text":"!","origin":"recovered"}]}}
    "##);
}

#[test]
fn each_prompt_gets_a_text() {
    let parsed = parse(&body(json!({"prompt": ["a", "b"], "stream": true, "logprobs": 0}))).unwrap();
    let text = |index, text| (index, Event::Text(testing::piece(text)));
    let end = |index| (index, testing::end(FinishReason::Stop));
    let events = [text(1, "B"), text(0, "A"), end(1), text(1, "never"), text(0, "a"), end(0)];
    let transcript =
        testing::transcript(&[("two_prompts", Vec::new())], |_| (frames(&parsed, &events), whole(&parsed, &events)));
    insta::assert_snapshot!(transcript, @r##"
    # two_prompts
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":1,"text":"B","logprobs":{"tokens":["B"],"token_logprobs":[-0.5],"top_logprobs":[{"B":-0.5}],"text_offset":[0]},"finish_reason":null}]}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"A","logprobs":{"tokens":["A"],"token_logprobs":[-0.5],"top_logprobs":[{"A":-0.5}],"text_offset":[0]},"finish_reason":null}]}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":1,"text":"","logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"a","logprobs":{"tokens":["a"],"token_logprobs":[-0.5],"top_logprobs":[{"a":-0.5}],"text_offset":[1]},"finish_reason":null}]}
    data: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}],"timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}
    data: [DONE]
    whole: {"id":"cmpl-1","object":"text_completion","created":1796076241,"model":"org/model","choices":[{"index":0,"text":"Aa","logprobs":{"tokens":["A","a"],"token_logprobs":[-0.5,-0.5],"top_logprobs":[{"A":-0.5},{"a":-0.5}],"text_offset":[0,1]},"finish_reason":"stop","timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}},{"index":1,"text":"B","logprobs":{"tokens":["B"],"token_logprobs":[-0.5],"top_logprobs":[{"B":-0.5}],"text_offset":[0]},"finish_reason":"stop","timings":{"prompt_tokens":12,"cached_tokens":8,"completion_tokens":5,"ttft_ms":250.0,"tokens_per_second":8.0,"rounds":2,"drafted":[2,1],"accepted":[1,0]}}],"usage":{"prompt_tokens":24,"completion_tokens":10,"total_tokens":34,"prompt_tokens_details":{"cached_tokens":16},"completion_tokens_details":{"reasoning_tokens":4}}}
    "##);
    // The order between the texts makes no difference.
    let in_turn = [text(0, "A"), text(0, "a"), end(0), text(1, "B"), end(1)];
    assert_eq!(whole(&parsed, &events), whole(&parsed, &in_turn));
    assert_eq!(whole(&parsed, &events[..5]).unwrap_err().status(), 500, "a text has no end");
}

#[test]
fn prompts_are_strings_or_tokens() {
    let read = |prompt: Value| match parse(&body(json!({"prompt": prompt}))) {
        Ok(parsed) => match parsed.request.prompt {
            Prompt::Raw(prompts) => Ok(prompts),
            Prompt::Conversation(_) => panic!("no conversation"),
        },
        Err(failure) => Err(failure.message),
    };
    let text = |text: &str| RawPrompt::Text(text.to_owned());
    let tokens = |tokens: &[u32]| RawPrompt::Tokens(tokens.to_vec());
    for (prompt, expected) in [
        (json!("a"), Ok(vec![text("a")])),
        (json!(["a", "b"]), Ok(vec![text("a"), text("b")])),
        (json!([1, 2]), Ok(vec![tokens(&[1, 2])])),
        (json!([[1], [2, 3]]), Ok(vec![tokens(&[1]), tokens(&[2, 3])])),
        (json!(["a", [2]]), Ok(vec![text("a"), tokens(&[2])])),
        (json!([]), Err("prompt: 0 entries: expected 1 to 64 prompts")),
        (json!(vec!["a"; 65]), Err("prompt: 65 entries: expected 1 to 64 prompts")),
        (json!([[1], []]), Err("prompt[1]: 0 entries: expected at least one token id")),
        (json!([1, -2]), Err("prompt[1]: -2: expected an integer in [0, 4294967295]")),
        (json!([[1, "a"]]), Err("prompt[0][1]: \"a\": expected an integer in [0, 4294967295]")),
        (json!(["a", 1]), Err("prompt[1]: 1: expected a string, or a list of token ids")),
        (json!({}), Err("prompt: an object: expected a string, a list of strings, or lists of token ids")),
        (json!(null), Err("prompt: missing: expected a string, a list of strings, or lists of token ids")),
    ] {
        assert_eq!(read(prompt.clone()), expected.map_err(str::to_owned), "{prompt}");
    }
}

#[test]
fn fields_have_their_meaning() {
    let parsed = parse(&body(json!({"echo": false, "suffix": "", "n": 1, "best_of": 1, "logprobs": 20}))).unwrap();
    assert_eq!((parsed.request.options.max_tokens, parsed.request.options.logprobs), (Some(16), Some(20)));
    assert!(!parsed.request.stream && !parsed.include_usage && parsed.request.model.is_none());
    for (fields, expected) in [
        (json!({"echo": true}), "echo: true: not supported; put the prompt before the text yourself"),
        (json!({"suffix": "x"}), "suffix: \"x\": not supported; write the model's own infill markers in `prompt`"),
        (json!({"best_of": 2}), "best_of: 2: expected 1; send one request for each further text"),
        (json!({"n": 0}), "n: 0: expected 1; send one request for each further text"),
        (json!({"logprobs": 21}), "logprobs: 21: expected an integer in [0, 20]"),
        (json!({"logprobs": true}), "logprobs: true: expected an integer in [0, 20]"),
        (json!({"max_tokens": 0}), "max_tokens: 0: expected an integer of at least 1"),
    ] {
        assert_eq!(parse(&body(fields)).unwrap_err().message, expected);
    }
}

proptest! {
    #[test]
    fn whole_answers_do_not_depend_on_the_cuts(
        events in testing::events(),
        logprobs in proptest::option::of(0..3),
        origins in any::<bool>(),
    ) {
        let parsed = parse(&body(json!({"logprobs": logprobs, "mtp": {"origins": origins}}))).unwrap();
        let of = |events: &[Event]| -> Vec<_> { events.iter().map(|event| (0, event.clone())).collect() };
        let answer = whole(&parsed, &of(&events)).unwrap();
        prop_assert_eq!(&answer, &whole(&parsed, &of(&testing::joined(&events))).unwrap());
        let text: String = testing::pieces(&events).map(|piece| piece.text.as_str()).collect();
        prop_assert_eq!(answer["choices"][0]["text"].as_str().unwrap(), text);
    }

    #[test]
    fn no_body_panics(body in testing::request("prompt"), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        testing::check_parse(parse, body.as_bytes());
        testing::check_parse(parse, &bytes);
    }

    #[test]
    fn no_fields_panic(fields in testing::request("tools")) {
        testing::check_parse(parse, &body(serde_json::from_str(&fields).unwrap()));
    }
}
