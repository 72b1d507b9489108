//! The tokenizer of a checkpoint, and which of its tokens begin and end a text.
//!
//! Wraps the `tokenizers` crate, built without its C parts (regular expressions by `fancy-regex`).

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::error::{TextError, shorten};
use super::files::{CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG, TextFiles};
use super::guard::guarded;
use super::screen::screen;
use crate::mlx::{Budget, Exceeded, within};

/// What building a tokenizer may hold: a BPE vocabulary takes about 15 bytes for each of its file's, an expression of a few
/// letters a megabyte once compiled.
const MEMORY: usize = 256 << 20;
const MEMORY_PER_BYTE: usize = 48;
/// The largest takes three seconds; a debug build on a loaded machine takes its time.
const TIME: Duration = Duration::from_secs(120);
const STACK: usize = 64 << 20;

/// Text to tokens and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: HashSet<u32>,
    bos: Option<Special>,
    eos_token: Option<String>,
    eos_ids: Vec<u32>,
    add_bos: bool,
}

/// A special token: its text and its id.
#[derive(Debug, Clone)]
struct Special {
    content: String,
    id: u32,
}

impl Tokenizer {
    /// Builds the tokenizer from the files of a checkpoint.
    ///
    /// # Errors
    /// `tokenizer.json` is absent, too large or not a tokenizer; a field of a configuration file is unusable.
    pub fn new(files: &TextFiles<'_>) -> Result<Self, TextError> {
        let json = files.tokenizer()?;
        screen(json)?;
        let budget = Budget { memory: MEMORY + MEMORY_PER_BYTE * json.len(), time: TIME, stack: STACK };
        let owned = json.to_owned();
        let mut inner = within(budget, move || guarded(|| tokenizers::Tokenizer::from_bytes(owned.as_bytes())))
            .unwrap_or_else(|exceeded| Err(TextError::Tokenizer { what: over(exceeded, budget) }))?;
        // Left over from training: truncation would drop the end of a long prompt in silence, padding would add to it.
        inner.with_padding(None);
        guarded(|| inner.with_truncation(None).map(drop))?;
        let special = inner.get_added_tokens_decoder().iter().filter(|(_, t)| t.special).map(|(id, _)| *id).collect();

        let config = files.tokenizer_config()?;
        let bos = match special_token(&config, "bos_token")? {
            Some(content) => inner.token_to_id(&content).map(|id| Special { content, id }),
            None => None,
        };
        let eos_token = special_token(&config, "eos_token")?;
        let add_bos = flag(&config, "add_bos_token")?;
        let eos_ids = match (
            eos_ids(GENERATION_CONFIG, &files.generation_config()?)?,
            eos_ids(CONFIG, &files.config()?)?,
            eos_token.as_deref().and_then(|token| inner.token_to_id(token)),
        ) {
            (Some(ids), _, _) | (None, Some(ids), _) => ids,
            (None, None, id) => id.into_iter().collect(),
        };
        Ok(Self { inner, special, bos, eos_token, eos_ids, add_bos })
    }

    /// The tokens of `text`. With `add_special`, also those that the tokenizer puts around a text of its own accord
    /// (a beginning-of-text token, say): right for raw text, wrong for a rendered chat, which brings its own.
    ///
    /// # Errors
    /// The tokenizer fails on this text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        let mut ids = guarded(|| Ok(self.inner.encode_fast(text, add_special)?.get_ids().to_vec()))?;
        // Some tokenizer.json leave this to the Python class, which reads it from tokenizer_config.json.
        if let (true, true, Some(bos)) = (add_special, self.add_bos, &self.bos)
            && ids.first() != Some(&bos.id)
        {
            ids.insert(0, bos.id);
        }
        Ok(ids)
    }

    /// The text of `ids`; ids without a token count for nothing.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        guarded(|| self.inner.decode(ids, skip_special))
    }

    /// The tokens that end a text: from `generation_config.json`, else `config.json`, else `tokenizer_config.json`.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// The end-of-text token's text, as chat templates want it.
    pub fn eos_token(&self) -> Option<&str> {
        self.eos_token.as_deref()
    }

    /// The beginning-of-text token's text.
    pub fn bos_token(&self) -> Option<&str> {
        self.bos.as_ref().map(|bos| bos.content.as_str())
    }

    /// Whether `id` is a special token, which never shows in decoded text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The token behind `id`, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token, as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The `count` tokens, at most, of a vocabulary of `vocab` that are worth having first: added ones, which mark turns and
    /// ends; then those of `sample`, the most frequent ahead; then by id, since what a tokenizer's training finds first is
    /// frequent. Rising.
    pub fn foremost(&self, count: usize, vocab: usize, sample: &[u32]) -> Vec<u32> {
        let mut occurrences = vec![0_u64; vocab];
        let added = self.inner.get_added_tokens_decoder();
        for (&id, weight) in sample.iter().map(|id| (id, 1)).chain(added.keys().map(|id| (id, u64::from(u32::MAX)))) {
            if let Some(place) = occurrences.get_mut(id as usize) {
                *place += weight;
            }
        }
        let mut ids: Vec<u32> = (0..vocab as u32).collect();
        ids.sort_by_key(|&id| Reverse(occurrences[id as usize]));
        ids.truncate(count);
        ids.sort_unstable();
        ids
    }

    /// How many tokens there are, added ones included. A model's vocabulary may be padded beyond that.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("bos", &self.bos)
            .field("eos_ids", &self.eos_ids)
            .finish_non_exhaustive()
    }
}

