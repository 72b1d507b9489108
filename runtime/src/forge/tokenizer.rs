//! A tokenizer for random models: bytes, two special tokens, and the plainest chat template. Ids beyond have no text.

use serde_json::{Map, Value, json};

/// The id after the bytes: ends a text.
const END: u32 = 256;

/// The files, by name.
pub(super) fn files() -> Vec<(String, Vec<u8>)> {
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
    let vocab: Map<String, Value> = (0..=u8::MAX).map(|byte| (letter(byte).to_string(), json!(byte))).collect();
    model.insert("vocab".to_owned(), Value::Object(vocab));
    model.insert("merges".to_owned(), json!([]));
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(END, "<|im_end|>"), special(END + 1, "<|im_start|>")],
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": model,
    });
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "clean_up_tokenization_spaces": false,
        "chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    });
    let file = |name: &str, value: &Value| (name.to_owned(), format!("{value:#}\n").into_bytes());
    vec![
        file("tokenizer.json", &tokenizer),
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
