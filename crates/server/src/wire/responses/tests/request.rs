//! Tests of requests: realistic ones, wrong ones, and any bytes.

use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::wire::responses::parse;
use crate::wire::testing::{self, conversation_of};

/// A request of Codex, shortened.
const CODEX: &str = r##"{
  "model": "gpt-5.3-codex", "stream": true, "store": false, "instructions": "You are Codex.", "parallel_tool_calls": false,
  "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "service_tier": "priority", "truncation": "auto",
  "reasoning": {"effort": "medium", "summary": "auto"}, "text": {"verbosity": "low"}, "tool_choice": "auto",
  "client_metadata": {"x": "y"}, "metadata": {"a": "b"}, "user": "u", "max_output_tokens": null,
  "tools": [
    {"type": "function", "name": "shell", "description": "Runs", "strict": false,
     "parameters": {"type": "object", "properties": {"command": {"type": "array", "items": {"type": "string"}}}}},
    {"type": "local_shell"}, {"type": "web_search", "external_web_access": false}, {"type": "image_generation"},
    {"type": "tool_search", "execution": "client"},
    {"type": "custom", "name": "apply_patch", "description": "Patches",
     "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
    {"type": "namespace", "name": "mcp__git", "description": "Git", "tools": [
      {"type": "function", "name": "log", "parameters": {"type": "object", "properties": {}}},
      {"type": "custom", "name": "raw"}]}
  ],
  "input": [
    {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions>"}]},
    {"type": "message", "role": "user", "content": [
      {"type": "input_text", "text": "<environment_context>"}, {"type": "input_text", "text": "Fix it."}]},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Short."}],
     "content": [{"type": "reasoning_text", "text": "Long."}], "encrypted_content": "zzz"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}], "phase": "commentary"},
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "shell", "arguments": "{\"command\": [\"ls\"]}"},
    {"type": "function_call", "call_id": "call_2", "name": "log", "namespace": "mcp__git", "arguments": "no json"},
    {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
    {"type": "function_call_output", "call_id": "call_2", "output": {"content": "log", "success": true}},
    {"type": "reasoning", "summary": [], "encrypted_content": "zzz"},
    {"type": "custom_tool_call", "id": "ctc_1", "status": "completed", "call_id": "call_3", "name": "apply_patch", "input": "*** Begin\n\"x\""},
    {"type": "custom_tool_call_output", "call_id": "call_3", "output": "Done"},
    {"type": "local_shell_call", "call_id": "call_4", "status": "completed", "action": {"type": "exec", "command": ["pwd"]}},
    {"type": "function_call_output", "call_id": "call_4"},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Short again."}]},
    {"role": "assistant", "content": "Done."},
    {"type": "of_tomorrow", "data": 1},
    {"role": "user", "content": "Thanks"}
  ]
}"##;

/// The messages of a body, one a line.
fn messages(body: &str) -> String {
    testing::messages(conversation_of(&parse(body.as_bytes()).unwrap().request))
}

