//! What is done with hostile bytes: one function for each kind of file. `fuzz/` drives them with libFuzzer for as long as one
//! likes, the tests here with a seeded mutator for a moment.
//!
//! A target returns whatever happens, and panics only where something is wrong: besides not panicking, what was accepted must
//! keep the promises that later code relies on.

mod mutator;
#[cfg(test)]
mod tests;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use safetensors::SafeTensors;
use serde_json::{Map, Value};

pub use self::mutator::Mutator;
use crate::text::{ChatTemplate, Detokenizer, Message, RenderInput, TextError, TextFiles, Tokenizer};
use crate::{Contract, check_name, json, parse_header, parse_index};

/// A tokenizer that works, to render templates with.
const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}"#;

/// A safetensors file: what is accepted tiles the file, and the format's own library accepts it as well.
pub fn weights(bytes: &[u8]) {
    let Ok(tensors) = parse_header("f", &Arc::from("f"), bytes) else { return };
    let mut ranges: Vec<_> = tensors.iter().map(|(_, info)| info.range.clone()).collect();
    ranges.sort_by_key(|range| (range.start, range.end));
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].end, pair[1].start, "overlap or hole");
    }
    assert!(ranges.last().is_none_or(|range| range.end == bytes.len()), "the data does not end with the file");
    for (name, info) in &tensors {
        let bits = info.shape.iter().map(|&dim| dim as u128).product::<u128>() * info.dtype.bitsize() as u128;
        assert_eq!(bits, info.range.len() as u128 * 8, "{name}: {info:?}");
    }
    let theirs = SafeTensors::deserialize(bytes).expect("accepted here and refused by the format's own library");
    assert_eq!(theirs.len(), tensors.len());
    for (name, info) in &tensors {
        let view = theirs.tensor(name).expect("a tensor that the format's own library has as well");
        assert_eq!((view.dtype(), view.shape()), (info.dtype, &info.shape[..]), "{name}");
        assert_eq!(view.data(), &bytes[info.range.clone()], "{name}");
    }
}

/// The JSON of a safetensors header, before as much data as it asks for: mutations then get past the lengths.
pub fn header(json: &[u8]) {
    /// Largest file that is made of one.
    const MAX_DATA_BYTES: u64 = 1 << 16;
    let tensors: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    let ends = tensors.values().filter_map(|tensor| tensor.pointer("/data_offsets/1")?.as_u64());
    let data = vec![7; ends.max().unwrap_or(0).min(MAX_DATA_BYTES) as usize];
    weights(&[&(json.len() as u64).to_le_bytes(), json, &data].concat());
}

/// `model.safetensors.index.json`: no shard that is accepted leads out of the folder.
pub fn shards(bytes: &[u8]) {
    let Ok(shards) = parse_index("f", bytes) else { return };
    for file in &shards.files {
        assert!(!file.starts_with('/') && !file.split('/').any(|part| part == ".."), "{file:?}");
        assert!(shards.tensors_of(file).next().is_some(), "{file:?}");
    }
}

/// `mtplx_runtime.json`: what is kept of a field was within its bounds, and the contract can be written again.
pub fn contract(bytes: &[u8]) {
    let Ok(fields) = json::from_slice::<Map<String, Value>>(bytes) else { return };
    let (contract, findings) = Contract::parse(fields);
    assert!(contract.mtp_depth_max.is_none_or(|depth| (1..=64).contains(&depth)));
    for file in contract.sha256.iter().flatten().map(|(file, _)| file) {
        assert!(check_name(file).is_ok(), "{file:?}");
    }
    for finding in findings {
        assert!(!finding.to_string().contains(['\n', '\x1b']), "{finding:?}");
    }
    let _ = contract.newer_engine("0.1.0");
    serde_json::to_string(&contract).expect("JSON");
}

/// `tokenizer.json`, on a line of text and a few tokens.
pub fn tokenizer(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files = TextFiles { tokenizer: Some(text.into()), ..TextFiles::default() };
    let Ok(tokenizer) = Tokenizer::new(&files) else { return };
    let ids = tokenizer.encode("fn main() { let é = 12345; }\n\t<|im_start|>", true).unwrap_or_default();
    let _ = tokenizer.decode(&ids, true);
    let _ = tokenizer.decode(&[0, 1, 2, 300, u32::MAX], false);
    let mut detokenizer = Detokenizer::new(&tokenizer);
    let pieces: Result<Vec<String>, TextError> = ids.iter().take(16).map(|&id| detokenizer.push(id)).collect();
    let _ = pieces.and_then(|_| detokenizer.finish());
}

/// `chat_template.jinja`, on a short conversation.
pub fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files =
        TextFiles { tokenizer: Some(TOKENIZER.into()), chat_template: Some(text.into()), ..TextFiles::default() };
    let tokenizer = Tokenizer::new(&files).expect("a tokenizer");
    let Ok(Some(template)) = ChatTemplate::find(&files, &tokenizer) else { return };
    let messages =
        [Message::new("system", "Be brief."), Message::new("user", "1 + 1?"), Message::new("assistant", "2")];
    let tools = serde_json::json!([{"type": "function", "function": {"name": "f", "parameters": {"a": [1, null]}}}]);
    for tools in [None, Some(&tools)] {
        let input = RenderInput {
            messages: &messages,
            add_generation_prompt: true,
            enable_thinking: Some(true),
            tools,
            kwargs: None,
        };
        if let Err(error) = template.render(&input) {
            assert!(!error.to_string().contains(['\n', '\x1b']), "{error}");
        }
    }
}

/// Runs `target` on `runs` mutations of `seeds`, one after the other; `stop` may end it early.
pub fn drive<S: AsRef<[u8]>>(seeds: &[S], seed: u64, runs: usize, mut target: impl FnMut(&[u8]) -> ControlFlow<()>) {
    let mut mutator = Mutator::new(seeds, seed);
    for _ in 0..runs {
        if target(mutator.next()).is_break() {
            return;
        }
    }
}

/// The files of a folder in `fuzz/`, in the order of their names.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(folder);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a file")).collect()
}

/// Runs a target on the repository's findings and seeds, then on `runs` mutations that are the same every time.
pub fn moment(name: &str, runs: usize, target: impl Fn(&[u8])) {
    files(&format!("found/{name}")).iter().for_each(|found| target(found));
    let seeds = files(&format!("seeds/{name}"));
    seeds.iter().for_each(|seed| target(seed));
    drive(&seeds, 0x5eed, runs, |bytes| {
        target(bytes);
        ControlFlow::Continue(())
    });
}
