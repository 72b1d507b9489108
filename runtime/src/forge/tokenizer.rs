//! A tokenizer for random models: bytes, two special tokens, and the plainest chat template. Ids beyond are written as
//! numbers, so that a random model's output can be seen; no text is ever read as one of them.

use serde_json::{Map, Value, json};

/// The id after the bytes: ends a text.
const END: u32 = 256;
const END_TEXT: &str = "<|im_end|>";
const START_TEXT: &str = "<|im_start|>";

/// The files of a model with `vocab` tokens, by name.
pub(super) fn files(vocab: usize) -> Vec<(String, Vec<u8>)> {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let mut model = Map::new();
    for field in ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
        model.insert(field.to_owned(), Value::Null);
    }
    for field in ["fuse_unk", "byte_fallback", "ignore_merges"] {
        model.insert(field.to_owned(), json!(false));
    }
    model.insert("type".to_owned(), json!("BPE"));
    let mut tokens: Map<String, Value> = (0..=u8::MAX).map(|byte| (letter(byte).to_string(), json!(byte))).collect();
    tokens.extend([(END_TEXT.to_owned(), json!(END)), (START_TEXT.to_owned(), json!(END + 1))]);
    let space = letter(b' ');
    tokens.extend((END as usize + 2..vocab).map(|id| (format!("{space}{id}"), json!(id))));
    model.insert("vocab".to_owned(), Value::Object(tokens));
    model.insert("merges".to_owned(), json!([]));
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(END, END_TEXT), special(END + 1, START_TEXT)],
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": model,
    });
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_TEXT,
        "clean_up_tokenization_spaces": false,
        "chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    });
    let file = |name: &str, value: &Value| (name.to_owned(), format!("{value:#}\n").into_bytes());
    vec![
        ("tokenizer.json".to_owned(), tokenizer.to_string().into_bytes()),
        file("tokenizer_config.json", &config),
        file("generation_config.json", &json!({"eos_token_id": END})),
    ]
}

/// A byte as GPT-2's byte-level vocabularies write it: printable ones as they are, others moved past 255 in order.
fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let moved = (0..byte).filter(|&byte| !printable(byte)).count() as u32;
    char::from_u32(256 + moved).unwrap_or('\u{fffd}')
}
