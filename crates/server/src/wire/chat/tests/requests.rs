//! Tests of requests.

use serde_json::{Value, json};

use crate::wire::chat::{Parsed, parse};
use crate::wire::internal::{Acceptance, Call, Conversation, Failure, Message, MtpOptions, Options, Prompt, Role};

/// The request in a body with one message and these fields.
fn read(fields: Value) -> Result<Parsed, Failure> {
    let mut body = json!({"messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    parse(body.to_string().as_bytes())
}

fn options(fields: Value) -> Options {
    read(fields).unwrap().request.options
}

fn conversation(fields: Value) -> Conversation {
    match read(fields).unwrap().request.prompt {
        Prompt::Conversation(conversation) => conversation,
        Prompt::Raw(_) => panic!("a chat has messages"),
    }
}

#[test]
fn fields_that_are_out_of_range_are_named() {
    for (fields, param, message) in [
        (json!({"temperature": 200}), "temperature", "200: expected 0, or a number in [0.000001, 100]"),
        (json!({"temperature": 1e-9}), "temperature", "1e-9: expected 0, or a number in [0.000001, 100]"),
        (json!({"temperature": "hot"}), "temperature", "\"hot\": expected 0, or a number in [0.000001, 100]"),
        (json!({"top_p": 0}), "top_p", "0: expected a number in (0, 1]"),
        (json!({"min_p": 1.5}), "min_p", "1.5: expected a number in [0, 1]"),
        (json!({"top_k": -2}), "top_k", "-2: expected an integer in [-1, 4294967295]"),
        (json!({"repetition_penalty": 0}), "repetition_penalty", "0: expected a number in [0.01, 100] (1 is off)"),
        (json!({"presence_penalty": 3}), "presence_penalty", "3: expected a number in [-2, 2]"),
        (json!({"frequency_penalty": -3}), "frequency_penalty", "-3: expected a number in [-2, 2]"),
        (json!({"logit_bias": {"7": 101}}), "logit_bias.7", "101: expected a number in [-100, 100]"),
        (json!({"logit_bias": {"x": 1}}), "logit_bias", "\"x\": expected keys that are token ids in [0, 4294967295]"),
        (json!({"seed": 1e30}), "seed", "1e+30: expected an integer in [-9223372036854775808, 18446744073709551615]"),
        (json!({"stop": ["a", ""]}), "stop[1]", "\"\": expected a string that is not empty"),
        (json!({"stop": 3}), "stop", "3: expected a string, or a list of strings"),
        (json!({"stop": vec!["a"; 65]}), "stop", "65 entries: expected at most 64"),
        (json!({"max_tokens": 0}), "max_tokens", "0: expected an integer of at least 1"),
        (json!({"max_completion_tokens": -1}), "max_completion_tokens", "-1: expected an integer of at least 1"),
        (json!({"max_thinking_tokens": 0.5}), "max_thinking_tokens", "0.5: expected an integer of at least 0"),
        (json!({"n": 2}), "n", "2: expected 1; send one request for each further text"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "21: expected an integer in [0, 20]"),
        (json!({"top_logprobs": 2}), "top_logprobs", "2: expected `logprobs` to be true as well"),
        (json!({"mtp": {"depth": 9}}), "mtp.depth", "9: expected an integer in [0, 8]"),
        (json!({"mtp": {"acceptance": "x"}}), "mtp.acceptance", "\"x\": expected \"rejection\" or \"coupled\""),
        (json!({"stream": "yes"}), "stream", "\"yes\": expected true or false"),
        (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage", "1: expected true or false"),
        (json!({"model": 1}), "model", "1: expected a string"),
        (json!({"chat_template_kwargs": []}), "chat_template_kwargs", "a list: expected an object"),
    ] {
        let failure = read(fields).unwrap_err();
        assert_eq!((failure.param.as_deref(), failure.message), (Some(param), format!("{param}: {message}")));
    }
}

#[test]
fn the_second_stage_is_named() {
    for (fields, param, message) in [
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format",
            "an object: formats of the answer are not supported yet; leave the field out and ask for the form in the prompt",
        ),
        (json!({"guided_json": {"type": "object"}}), "guided_json", CONSTRAINED),
        (json!({"structured_outputs": {"regex": "a"}}), "structured_outputs", CONSTRAINED),
        (
            json!({"grammar": "root ::= x"}),
            "grammar",
            "\"root ::= x\": constrained output is not supported yet; leave the field out and ask for the form in the prompt",
        ),
        (
            json!({"tool_choice": "required"}),
            "tool_choice",
            "\"required\": forced tool calls are not supported yet; send \"auto\" and ask for the call in the prompt",
        ),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
            "tool_choice",
            "an object: forced tool calls are not supported yet; send \"auto\" and ask for the call in the prompt",
        ),
    ] {
        let failure = read(fields).unwrap_err();
        assert_eq!((failure.param.as_deref(), failure.message), (Some(param), format!("{param}: {message}")));
    }
    assert!(read(json!({"response_format": {"type": "text"}, "grammar": "", "tool_choice": "auto"})).is_ok());
}

const CONSTRAINED: &str =
    "an object: constrained output is not supported yet; leave the field out and ask for the form in the prompt";

#[test]
fn messages_that_cannot_be_read_are_named() {
    for (messages, param, message) in [
        (json!([]), "messages", "a list: expected at least one message"),
        (json!(null), "messages", "missing: expected a list of messages"),
        (json!(["x"]), "messages[0]", "\"x\": expected an object"),
        (
            json!([{"content": "x"}]),
            "messages[0].role",
            "missing: expected \"system\", \"developer\", \"user\", \"assistant\", \"tool\" or \"function\"",
        ),
        (
            json!([{"role": "x"}]),
            "messages[0].role",
            "\"x\": expected \"system\", \"developer\", \"user\", \"assistant\", \"tool\" or \"function\"",
        ),
        (json!([{"role": "user", "content": 1}]), "messages[0].content", "1: expected a string, or a list of parts"),
        (
            json!([{"role": "user"}, {"role": "user", "content": [{"text": "a"}, {"type": "image_url"}]}]),
            "messages[1].content[1]",
            "models are text-only; send text in place of this part of type \"image_url\"",
        ),
        (
            json!([{"role": "user", "content": [{"type": "text"}]}]),
            "messages[0].content[0].text",
            "missing: expected a string",
        ),
        (
            json!([{"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]}]),
            "messages[0].tool_calls[0].function",
            "missing: expected an object with name and arguments",
        ),
        (
            json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 1}}]}]),
            "messages[0].tool_calls[0].function.arguments",
            "1: expected a string, or an object",
        ),
    ] {
        let failure = read(json!({ "messages": messages })).unwrap_err();
        assert_eq!((failure.param.as_deref(), failure.message), (Some(param), format!("{param}: {message}")));
    }
}

