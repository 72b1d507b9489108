//! Events, texts and bodies that every dialect is tested with.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::wire::frame::Frame;
use crate::wire::internal::{
    Conversation, End, Event, Failure, FailureKind, FinishReason, GenerationRequest, Message, Origin, Piece, Prompt,
    Timings, TokenInfo, TokenLogprobs, TopLogprob, Usage,
};

/// Seconds since 1970 of every answer in tests.
pub(crate) const CREATED: u64 = 1_796_076_241;

/// A token whose id and log-probability follow from its text.
pub(crate) fn token(text: &str, origin: Origin) -> TokenInfo {
    let id = text.bytes().map(u32::from).sum();
    let top = |text: &str, logprob| TopLogprob { id, text: text.to_owned(), bytes: text.as_bytes().to_vec(), logprob };
    let logprobs = TokenLogprobs { logprob: -0.5, top: vec![top(text, -0.5), top("?", f32::NEG_INFINITY)] };
    TokenInfo { id, text: text.to_owned(), bytes: text.as_bytes().to_vec(), origin, logprobs: Some(logprobs) }
}

/// A piece of one token.
pub(crate) fn piece(text: &str) -> Piece {
    Piece { text: text.to_owned(), tokens: vec![token(text, Origin::Plain)] }
}

/// A piece of one token with this id.
pub(crate) fn numbered(id: u32, text: &str, origin: Origin) -> Piece {
    Piece { text: text.to_owned(), tokens: vec![TokenInfo { id, ..token(text, origin) }] }
}

/// A piece of reasoning.
pub(crate) fn reasoning(text: &str) -> Event {
    Event::Reasoning(piece(text))
}

/// A piece of text.
pub(crate) fn text(text: &str) -> Event {
    Event::Text(piece(text))
}

/// The begin of call `index`, whose id ends in that number.
pub(crate) fn call(index: usize, name: &str) -> Event {
    Event::Call { index, id: format!("call_{index}"), name: name.to_owned() }
}

/// A piece of arguments.
pub(crate) fn arguments(text: &str) -> Event {
    Event::Arguments(piece(text))
}

/// Events of the first call: its arguments in the pieces given, complete unless `is_cut`.
pub(crate) fn first_call(name: &str, pieces: &[&str], is_cut: bool) -> Vec<Event> {
    let mut events = vec![call(0, name)];
    events.extend(pieces.iter().map(|text| arguments(text)));
    if !is_cut {
        events.push(Event::EndOfCall);
    }
    events
}

/// The end: 12 tokens of the prompt, 8 of them from the store, 5 generated.
pub(crate) fn end(reason: FinishReason) -> Event {
    let usage = Usage {
        prompt_tokens: 12,
        cached_tokens: 8,
        completion_tokens: 5,
        reasoning_tokens: 2,
        thinking_budget_reached: false,
    };
    let timings = Timings {
        prompt_tokens: 12,
        cached_tokens: 8,
        completion_tokens: 5,
        ttft_ms: 250.0,
        tokens_per_second: 8.0,
        rounds: 2,
        drafted: vec![2, 1],
        accepted: vec![1, 0],
    };
    let stop_string = (reason == FinishReason::StopString).then(|| "END".to_owned());
    Event::End(End { reason, stop_string, usage, timings })
}

