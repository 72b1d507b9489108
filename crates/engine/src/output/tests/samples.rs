//! One table of samples a family: text, and the pieces expected of it.

use serde_json::Value;

use super::{ALL, ANSWERS, THINKS, ToolFormat, arguments, cuts, show, split};

/// A sample: prompt, output, expected pieces as [`show`] writes them.
pub(super) type Sample = (&'static str, &'static str, &'static str);

const HERMES: &[Sample] = &[
    (ANSWERS, "Hello.\n\n  x = 1\n", "Hello.\n\n  x = 1\n"),
    (
        ANSWERS,
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Köln\", \"days\": 3}}\n</tool_call>",
        "[get_weather {\"city\": \"Köln\", \"days\": 3}]",
    ),
    (
        ANSWERS,
        "Both:\n<tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_weat\
        her\", \
         \"arguments\": {\"city\": \"a\"}}\n</tool_call>\n",
        "Both:\n[get {}][get_weather {\"city\": \"a\"}]",
    ),
    (
        ANSWERS,
        "\n<think>\nHm.\n</think>\n\n<tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>",
        "(Hm.)[get {}]",
    ),
    (
        ANSWERS,
        "<tool_call>{\"arguments\": {\"options\": {\"a\": [1, {\"b\": null}]}, \"content\": \"</tool_call\
        > \\\"q\\\" \\u00e4\"}, \
         \"name\": \"write\"}</tool_call> Done.",
        "[write {\"options\": {\"a\": [1, {\"b\": null}]}, \"content\": \"</tool_call> \\\"q\\\" \\u00e4\"}] Done.",
    ),
    (
        ANSWERS,
        "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"content\": \"a\\nb",
        "[write {\"content\": \"a\\nb~]",
    ),
    (
        ANSWERS,
        "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"append\": tru!e}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"append\": tru!e}}\n</tool_call>",
    ),
    (
        ANSWERS,
        "<tool_call>\n{\"name\": \"rm\", \"arguments\": {}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"rm\", \"arguments\": {}}\n</tool_call>",
    ),
    (ANSWERS, "<tool_call>\n{\"arguments\": {}}\n</tool_call>", "<tool_call>\n{\"arguments\": {}}\n</tool_call>"),
    (ANSWERS, "<tool_call>\n{name: get}\n</tool_call>", "<tool_call>\n{name: get}\n</tool_call>"),
    (ANSWERS, "<tool_call>\n{\"name\": \"get\"}\n</tool_call>", "[get {}]"),
    (
        ANSWERS,
        "<tool_call>\n{\"id\": 12, \"name\": \"get\", \"arguments\": \"{\\\"a\\\": 1}\", \"n\": -1.5}\n</tool_call>",
        "[get {\"a\": 1}]",
    ),
    // A brace too few, a brace too many.
    (ANSWERS, "<tool_call>\n{\"name\": \"get\", \"arguments\": {}\n</tool_call>\nDone.", "[get {}]\nDone."),
    (ANSWERS, "<tool_call>\n{\"name\": \"get\", \"arguments\": {}}}\n</tool_call>", "[get {}]"),
    (THINKS, "Write <tool_call>{\"...} so.\n</think>b \"c", "(Write <tool_call>{\"...} so.)b \"c"),
    (ANSWERS, "<tool_call>\n{\"name\": \"ge", "<tool_call>\n{\"name\": \"ge"),
];

const QWEN: &[Sample] = &[
    (
        THINKS,
        "Hm.\n</think>\n\nUse <tool_call> and </parameter>, 1 < 2.",
        "(Hm.)Use <tool_call> and </parameter>, 1 < 2.",
    ),
    (
        ANSWERS,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n3\n</parameter>\n\
         </function>\n</tool_call>",
        "[get_weather {\"city\":\"Köln\",\"days\":3}]",
    ),
    (
        THINKS,
        "Hm.\n</think>\n\n<tool_call>\n<function=get>\n</function>\n</tool_call>\n<tool_call>\n<function=get_weather>\n\
         <parameter=city>\n5\n</parameter>\n</function>\n</tool_call>",
        "(Hm.)[get {}][get_weather {\"city\":\"5\"}]",
    ),
    // Nested JSON, quotes, newlines, markers in values.
    (
        ANSWERS,
        "Text.\n\n<tool_call>\n<function=write>\n<parameter=content>\n\n<p>\"</parameter>\"\n</parameter> \\n\n\n\
         </parameter>\n<parameter=options>\n{\"a\": [1, \"</function>\"]}\n</parameter>\n<parameter=lines>\nNone\n\
         </parameter>\n<parameter=append>\nTrue\n</parameter>\n<parameter=note>\nnull\n</parameter>\n\
         </function>\n</tool_call>",
        "Text.\n\n[write {\"content\":\"\\n<p>\\\"</parameter>\\\"\\n</parameter> \\\\n\\n\",\"options\":{\"a\": [1, \
         \"</function>\"]},\"lines\":null,\"append\":true,\"note\":null}]",
    ),
    (
        ANSWERS,
        "<tool_call>\n<function=write>\n<parameter=content>\nfn main() {\n    a();\n}\n</parameter>\n</function>\n</t\
        ool_call>",
        "[write {\"content\":\"fn main() {\\n    a();\\n}\"}]",
    ),
    // Cut in a value, behind a value, in a number, in the header.
    (ANSWERS, "<tool_call>\n<function=write>\n<parameter=content>\nab\"", "[write {\"content\":\"ab\\\"~]"),
    (ANSWERS, "<tool_call>\n<function=write>\n<parameter=content>\nab\n</parameter>", "[write {\"content\":\"ab\"~]"),
    (ANSWERS, "<tool_call>\n<function=get_weather>\n<parameter=days>\n1", "[get_weather {\"days\":1~]"),
    (ANSWERS, "<tool_call>\n<function=get_weather>\n<para", "<tool_call>\n<function=get_weather>\n<para"),
    (ANSWERS, "<tool_call>\n<function=get_weather>\n<parameter=c", "[get_weather {~]"),
    // Malformed.
    (
        ANSWERS,
        "<tool_call>\n<function=get_weather>\nKöln\n</function>\n</tool_call>",
        "<tool_call>\n<function=get_weather>\nKöln\n</function>\n</tool_call>",
    ),
    (
        ANSWERS,
        "<tool_call>\n<function=get_weather>\n<parameter=ci\nty>\na\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<function=get_weather>\n<parameter=ci\nty>\na\n</parameter>\n</function>\n</tool_call>",
    ),
    // Undeclared.
    (
        ANSWERS,
        "<tool_call>\n<function=rm>\n</function>\n</tool_call>",
        "<tool_call>\n<function=rm>\n</function>\n</tool_call>",
    ),
    // Without newlines, without the outer marker, with a repeated key.
    (
        ANSWERS,
        "<function=get_weather><parameter=city>a</parameter><parameter=city>b</parameter></function>",
        "[get_weather {\"city\":\"a\"}]",
    ),
    // Calls in reasoning.
    (
        THINKS,
        "I call <tool_call> now.\n<tool_call>\n<function=get>\n</function>\n</tool_call>\n</think>\n\nDone.",
        "(I call <tool_call> now.\n)[get {}]Done.",
    ),
    (THINKS, "a\n\n</think>", "(a\n)"),
];

const GLM: &[Sample] = &[
    (ANSWERS, "\n<think>Hm.</think>\nHello.", "(Hm.)Hello."),
    (
        ANSWERS,
        "<think></think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n<arg_key>days\
        </arg_key>\n\
         <arg_value>3</arg_value>\n</tool_call>",
        "[get_weather {\"city\":\"Köln\",\"days\":3}]",
    ),
    (
        ANSWERS,
        "A.\n<tool_call>get</tool_call><tool_call>get_weather<arg_key>city</arg_key><arg_value>5</arg_value></tool_ca\
        ll>",
        "A.\n[get {}][get_weather {\"city\":\"5\"}]",
    ),
    (
        THINKS,
        "Hm.</think><tool_call>write\n<arg_key>content</arg_key>\n<arg_value>\n\"</arg_value>\"\n</arg_value>\n<arg_k\
        ey>options</arg_key>\
         \n<arg_value>{\"a\": {\"b\": \"ü\"}}</arg_value>\n</tool_call>",
        "(Hm.)[write {\"content\":\"\\n\\\"</arg_value>\\\"\\n\",\"options\":{\"a\": {\"b\": \"ü\"}}}]",
    ),
    (
        ANSWERS,
        "<tool_call>write\n<arg_key>content</arg_key>\n<arg_value>ab\n</arg_va",
        "[write {\"content\":\"ab\\n</arg_va~]",
    ),
    (
        ANSWERS,
        "<tool_call>write\n<arg_key>content</arg_key>\nab</tool_call>",
        "<tool_call>write\n<arg_key>content</arg_key>\nab</tool_call>",
    ),
    (ANSWERS, "<tool_call>write\ncontent</tool_call>", "<tool_call>write\ncontent</tool_call>"),
    (ANSWERS, "<tool_call>rm\n</tool_call>", "<tool_call>rm\n</tool_call>"),
    (ANSWERS, "<tool_call>get_weather2\n</tool_call>", "<tool_call>get_weather2\n</tool_call>"),
];

const DEEPSEEK_V3: &[Sample] = &[
    (ANSWERS, "Hello.\n```json\n{}\n```", "Hello.\n```json\n{}\n```"),
    (
        ANSWERS,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Köln\"}\n```\
         <｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "[get_weather {\"city\": \"Köln\"}]",
    ),
    (
        ANSWERS,
        "Both.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n```json\n{}\n```<｜tool▁call▁end｜>\n\
         <｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"b\"}\n```<｜tool▁call▁end｜>\
         <｜tool▁calls▁end｜>",
        "Both.[get {}][get_weather {\"city\": \"b\"}]",
    ),
    (
        ANSWERS,
        "<think>Hm.</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>write\n```json\n{\"content\": \
         \"```\\n<｜tool▁call▁end｜>\", \"options\": {\"a\": [true, 1e3]}}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "(Hm.)[write {\"content\": \"```\\n<｜tool▁call▁end｜>\", \"options\": {\"a\": [true, 1e3]}}]",
    ),
    (
        ANSWERS,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>write\n```json\n{\"content\": \"ab",
        "[write {\"content\": \"ab~]",
    ),
    (
        ANSWERS,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>write\n```json\n{\"a\": [1, 2 3]}\n```<｜tool▁call\
        ▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>write\n```json\n{\"a\": [1, 2 3]}\n```<｜tool▁call\
        ▁end｜>",
    ),
    (
        ANSWERS,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>rm\n```json\n{}\n```<｜tool▁call▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>rm\n```json\n{}\n```<｜tool▁call▁end｜>",
    ),
];

const DEEPSEEK_V31: &[Sample] = &[
    ("<｜Assistant｜><think>", "Hm.</think>Hello.", "(Hm.)Hello."),
    (
        "<｜Assistant｜></think>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Köln\"}<｜tool▁call▁end｜>\
         <｜tool▁calls▁end｜>",
        "[get_weather {\"city\": \"Köln\"}]",
    ),
    (
        "<｜Assistant｜></think>",
        "Both.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁call▁begin｜>get_weather\
         <｜tool▁sep｜>{\"city\":\"b\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "Both.[get {}][get_weather {\"city\":\"b\"}]",
    ),
    (
        "<｜Assistant｜><think>",
        "Hm.</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>write<｜tool▁sep｜>{\"content\": \"\\\"<｜tool▁call▁end｜>\\ud\
        83d\\ude00\"}\
         <｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "(Hm.)[write {\"content\": \"\\\"<｜tool▁call▁end｜>\\ud83d\\ude00\"}]",
    ),
    (
        "<｜Assistant｜></think>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>write<｜tool▁sep｜>{\"content\": \"ab\\",
        "[write {\"content\": \"ab\\~]",
    ),
    (
        "<｜Assistant｜></think>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>write<｜tool▁sep｜>{\"content\"; 1}<｜tool▁call▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>write<｜tool▁sep｜>{\"content\"; 1}<｜tool▁call▁end｜>",
    ),
    (
        "<｜Assistant｜></think>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁call▁begin｜>rm<｜tool▁sep｜>{}\
         <｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "[get {}]<｜tool▁call▁begin｜>rm<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
];

const MINIMAX: &[Sample] = &[
    ("]~b]ai\n<think>\n", "Hm.\n</think>\n\nHello.", "(Hm.)Hello."),
    (
        "]~b]ai\n<think>\n",
        "Hm.\n</think>\n\n<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">Köln</paramete\
        r>\n\
         <parameter name=\"days\">3</parameter>\n</invoke>\n</minimax:tool_call>",
        "(Hm.)[get_weather {\"city\":\"Köln\",\"days\":3}]",
    ),
    (
        ANSWERS,
        "Both.\n<minimax:tool_call>\n<invoke name=\"get\">\n</invoke>\n<invoke name=\"get_weather\">\n<parameter name\
        =\"city\">5\
         </parameter>\n</invoke>\n</minimax:tool_call>\n",
        "Both.\n[get {}][get_weather {\"city\":\"5\"}]",
    ),
    (
        ANSWERS,
        "<minimax:tool_call>\n<invoke name=\"write\">\n<parameter name=\"content\">\n\"</parameter>\" ü\n</parameter>\n\
         <parameter name=\"options\">{\"a\": {\"b\": []}}</parameter>\n</invoke>\n</minimax:tool_call>",
        "[write {\"content\":\"\\n\\\"</parameter>\\\" ü\\n\",\"options\":{\"a\": {\"b\": []}}}]",
    ),
    (
        ANSWERS,
        "<minimax:tool_call>\n<invoke name=\"write\">\n<parameter name=\"options\">{\"a\": [1,",
        "[write {\"options\":{\"a\": [1,~]",
    ),
    (
        ANSWERS,
        "<minimax:tool_call>\n<invoke name=\"write\">\n<parameter name=\"content\n\">a</parameter>\n</invoke>\n</mini\
        max:tool_call>",
        "<minimax:tool_call>\n<invoke name=\"write\">\n<parameter name=\"content\n\">a</parameter>\n</invoke>\n</mini\
        max:tool_call>",
    ),
    (
        ANSWERS,
        "<minimax:tool_call>\n<invoke name=\"rm\">\n</invoke>\n</minimax:tool_call>",
        "<minimax:tool_call>\n<invoke name=\"rm\">\n</invoke>\n</minimax:tool_call>",
    ),
    (ANSWERS, "<invoke name=\"get\">\n</invoke>", "<invoke name=\"get\">\n</invoke>"),
];

/// Samples of `format`.
pub(super) fn of(format: ToolFormat) -> &'static [Sample] {
    match format {
        ToolFormat::Hermes => HERMES,
        ToolFormat::QwenXml => QWEN,
        ToolFormat::Glm => GLM,
        ToolFormat::DeepSeekV3 => DEEPSEEK_V3,
        ToolFormat::DeepSeekV31 => DEEPSEEK_V31,
        ToolFormat::MiniMax => MINIMAX,
    }
}

#[test]
fn samples_give_their_pieces() {
    for format in ALL {
        for (prompt, text, expected) in of(format) {
            let pieces = split(format, prompt, [*text]);
            assert_eq!(show(&pieces), *expected, "{format:?}: {text}");
        }
    }
}

#[test]
fn arguments_of_complete_calls_are_objects() {
    for format in ALL {
        for (prompt, text, _) in of(format) {
            for (json, complete) in arguments(&split(format, prompt, [*text])) {
                let object = serde_json::from_str::<Value>(&json).is_ok_and(|json| json.is_object());
                assert!(object || !complete, "{format:?}: {json} of {text}");
            }
        }
    }
}

#[test]
fn pieces_do_not_depend_on_one_cut_or_two() {
    for format in ALL {
        for (prompt, text, _) in of(format) {
            let whole = split(format, prompt, [*text]);
            let cuts = cuts(text);
            for (i, a) in cuts.iter().enumerate() {
                for b in &cuts[i..] {
                    let cut = split(format, prompt, [&text[..*a], &text[*a..*b], &text[*b..]]);
                    assert_eq!(cut, whole, "{format:?}, cut at {a} and {b}: {text}");
                }
            }
        }
    }
}