#[test]
fn messages_come_in_the_order_sent() {
    let plain = |role, content: &str| Message {
        role,
        content: content.to_owned(),
        reasoning: None,
        calls: Vec::new(),
        call_id: None,
        name: None,
    };
    let call = |id: &str, name: &str, arguments: &str| Call {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    let messages = json!([
        {"role": "developer", "content": [{"type": "text", "text": "a", "cache_control": {}}, "b"]},
        {"role": "user", "content": null, "name": "Ann"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}], "reasoning": "Hm", "audio": null},
        {"role": "system"},
        {"role": "assistant", "reasoning_content": "Look", "reasoning": "Look", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{not json"}},
            {"id": "2", "type": "function", "function": {"name": "g", "arguments": {"b": 1, "a": [2]}}},
            {"id": "3", "type": "custom", "custom": {"name": "h", "input": "*** \"x\""}},
        ]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "done"}]},
        {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
        {"role": "function", "name": "old", "content": "done"},
    ]);
    let expected = [
        plain(Role::System, "a\nb"),
        plain(Role::User, ""),
        Message { reasoning: Some("Hm".to_owned()), ..plain(Role::Assistant, "No") },
        plain(Role::System, ""),
        Message {
            reasoning: Some("Look".to_owned()),
            calls: vec![
                call("1", "f", "{not json"),
                call("2", "g", "{\"b\":1,\"a\":[2]}"),
                call("3", "h", "{\"input\":\"*** \\\"x\\\"\"}"),
            ],
            ..plain(Role::Assistant, "")
        },
        Message { call_id: Some("1".to_owned()), name: Some("f".to_owned()), ..plain(Role::Tool, "done") },
        Message { calls: vec![call("", "old", "{}")], ..plain(Role::Assistant, "") },
        Message { name: Some("old".to_owned()), ..plain(Role::Tool, "done") },
    ];
    assert_eq!(conversation(json!({ "messages": messages })).messages, expected);
}

