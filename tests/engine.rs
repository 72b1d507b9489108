//! The engine: requests in turn give the texts that they give alone, and whatever ends one leaves the others as they were.

use std::path::Path;
use std::time::{Duration, Instant};

use mtplx_engine::chat::{ChatFormat, Conversation, Message as ChatMessage, Role};
use mtplx_engine::settings::{Depth, Overrides};
use mtplx_engine::{End, Engine, Event, Limits, LoadSpec, Request, RequestError, Stream, TokenInfo};
use mtplx_runtime::mlx;
use mtplx_runtime::sampling::SamplingParams;
use mtplx_runtime::speculative::{Origin, Rule, SequenceError};
use mtplx_runtime::text::Ending;

use crate::command::json;

const BUILTIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/builtin");

/// The built-in model on the processor.
fn engine(limits: Limits) -> Engine {
    mlx::set_default_device(mlx::Device::Cpu);
    let spec = LoadSpec::open(BUILTIN, &mtplx::registry()).unwrap();
    Engine::load(LoadSpec { limits, ..spec }, &mut |_| {}).unwrap()
}

fn request(engine: &Engine, prompt: &str, overrides: Overrides) -> Request {
    let tokens = engine.text().tokenizer.encode(prompt, true).unwrap();
    engine.request(tokens, &overrides).unwrap()
}

/// Settings of a text of so many tokens.
fn of(max_tokens: usize, depth: usize, seed: u64) -> Overrides {
    Overrides {
        max_tokens: Some(max_tokens),
        depth: Some(Depth::Fixed(depth)),
        seed: Some(seed),
        ignore_eos: true,
        ..Overrides::default()
    }
}

