//! `mtplx chat` on a terminal: answers, keys, commands, history, and ways out.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use rexpect::reader::Options;
use rexpect::session::{PtySession, spawn_with_options};
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{copy, fails, model, mtplx};

/// An answer of so many tokens, which nothing ends before.
const SHORT: [&str; 4] = ["--ignore-eos", "-n", "8", "--seed=1"];
const UP: &str = "\x1b[A";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// A chat on a terminal, with a folder of its own for what it keeps.
struct Chat {
    terminal: PtySession,
    home: TempDir,
}

impl Chat {
    fn with(args: &[&str]) -> Self {
        Self::at(tempfile::tempdir().unwrap(), args, |_| {})
    }

    /// In a home that is there already, once it waits for a line.
    fn at(home: TempDir, args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = mtplx(args);
        command.env("MTPLX_HOME", home.path()).env("TERM", "xterm").env_remove("NO_COLOR");
        change(&mut command);
        let options = Options::new().timeout_ms(Some(120_000)).strip_ansi_escape_codes(true);
        let mut chat = Self { terminal: spawn_with_options(command, options).unwrap(), home };
        chat.until("Ctrl-D leaves");
        chat.until(">>> ");
        chat
    }

    /// What is shown before `text` is.
    fn until(&mut self, text: &str) -> String {
        self.terminal.exp_string(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn keys(&mut self, keys: &str) {
        self.terminal.send(keys).unwrap();
        self.terminal.flush().unwrap();
    }

    /// Enters a line, and gives what is shown until `text` is and the next line is waited for.
    fn line(&mut self, line: &str, text: &str) -> String {
        self.keys(line);
        self.keys("\r");
        let shown = self.until(text);
        self.until(">>> ");
        shown
    }

    /// Asks for a short answer.
    fn ask(&mut self, line: &str) -> String {
        self.line(line, "(ended after 8 tokens")
    }

    /// The conversation as `/save` writes it.
    fn saved(&mut self, name: &str) -> Value {
        let path = self.home.path().join(name);
        self.line(&format!("/save {}", path.display()), "written, ");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// The texts of the messages.
    fn messages(&mut self) -> Vec<String> {
        let saved = self.saved("messages.json");
        fs::remove_file(self.home.path().join("messages.json")).unwrap();
        let messages = saved["messages"].as_array().unwrap();
        messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
    }

    fn leave(mut self, keys: &str) -> TempDir {
        self.keys(keys);
        let status = format!("{:?}", self.terminal.process().wait().unwrap());
        assert!(status.starts_with("Exited(") && status.ends_with(", 0)"), "{status}");
        self.home
    }
}

#[test]
fn text_goes_on_and_figures_are_shown() {
    let mut chat = Chat::with(&[&["chat"], &SHORT[..]].concat());
    chat.ask("fn main() {");
    chat.ask("    let x = 1;");
    // Enter alone.
    chat.ask("");
    let shown = chat.line("/stats", "context ");
    assert!(shown.contains("8 tokens, ") && shown.contains("TTFT") && shown.contains("acceptance by depth"), "{shown}");
    let messages = chat.messages();
    assert_eq!((messages.len(), messages[2].as_str(), messages[4].as_str()), (6, "    let x = 1;", ""));
    chat.line("/undo", "taken back");
    assert_eq!(chat.messages().len(), 4);
    chat.leave(CTRL_D);
}

/// The second turn reads what is new alone.
#[test]
fn the_second_turn_goes_on_from_the_first() {
    let mut chat = Chat::with(&[&["chat"], &SHORT[..]].concat());
    let long: String = (0..60).map(|n| format!("let x{n} = {n}; ")).collect();
    chat.ask(&long);
    let shown = chat.line("/stats", "context ");
    assert!(!shown.contains("read before"), "{shown}");
    chat.ask("let y = 1;");
    chat.line("/stats", "tokens of the prompt were read before");
    chat.leave(CTRL_D);
}

#[test]
fn a_message_is_answered_by_the_chat_template() {
    let fixture = model("trained_qwen3_5/mlx_q4g32");
    let mut chat = Chat::with(&[&["chat", &fixture, "--system", "be brief"], &SHORT[..]].concat());
    chat.ask("hello");
    chat.ask("and?");
    let before = chat.messages();
    chat.line("/set temperature 0", "set here");
    chat.line("/retry", "(ended after 8 tokens");
    let saved = chat.saved("chat.json");
    assert_eq!((saved["system"].as_str(), saved["settings"]["temperature"].as_f64()), (Some("be brief"), Some(0.0)));
    assert_eq!(saved["messages"].as_array().unwrap().len(), before.len());
    chat.line("/clear", "4 messages forgotten");
    let place = chat.home.path().join("chat.json").display().to_string();
    chat.line(&format!("/load {place}"), "4 messages and the settings");
    assert_eq!(chat.messages().len(), 4);
    chat.line("/load /no/such/file", "nothing was changed");
    assert_eq!(chat.messages().len(), 4);
    // Another file than the one that was saved or loaded last is not replaced unasked.
    fs::write(chat.home.path().join("other.json"), "mine").unwrap();
    let other = chat.home.path().join("other.json");
    chat.keys(&format!("/save {}\r", other.display()));
    chat.until("replace it? [y/N] ");
    chat.keys("\r");
    chat.until("nothing was written");
    assert_eq!(fs::read_to_string(other).unwrap(), "mine");
    chat.until(">>> ");
    chat.line("/show", "conversation  4 messages; messages, by the chat template");
    chat.leave("/bye\r");
}

/// A template that begins answers with reasoning, which this model never ends.
#[test]
fn reasoning_is_folded_to_a_count_of_words() {
    let folder = copy("trained_qwen3_5/mlx_q4g32");
    let path = folder.path().join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["chat_template"] = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n\
         {{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
        .into();
    fs::write(&path, config.to_string()).unwrap();
    let place = folder.path().display().to_string();
    let args = ["chat", &place, "--ignore-eos", "-n", "120", "-s", "3", "-t", "1.5"];
    let mut chat = Chat::with(&args);
    let shown = chat.line("Licensed under the Apache License", "(ended after 120 tokens");
    let words = shown.split("(reasoning: ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    let saved = chat.saved("chat.json");
    let answer = &saved["messages"][1];
    let reasoning = answer["reasoning"].as_str().unwrap();
    assert_eq!((words, answer["content"].as_str()), (Some(reasoning.split_whitespace().count()), Some("")), "{shown}");
    assert!(words > Some(5), "{reasoning}");
    chat.leave(CTRL_D);
}

#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    let mut chat = Chat::with(&["chat", "--ignore-eos", "-n", "1900"]);
    chat.keys("fn main() {\r");
    chat.until("fn main() {");
    chat.until("\n");
    // Some of the answer is there.
    chat.until("\n");
    chat.keys(CTRL_C);
    chat.until("(stopped)");
    chat.until(">>> ");
    let messages = chat.messages();
    assert!(messages.len() == 2 && !messages[1].is_empty(), "{messages:?}");
    chat.keys(CTRL_C);
    chat.until("/bye or Ctrl-D leaves");
    // A line that was begun is dropped, and nothing else.
    chat.keys("/save /tmp");
    chat.keys(CTRL_C);
    chat.line("/clear", "2 messages forgotten");
    chat.leave("/exit\r");
}

#[test]
fn lines_that_belong_together_are_one_message() {
    let mut chat = Chat::with(&[&["chat"], &SHORT[..]].concat());
    for (keys, text) in [
        ("\"\"\"\ra\r\rb\"\"\"\r", "a\n\nb"),
        ("a\nb\r", "a\nb"),
        ("a\x1b\rb\r", "a\nb"),
        ("a\\\rb\\\rc\r", "a\nb\nc"),
        ("\x1b[200~fn a() {\n\tb \\\n}\x1b[201~\r", "fn a() {\n\tb \\\n}"),
        ("/usr/bin/env\r", "/usr/bin/env"),
        (" /bye\r", "/bye"),
    ] {
        chat.keys(keys);
        chat.until("(ended after 8 tokens");
        chat.until(">>> ");
        let messages = chat.messages();
        assert_eq!(messages[messages.len() - 2], text, "{keys:?}");
        chat.line("/clear", "forgotten");
    }
    chat.leave(CTRL_D);
}

#[test]
fn lines_are_kept_from_chat_to_chat() {
    let mut chat = Chat::with(&[&["chat"], &SHORT[..]].concat());
    chat.ask("fn first() {");
    chat.ask(" fn secret() {");
    let home = chat.leave(CTRL_D);
    let history = fs::read_to_string(home.path().join("chat_history")).unwrap();
    assert_eq!(history, "#V2\nfn first() {\n", "not what begins with a space");
    let mut chat = Chat::at(home, &[&["chat"], &SHORT[..]].concat(), |_| {});
    chat.keys(UP);
    chat.until("fn first() {");
    chat.keys("\r");
    chat.until("(ended after 8 tokens");
    chat.until(">>> ");
    assert_eq!(chat.messages()[0], "fn first() {");
    chat.leave(CTRL_D);
}

#[test]
fn commands_are_completed_and_mistakes_end_nothing() {
    let mut chat = Chat::with(&[&["chat"], &SHORT[..]].concat());
    chat.keys("/und\t\r");
    chat.until("there is no message to take back");
    chat.until(">>> ");
    chat.line("/retyr", "error: /retyr: no such command; /retry is one");
    chat.line("/set temperature -1", "error: temperature -1: ");
    chat.line("/set nothing 1", "error: nothing: no such setting");
    chat.line("/mtp 99", "error: /mtp 99: ");
    chat.line("/mtp off", "0  (set here)");
    chat.line("/save", "error: the name of a file was expected");
    chat.line("/save /no/such/folder/x.json", "error: /no/such/folder/x.json: ");
    chat.terminal.process().get_file_handle().unwrap().write_all(b"caf\xe9 x\r").unwrap();
    chat.until("error: the line is not UTF-8 text");
    chat.until(">>> ");
    chat.ask("fn main() {");
    let shown = chat.line("/stats", "context ");
    assert!(!shown.contains("acceptance"), "decoded plainly: {shown}");
    chat.leave(CTRL_D);
}

#[test]
fn homes_and_terminals_that_can_do_little_suffice() {
    let nowhere = |command: &mut Command| {
        command.env("MTPLX_HOME", "/dev/null/mtplx");
    };
    let mut chat = Chat::at(tempfile::tempdir().unwrap(), &[&["chat"], &SHORT[..]].concat(), nowhere);
    chat.ask("fn main() {");
    chat.leave(CTRL_D);

    let dumb = |command: &mut Command| {
        command.env("TERM", "dumb");
    };
    let mut chat = Chat::at(tempfile::tempdir().unwrap(), &[&["chat"], &SHORT[..]].concat(), dumb);
    chat.ask("fn a() {\\\r}");
    assert_eq!(chat.messages()[0], "fn a() {\n}");
    chat.leave(CTRL_D);
}

#[test]
fn a_run_without_a_prompt_is_a_chat() {
    let mut chat = Chat::with(&[&["run", "-m", "builtin", "--stats"], &SHORT[..]].concat());
    let shown = chat.line("fn main() {", "context ");
    assert!(shown.contains("TTFT"), "{shown}");
    chat.leave(CTRL_D);
}

#[test]
fn a_chat_takes_a_terminal() {
    let (error, hint) = fails(&["chat"], 2);
    assert_eq!(error, "a chat needs a terminal, and standard input is none");
    assert!(hint.contains("mtplx run"), "{hint}");
}

#[test]
fn a_message_whose_next_line_does_not_come_is_on_the_line_again() {
    let mut chat = Chat::with(&[&["chat"], &SHORT[..]].concat());
    chat.keys("kept\\\r");
    chat.until("... ");
    chat.keys(CTRL_D);
    chat.until(">>> ");
    chat.until("kept");
    chat.keys(" on\r");
    chat.until("(ended after 8 tokens");
    chat.until(">>> ");
    assert_eq!(chat.messages()[0], "kept on");
    chat.leave(CTRL_D);
}