/// The answers that every dialect writes: a name, and the events.
pub(crate) fn answers() -> Vec<(&'static str, Vec<Event>)> {
    let failure = Failure::new(FailureKind::Internal, "the engine stopped; send the request again");
    vec![
        ("text", vec![text("Hel"), text("lo"), end(FinishReason::Stop)]),
        ("reasoning", vec![reasoning("Hm"), reasoning("m."), text("Hello"), end(FinishReason::Stop)]),
        (
            "two_calls",
            vec![
                text("I look."),
                call(0, "read"),
                arguments(r#"{"path":"#),
                arguments(r#" "a"}"#),
                Event::EndOfCall,
                call(1, "read"),
                arguments(r#"{"path": "b"}"#),
                Event::EndOfCall,
                end(FinishReason::ToolCalls),
            ],
        ),
        (
            "reasoning_call",
            vec![reasoning("Hm."), call(0, "read"), arguments("{}"), Event::EndOfCall, end(FinishReason::ToolCalls)],
        ),
        ("limit_in_call", vec![call(0, "read"), arguments(r#"{"path": "a", "li"#), end(FinishReason::Length)]),
        ("stop_string", vec![text("Hello "), end(FinishReason::StopString)]),
        ("error", vec![text("Hel"), Event::Failed(failure)]),
        ("empty", vec![end(FinishReason::Stop)]),
    ]
}

/// The events of a named answer.
pub(crate) fn answer(name: &str) -> Vec<Event> {
    answers().into_iter().find(|(found, _)| *found == name).map(|(_, events)| events).unwrap()
}

/// Encoded frames of each answer, then the whole answer.
pub(crate) fn transcript(
    answers: &[(&str, Vec<Event>)],
    mut write: impl FnMut(&[Event]) -> (Vec<Frame>, Result<Value, Failure>),
) -> String {
    let mut text = String::new();
    for (name, events) in answers {
        let (frames, whole) = write(events);
        text += &format!("# {name}\n");
        text.extend(frames.iter().map(|frame| frame.encode().trim_end().to_owned() + "\n"));
        text += &match whole {
            Ok(whole) => format!("whole: {whole}\n\n"),
            Err(failure) => format!("failure: {}: {failure}\n\n", failure.status()),
        };
    }
    text
}

/// The frames, one a line: name and data without `type`, which is the name, and without the times of the end.
pub(crate) fn lines(frames: &[Frame]) -> String {
    let line = |frame: &Frame| {
        let mut data = frame.value().unwrap().clone();
        let object = data.as_object_mut().unwrap();
        object.shift_remove("timings");
        let kind = object.shift_remove("type").unwrap();
        let kind = kind.as_str().unwrap();
        assert!(frame.encode().starts_with(&format!("event: {kind}\ndata: ")));
        format!("{kind} {data}\n")
    };
    frames.iter().map(line).collect()
}

/// The conversation of a request.
pub(crate) fn conversation_of(request: &GenerationRequest) -> &Conversation {
    match &request.prompt {
        Prompt::Conversation(conversation) => conversation,
        Prompt::Raw(_) => panic!("a raw prompt"),
    }
}

/// The messages of a conversation, one a line: role, id, tool, reasoning, text, calls.
pub(crate) fn messages(conversation: &Conversation) -> String {
    let line = |message: &Message| {
        let shown = |text: &Option<String>| text.as_ref().map_or(String::new(), |text| format!(" {text}"));
        let reasoning = message.reasoning.as_ref().map_or(String::new(), |text| format!(" <{text}>"));
        let calls: String =
            message.calls.iter().map(|call| format!(" {}={}({})", call.id, call.name, call.arguments)).collect();
        let (role, call_id, name) = (message.role, shown(&message.call_id), shown(&message.name));
        format!("{role:?}{call_id}{name}{reasoning} {:?}{calls}\n", message.content)
    };
    conversation.messages.iter().map(line).collect()
}

/// Any events with an end: pieces in any number and order, calls complete or cut.
pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    let piece = || prop_oneof!["[a\"\\\\\n\u{e9}]{0,3}", ".{1,3}", Just("\u{2028}\n".to_owned())];
    let pieces = move || prop::collection::vec(piece(), 0..4);
    let run = prop_oneof![
        pieces().prop_map(|pieces| pieces.iter().map(|piece| reasoning(piece)).collect::<Vec<_>>()),
        pieces().prop_map(|pieces| pieces.iter().map(|piece| text(piece)).collect()),
        (pieces(), any::<bool>()).prop_map(|(pieces, custom)| {
            let json = json!({ "input": pieces.concat() }).to_string();
            let cut = json.len() / 2;
            let cut = (cut..=json.len()).find(|&at| json.is_char_boundary(at)).unwrap_or(json.len());
            let name = if custom { "patch" } else { "read" };
            vec![call(0, name), arguments(&json[..cut]), arguments(&json[cut..]), Event::EndOfCall]
        }),
    ];
    (prop::collection::vec(run, 0..6), any::<bool>()).prop_map(|(runs, limit)| {
        let mut events = runs.concat();
        let mut index = 0;
        for event in &mut events {
            if let Event::Call { index: own, id, .. } = event {
                *own = index;
                *id = format!("call_{index}");
                index += 1;
            }
        }
        if limit && events.last() == Some(&Event::EndOfCall) {
            events.pop();
        }
        events.push(end(if limit { FinishReason::Length } else { FinishReason::Stop }));
        events
    })
}

/// The events with neighbouring pieces of one kind as one.
pub(crate) fn joined(events: &[Event]) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Reasoning(last)), Event::Reasoning(piece))
            | (Some(Event::Text(last)), Event::Text(piece))
            | (Some(Event::Arguments(last)), Event::Arguments(piece)) => {
                last.text.push_str(&piece.text);
                last.tokens.extend_from_slice(&piece.tokens);
            }
            _ => joined.push(event.clone()),
        }
    }
    joined
}

