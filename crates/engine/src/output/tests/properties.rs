//! Properties over random texts and random cuts.

use proptest::prelude::*;
use serde_json::Value;

use super::{
    ALL, ANSWERS, OutputSplitter, Piece, THINKS, ToolFormat, arguments, calls, cuts, merged, samples, split, texts,
    tools,
};

/// Parts of markup, whole and broken.
const FRAGMENTS: &[&str] = &[
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<function=get>",
    "<function=write>",
    "</function>",
    "<parameter=content>",
    "<parameter=options>",
    "<parameter=",
    "</parameter>",
    "get",
    "get_weather",
    "write",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "content",
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    "<invoke name=\"write\">",
    "<parameter name=\"content\">",
    "<parameter name=\"",
    "\">",
    "</invoke>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "function",
    "```json",
    "```",
    "{\"name\": \"get\"",
    "{\"name\": \"write\", \"arguments\": {",
    "\"arguments\": {",
    "\"name\": \"write\"",
    "\"content\": \"",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u",
    "d83d",
    ",",
    ":",
    "1",
    "true",
    "None",
    "\n",
    "\n\n",
    " ",
    "<",
    "<tool",
    "</",
    ">",
    "a",
    "ü",
    "\u{1}",
];

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        20 => prop::sample::select(FRAGMENTS).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

/// A text of whole calls with random parts between them.
fn text_with_calls() -> impl Strategy<Value = (ToolFormat, String)> {
    prop::sample::select(ALL.to_vec()).prop_flat_map(|format| {
        let samples = samples::of(format).iter().map(|(_, text, _)| *text).collect::<Vec<_>>();
        let part = prop_oneof![
            prop::sample::select(samples).prop_map(str::to_owned),
            prop::sample::select(FRAGMENTS).prop_map(str::to_owned),
        ];
        (Just(format), prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat()))
    })
}

fn formats() -> impl Strategy<Value = ToolFormat> {
    prop::sample::select(ALL.to_vec())
}

fn prompts() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![ANSWERS, THINKS])
}

/// `text` cut at `positions`, which are taken modulo the number of cuts.
fn pieces<'t>(text: &'t str, positions: &[prop::sample::Index]) -> Vec<&'t str> {
    let cuts = cuts(text);
    let mut at: Vec<usize> = positions.iter().map(|index| cuts[index.index(cuts.len())]).collect();
    at.extend([0, text.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

fn without_blanks(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_whitespace()).collect()
}

/// True if `emitted` is `text` without some of its reasoning markers.
fn is_text_without_think(emitted: &str, text: &str) -> bool {
    let (mut emitted, mut text) = (emitted, text);
    while let Some(c) = text.chars().next() {
        let marker = ["<think>", "</think>"].into_iter().find(|marker| text.starts_with(marker));
        match marker.filter(|marker| !emitted.starts_with(marker)) {
            Some(marker) => text = &text[marker.len()..],
            None if emitted.starts_with(c) => {
                (emitted, text) = (&emitted[c.len_utf8()..], &text[c.len_utf8()..]);
            }
            None => return false,
        }
    }
    emitted.is_empty()
}

/// Longest text that is held outside of calls: markers, blanks at the two places of a header and in front of it, a
/// name, and the marker that has to follow.
const MAX_HELD: usize = 400;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn pieces_do_not_depend_on_cuts(
        format in formats(), prompt in prompts(), text in text(),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = split(format, prompt, [text.as_str()]);
        prop_assert_eq!(split(format, prompt, pieces(&text, &at)), whole.clone());
        let chars = text.char_indices().map(|(i, c)| &text[i..i + c.len_utf8()]);
        prop_assert_eq!(split(format, prompt, chars), whole);
    }

    #[test]
    fn pieces_of_calls_do_not_depend_on_cuts(
        (format, text) in text_with_calls(), prompt in prompts(),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        prop_assert_eq!(split(format, prompt, pieces(&text, &at)), split(format, prompt, [text.as_str()]));
    }

    #[test]
    fn contents_survive(
        format in formats(), text in prop_oneof![text(), any::<String>()],
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        // Markup of the XML kind cannot say these.
        let xml = format.xml().is_some();
        let content = if xml { text.replace("</parameter>", "").replace("</arg_value>", "") } else { text };
        let call = calls::write(format, &content);
        let all = split(format, ANSWERS, pieces(&call, &at));
        let [(json, complete)] = arguments(&all).try_into().map_err(|_| TestCaseError::fail(format!("{all:?}")))?;
        prop_assert!(complete);
        let json: Value = serde_json::from_str(&json).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(json, serde_json::json!({ "content": content }));
        prop_assert_eq!(texts(&all), "");
    }

    #[test]
    fn calls_are_well_formed((format, text) in text_with_calls(), prompt in prompts()) {
        for (json, complete) in arguments(&split(format, prompt, [text.as_str()])) {
            let object = serde_json::from_str::<Value>(&json).is_ok_and(|json| json.is_object());
            prop_assert!(object || !complete, "{}", json);
        }
    }

    #[test]
    fn calls_in_random_markup_are_well_formed(format in formats(), prompt in prompts(), text in text()) {
        for (json, complete) in arguments(&split(format, prompt, [text.as_str()])) {
            let object = serde_json::from_str::<Value>(&json).is_ok_and(|json| json.is_object());
            prop_assert!(object || !complete, "{}", json);
        }
    }

    #[test]
    fn text_without_calls_is_emitted_whole(format in formats(), prompt in prompts(), text in text()) {
        let all = split(format, prompt, [text.as_str()]);
        if all.iter().all(|piece| matches!(piece, Piece::Text(_) | Piece::Reasoning(_))) {
            let (emitted, text) = (without_blanks(&texts(&all)), without_blanks(&text));
            prop_assert!(is_text_without_think(&emitted, &text), "{} of {}", emitted, text);
        }
    }

    #[test]
    fn held_text_is_bounded(format in prop::sample::select(ALL[1..].to_vec()), prompt in prompts(), text in text()) {
        let mut splitter = OutputSplitter::new(&super::format(format), prompt, &tools());
        let mut out = Vec::new();
        let mut pushed = 0;
        for c in text.chars() {
            splitter.push(c.encode_utf8(&mut [0; 4]), &mut out);
            pushed += c.len_utf8();
            if out.iter().all(|piece| matches!(piece, Piece::Text(_) | Piece::Reasoning(_))) {
                // Markers and newlines of reasoning are dropped, not held.
                let dropped = text.matches("think>").count() * 8 + text.matches('\n').count();
                let held = pushed - texts(&out).len();
                prop_assert!(held <= MAX_HELD + dropped, "{} bytes held of {}", held, text);
            }
        }
        splitter.finish(true, &mut out);
        prop_assert_eq!(merged(out), split(format, prompt, [text.as_str()]));
    }

    #[test]
    fn texts_of_any_kind_pass_through(text in any::<String>(), format in formats()) {
        let text = format!("{} end", text.replace('<', ">"));
        prop_assert_eq!(split(format, ANSWERS, [text.as_str()]), vec![Piece::Text(text)]);
    }
}
