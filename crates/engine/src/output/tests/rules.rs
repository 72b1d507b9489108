//! Rules of text and reasoning that hold for all formats.

use super::{
    ALL, ANSWERS, ArgumentsAs, OutputFormat, OutputSplitter, Piece, THINKS, ToolFormat, format, show, split, tools,
};

fn split_with(format: &OutputFormat, prompt: &str, with_tools: bool, text: &str) -> String {
    let tools = if with_tools { tools() } else { Vec::new() };
    let mut splitter = OutputSplitter::new(format, prompt, &tools);
    let mut out = Vec::new();
    splitter.push(text, &mut out);
    splitter.finish(true, &mut out);
    show(&out)
}

#[test]
fn prompt_decides_the_first_state() {
    let cases = [
        ("<|im_start|>assistant\n<think>\n", true),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", false),
        ("<|im_start|>assistant\n", false),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", false),
        ("<|im_start|>user\n</think><|im_end|>\n<|im_start|>assistant\n<think>\n", true),
        ("<|im_start|>assistant\n<think>\nHm", true),
        ("<|assistant|>\n<think></think>", false),
        ("<｜Assistant｜><think>", true),
        ("<｜Assistant｜></think>", false),
        // A tool's result comes last.
        ("<think>a</think>b<｜tool▁output▁begin｜><think><｜tool▁output▁end｜>", false),
        ("]~b]user\n<think>[e~[\n]~b]ai\n", false),
        ("]~b]tool\n<response></think></response>[e~[\n]~b]ai\n<think>\n", true),
        ("", false),
    ];
    for (prompt, expected) in cases {
        let splitter = OutputSplitter::new(&format(ToolFormat::QwenXml), prompt, &[]);
        assert_eq!(splitter.in_reasoning(), expected, "{prompt}");
    }
}

#[test]
fn reasoning_markers_count_only_at_their_places() {
    let cases = [
        (ANSWERS, " \n<think>\na\n</think>\n\nb", "(a)b"),
        (ANSWERS, "<think>\n\n</think>\n\nb", "b"),
        (ANSWERS, "a <think>b</think>", "a <think>b</think>"),
        (ANSWERS, "a</think>\nb", "a</think>\nb"),
        (ANSWERS, "</think>b", "</think>b"),
        (THINKS, "<think>\na</think>b", "(a)b"),
        (THINKS, "a<think>b</think>c</think>d", "(a<think>b)c</think>d"),
        (THINKS, "a\n\n\nb", "(a\n\n\nb)"),
        (THINKS, "a</think>\n\n  b\n", "(a)  b\n"),
        (THINKS, "a</thin", "(a</thin)"),
        (ANSWERS, "<thin", "<thin"),
        (ANSWERS, "<think>a</think><think>b", "(a)<think>b"),
    ];
    for tools in ALL {
        for (prompt, text, expected) in cases {
            assert_eq!(show(&split(tools, prompt, [text])), expected, "{tools:?}: {text}");
        }
    }
    let plain = OutputFormat { reasoning: false, ..format(ToolFormat::Hermes) };
    assert_eq!(split_with(&plain, THINKS, true, "<think>a</think>b"), "<think>a</think>b");
}

#[test]
fn blanks_without_text_are_dropped() {
    let call = "<tool_call>{\"name\": \"get\"}</tool_call>";
    let many = " ".repeat(100);
    let cases = [
        (" \n ".to_owned(), " \n "),
        (format!("\n\n{call}\n\n{call}\n \n"), "[get {}][get {}]"),
        (format!("a \n{call}\n b "), "a \n[get {}]\n b "),
        (format!("<think>a</think>\n \n{call}"), "(a)[get {}]"),
        ("<think>a</think>\n \n".to_owned(), "(a)"),
        // More of them are text.
        (format!("{many}{call}"), &format!("{many}[get {{}}]")),
    ];
    for (text, expected) in cases {
        assert_eq!(show(&split(ToolFormat::Hermes, ANSWERS, [text.as_str()])), expected, "{text}");
    }
}

