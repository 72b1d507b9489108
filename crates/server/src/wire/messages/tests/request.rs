//! Tests of requests: realistic ones, wrong ones, and any bytes.

use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::wire::internal::Role;
use crate::wire::messages::{count_response, parse, parse_count};
use crate::wire::testing::{self, conversation_of};

/// A request of Claude Code, shortened.
const CLAUDE_CODE: &str = r#"{
  "model": "claude-opus-4-8", "max_tokens": 32000, "stream": true, "temperature": 1,
  "metadata": {"user_id": "u"}, "betas": ["x"], "context_management": {"edits": []}, "service_tier": "auto",
  "container": null, "mcp_servers": [], "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"},
  "system": [
    {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.160; cch=0f3a9;"},
    {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}},
    {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
  ],
  "tools": [
    {"name": "Read", "description": "Reads a file", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
     "cache_control": {"type": "ephemeral"}, "eager_input_streaming": true},
    {"type": "custom", "name": "Bash", "input_schema": {"properties": {}}, "strict": true},
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
    {"type": "bash_20250124", "name": "bash"}, {"type": "mcp_toolset", "mcp_server_name": "s"}
  ],
  "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
  "messages": [
    {"role": "user", "content": [
      {"type": "text", "text": "<system-reminder>Plan.</system-reminder>"},
      {"type": "text", "text": "Fix it.", "cache_control": {"type": "ephemeral"}}]},
    {"role": "assistant", "content": [
      {"type": "thinking", "thinking": "Look first.", "signature": "abc"},
      {"type": "redacted_thinking", "data": "zzz"},
      {"type": "text", "text": "I read both."},
      {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "b", "a": 1}},
      {"type": "tool_use", "id": "call_2", "name": "Bash", "input": null}]},
    {"role": "user", "content": [
      {"type": "tool_result", "tool_use_id": "toolu_1", "content": [
        {"type": "text", "text": "one"}, {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}]},
      {"type": "tool_result", "tool_use_id": "call_2", "is_error": true, "content": "exit code 1"},
      {"type": "text", "text": "Go on."}]},
    {"role": "system", "content": "<system-reminder>3 files changed</system-reminder>"},
    {"role": "assistant", "content": [
      {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
      {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result", "url": "u"}]},
      {"type": "text", "text": "Done."}]},
    {"role": "user", "content": "Thanks"}
  ]
}"#;

/// The messages of a body, one a line.
fn messages(body: &str) -> String {
    testing::messages(conversation_of(&parse(body.as_bytes()).unwrap().request))
}

#[test]
fn claude_code_is_read() {
    let parsed = parse(CLAUDE_CODE.as_bytes()).unwrap();
    let request = &parsed.request;
    assert_eq!(request.model.as_deref(), Some("claude-opus-4-8"));
    assert!(request.stream);
    assert_eq!((request.options.max_tokens, request.options.temperature), (Some(32_000), Some(1.0)));
    let conversation = conversation_of(request);
    assert!(conversation.single_call);
    assert_eq!(conversation.thinking, Some(true));
    assert_eq!(Value::Object(conversation.template_kwargs.clone()), json!({"reasoning_effort": "high"}));
    let tools: Vec<_> =
        conversation.tools.iter().map(|tool| (tool.name.as_str(), tool.parameters.to_string())).collect();
    assert_eq!(
        tools,
        [
            ("Read", r#"{"type":"object","properties":{"path":{"type":"string"}}}"#.to_owned()),
            ("Bash", r#"{"properties":{},"type":"object"}"#.to_owned()),
        ]
    );
    assert_snapshot!(messages(CLAUDE_CODE), @r##"
    System "You are Claude Code.\n\nBe brief."
    User "<system-reminder>Plan.</system-reminder>\nFix it."
    Assistant <Look first.> "I read both." toolu_1=Read({"path":"b","a":1}) call_2=Bash({})
    Tool toolu_1 Read "one\ntwo"
    Tool call_2 Bash "Error: exit code 1"
    User "Go on."
    System "<system-reminder>3 files changed</system-reminder>"
    Assistant "Done."
    User "Thanks"
    "##);
}

#[test]
fn a_captured_request_is_read() {
    assert_snapshot!(messages(include_str!("../../../../fixtures/claude-code-2.1.197.json")), @r##"
    System "You are a Claude agent, built on Anthrop…\n\n\nYou are an interactive agent that helps…"
    User "<system-reminder>\nAs you answer the user…\nSay hello"
    System "Available agent types for the Agent tool…"
    Assistant <Let me see.> "" toolu_000000000000000000000000=Bash({"command":"echo hello","description":"Say hello"})
    Tool toolu_000000000000000000000000 Bash "hello"
    Assistant <Let me see.> "" toolu_000000000000000000000001=Read({"file_path":"/home/user/there.txt"})
    Tool toolu_000000000000000000000001 Read "1\tthere\n2\t"
    "##);
}

#[test]
fn marks_and_nonces_do_not_change_the_prompt() {
    let other = CLAUDE_CODE
        .replace("cch=0f3a9", "cch=77777")
        .replace(r#", "cache_control": {"type": "ephemeral"}"#, "")
        .replace(r#""service_tier": "auto""#, r#""service_tier": null"#);
    assert_ne!(other, CLAUDE_CODE);
    assert_eq!(parse(other.as_bytes()).unwrap(), parse(CLAUDE_CODE.as_bytes()).unwrap());
    // The header as a line of one text, and as a whole text.
    for (system, expected) in [
        (r#""x-anthropic-billing-header: a; cch=1;\n\nBe brief.""#, vec!["Be brief."]),
        (r#""x-anthropic-billing-header: a; cch=1;""#, vec![]),
        (r#"[{"type": "text", "text": "x-anthropic-billing-header: a\nBe brief."}]"#, vec!["Be brief."]),
        (r#""Be brief. x-anthropic-billing-header: a""#, vec!["Be brief. x-anthropic-billing-header: a"]),
        (r#""Be brief.\nx-anthropic-billing-header: a\nDo.""#, vec!["Be brief.\nDo."]),
        ("null", vec![]),
        ("[]", vec![]),
    ] {
        let body = format!(r#"{{"system": {system}, "messages": [{{"role": "user", "content": "a"}}]}}"#);
        let parsed = parse(body.as_bytes()).unwrap();
        let found: Vec<_> = conversation_of(&parsed.request)
            .messages
            .iter()
            .filter(|message| message.role == Role::System)
            .map(|message| message.content.as_str())
            .collect();
        assert_eq!(found, expected, "{system}");
    }
}

#[test]
fn results_come_in_every_shape() {
    let body = |content: &str| format!(r#"{{"messages": [{{"role": "user", "content": {content}}}]}}"#);
    for (content, expected) in [
        (r#"[{"type": "tool_result", "tool_use_id": "a"}]"#, "Tool a \"\"\n"),
        (r#"[{"type": "tool_result", "tool_use_id": "a", "content": []}]"#, "Tool a \"\"\n"),
        (r#"[{"type": "tool_result", "tool_use_id": "a", "is_error": true}]"#, "Tool a \"Error\"\n"),
        (r#"[{"type": "tool_result", "is_error": true, "content": "error: x"}]"#, "Tool \"error: x\"\n"),
        (
            r#"["before", {"type": "tool_result", "content": "x"}, {"type": "text", "text": "after"}]"#,
            "User \"before\"\nTool \"x\"\nUser \"after\"\n",
        ),
        (
            r#"[{"type": "tool_result", "content": [{"type": "tool_reference", "tool_name": "Grep"}]}]"#,
            "Tool \"Grep\"\n",
        ),
        (
            r#"[{"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "found"}]}]"#,
            "User \"found\"\n",
        ),
        ("null", "User \"\"\n"),
        (r#"[{"type": "of_tomorrow", "data": 1}]"#, "User \"\"\n"),
    ] {
        assert_eq!(messages(&body(content)), expected, "{content}");
    }
    // Consecutive turns of the assistant are one, and a last one is history.
    let turns = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "assistant", "content": [{"type": "text", "text": "c"}]}]}"#;
    assert_eq!(messages(turns), "User \"a\"\nAssistant \"b\\nc\"\n");
}

#[test]
fn wrong_requests_are_named() {
    let with = |fields: &str| format!(r#"{{"messages": [{{"role": "user", "content": "a"}}], {fields}}}"#);
    for (body, param, message) in [
        ("{}".to_owned(), "messages", "messages: missing: expected a list of messages"),
        (r#"{"messages": 5}"#.to_owned(), "messages", "messages: 5: expected a list"),
        (with(r#""system": 5"#), "system", "system: 5: expected a string, or a list of blocks"),
        (with(r#""max_tokens": -1"#), "max_tokens", "max_tokens: -1: expected an integer of at least 1"),
        (r#"{"messages": []}"#.to_owned(), "messages", "messages: a list: expected at least one message"),
        (
            r#"{"messages": [{"role": "tool"}]}"#.to_owned(),
            "messages[0].role",
            "messages[0].role: \"tool\": expected \"user\", \"assistant\" or \"system\"",
        ),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}"#.to_owned(),
            "messages[0].content[0].text",
            "messages[0].content[0].text: 5: expected a string",
        ),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image"}]}]}]}"#
                .to_owned(),
            "messages[0].content[0].content[0]",
            "messages[0].content[0].content[0]: models are text-only; send text in place of this part of type \"image\"",
        ),
        (
            r#"{"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]}]}"#.to_owned(),
            "messages[0].content[0].name",
            "messages[0].content[0].name: missing: expected the tool's name",
        ),
        (with(r#""temperature": 200"#), "temperature", "temperature: 200: expected 0, or a number in [0.000001, 100]"),
        (with(r#""top_p": 0"#), "top_p", "top_p: 0: expected a number in (0, 1]"),
        (with(r#""mtp": {"depth": 9}"#), "mtp.depth", "mtp.depth: 9: expected an integer in [0, 8]"),
        (
            with(r#""mtp": {"acceptance": "x"}"#),
            "mtp.acceptance",
            "mtp.acceptance: \"x\": expected \"rejection\" or \"coupled\"",
        ),
        (
            with(r#""tool_choice": {"type": "any"}"#),
            "tool_choice",
            "tool_choice: \"any\": forced tool calls are not supported yet; send type \"auto\" and ask for the call in the \
             prompt",
        ),
        (
            with(r#""output_config": {"format": {"type": "json_schema", "schema": {}}}"#),
            "output_config.format",
            "output_config.format: an object: formats of the answer are not supported yet; leave the field out and ask for the form in \
             the prompt",
        ),
        (
            with(r#""structured_outputs": {"regex": "a"}"#),
            "structured_outputs",
            "structured_outputs: an object: constrained output is not supported yet; leave the field out and ask for the form in \
             the prompt",
        ),
        (
            with(r#""tools": [{"description": "a"}]"#),
            "tools[0].name",
            "tools[0].name: missing: expected the tool's name",
        ),
        (
            with(r#""stop_sequences": ["a", ""]"#),
            "stop_sequences[1]",
            "stop_sequences[1]: \"\": expected a string that is not empty",
        ),
        (
            with(r#""thinking": {"type": "on"}"#),
            "thinking.type",
            "thinking.type: \"on\": expected \"enabled\", \"adaptive\" or \"disabled\"",
        ),
    ] {
        let failure = parse(body.as_bytes()).unwrap_err();
        assert_eq!((failure.message.as_str(), failure.param.as_deref()), (message, Some(param)), "{body}");
    }
}

#[test]
fn ours_are_read() {
    let body = r#"{"messages": [{"role": "user", "content": "a"}], "thinking": {"type": "enabled", "budget_tokens": 2048},
        "mtp": {"enabled": true, "depth": 3, "acceptance": "coupled", "origins": true}, "top_k": -1, "min_p": 0.1,
        "repetition_penalty": 1.1, "seed": 18446744073709551615, "ignore_eos": true, "stop_sequences": ["a"],
        "chat_template_kwargs": {"x": 1}, "tools": [{"name": "a"}], "tool_choice": {"type": "none"}}"#;
    let parsed = parse(body.as_bytes()).unwrap();
    let options = &parsed.request.options;
    assert_eq!((options.top_k, options.seed, options.max_thinking_tokens), (Some(0), Some(u64::MAX), Some(2048)));
    assert_eq!((options.mtp.depth, options.mtp.origins, options.ignore_eos), (Some(3), true, true));
    assert_eq!((options.max_tokens, &options.stop[..]), (None, &["a".to_owned()][..]));
    let conversation = conversation_of(&parsed.request);
    assert_eq!((conversation.thinking, conversation.tools.len()), (Some(true), 0));
    assert_eq!(Value::Object(conversation.template_kwargs.clone()), json!({"x": 1}));
    for (fields, thinking, budget) in [
        (r#""thinking": {"type": "disabled"}, "output_config": {"effort": "high"}"#, Some(false), None),
        (r#""reasoning_effort": "none""#, Some(false), None),
        (r#""thinking": null, "reasoning": {"effort": "low"}"#, Some(true), None),
        (r#""thinking": {"type": "enabled", "budget_tokens": 9}, "max_thinking_tokens": 5"#, Some(true), Some(5)),
        (r#""stream": null"#, None, None),
    ] {
        let body = format!(r#"{{"messages": [{{"role": "user", "content": "a"}}], {fields}}}"#);
        let parsed = parse(body.as_bytes()).unwrap();
        let found = (conversation_of(&parsed.request).thinking, parsed.request.options.max_thinking_tokens);
        assert_eq!(found, (thinking, budget), "{fields}");
    }
}

#[test]
fn counting_takes_what_a_message_would_refuse() {
    let body = br#"{"messages": [{"role": "user", "content": "a"}], "tool_choice": {"type": "any"}, "tools": [{"name": "a"}]}"#;
    assert!(parse(body).is_err());
    assert_eq!(conversation_of(&parse_count(body).unwrap().request).tools.len(), 1);
    assert_eq!(count_response(7), json!({"input_tokens": 7}));
}

proptest! {
    #[test]
    fn no_body_panics(body in testing::request("messages")) {
        testing::check_parse(parse, body.as_bytes());
        testing::check_parse(parse_count, body.as_bytes());
    }

    #[test]
    fn no_wrong_value_panics(at in 0_usize..200, value in testing::wrong_value()) {
        let body = testing::mutated(CLAUDE_CODE, at, &value);
        if let Err(failure) = parse(body.as_bytes()) {
            prop_assert!(at == 0 || failure.param.is_some(), "{}", failure);
        }
    }

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..80)) {
        testing::check_parse(parse, &body);
    }
}