#[test]
fn tools_that_cannot_be_called_are_passed_over() {
    let tools = json!([
        {"type": "function", "function": {"name": "f", "description": "F", "strict": true, "parameters":
            {"properties": {"a": {"type": "string"}}}}},
        {"type": "web_search"},
        {"type": "function", "name": "flat"},
        {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g", "parameters": null}]},
        {"type": "custom", "custom": {"name": "patch", "format": {"type": "grammar", "grammar": {}}}},
    ]);
    let conversation = conversation(json!({"tools": tools, "parallel_tool_calls": false}));
    let found: Vec<_> = conversation.tools.iter().map(|tool| (tool.name.as_str(), tool.custom)).collect();
    assert_eq!(found, [("f", false), ("flat", false), ("ns__g", false), ("patch", true)]);
    assert!(conversation.single_call);
    let schemas: Vec<_> = conversation.tools.iter().map(|tool| tool.parameters.to_string()).collect();
    assert_eq!(
        schemas,
        [
            r#"{"properties":{"a":{"type":"string"}},"type":"object"}"#,
            r#"{"type":"object","properties":{}}"#,
            r#"{"type":"object","properties":{}}"#,
            r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#,
        ]
    );
    for (fields, param) in [
        (json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name"),
        (json!({"tools": [{"type": "function", "function": {"name": ""}}]}), "tools[0].function.name"),
        (json!({"tools": [{"type": "function", "name": "f", "parameters": true}]}), "tools[0].parameters"),
    ] {
        assert_eq!(read(fields).unwrap_err().param.as_deref(), Some(param));
    }
}

#[test]
fn parts_of_unknown_types_give_their_text() {
    for (content, expected) in [
        (json!([{"type": "of_tomorrow", "text": "a"}, {"type": "of_tomorrow", "data": 1}, {"text": "b"}]), "a\nb"),
        (json!([{"type": "search_result", "content": [{"type": "text", "text": "found"}]}]), "found"),
        (json!([null, "a", {"type": "input_text", "text": ""}]), "a"),
        (json!({"type": "text", "text": "a"}), "a"),
        (json!([{"type": "of_tomorrow"}]), ""),
    ] {
        let messages = json!([{"role": "user", "content": content}]);
        assert_eq!(conversation(json!({ "messages": messages })).messages[0].content, expected, "{content}");
    }
    for kind in ["image_url", "input_audio", "file", "document", "video_url"] {
        let messages = json!([{"role": "user", "content": ["a", {"type": kind, "text": "b"}]}]);
        let failure = read(json!({ "messages": messages })).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("messages[0].content[1]"), "{kind}");
    }
}

#[test]
fn no_choice_of_tools_drops_them() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    assert!(conversation(json!({"tools": tools, "tool_choice": "none"})).tools.is_empty());
    assert_eq!(conversation(json!({"functions": [{"name": "f"}], "function_call": "auto"})).tools[0].name, "f");
    assert!(conversation(json!({"functions": [{"name": "f"}], "function_call": "none"})).tools.is_empty());
    let tools = json!([
        {"type": "function", "function": {"name": "f"}},
        {"type": "function", "function": {"name": "g"}},
        {"type": "function", "function": {"name": "g", "description": "again"}},
    ]);
    let allowed = json!({"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]});
    let choice = json!({"type": "allowed_tools", "allowed_tools": allowed});
    let conversation = conversation(json!({"tools": tools, "tool_choice": choice}));
    let [tool] = &conversation.tools[..] else { panic!("{:?}", conversation.tools) };
    assert_eq!((tool.name.as_str(), tool.description.as_deref()), ("g", None));
}

#[test]
fn reasoning_is_switched_by_effort_and_by_the_templates_own_variable() {
    for (fields, thinking, kwargs) in [
        (json!({}), None, json!({})),
        (json!({"reasoning_effort": "none"}), Some(false), json!({})),
        (json!({"reasoning": {"effort": "of tomorrow"}}), Some(true), json!({"reasoning_effort": "of tomorrow"})),
        (
            json!({"reasoning_effort": "high", "thinking": {"type": "disabled"}}),
            Some(false),
            json!({"reasoning_effort": "high"}),
        ),
        (json!({"reasoning_effort": "minimal"}), Some(true), json!({"reasoning_effort": "minimal"})),
        (
            json!({"chat_template_kwargs": {"enable_thinking": false, "other": null}, "reasoning_effort": "low"}),
            Some(false),
            json!({"enable_thinking": false, "reasoning_effort": "low"}),
        ),
    ] {
        let conversation = conversation(fields);
        assert_eq!(conversation.thinking, thinking);
        assert_eq!(Value::Object(conversation.template_kwargs), kwargs);
    }
}

#[test]
fn null_is_absent_and_unknown_fields_are_ignored() {
    let fields = json!({
        "model": null, "temperature": null, "top_p": null, "top_k": null, "min_p": null, "repetition_penalty": null,
        "presence_penalty": null, "frequency_penalty": null, "logit_bias": null, "seed": null, "stop": null, "n": null,
        "logprobs": null, "top_logprobs": null, "max_tokens": null, "max_completion_tokens": null, "stream": null,
        "stream_options": null, "tools": null, "tool_choice": null, "parallel_tool_calls": null, "mtp": null,
        "response_format": null, "reasoning_effort": null, "chat_template_kwargs": null, "ignore_eos": null,
        "max_thinking_tokens": null, "guided_json": null, "user": "u", "metadata": {"a": [1]}, "store": true,
    });
    assert_eq!(read(fields).unwrap(), read(json!({})).unwrap());
}

#[test]
fn settings_are_taken_as_sent() {
    let options = options(json!({
        "temperature": 0, "top_p": 0.5, "top_k": 20.0, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": -2,
        "frequency_penalty": 2, "logit_bias": {"7": -100, "8": null}, "seed": u64::MAX, "stop": "END", "max_tokens": 5,
        "max_completion_tokens": 65536, "logprobs": true, "ignore_eos": true, "max_thinking_tokens": 0,
        "mtp": {"enabled": true, "depth": 8, "acceptance": "coupled", "origins": true},
    }));
    let expected = Options {
        temperature: Some(0.0),
        top_p: Some(0.5),
        top_k: Some(20),
        min_p: Some(0.1),
        repetition_penalty: Some(1.1),
        presence_penalty: Some(-2.0),
        frequency_penalty: Some(2.0),
        logit_bias: [(7, -100.0)].into(),
        seed: Some(u64::MAX),
        max_tokens: Some(65536),
        stop: vec!["END".to_owned()],
        ignore_eos: true,
        logprobs: Some(0),
        mtp: MtpOptions { enabled: Some(true), depth: Some(8), acceptance: Some(Acceptance::Coupled), origins: true },
        max_thinking_tokens: Some(0),
    };
    assert_eq!(options, expected);
    assert_eq!(self::options(json!({"seed": -1, "top_k": -1})).seed, Some(u64::MAX));
    assert_eq!(self::options(json!({"top_k": -1})).top_k, Some(0));
}

#[test]
fn bodies_that_break_parsers_are_refused() {
    let message = |content: &str| format!(r#"{{"messages": [{{"role": "user", "content": {content}}}]}}"#);
    for (body, param) in [
        (message(r#""\ud83d""#), Some("messages[0].content")),
        (message(r#""\udc00x""#), Some("messages[0].content")),
        (message(&"[".repeat(100_000)), None),
        (message(&"{\"a\":".repeat(100_000)), None),
        ("[".repeat(100_000), None),
    ] {
        let failure = parse(body.as_bytes()).unwrap_err();
        assert_eq!((failure.status(), failure.param.as_deref()), (400, param));
    }
    let twice = r#"{"messages": [], "messages": [{"role": "user", "content": "Hi"}]}"#;
    assert!(parse(twice.as_bytes()).is_ok(), "the last of two equal fields counts");
}