/// Why a tokenizer was not built in time or memory.
fn over(exceeded: Exceeded, budget: Budget) -> String {
    match exceeded {
        Exceeded::Memory => format!("takes more than {} MB to build", budget.memory >> 20),
        Exceeded::Time => format!("takes more than {} seconds to build", budget.time.as_secs()),
        Exceeded::Panicked => "the tokenizers library cannot cope with this file".to_owned(),
        Exceeded::NoThread => "no thread to build the tokenizer in".to_owned(),
    }
}

/// `eos_token_id`: a number or a list of them, at the top level or in `text_config`.
fn eos_ids(file: &'static str, config: &Value) -> Result<Option<Vec<u32>>, TextError> {
    let places = [("eos_token_id", Some(config)), ("text_config.eos_token_id", config.get("text_config"))];
    for (field, object) in places {
        let Some(value) = object.and_then(|object| object.get("eos_token_id")).filter(|value| !value.is_null()) else {
            continue;
        };
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids: Option<Vec<u32>> = match value {
            Value::Array(list) => list.iter().map(id).collect(),
            one => id(one).map(|id| vec![id]),
        };
        let what = "a token id or a list of them was expected";
        return match ids {
            Some(ids) => Ok(Some(ids)),
            None => Err(TextError::Field { file, field, value: shorten(value), what }),
        };
    }
    Ok(None)
}

/// A special token's text: a string, or an object with `content`.
fn special_token(config: &Value, field: &'static str) -> Result<Option<String>, TextError> {
    let what = "a token's text was expected";
    match config.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(content)) => Ok(Some(content.clone())),
        Some(value) => match value.get("content").and_then(Value::as_str) {
            Some(content) => Ok(Some(content.to_owned())),
            None => Err(TextError::Field { file: TOKENIZER_CONFIG, field, value: shorten(value), what }),
        },
    }
}

