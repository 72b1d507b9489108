//! Chats with a script in the place of a model.

use std::path::Path;
use std::sync::Arc;

use mtplx_engine::settings::Overrides;
use mtplx_engine::testing::script::Script;
use mtplx_engine::{ChatFormat, Engine, LoadSpec};
use serde_json::{Value, json};

use super::dialog::Form;
use super::screen::Screen;
use super::session::Session;
use super::stop::Stop;

const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
     {% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n\
     </think>\n\n{% else %}<think>\n{% endif %}{% endif %}";

struct Chat(Session<Vec<u8>>);

impl Chat {
    /// With these replies, by texts that the prompt holds; the template's when it has one.
    fn new(template: Option<&str>, context: usize, replies: &Value) -> Self {
        let script = json!({"context": context, "template": template, "replies": replies});
        let script: Script = serde_json::from_value(script).unwrap();
        let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin").display().to_string();
        let mut spec = LoadSpec::open(&builtin, &crate::registry()).unwrap();
        spec.text.template = script.chat_template(&spec.text.tokenizer).unwrap();
        spec.script = Some(script);
        let engine = Engine::load(spec, &mut |_| {}).unwrap();
        let tokenizer = Arc::clone(&engine.text().tokenizer);
        let form = match engine.text().template.clone() {
            Some(template) => Form::Chat(Box::new(ChatFormat::new(template, tokenizer))),
            None => Form::Text(tokenizer),
        };
        let screen = Screen::new(Vec::new(), false, false, Box::new(|| Some((200, 40))));
        let stop = Arc::new(Stop::new());
        Self(Session::new(engine, form, Overrides::default(), None, screen, stop, false))
    }

    /// What was shown since it was last asked.
    fn shown(&mut self) -> String {
        String::from_utf8(std::mem::take(self.0.screen.out())).unwrap()
    }

    /// Sends a message that is answered, and gives what was shown.
    fn ask(&mut self, text: &str) -> String {
        assert_eq!(self.0.send(text).unwrap(), None, "{text}");
        self.shown()
    }
}

#[test]
fn reasoning_is_folded_and_kept() {
    let replies = json!([{"text": "let me think\n</think>\n\nFour."}]);
    let mut chat = Chat::new(Some(TEMPLATE), 0, &replies);
    assert_eq!(chat.ask("2+2?"), "let me think\n(reasoning: 3 words; /reasoning shows it)\nFour.\n");
    chat.0.reasoning().unwrap();
    assert!(chat.shown().starts_with("let me think"));
}

#[test]
fn a_conversation_goes_on_and_back() {
    let replies = json!([
        {"text": "</think>three", "when": ["two", "first", "system\nbe brief"]},
        {"text": "</think>second", "when": ["two", "first"]},
        {"text": "</think>first"},
    ]);
    let mut chat = Chat::new(Some(TEMPLATE), 0, &replies);
    assert!(chat.ask("one").ends_with("first\n"));
    assert!(chat.ask("two").ends_with("second\n"));
    chat.0.retry().unwrap();
    assert!(chat.shown().ends_with("second\n"));
    chat.0.undo().unwrap();
    assert_eq!(chat.shown(), "taken back: two\n");
    chat.0.system("be brief").unwrap();
    assert!(chat.ask("two").ends_with("three\n"));
    chat.0.clear().unwrap();
    assert!(chat.shown().contains("4 messages forgotten"));
    chat.0.retry().unwrap();
    chat.0.undo().unwrap();
    assert!(chat.ask("two").ends_with("first\n"));
}

#[test]
fn a_text_goes_on() {
    let replies = json!([{"text": "c", "when": ["a\nb\nb"]}, {"text": "\nb", "when": ["a"]}]);
    let mut chat = Chat::new(None, 0, &replies);
    assert_eq!(chat.ask("a"), "\nb\n");
    assert_eq!(chat.ask("b"), "c\n");
    chat.0.system("x").unwrap();
    chat.0.think("on").unwrap();
    assert_eq!(chat.shown().lines().count(), 2, "neither is for text");
}

#[test]
fn a_full_context_loses_nothing() {
    let replies =
        json!([{"text": "</think>short", "unless": ["go on"]}, {"text": format!("</think>{}", "x y ".repeat(400))}]);
    let mut chat = Chat::new(Some(TEMPLATE), 120, &replies);
    chat.ask("one");
    let long = "word ".repeat(200);
    assert_eq!(chat.0.send(&long).unwrap(), Some(long), "the message comes back");
    chat.shown();
    let shown = chat.ask("go on");
    assert!(shown.contains("(the context of 120 tokens is full: /undo"), "{shown}");
    chat.0.undo().unwrap();
    assert!(chat.ask("two").contains("short"));
}

#[test]
fn an_answer_that_fails_is_kept_as_far_as_it_came() {
    let replies = json!([{"text": "</think>half", "fails": "error", "when": ["fail"]}, {"text": "</think>whole"}]);
    let mut chat = Chat::new(Some(TEMPLATE), 0, &replies);
    let shown = chat.ask("fail");
    assert!(shown.contains("half") && shown.contains("/retry"), "{shown}");
    chat.0.undo().unwrap();
    assert!(chat.ask("again").contains("whole"));
}

#[test]
fn a_saved_chat_is_loaded_and_a_bad_file_changes_nothing() {
    let replies = json!([{"text": "</think>second", "when": ["first"]}, {"text": "</think>first"}]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.json");
    let mut chat = Chat::new(Some(TEMPLATE), 0, &replies);
    chat.ask("one");
    chat.0.set("top-k 7").unwrap();
    chat.0.save(path.clone()).unwrap();
    assert!(chat.shown().contains("written, 2 messages"));
    chat.0.save(path.clone()).unwrap();
    assert!(chat.shown().contains("replaced, 2 messages"));

    let mut other = Chat::new(Some(TEMPLATE), 0, &replies);
    std::fs::write(dir.path().join("bad.json"), "{").unwrap();
    other.0.load(dir.path().join("bad.json")).unwrap();
    other.0.load(dir.path().join("none.json")).unwrap();
    assert_eq!(other.shown(), "nothing was changed\n".repeat(2));
    other.0.load(path).unwrap();
    other.0.set("top-k").unwrap();
    let shown = other.shown();
    assert!(shown.contains("chat.json: 2 messages") && shown.contains("7  (set here)"), "{shown}");
    assert!(other.ask("two").ends_with("second\n"));
}

#[test]
fn settings_are_changed_and_figures_shown() {
    let replies =
        json!([{"text": "</think>a b c d e f", "when": ["<think>\n\n</think>"]}, {"text": "hm\n</think>\n\nok"}]);
    let mut chat = Chat::new(Some(TEMPLATE), 0, &replies);
    chat.0.stats_command("").unwrap();
    assert_eq!(chat.shown(), "there is no answer yet\n");
    for (set, named) in [
        ("temperature 0", "temperature  "),
        ("parameter num_predict 40", "max-tokens  "),
        ("system Be brief.", "the system message holds"),
        ("", "repetition-penalty  1  (default)"),
    ] {
        chat.0.set(set).unwrap();
        let shown = chat.shown();
        assert!(shown.contains(named), "{set}: {shown}");
    }
    chat.0.set("temperature 99999").unwrap();
    chat.0.set("nonsense 1").unwrap();
    assert_eq!(chat.shown(), "", "errors go to standard error");
    chat.0.think("off").unwrap();
    assert!(chat.shown().contains("off  (set here)"));
    assert!(chat.ask("x").contains("a b c d e f"));
    chat.0.stats_command("").unwrap();
    let shown = chat.shown();
    assert!(shown.contains("acceptance by depth  1: ") && shown.contains("context "), "{shown}");
    chat.0.stats_command("on").unwrap();
    chat.shown();
    assert!(chat.ask("y").contains("acceptance by depth"));
    chat.0.show().unwrap();
    assert!(chat.shown().contains("4 messages; messages, by the chat template"));
}