/// All reasoning and all text.
pub(crate) fn texts(events: &[Event]) -> (String, String) {
    let (mut reasoning, mut text) = (String::new(), String::new());
    for event in events {
        match event {
            Event::Reasoning(piece) => reasoning.push_str(&piece.text),
            Event::Text(piece) => text.push_str(&piece.text),
            _ => {}
        }
    }
    (reasoning, text)
}

/// The pieces of all kinds in the order they came.
pub(crate) fn pieces(events: &[Event]) -> impl Iterator<Item = &Piece> {
    events.iter().filter_map(|event| match event {
        Event::Reasoning(piece) | Event::Text(piece) | Event::Arguments(piece) => Some(piece),
        _ => None,
    })
}

/// The arguments of each call.
pub(crate) fn calls(events: &[Event]) -> Vec<String> {
    let mut calls: Vec<String> = Vec::new();
    for event in events {
        match event {
            Event::Call { .. } => calls.push(String::new()),
            Event::Arguments(piece) => calls.last_mut().unwrap().push_str(&piece.text),
            _ => {}
        }
    }
    calls
}

/// Bodies of requests: JSON of the dialects' own words in any shape, with a list under `key`.
pub(crate) fn request(key: &'static str) -> impl Strategy<Value = String> {
    let word = || prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
    let leaf = prop_oneof![
        4 => word().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (-3_i64..30).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => ".{0,4}".prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    let value = leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    let fields = prop::collection::vec((word(), value.clone()), 0..5);
    (prop::collection::vec(value, 0..5), fields).prop_map(move |(list, fields)| {
        let mut body: Map<String, Value> = fields.into_iter().collect();
        body.insert(key.to_owned(), list.into());
        Value::Object(body).to_string()
    })
}

/// `body` with the value at place `at`, counted through all lists and objects, replaced by `value`.
pub(crate) fn mutated(body: &str, at: usize, value: &Value) -> String {
    fn replace(tree: &mut Value, left: &mut usize, value: &Value) {
        if *left == 0 {
            *tree = value.clone();
        }
        *left = left.wrapping_sub(1);
        match tree {
            Value::Array(items) => items.iter_mut().for_each(|item| replace(item, left, value)),
            Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, left, value)),
            _ => {}
        }
    }
    let mut tree = serde_json::from_str(body).unwrap();
    replace(&mut tree, &mut at.clone(), value);
    tree.to_string()
}

/// Values that a field may hold by mistake.
pub(crate) fn wrong_value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5e300),
        json!(""),
        json!("text"),
        json!([]),
        json!([[], {}, null, "text"]),
        json!({}),
        json!({"type": "text"}),
    ])
}

/// Checks what holds for every answer of a parser.
pub(crate) fn check_parse<T>(parse: impl Fn(&[u8]) -> Result<T, Failure>, body: &[u8]) {
    if let Err(failure) = parse(body) {
        assert_eq!(failure.status(), 400);
        let field = failure.param.as_deref().unwrap_or("body");
        assert!(failure.message.starts_with(field), "{field}: {}", failure.message);
        assert!(failure.message.len() < 1000, "{}", failure.message);
    }
}

/// Words of requests.
#[rustfmt::skip]
const WORDS: [&str; 84] = [
    "7", "arguments", "assistant", "auto", "best_of", "call_id", "chat_template_kwargs", "content", "custom",
    "custom_tool_call", "depth", "echo", "effort", "function", "function_call", "function_call_output", "functions",
    "id", "image", "images", "include_usage", "input", "instructions", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "message", "messages", "min_p", "model", "mtp", "n", "name", "namespace",
    "none", "num_predict", "options", "output", "parallel_tool_calls", "parameters", "presence_penalty", "prompt",
    "reasoning", "reasoning_content", "reasoning_effort", "refusal", "repetition_penalty", "response_format", "role",
    "seed", "stop", "stream", "stream_options", "suffix", "summary", "system", "temperature", "text", "think",
    "thinking", "tool", "tool_call_id", "tool_calls", "tool_choice", "tool_result", "tool_use", "tools", "top_k",
    "top_logprobs", "top_p", "type", "user", "x-anthropic-billing-header: \u{e9}", "allowed_tools", "format", "include",
    "is_error", "metadata", "mode", "output_config", "stop_sequences", "tool_name", "tool_use_id",
];