fn flag(config: &Value, field: &'static str) -> Result<bool, TextError> {
    let what = "true or false was expected";
    match config.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(value) => Err(TextError::Field { file: TOKENIZER_CONFIG, field, value: shorten(value), what }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The 256 byte-level characters in the order of their ids, then three special tokens: ids 256, 257, 258.
    pub(crate) fn byte_level_json() -> String {
        let mut chars: Vec<char> = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').collect();
        chars.extend((0..256 - chars.len() as u32).filter_map(|i| char::from_u32(256 + i)));
        let vocab: serde_json::Map<String, Value> =
            chars.iter().enumerate().map(|(id, c)| (c.to_string(), Value::from(id))).collect();
        let added: Vec<Value> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
            .iter()
            .enumerate()
            .map(|(i, content)| {
                serde_json::json!({"id": 256 + i, "content": content, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true})
            })
            .collect();
        let level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        serde_json::json!({"version": "1.0", "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0,
            "direction": "Right"}, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": level, "post_processor": null, "decoder": level,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}})
        .to_string()
    }

    pub(crate) fn files(tokenizer: String) -> TextFiles<'static> {
        TextFiles { tokenizer: Some(tokenizer.into()), ..TextFiles::default() }
    }

    pub(crate) fn byte_level() -> Tokenizer {
        Tokenizer::new(&files(byte_level_json())).unwrap()
    }

    /// The id of a byte in [`byte_level_json`].
    pub(crate) fn byte_id(tokenizer: &Tokenizer, byte: u8) -> u32 {
        (0..256)
            .find(|&id| {
                let c = tokenizer.token(id).unwrap().chars().next().unwrap() as u32;
                match byte {
                    b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => c == u32::from(byte),
                    other => {
                        let rank = (0..other).filter(|b| !matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)).count();
                        c == 256 + rank as u32
                    }
                }
            })
            .unwrap()
    }

    #[test]
    fn round_trip_without_the_file_s_truncation() {
        let tokenizer = byte_level();
        let text = "fn main() { println!(\"né 中 🦀\"); }";
        let ids = tokenizer.encode(text, true).unwrap();
        assert_eq!(ids.len(), text.len());
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
        assert_eq!(tokenizer.encode("a<|im_end|>", false).unwrap().last(), Some(&258));
        assert_eq!(tokenizer.decode(&[258, 64, 9999], true).unwrap(), "a");
        assert!(tokenizer.is_special(258) && !tokenizer.is_special(64));
    }

    #[test]
    fn foremost_tokens() {
        let mut json: Value = serde_json::from_str(&byte_level_json()).unwrap();
        let added = serde_json::json!({"id": 300, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true});
        json["added_tokens"].as_array_mut().unwrap().push(added);
        let tokenizer = Tokenizer::new(&files(json.to_string())).unwrap();
        let marks = tokenizer.inner.get_added_tokens_decoder().len();
        let mark = tokenizer.id("<end>").unwrap();
        let [often, once] = [200, 250];
        let sample = [once, often, often, 5000];
        let of = |count| tokenizer.foremost(count, 320, &sample);
        assert!(of(marks).contains(&mark) && !of(marks).contains(&often));
        assert_eq!(tokenizer.foremost(marks + 2, 320, &[])[..2], [0, 1]);
        for (more, expected) in [(1, vec![often]), (2, vec![often, once]), (3, vec![often, once, 0])] {
            let found = of(marks + more);
            assert_eq!(found.len(), marks + more);
            assert!(found.is_sorted() && found.contains(&mark));
            assert!(expected.iter().all(|id| found.contains(id)), "{found:?}");
        }
        assert_eq!(of(1000), (0..320).collect::<Vec<_>>(), "no more than there are");
    }

    #[test]
    fn end_tokens_by_precedence() {
        let eos = |generation: &str, config: &str, tokenizer_config: &str| {
            let mut files = files(byte_level_json());
            files.generation_config = Some(generation.to_owned().into());
            files.config = Some(config.to_owned().into());
            files.tokenizer_config = Some(tokenizer_config.to_owned().into());
            Tokenizer::new(&files).map(|t| t.eos_ids().to_vec()).map_err(|e| e.to_string())
        };
        let named = r#"{"eos_token": {"content": "<|im_end|>"}}"#;
        assert_eq!(eos(r#"{"eos_token_id": [1, 2]}"#, r#"{"eos_token_id": 3}"#, named), Ok(vec![1, 2]));
        assert_eq!(eos(r#"{"eos_token_id": null}"#, r#"{"eos_token_id": 3}"#, named), Ok(vec![3]));
        assert_eq!(eos("{}", r#"{"text_config": {"eos_token_id": 4}}"#, named), Ok(vec![4]));
        assert_eq!(eos("{}", "{}", named), Ok(vec![258]));
        assert_eq!(eos("{}", "{}", "{}"), Ok(vec![]));
        assert_eq!(
            eos(r#"{"eos_token_id": -1}"#, "{}", "{}"),
            Err("generation_config.json: eos_token_id: -1: a token id or a list of them was expected".into())
        );
        assert_eq!(eos("[]", "{}", "{}"), Err("generation_config.json: an object was expected, not []".into()));
    }

    #[test]
    fn a_beginning_token_that_only_the_configuration_knows_of() {
        let mut files = files(byte_level_json());
        files.tokenizer_config = Some(r#"{"bos_token": "<|endoftext|>", "add_bos_token": true}"#.into());
        let tokenizer = Tokenizer::new(&files).unwrap();
        assert_eq!(tokenizer.encode("a", true).unwrap(), [256, 64]);
        assert_eq!(tokenizer.encode("<|endoftext|>a", true).unwrap(), [256, 64]);
        assert_eq!(tokenizer.encode("a", false).unwrap(), [64]);
    }

    #[test]
    fn hostile_files_are_errors() {
        for text in ["", "{", "[]", "{\"model\": {}}", "null", &"[".repeat(100_000)] {
            let error = Tokenizer::new(&files(text.to_owned())).unwrap_err().to_string();
            assert!(error.starts_with("tokenizer.json: ") && !error.contains('\n'), "{error}");
        }
        let panics = byte_level_json().replacen(
            r#""normalizer":null"#,
            r#""normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#,
            1,
        );
        let error = Tokenizer::new(&files(panics)).unwrap_err();
        assert_eq!(error.to_string(), "tokenizer.json: the tokenizers library cannot cope with this file");
        let error = Tokenizer::new(&TextFiles::default()).unwrap_err();
        assert_eq!(error.to_string(), "tokenizer.json: not found");
    }
}