#[test]
fn markup_without_tools_is_text() {
    for tools in ALL {
        for (_, text, _) in super::samples::of(tools).iter().filter(|(_, text, _)| !text.contains("think>")) {
            assert_eq!(split_with(&format(tools), ANSWERS, false, text), *text);
            let none = OutputFormat { tools: None, reasoning: true, arguments: ArgumentsAs::Object };
            assert_eq!(split_with(&none, ANSWERS, true, text), *text);
        }
    }
}

#[test]
fn reasoning_ends_at_a_declared_call_alone() {
    let call = |name| format!("a <tool_call>\n<function={name}>\n</function>\n</tool_call>");
    let cases = [
        (call("get"), "(a )[get {}]"),
        (call("rm"), "(a <tool_call>\n<function=rm>\n</function>\n</tool_call>)"),
        // In reasoning the outer marker is needed.
        ("a <function=get>\n</function>b".to_owned(), "(a <function=get>\n</function>b)"),
        (call("get") + "\n</think>\n\nb</think>", "(a )[get {}]b</think>"),
        (call("get") + "b</think>", "(a )[get {}]b</think>"),
    ];
    for (text, expected) in cases {
        assert_eq!(show(&split(ToolFormat::QwenXml, THINKS, [text.as_str()])), expected, "{text}");
    }
}

#[test]
fn inserted_end_of_reasoning_ends_it() {
    for tools in ALL {
        let mut splitter = OutputSplitter::new(&format(tools), THINKS, &[]);
        let mut out = Vec::new();
        // Half a marker is generated when the budget ends.
        splitter.push("Hm.\n</thi", &mut out);
        assert!(splitter.in_reasoning());
        splitter.push(splitter.end_of_reasoning(), &mut out);
        assert!(!splitter.in_reasoning());
        splitter.push("Yes.", &mut out);
        splitter.finish(true, &mut out);
        let [Piece::Reasoning(reasoning), Piece::Text(answer)] = out.as_slice() else { panic!("{tools:?}: {out:?}") };
        assert!(reasoning.starts_with("Hm.\n</thi\n\n") && reasoning.ends_with("now."), "{tools:?}: {reasoning}");
        assert_eq!(answer, "Yes.");
    }
}

#[test]
fn text_is_held_only_while_it_can_become_a_marker() {
    let cases = [
        (ToolFormat::Hermes, ANSWERS, "a <tool_c", "a "),
        (ToolFormat::Hermes, ANSWERS, "a <tool_x", "a <tool_x"),
        (ToolFormat::Hermes, ANSWERS, "a <tool_<tool_", "a <tool_"),
        (ToolFormat::Hermes, ANSWERS, "a\n\n", "a\n\n"),
        (ToolFormat::QwenXml, ANSWERS, "<tool_call>\n<function=get_w", ""),
        (ToolFormat::QwenXml, ANSWERS, "<tool_call>\n<function=get_x", "<tool_call>\n<function=get_x"),
        (ToolFormat::QwenXml, THINKS, "a\n", "(a)"),
        (ToolFormat::QwenXml, THINKS, "a\nb", "(a\nb)"),
        (ToolFormat::MiniMax, ANSWERS, "1 < 2", "1 < 2"),
        (ToolFormat::DeepSeekV31, ANSWERS, "a <｜tool▁calls▁begin｜><｜tool", "a "),
    ];
    for (tools, prompt, text, expected) in cases {
        let mut splitter = OutputSplitter::new(&format(tools), prompt, &super::tools());
        let mut out = Vec::new();
        splitter.push(text, &mut out);
        assert_eq!(show(&out), expected, "{tools:?}: {text}");
    }
}

#[test]
fn blanks_inside_a_header_are_bounded() {
    for (blanks, held) in [(64, true), (65, false)] {
        let text = format!("<tool_call>{}", "\n".repeat(blanks));
        let mut splitter = OutputSplitter::new(&format(ToolFormat::QwenXml), ANSWERS, &tools());
        let mut out = Vec::new();
        splitter.push(&text, &mut out);
        assert_eq!(out.is_empty(), held, "{blanks}");
        splitter.push("<function=get></function>", &mut out);
        assert_eq!(show(&out).starts_with("[get"), held, "{blanks}");
    }
}