#[test]
fn codex_is_read() {
    let parsed = parse(CODEX.as_bytes()).unwrap();
    let conversation = conversation_of(&parsed.request);
    assert!(parsed.request.stream && conversation.single_call);
    assert_eq!((conversation.thinking, parsed.request.options.max_tokens), (Some(true), None));
    assert_eq!(Value::Object(conversation.template_kwargs.clone()), json!({"reasoning_effort": "medium"}));
    let tools: Vec<_> = conversation.tools.iter().map(|tool| (tool.name.as_str(), tool.custom)).collect();
    assert_eq!(tools, [("shell", false), ("apply_patch", true), ("mcp__git__log", false), ("mcp__git__raw", true)]);
    assert_eq!(conversation.tools[1].parameters["properties"], json!({"input": {"type": "string"}}));
    assert_snapshot!(messages(CODEX), @r##"
    System "You are Codex."
    System "<permissions>"
    User "<environment_context>\nFix it."
    Assistant <Long.> "I look." call_1=shell({"command": ["ls"]}) call_2=mcp__git__log(no json)
    Tool call_1 shell "a\nb"
    Tool call_2 mcp__git__log "log"
    Assistant "" call_3=apply_patch({"input":"*** Begin\n\"x\""})
    Tool call_3 apply_patch "Done"
    Assistant "" call_4=local_shell({"type":"exec","command":["pwd"]})
    Tool call_4 local_shell ""
    Assistant <Short again.> "Done."
    User "Thanks"
    "##);
}

#[test]
fn a_captured_request_is_read() {
    assert_snapshot!(messages(include_str!("../../../../fixtures/codex-0.171.0.json")), @r##"
    System "You are Codex, a coding agent based on G…"
    System "<skills_instructions>\n## Skills\nA skill…\n\n<permissions instructions>\nFilesystem sa…\n\n<tools>\nDeferred tool namespaces:\n- mult…"
    User "<environment_context>\n  <cwd>/work<…"
    User "Make a file"
    Assistant <Let me see.> "" call_000000000000000000000000=apply_patch({"input":"*** Begin Patch\n*** Add File: made.txt\n+hello\n*** End Patch\n"})
    Tool call_000000000000000000000000 apply_patch "Exit code: 0\nWall time: 0 seconds\nOutput…"
    Assistant <Let me see.> "" call_000000000000000000000001=exec_command({"cmd": "cat made.txt"})
    Tool call_000000000000000000000001 exec_command "Chunk ID: b179c6\nWall time: 0.0000 secon…"
    "##);
}

#[test]
fn input_comes_in_every_shape() {
    for (input, expected) in [
        (r#""Hi""#, "User \"Hi\"\n"),
        (r#"[{"role": "user", "content": null}]"#, "User \"\"\n"),
        (r#"[{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]"#, "Assistant \"No.\"\n"),
        (
            r#"[{"role": "user", "content": "a"}, {"type": "function_call_output", "call_id": "c", "output": ["x", "y"]}]"#,
            "User \"a\"\nTool c \"x\\ny\"\n",
        ),
        (r#"[{"type": "function_call_output", "call_id": "c", "output": []}]"#, "Tool c \"\"\n"),
        (r#"[{"type": "function_call_output", "call_id": "c", "output": [{"a": 1}]}]"#, "Tool c \"[{\\\"a\\\":1}]\"\n"),
        (
            r#"[{"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
                {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "x"}]}]"#,
            "Assistant \"\" c=shell({\"commands\":[\"ls\"]})\nTool c shell \"[{\\\"stdout\\\":\\\"x\\\"}]\"\n",
        ),
        (r#"[{"type": "function_call", "id": "fc", "name": "a"}]"#, "Assistant \"\" fc=a({})\n"),
    ] {
        assert_eq!(messages(&format!(r#"{{"input": {input}}}"#)), expected, "{input}");
    }
}

#[test]
fn tools_have_names_of_their_own() {
    let names = |body: &str| -> Vec<String> {
        let parsed = parse(body.as_bytes()).unwrap();
        conversation_of(&parsed.request).tools.iter().map(|tool| tool.name.clone()).collect()
    };
    let tools = r#""tools": [{"type": "function", "name": "a__b"}, {"type": "function", "name": "a__b"},
        {"type": "namespace", "name": "a", "tools": [{"type": "function", "name": "b"}, {"type": "local_shell"}]},
        {"type": "custom", "name": "c"}]"#;
    for (fields, expected) in [
        ("", vec!["a__b", "a__b_2", "c"]),
        (r#", "tool_choice": "none""#, vec![]),
        (
            r#", "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "c"}]}"#,
            vec!["c"],
        ),
        (
            r#", "tool_choice": {"type": "allowed_tools", "tools": [{"type": "namespace", "name": "a"}]}"#,
            vec!["a__b_2"],
        ),
    ] {
        assert_eq!(names(&format!(r#"{{"input": "a", {tools}{fields}}}"#)), expected, "{fields}");
    }
    // Codex's code mode sends its tools as an item, and a search for tools finds more.
    let items = r#"{"input": [{"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "exec"}]},
        {"type": "tool_search_call", "call_id": "c", "arguments": {"query": "q"}},
        {"type": "tool_search_output", "call_id": "c", "tools": [{"type": "function", "name": "found"}]}]}"#;
    assert_eq!(names(items), ["exec", "found"]);
    assert_eq!(messages(items), "Assistant \"\" c=tool_search({\"query\":\"q\"})\nTool c tool_search \"\"\n");
}

#[test]
fn wrong_requests_are_named() {
    for (body, param, message) in [
        ("{}", "input", "input: missing: expected a string or a list of items"),
        (r#"{"input": ""}"#, "input", "input: \"\": expected a string that is not empty, or a list of items"),
        (r#"{"input": []}"#, "input", "input: a list: no item holds anything that a model can read; send a message"),
        (
            r#"{"input": "a", "previous_response_id": "resp_1"}"#,
            "previous_response_id",
            "previous_response_id: \"resp_1\": this server stores nothing; leave the field out and send the whole input",
        ),
        (
            r#"{"input": "a", "conversation": {"id": "c"}}"#,
            "conversation",
            "conversation: an object: this server stores nothing; leave the field out and send the whole input",
        ),
        (
            r#"{"input": "a", "background": true}"#,
            "background",
            "background: true: nothing runs in the background here; leave the field out and read the stream",
        ),
        (
            r#"{"input": [{"type": "item_reference", "id": "msg_1"}]}"#,
            "input[0]",
            "input[0]: a reference to an item, and this server stores none; send the item itself (some clients do with \
             `store: false`)",
        ),
        (
            r#"{"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]}"#,
            "input[0].content[0]",
            "input[0].content[0]: models are text-only; send text in place of this part of type \"input_image\"",
        ),
        (
            r#"{"input": [null, {"type": "function_call", "call_id": "c"}]}"#,
            "input[1].name",
            "input[1].name: missing: expected the tool's name",
        ),
        (
            r#"{"input": "a", "text": {"format": {"type": "json_object"}}}"#,
            "text.format",
            "text.format: an object: formats of the answer are not supported yet; leave the field out and ask for the form in the \
             prompt",
        ),
        (
            r#"{"input": "a", "tool_choice": "required"}"#,
            "tool_choice",
            "tool_choice: \"required\": forced tool calls are not supported yet; send \"auto\" and ask for the call in the prompt",
        ),
        (
            r#"{"input": "a", "tool_choice": {"type": "function", "name": "f"}}"#,
            "tool_choice",
            "tool_choice: an object: forced tool calls are not supported yet; send \"auto\" and ask for the call in the prompt",
        ),
        (r#"{"input": "a", "top_logprobs": 21}"#, "top_logprobs", "top_logprobs: 21: expected an integer in [0, 20]"),
        (
            r#"{"input": "a", "tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]}"#,
            "tools[0].tools[0].name",
            "tools[0].tools[0].name: missing: expected the tool's name",
        ),
    ] {
        let failure = parse(body.as_bytes()).unwrap_err();
        assert_eq!((failure.message.as_str(), failure.param.as_deref()), (message, Some(param)), "{body}");
    }
    for body in [
        r#"{"input": "a", "previous_response_id": null, "background": false, "text": {"format": {"type": "text"}}}"#,
        r#"{"input": "a", "tool_choice": null, "tools": null, "store": true, "stream_options": {}}"#,
    ] {
        assert!(parse(body.as_bytes()).is_ok(), "{body}");
    }
}

#[test]
fn log_probabilities_are_asked_for_in_two_ways() {
    for (fields, expected) in [
        ("", None),
        (r#", "top_logprobs": 3"#, Some(3)),
        (r#", "include": ["message.output_text.logprobs"]"#, Some(0)),
        (r#", "include": ["message.output_text.logprobs"], "top_logprobs": 2"#, Some(2)),
    ] {
        let parsed = parse(format!(r#"{{"input": "a"{fields}}}"#).as_bytes()).unwrap();
        assert_eq!(parsed.request.options.logprobs, expected, "{fields}");
    }
}

proptest! {
    #[test]
    fn no_body_panics(body in testing::request("input")) {
        testing::check_parse(parse, body.as_bytes());
    }

    #[test]
    fn no_wrong_value_panics(at in 0_usize..200, value in testing::wrong_value()) {
        let body = testing::mutated(CODEX, at, &value);
        if let Err(failure) = parse(body.as_bytes()) {
            prop_assert!(at == 0 || failure.param.is_some(), "{}", failure);
        }
    }

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..80)) {
        testing::check_parse(parse, &body);
    }
}
