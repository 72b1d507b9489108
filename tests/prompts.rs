//! Prompts that fit a model, and those that do not.

use std::fs;

use serde_json::json;

use crate::command::{copy, fails, json, model, run, run_with};

const TRAINED: &str = "trained_qwen3_5/mlx_q4g32";

#[test]
fn the_same_prompt_by_argument_file_input_and_ids() {
    let model = model(TRAINED);
    let base = |more: &[&str]| {
        let args =
            [&["run", "--allow-unverified", "--model", &model, "--json", "-n", "8", "--seed", "1"], more].concat();
        args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let document = |more: &[&str]| {
        let args = base(more);
        json(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let by_argument = document(&["the work", "--raw"]);
    assert_eq!(by_argument["prompt_ids"].as_array().unwrap().len(), "the work".len());
    assert_eq!(by_argument["settings"]["prompt_mode"], json!({"value": "raw", "source": "flag"}));

    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "the work").unwrap();
    let path = file.path().to_str().unwrap();
    let ids: Vec<String> = by_argument["prompt_ids"].as_array().unwrap().iter().map(ToString::to_string).collect();
    for other in [document(&["--file", path, "--raw"]), document(&["--prompt-ids", &ids.join(",")])] {
        assert_eq!(other["prompt_ids"], by_argument["prompt_ids"]);
        assert_eq!(other["text"], by_argument["text"]);
    }
    let args = base(&["-", "--raw"]);
    let ran = run_with(&args.iter().map(String::as_str).collect::<Vec<_>>(), b"the work");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["text"], by_argument["text"]);
}

#[test]
fn a_chat_goes_through_the_template() {
    let model = model(TRAINED);
    let document =
        json(&["run", "hi", "--system", "be kind", "--allow-unverified", "--model", &model, "--json", "-n", "2"]);
    let ids: Vec<u64> = document["prompt_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    // Two messages and the beginning of the answer, each after <|im_start|>.
    assert_eq!(ids.iter().filter(|&&id| id == 257).count(), 3);
    assert_eq!(ids.iter().filter(|&&id| id == 258).count(), 2);
    assert_eq!(document["settings"]["prompt_mode"]["value"], "chat");
}

#[test]
fn a_template_without_a_switch() {
    let model = model(TRAINED);
    let says = |flag: &[&str]| {
        let args = [&["run", "hi", "--allow-unverified", "--model", &model, "-n", "2"], flag].concat();
        run_with(&args, b"").stderr
    };
    assert!(says(&["--think"]).contains("warning: --think: this model's chat template writes the same prompt"));
    assert!(!says(&[]).contains("writes the same prompt"));
}

#[test]
fn a_prompt_beyond_the_context() {
    let model = model(TRAINED);
    let ran = run_with(&["run", "-", "--raw", "--allow-unverified", "--model", &model], "x".repeat(5000).as_bytes());
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    let error = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert_eq!(error, "error: the prompt has 5000 tokens, and the model's context holds 4096");
    assert!(ran.stderr.contains(" hint: shorten the prompt"));
    // What is said before the weights are read comes after it.
    assert!(!ran.stderr.contains("warning: "), "{}", ran.stderr);
}

#[test]
fn a_text_beyond_the_context() {
    let model = model(TRAINED);
    let prompt = "x".repeat(4090);
    let ran = run_with(&["run", "-", "--raw", "--allow-unverified", "--model", &model, "-n", "7"], prompt.as_bytes());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: -n 7: the context of 4096 tokens has room for 6"), "{}", ran.stderr);
}

#[test]
fn ids_that_the_model_does_not_have() {
    let model = model(TRAINED);
    let (error, _) = fails(&["run", "--prompt-ids", "1,320", "--allow-unverified", "--model", &model], 2);
    assert_eq!(error, "prompt token 320: expected an id below the vocabulary's size 320");
    let (error, _) = fails(&["run", "x", "--logit-bias", "320=1", "--allow-unverified", "--model", &model], 2);
    assert_eq!(error, "logit_bias[320]: 1: expected a token id below 320");
}

#[test]
fn no_chat_template() {
    let dir = copy(TRAINED);
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "<|im_end|>"}"#).unwrap();
    let path = dir.path().to_str().unwrap();
    let (error, hint) = fails(&["run", "x", "--chat", "--allow-unverified", "--model", path], 2);
    assert_eq!(error, "--chat: this model has no chat template");
    assert!(hint.contains("--raw"));
    let document = json(&["run", "x", "--allow-unverified", "--model", path, "--json", "-n", "1"]);
    assert_eq!(document["settings"]["prompt_mode"], json!({"value": "raw", "source": "model"}));
}

#[test]
fn a_template_that_refuses() {
    let dir = copy(TRAINED);
    fs::write(dir.path().join("chat_template.jinja"), "\n{{ raise_exception('no system messages') }}").unwrap();
    let path = dir.path().to_str().unwrap();
    let (error, hint) = fails(&["run", "x", "--allow-unverified", "--model", path], 5);
    assert!(error.contains("chat_template.jinja: line 2: the template refuses these messages: no system"), "{error}");
    assert!(hint.contains("--raw"));
    assert_eq!(run(&["run", "x", "--raw", "-n1", "--allow-unverified", "--model", path]).code, 0);
    fs::write(dir.path().join("chat_template.jinja"), "{% if %}").unwrap();
    let (error, _) = fails(&["run", "x", "--allow-unverified", "--model", path], 5);
    assert!(error.contains("chat_template.jinja: line 1: syntax error"), "{error}");
    assert_eq!(run(&["run", "x", "--raw", "-n1", "--allow-unverified", "--model", path]).code, 0);
}