/// Text, tokens and end of a stream that succeeds.
fn read(stream: Stream) -> (String, Vec<TokenInfo>, End) {
    let (mut text, mut all) = (String::new(), Vec::new());
    for event in stream {
        match event.unwrap() {
            Event::Queued { .. } | Event::Begun { .. } | Event::Prefill { .. } => {}
            Event::Text(piece) => {
                text.push_str(&piece.text);
                all.extend(piece.tokens);
            }
            Event::End(end) => {
                all.extend(end.stop_token.clone());
                return (text, all, end);
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("no end: {text}");
}

/// Reads until the first text.
fn begin(stream: &mut Stream) {
    assert!(stream.any(|event| matches!(event.unwrap(), Event::Text(_))));
}

/// Waits until the engine has no request left.
fn idle(engine: &Engine) {
    wait_for(engine, 0);
}

/// Waits until the engine has so many requests: the last event of one is sent before it is counted out.
fn wait_for(engine: &Engine, requests: usize) {
    let start = Instant::now();
    while engine.requests() != requests {
        assert!(start.elapsed() < Duration::from_secs(60), "{} requests are left", engine.requests());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn requests_in_turn_have_the_texts_of_the_program_alone() {
    let engine = engine(Limits::default());
    let prompts = ["fn main() {", "pub struct Point", "/// Returns the sum", "impl Iterator for", "use std::"];
    let settings = |index: usize| Overrides {
        acceptance: Some(if index.is_multiple_of(2) { Rule::Coupled } else { Rule::Rejection }),
        temperature: Some(if index == 3 { 0.0 } else { 0.8 }),
        ..of(40 + 7 * index, index, index as u64)
    };
    let together: Vec<Stream> = prompts
        .iter()
        .enumerate()
        .map(|(index, prompt)| engine.submit(request(&engine, prompt, settings(index))).unwrap())
        .collect();
    for (index, stream) in together.into_iter().enumerate() {
        let (text, tokens, end) = read(stream);
        let number = index.to_string();
        let (count, rule) =
            ((40 + 7 * index).to_string(), if index.is_multiple_of(2) { "coupled" } else { "rejection" });
        let mut args = vec!["run", "--json", "--raw", "--ignore-eos", "--seed", &number, "-n", &count];
        args.extend(["--mtp-depth", &number, "--acceptance", rule, prompts[index]]);
        args.extend(["-t", if index == 3 { "0" } else { "0.8" }]);
        let alone = json(&args);
        assert_eq!(text, alone["text"], "{index}");
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        assert_eq!(serde_json::json!(ids), alone["token_ids"], "{index}");
        assert_eq!((end.ending, tokens.len()), (Ending::Length, 40 + 7 * index));
    }
    idle(&engine);
}

#[test]
fn tokens_say_where_they_come_from_and_how_likely_they_were() {
    let engine = engine(Limits::default());
    let text = |depth, acceptance| {
        let settings = Overrides { acceptance: Some(acceptance), ..of(48, depth, 5) };
        let wanted = Request { logprobs: Some(3), ..request(&engine, "fn main() {", settings) };
        read(engine.submit(wanted).unwrap())
    };
    let (_, plain, _) = text(0, Rule::Coupled);
    assert!(plain.iter().all(|token| token.origin == Origin::Plain));
    let (_, drafted, end) = text(3, Rule::Coupled);
    let count = |is: fn(&Origin) -> bool| drafted.iter().filter(|token| is(&token.origin)).count() as u64;
    assert_eq!(count(|origin| matches!(origin, Origin::Draft(_))), end.stats.accepted_by_depth().iter().sum::<u64>());
    assert!(count(|origin| matches!(origin, Origin::Recovered | Origin::Bonus)) > 0);
    // The row of a verification pass is the row of a step.
    for (plain, drafted) in plain.iter().zip(&drafted) {
        let (a, b) = (plain.logprobs.as_ref().unwrap(), drafted.logprobs.as_ref().unwrap());
        assert_eq!(plain.id, drafted.id);
        assert!((a.logprob - b.logprob).abs() < 1e-4, "{a:?} {b:?}");
        assert!(a.logprob <= 0.0 && a.top.len() == 3 && a.top.is_sorted_by(|x, y| x.1 >= y.1), "{a:?}");
        assert!(a.top[0].1 >= a.logprob);
    }
}

#[test]
fn a_request_that_is_cancelled_ends_wherever_it_is() {
    let engine = engine(Limits { running: 2, waiting: 8, ..Limits::default() });
    let wanted = || request(&engine, "fn main() {", of(60, 2, 1));
    let alone = read(engine.submit(wanted()).unwrap()).0;
    let long = || request(&engine, &"let x = 1;\n".repeat(80), of(400, 3, 2));
    // Decoding, reading its prompt, in the queue; by its reader's end and by its flag.
    let mut decoding = engine.submit(long()).unwrap();
    begin(&mut decoding);
    let reading = engine.submit(long()).unwrap();
    let queued = engine.submit(long()).unwrap();
    let flagged = long();
    let flag = flagged.cancel.clone();
    let waiting = engine.submit(flagged).unwrap();
    let kept = engine.submit(wanted()).unwrap();
    drop((reading, queued));
    flag.cancel();
    assert!(waiting.into_iter().all(|event| !matches!(event, Ok(Event::Text(_)))));
    decoding.cancel();
    assert_eq!(read(decoding).2.ending, Ending::Interrupted);
    assert_eq!(read(kept).0, alone);
    idle(&engine);
}

#[test]
fn a_reader_that_does_not_read_stops_nobody_else() {
    let engine = engine(Limits::default());
    let long = || request(&engine, "fn main() {", of(120, 0, 3));
    let unread = engine.submit(long()).unwrap();
    let (text, ..) = read(engine.submit(long()).unwrap());
    wait_for(&engine, 1);
    assert_eq!(read(unread).0, text);
    idle(&engine);
}

#[test]
fn requests_that_cannot_begin_are_refused_at_once() {
    let engine = engine(Limits { running: 1, waiting: 1, ..Limits::default() });
    let good = || request(&engine, "fn main() {", of(200, 1, 4));
    let refused = |request: Request| engine.submit(request).unwrap_err();
    let is_empty = |error| matches!(error, RequestError::Sequence(SequenceError::EmptyPrompt));
    assert!(is_empty(refused(Request { prompt: Vec::new(), ..good() })));
    let beyond = refused(Request { prompt: vec![1 << 30], ..good() });
    assert!(matches!(beyond, RequestError::Sequence(SequenceError::UnknownToken { .. })));
    let context = engine.info().model.context;
    let long = refused(Request { prompt: vec![1; context], ..good() });
    assert!(matches!(long, RequestError::ContextExceeded { prompt, .. } if prompt == context));
    let sampling = SamplingParams { temperature: f32::NAN, ..good().sampling };
    assert!(matches!(refused(Request { sampling, ..good() }), RequestError::Sequence(SequenceError::Params(_))));
    let running = engine.submit(good()).unwrap();
    let mut waiting = engine.submit(good()).unwrap();
    assert!(matches!(waiting.next(), Some(Ok(Event::Queued { ahead: 1 }))));
    assert!(matches!(refused(good()), RequestError::Busy { waiting: 1 }));
    assert_eq!(read(running).0, read(waiting).0);
    // A bound beyond the context is the context's.
    let prompt = vec![good().prompt[0]; context - 12];
    let (_, tokens, end) = read(engine.submit(Request { max_tokens: usize::MAX, prompt, ..good() }).unwrap());
    assert_eq!((end.ending, tokens.len()), (Ending::Length, 12));
    idle(&engine);
}

#[test]
fn stop_strings_end_a_text_where_they_are_complete() {
    let engine = engine(Limits::default());
    let whole = read(engine.submit(request(&engine, "fn main() {", of(60, 3, 6))).unwrap()).0;
    let stop = whole.get(whole.len() / 2..whole.len() / 2 + 3).unwrap_or("(").to_owned();
    let settings = Overrides { stop: vec!["\u{1F600}".to_owned(), stop.clone()], ..of(60, 3, 6) };
    let (text, _, end) = read(engine.submit(request(&engine, "fn main() {", settings)).unwrap());
    assert_eq!((end.ending, end.stop_string), (Ending::StopString, Some(1)));
    assert_eq!(text, whole[..whole.find(&stop).unwrap()]);
}

#[test]
fn a_model_that_cannot_run_is_refused_with_its_verdict() {
    let registry = mtplx::registry();
    let refused = |path: &Path| LoadSpec::open(path.to_str().unwrap(), &registry).err().unwrap().to_string();
    assert!(refused(Path::new("/no/such/folder")).contains("/no/such/folder"));
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    assert!(refused(folder.path()).contains("llama"), "{}", refused(folder.path()));
}

/// A conversation of the built-in model's kind: 64 tokens and more a turn.
fn turns(count: usize) -> Vec<u32> {
    let spec = LoadSpec::open(BUILTIN, &mtplx::registry()).unwrap();
    let text: String =
        (0..count).map(|turn| format!("fn f{turn}(a: u32, b: u32) -> u32 {{\n    a + b * {turn}\n}}\n\n")).collect();
    spec.text.tokenizer.encode(&text, true).unwrap()
}

#[test]
fn a_prompt_that_goes_on_is_read_from_where_it_left_and_has_the_same_text() {
    let (kept, cold) = (engine(Limits::default()), engine(Limits { kept: Some(0), ..Limits::default() }));
    let tokens = turns(24);
    let cached = |stream: Stream| {
        let (mut cached, mut missed) = (0, None);
        let (mut text, mut end) = (String::new(), None);
        for event in stream {
            match event.unwrap() {
                Event::Begun { cached: tokens, miss } => (cached, missed) = (tokens, miss),
                Event::Text(piece) => text.push_str(&piece.text),
                Event::End(last) => end = Some(last),
                _ => {}
            }
        }
        (text, cached, missed, end.unwrap().cached_tokens)
    };
    for (turn, length) in [200, 200, 333, 470].into_iter().enumerate() {
        for (depth, acceptance) in [(0, Rule::Coupled), (3, Rule::Coupled), (2, Rule::Rejection)] {
            let wanted = |engine: &Engine| {
                let settings = Overrides { acceptance: Some(acceptance), ..of(24, depth, turn as u64) };
                engine.request(tokens[..length].to_vec(), &settings).unwrap()
            };
            let (text, hit, _, of_end) = cached(kept.submit(wanted(&kept)).unwrap());
            let (expected, none, ..) = cached(cold.submit(wanted(&cold)).unwrap());
            assert_eq!(text, expected, "{length} tokens, depth {depth}");
            assert_eq!((none, of_end), (0, hit));
            // All but the last 64 tokens of the prompt before.
            let before = [0, 200, 200, 333][turn];
            assert!(hit + 64 >= before && hit < length, "{hit} of {length} behind {before}");
        }
    }
    assert!(kept.kept_bytes() > 0 && cold.kept_bytes() == 0);
    let mut other = tokens[..300].to_vec();
    other[250] = (other[250] + 1) % 100;
    let request = kept.request(other.clone(), &of(1, 0, 1)).unwrap();
    let (_, hit, miss, _) = cached(kept.submit(request).unwrap());
    let miss = miss.unwrap();
    assert_eq!((hit, miss.position, miss.kept, miss.sent), (192, 250, tokens[250], other[250]));
}

#[test]
fn requests_that_decode_together_share_passes_and_keep_their_texts() {
    let engine = engine(Limits::default());
    let wanted = |index: usize| {
        let acceptance = Some([Rule::Coupled, Rule::Rejection][index % 2]);
        let temperature = Some([0.0, 0.6, 1.0][index % 3]);
        let settings = Overrides { acceptance, temperature, ..of(60 + 5 * index, index % 4, index as u64) };
        request(&engine, &format!("fn f{index}(a: u32) -> "), settings)
    };
    let alone: Vec<String> = (0..8).map(|index| read(engine.submit(wanted(index)).unwrap()).0).collect();
    let before = engine.units();
    let streams: Vec<Stream> = (0..8).map(|index| engine.submit(wanted(index)).unwrap()).collect();
    let mut rounds = 0;
    for (index, stream) in streams.into_iter().enumerate() {
        let (text, _, end) = read(stream);
        assert_eq!(text, alone[index], "request {index}");
        rounds += end.stats.rounds();
    }
    // Rounds of one batch are one unit, and so is each prompt.
    let units = engine.units() - before;
    assert!(units < rounds / 2, "{units} units for {rounds} rounds");
    idle(&engine);
}

#[test]
fn two_hundred_seeded_conversations_have_the_same_text_cached_and_cold() {
    const CONVERSATIONS: usize = 200;
    let (kept, cold) = (engine(Limits::default()), engine(Limits { kept: Some(0), ..Limits::default() }));
    let tokens = turns(40);
    let mut hits = 0;
    for seed in 0..CONVERSATIONS {
        // A first turn, and a second one behind the first's answer.
        let settings = Overrides {
            acceptance: Some([Rule::Coupled, Rule::Rejection][seed % 2]),
            temperature: Some([0.0, 0.6, 1.0][seed % 3]),
            ..of(6, seed % 4, seed as u64)
        };
        let start = 7 * (seed % 50);
        let mut prompt = tokens[start..start + 70 + seed % 64].to_vec();
        let ask = |engine: &Engine, prompt: &[u32]| {
            read(engine.submit(engine.request(prompt.to_vec(), &settings).unwrap()).unwrap())
        };
        let (_, ids, _) = ask(&kept, &prompt);
        prompt.extend(ids.iter().map(|token| token.id));
        prompt.extend_from_slice(&tokens[..20]);
        let ((text, _, end), (expected, _, none)) = (ask(&kept, &prompt), ask(&cold, &prompt));
        assert_eq!(text, expected, "seed {seed}, {} cached", end.cached_tokens);
        assert_eq!(none.cached_tokens, 0);
        hits += usize::from(end.cached_tokens >= 64);
    }
    assert_eq!(hits, CONVERSATIONS, "each second turn goes on from its first");
}

#[test]
fn the_second_turn_of_each_familys_template_goes_on_from_the_first() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/artifact/src/text/jinja/fixtures");
    for family in ["qwen3_5", "deepseek_v3", "glm4_moe", "mimo", "minimax_m2"] {
        // The built-in model behind the family's template.
        let folder = tempfile::TempDir::new().unwrap();
        for file in std::fs::read_dir(BUILTIN).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        std::fs::copy(fixtures.join(format!("{family}.jinja")), folder.path().join("chat_template.jinja")).unwrap();
        mlx::set_default_device(mlx::Device::Cpu);
        let spec = LoadSpec::open(folder.path().to_str().unwrap(), &mtplx::registry()).unwrap();
        let engine = Engine::load(spec, &mut |_| {}).unwrap();
        let text = engine.text();
        let chat = ChatFormat::new(text.template.clone().unwrap(), text.tokenizer.clone());
        let message = |role, content: &str| {
            let content = content.to_owned();
            ChatMessage { role, content, reasoning: None, calls: Vec::new(), call_id: None, name: None }
        };
        let mut messages = vec![
            message(Role::System, &"You answer questions about a program in Rust, in one sentence each. ".repeat(5)),
            message(Role::User, "Which function adds two numbers, and where is it called?"),
        ];
        let ask = |messages: &[ChatMessage]| {
            let prompt = chat.prompt(&Conversation { messages: messages.to_vec(), ..Conversation::default() }).unwrap();
            let mut request = engine.request(prompt.tokens.clone(), &of(12, 2, 5)).unwrap();
            request.answer_tokens = prompt.answer_tokens;
            let (text, _, end) = read(engine.submit(request).unwrap());
            (prompt, text, end.cached_tokens)
        };
        let (first, answer, cached) = ask(&messages);
        assert_eq!(cached, 0, "{family}");
        messages.push(ChatMessage { reasoning: Some("It is short.".to_owned()), ..message(Role::Assistant, &answer) });
        messages.push(message(Role::User, "And which one subtracts them?"));
        let (second, _, cached) = ask(&messages);
        let least = first.tokens.len() - 64 - first.answer_tokens;
        assert!(cached >= least && least > 64, "{family}: {cached} of {}, wanted {least}", second.tokens.len());
    }
}

#[test]
fn texts_that_find_no_memory_wait_and_give_theirs_up_and_stay_the_same() {
    let open = |limits| engine(Limits { kept: Some(0), ..limits });
    let roomy = open(Limits::default());
    let wanted = |engine: &Engine, index: usize| {
        let acceptance = Some([Rule::Coupled, Rule::Rejection][index % 2]);
        let settings = Overrides { acceptance, presence_penalty: Some(0.2), ..of(300, index % 4, index as u64) };
        let tokens = turns(8)[..60 + 10 * index].to_vec();
        engine.request(tokens, &settings).unwrap()
    };
    let alone: Vec<_> = (0..5).map(|index| read(roomy.submit(wanted(&roomy, index)).unwrap())).collect();
    let free = open(Limits { reserve: 64, ..Limits::default() });
    let together = |engine: &Engine| {
        let before = engine.units();
        let streams: Vec<Stream> = (0..5).map(|index| engine.submit(wanted(engine, index)).unwrap()).collect();
        for (index, stream) in streams.into_iter().enumerate() {
            let (text, tokens, end) = read(stream);
            assert_eq!(text, alone[index].0, "request {index}");
            assert_eq!((tokens.len(), end.tokens), (300, 300));
        }
        idle(engine);
        engine.units() - before
    };
    let units = together(&free);
    // Room for two whole texts: all five begin, and some are read again.
    let memory = free.model().memory(false).unwrap();
    let need = memory.need(400, mtplx_runtime::inspect::Arithmetic::of_default()).context;
    let tight = open(Limits { reserve: 64, texts: Some(2 * need), ..Limits::default() });
    assert!(together(&tight) > units, "no text was read again");
    // A text that can never fit is refused, or is as long as the memory.
    let small = open(Limits { texts: Some(need), ..Limits::default() });
    let context = small.info().model.context;
    assert!((400..2048).contains(&context), "{context}");
    let refused = small.submit(Request { prompt: vec![1; context], ..wanted(&small, 0) }).unwrap_err();
    assert!(matches!(refused, RequestError::ContextExceeded { .. }));
    let whole = read(small.submit(Request { max_tokens: 5000, ..wanted(&small, 0) }).unwrap());
    assert_eq!(whole.1.len(), context - 60);
}
