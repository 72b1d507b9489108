//! Calls as they stream.

use std::time::{Duration, Instant};

use super::{ALL, ANSWERS, OutputSplitter, Piece, ToolFormat, ToolSchema, arguments, format, show, split, tools};
use serde_json::{Value, json};

/// A call of `write` with `content`, in the markup of `format`.
pub(super) fn write(format: ToolFormat, content: &str) -> String {
    let arguments = json!({ "content": content }).to_string();
    match format {
        ToolFormat::Hermes => {
            format!("<tool_call>\n{{\"name\": \"write\", \"arguments\": {arguments}}}\n</tool_call>")
        }
        ToolFormat::QwenXml => format!(
            "<tool_call>\n<function=write>\n<parameter=content>\n{content}\n</parameter>\n</function>\n</tool_call>"
        ),
        ToolFormat::Glm => {
            format!("<tool_call>write\n<arg_key>content</arg_key>\n<arg_value>{content}</arg_value>\n</tool_call>")
        }
        ToolFormat::DeepSeekV3 => format!(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>write\n```json\n{arguments}\n```\
             <｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        ToolFormat::DeepSeekV31 => format!(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>write<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>\
             <｜tool▁calls▁end｜>"
        ),
        ToolFormat::MiniMax => format!(
            "<minimax:tool_call>\n<invoke name=\"write\">\n<parameter name=\"content\">{content}</parameter>\n</invok\
            e>\n\
             </minimax:tool_call>"
        ),
    }
}

#[test]
fn any_content_survives() {
    let contents = [
        "",
        "\n",
        "\n\na\n\n",
        " x ",
        "5",
        "null",
        "\"quoted\"",
        "a\\b\\\"c\t\u{1}\u{7f}\u{2028}😀",
        "<tool_call>\n<function=write>\n</tool_call>\n</think>",
        "</parameter>",
        "</arg_value>",
        "</parameter> </invoke",
        "```\n<｜tool▁call▁end｜>",
        "</",
        "<",
    ];
    for format in ALL {
        for content in contents {
            let pieces = split(format, ANSWERS, [write(format, content).as_str()]);
            let calls = arguments(&pieces);
            let [(json, true)] = calls.as_slice() else { panic!("{format:?}: {pieces:?}") };
            let json: Value = serde_json::from_str(json).expect("arguments are JSON");
            assert_eq!(json, json!({ "content": content }), "{format:?}");
        }
    }
}

#[test]
fn strings_stream() {
    for format in ALL {
        // Short calls are held until they are whole.
        let text = write(format, &format!("{} first second", "-".repeat(256)));
        let seen = text.find("second").expect("content");
        let mut splitter = OutputSplitter::new(&super::format(format), ANSWERS, &tools());
        let mut out = Vec::new();
        splitter.push(&text[..seen], &mut out);
        let json = show(&out);
        assert!(json.starts_with("[write {\"content\":") && json.ends_with("first "), "{format:?}: {json}");
    }
}

#[test]
fn short_calls_without_an_end_are_malformed_where_the_model_ended() {
    for format in ALL {
        for (length, is_call) in [(1, false), (300, true)] {
            let text = write(format, &"z".repeat(length));
            let text = text.split_at(text.rfind('z').expect("content")).0;
            let mut splitter = OutputSplitter::new(&super::format(format), ANSWERS, &tools());
            let mut out = Vec::new();
            splitter.push(text, &mut out);
            splitter.finish(false, &mut out);
            assert_eq!(matches!(&out[0], Piece::Call { .. }), is_call, "{format:?}: {out:?}");
            assert!(is_call || show(&out) == text, "{format:?}: {out:?}");
        }
    }
}

#[test]
fn work_is_linear() {
    let start = Instant::now();
    let contents = [
        "x<\n".repeat(350_000),
        " ".repeat(1_000_000),
        "\n</parameter>\n".repeat(70_000),
        "</arg_value> ".repeat(70_000),
        "\\\"<tool_call>".repeat(70_000),
    ];
    for content in contents {
        for format in ALL {
            let call = write(format, &content);
            let mut splitter = OutputSplitter::new(&super::format(format), ANSWERS, &tools());
            let mut out = Vec::new();
            for text in [call.as_str(), content.as_str()] {
                text.char_indices().for_each(|(i, c)| splitter.push(&text[i..i + c.len_utf8()], &mut out));
            }
            splitter.finish(true, &mut out);
            assert!(matches!(&out[0], Piece::Call { name } if name == "write"), "{format:?}: {:?}", &out[0]);
        }
    }
    // About 60 MB; the bound leaves room for a busy machine, not for a quadratic step.
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
}

#[test]
fn blanks_of_an_open_value_are_read_once() {
    let text = format!(
        "<tool_call>\n<function=write>\n<parameter=append>\n{}True\n</parameter>\n</function>\n</tool_call>",
        "\t".repeat(300_000)
    );
    let mut splitter = OutputSplitter::new(&format(ToolFormat::QwenXml), ANSWERS, &tools());
    let mut out = Vec::new();
    splitter.push(&text, &mut out);
    splitter.finish(true, &mut out);
    assert_eq!(arguments(&out).len(), 1);
}

#[test]
fn depth_is_bounded() {
    for format in [ToolFormat::Hermes, ToolFormat::DeepSeekV31, ToolFormat::QwenXml] {
        let nested = "{\"a\":".repeat(100_000);
        let text = match format {
            ToolFormat::QwenXml => write(format, "").replace("content>\n", &format!("options>\n{nested}")),
            _ => write(format, "").replace("\"\"", &nested),
        };
        let pieces = split(format, ANSWERS, [text.as_str()]);
        let calls = arguments(&pieces);
        for (json, complete) in calls {
            assert!(!complete || serde_json::from_str::<Value>(&json).is_ok(), "{format:?}");
        }
    }
}

#[test]
fn names_may_begin_like_other_names() {
    let cases = [
        ("<tool_call>get\n</tool_call>", "[get {}]"),
        ("<tool_call>get_weather\n</tool_call>", "[get_weather {}]"),
        ("<tool_call>get_we\n</tool_call>", "<tool_call>get_we\n</tool_call>"),
    ];
    for (text, expected) in cases {
        assert_eq!(show(&split(ToolFormat::Glm, ANSWERS, [text])), expected);
    }
}

#[test]
fn values_take_their_types_from_the_schema() {
    let schema = json!({"properties": {
        "string": {"type": "string"},
        "integer": {"type": "integer"},
        "number": {"type": "number"},
        "boolean": {"type": "boolean"},
        "object": {"type": "object"},
        "optional": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "either": {"type": ["string", "integer"]},
        "any": {"description": "No type."},
    }});
    let cases = [
        ("string", "5", "\"5\""),
        ("string", "null", "\"null\""),
        ("integer", "5", "5"),
        ("integer", " 5 ", "5"),
        ("integer", "five", "\"five\""),
        ("integer", "5 apples", "\"5 apples\""),
        ("integer", "05", "\"05\""),
        ("integer", "", "\"\""),
        ("number", "1e400", "\"1e400\""),
        ("number", "-1.5e-3", "-1.5e-3"),
        ("number", "1.", "\"1.\""),
        ("boolean", "true", "true"),
        ("boolean", "True", "true"),
        ("boolean", "Trueish", "\"Trueish\""),
        ("object", "{\"a\": \"b\nc\"}", "{\"a\": \"b\\nc\"}"),
        ("object", "{'a': 1}", "\"{'a': 1}\""),
        ("object", "{\"a\": 1", "\"{\\\"a\\\": 1\""),
        ("object", "[1]", "[1]"),
        ("optional", "null", "null"),
        ("optional", "None", "null"),
        ("optional", "Nonesuch", "\"Nonesuch\""),
        ("optional", "5", "\"5\""),
        ("optional", "\"a\"", "\"\\\"a\\\"\""),
        ("either", "5", "5"),
        ("either", "5th", "\"5th\""),
        ("either", "true", "\"true\""),
        ("any", "[1, 2]", "[1, 2]"),
        ("any", "text", "\"text\""),
        ("unknown", "5", "\"5\""),
    ];
    for (key, value, expected) in cases {
        let tools = [ToolSchema { name: "f".to_owned(), parameters: schema.clone() }];
        let mut splitter = OutputSplitter::new(&format(ToolFormat::QwenXml), ANSWERS, &tools);
        let mut out = Vec::new();
        splitter.push(
            &format!("<tool_call>\n<function=f>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>"),
            &mut out,
        );
        splitter.finish(true, &mut out);
        assert_eq!(show(&out), format!("[f {{\"{key}\":{expected}}}]"), "{value}");
    }
}

#[test]
fn keys_are_escaped_and_counted_once() {
    let text = "<tool_call>get\n<arg_key>a\"\\</arg_key><arg_value>1</arg_value><arg_key>b</arg_key><arg_value>2</arg\
                    _value>\
                <arg_key>a\"\\</arg_key><arg_value>3</arg_value></tool_call>";
    assert_eq!(show(&split(ToolFormat::Glm, ANSWERS, [text])), "[get {\"a\\\"\\\\\":\"1\",\"b\":\"2\"}]");
}
