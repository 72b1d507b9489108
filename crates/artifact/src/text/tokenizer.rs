//! The tokenizer of a checkpoint, and which of its tokens begin and end a text.
//!
//! Wraps the `tokenizers` crate, built without its C parts (regular expressions by `fancy-regex`).

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokenizers::AddedToken;

use super::bytes::Spelling;
use super::error::{TextError, shorten};
use super::files::{ADDED_TOKENS, CONFIG, GENERATION_CONFIG, SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG, TextFiles};
use super::guard::guarded;
use super::limits::screen;
use crate::memory::{Budget, Exceeded, within};
use crate::{Finding, Severity, shown};

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
    /// Tokens beside the vocabulary proper, special ones included: they are spelled as they are read.
    added: HashSet<u32>,
    spelling: Spelling,
    bos: Option<Special>,
    eos_token: Option<String>,
    eos_ids: Vec<u32>,
    add_bos: bool,
    /// Tokens that the model puts out are below it.
    vocab: usize,
    findings: Vec<Finding>,
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
        let config = files.tokenizer_config()?;
        let map = files.special_tokens_map()?;
        let model = files.config()?;
        let stated = vocab_size(&model);
        let added = Added::of(&inner, files, Named::of(&config, &map), stated.unwrap_or(usize::MAX))?;
        if !added.tokens.is_empty() {
            let tokens = added.tokens.clone();
            let add = move || {
                inner.add_tokens(tokens)?;
                Ok(inner)
            };
            inner = within(budget, move || guarded(add))
                .unwrap_or_else(|exceeded| Err(TextError::Tokenizer { what: over(exceeded, budget) }))?;
        }
        let findings = added.findings(&inner);
        let vocab = stated.unwrap_or_else(|| inner.get_vocab_size(true));
        let added_tokens = inner.get_added_tokens_decoder();
        let special = added_tokens.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        let added = added_tokens.keys().copied().collect();
        let spelling = Spelling::of(inner.get_decoder());

        let token = |field| Ok::<_, TextError>(special_token(&config, field)?.or_else(|| text_of(map.get(field)?)));
        let bos = token("bos_token")?;
        let bos = bos.and_then(|content| inner.token_to_id(&content).map(|id| Special { content, id }));
        let eos_token = token("eos_token")?;
        let add_bos = flag(&config, "add_bos_token")?;
        let mut tokenizer =
            Self { inner, special, added, spelling, bos, eos_token, eos_ids: Vec::new(), add_bos, vocab, findings };
        for (file, stated) in [(GENERATION_CONFIG, &files.generation_config()?), (CONFIG, &model)] {
            tokenizer.ends_as_stated(file, "eos_token_id", stated.get("eos_token_id"))?;
            let inner = stated.get("text_config").and_then(|text| text.get("eos_token_id"));
            tokenizer.ends_as_stated(file, "text_config.eos_token_id", inner)?;
        }
        for (file, stated) in [(TOKENIZER_CONFIG, &config), (SPECIAL_TOKENS_MAP, &map)] {
            let Some(token) = stated.get("eos_token").and_then(text_of) else { continue };
            match tokenizer.id(&token) {
                Some(id) => tokenizer.ends_with(id),
                None => {
                    tokenizer.doubt(file, "eos_token", format!("\"{}\": not in the vocabulary: ignored", shown(&token)))
                }
            }
        }
        Ok(tokenizer)
    }

    /// Adds the tokens of an `eos_token_id`: a number or a list of them. Those that the model never puts out end nothing.
    fn ends_as_stated(
        &mut self,
        file: &'static str,
        field: &'static str,
        value: Option<&Value>,
    ) -> Result<(), TextError> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(()) };
        let list = value.as_array().map_or(std::slice::from_ref(value), |list| &list[..]);
        if list.is_empty() {
            self.doubt(file, field, "[]: names no token: ignored".to_owned());
        }
        for item in list {
            if !(item.is_u64() || item.is_i64()) {
                let what = "a token id or a list of them was expected";
                return Err(TextError::Field { file, field, value: shorten(value), what });
            }
            match item.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < self.vocab) {
                Some(id) => self.ends_with(id),
                None => {
                    let what = format!("{item}: not in the vocabulary of {}: ignored", self.vocab);
                    self.doubt(file, field, what);
                }
            }
        }
        Ok(())
    }

    /// Adds a token that ends a text.
    pub(super) fn ends_with(&mut self, id: u32) {
        if (id as usize) < self.vocab && !self.eos_ids.contains(&id) {
            self.eos_ids.push(id);
        }
    }

    fn doubt(&mut self, file: &'static str, field: &str, what: String) {
        self.findings.push(finding(file, field, what));
    }

    /// Remarks on the files.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
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

    /// The tokens that end a text: all that `generation_config.json`, `config.json`, `tokenizer_config.json`,
    /// `special_tokens_map.json` or, in a [`super::TextAssets`], the chat template name.
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

    /// Special tokens: text that the tokenizer takes for one token wherever it stands.
    pub fn special_tokens(&self) -> impl Iterator<Item = String> + '_ {
        self.special.iter().filter_map(|&id| self.token(id))
    }

    /// Bytes of a token by itself: part of a character for some.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.token(id) else { return Vec::new() };
        let spelling = if self.added.contains(&id) { Spelling::Plain } else { self.spelling };
        spelling.bytes(&token)
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
    pub fn most_frequent(&self, count: usize, vocab: usize, sample: &[u32]) -> Vec<u32> {
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

/// `vocab_size` of `config.json`: rows of the model's output, which may be padded beyond the tokenizer's tokens.
fn vocab_size(config: &Value) -> Option<usize> {
    let size = |object: &Value| object.get("vocab_size")?.as_u64().and_then(|size| usize::try_from(size).ok());
    config.get("text_config").and_then(size).or_else(|| size(config)).filter(|&size| size > 0)
}

fn finding(file: &'static str, field: &str, what: String) -> Finding {
    Finding { severity: Severity::Warning, file, field: field.to_owned(), what }
}

/// The roles of special tokens.
const ROLES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Lists of special tokens without a role.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// Special tokens that `tokenizer_config.json` or `special_tokens_map.json` name.
struct Named(Vec<AddedToken>);

impl Named {
    fn of(config: &Value, map: &Value) -> Self {
        let roles = ROLES.iter().filter_map(|role| config.get(role).filter(|v| !v.is_null()).or_else(|| map.get(role)));
        let lists = [config, map].into_iter().flat_map(|file| LISTS.iter().filter_map(|list| file.get(list)));
        let items = lists.flat_map(|list| match list {
            Value::Array(items) => items.iter().collect::<Vec<_>>(),
            Value::Object(items) => items.values().collect(),
            _ => Vec::new(),
        });
        Self(roles.chain(items).filter_map(|value| added_token(value, true)).collect())
    }
}

/// The tokens that transformers adds to those of `tokenizer.json`: `added_tokens_decoder` of `tokenizer_config.json`,
/// without it `added_tokens.json`; then special tokens that are named. The library numbers them: one that would lie beyond the
/// model's vocabulary stays text.
struct Added {
    tokens: Vec<AddedToken>,
    /// Tokens as the files number them: file, field, text, id.
    stated: Vec<(&'static str, String, String, u64)>,
}

impl Added {
    fn of(inner: &tokenizers::Tokenizer, files: &TextFiles<'_>, named: Named, vocab: usize) -> Result<Self, TextError> {
        let known = inner.get_added_tokens_decoder();
        let mut contents: HashSet<String> = known.values().map(|token| token.content.clone()).collect();
        let mut listed: Vec<(u64, &'static str, String, AddedToken)> = Vec::new();
        if let Some(Value::Object(decoder)) = files.tokenizer_config()?.get("added_tokens_decoder") {
            listed.extend(decoder.iter().filter_map(|(id, token)| {
                let field = format!("added_tokens_decoder.{}", shown(id));
                Some((id.parse().ok()?, TOKENIZER_CONFIG, field, added_token(token, false)?))
            }));
        } else if let Value::Object(added) = files.added_tokens()? {
            listed.extend(added.iter().filter(|(content, _)| !contents.contains(*content)).filter_map(
                |(content, id)| {
                    let special = named.0.iter().any(|token| token.content == *content);
                    let token = AddedToken::from(content.as_str(), special);
                    Some((id.as_u64()?, ADDED_TOKENS, shown(content), token))
                },
            ));
        }
        listed.sort_by_key(|(id, ..)| *id);
        let mut next = known.keys().max().map_or(0, |last| *last as usize + 1).max(inner.get_vocab_size(false));
        let mut added = Self { tokens: Vec::new(), stated: Vec::new() };
        let mut add = |token: AddedToken, tokens: &mut Vec<AddedToken>| {
            match inner.token_to_id(&token.content) {
                Some(id) if known.get(&id) == Some(&token) => return,
                Some(_) => {}
                None if next >= vocab => return,
                None => next += 1,
            }
            tokens.push(token);
        };
        for (id, file, field, token) in listed {
            added.stated.push((file, field, token.content.clone(), id));
            contents.insert(token.content.clone());
            add(token, &mut added.tokens);
        }
        for token in named.0 {
            if contents.insert(token.content.clone()) {
                add(token, &mut added.tokens);
            }
        }
        Ok(added)
    }

    /// A finding for each token that the tokenizer numbers otherwise than its file.
    fn findings(&self, inner: &tokenizers::Tokenizer) -> Vec<Finding> {
        let other = |(file, field, content, id): &(&'static str, String, String, u64)| {
            let found = inner.token_to_id(content);
            let what = match found {
                Some(found) if u64::from(found) == *id => return None,
                Some(found) => format!("\"{}\" as {id}: the tokenizer has it as {found}", shown(content)),
                None => format!("\"{}\" as {id}: beyond the model's vocabulary: left out", shown(content)),
            };
            Some(finding(file, field, what))
        };
        self.stated.iter().filter_map(other).collect()
    }
}

/// A token as Python's tools write it: its text, or an object with `content`. `special` is the default.
fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    let content = text_of(value).filter(|content| !content.is_empty())?;
    let flag = |field: &str| value.get(field).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(special) || special;
    let token = AddedToken::from(content, special);
    let normalized = flag("normalized").unwrap_or(token.normalized);
    Some(AddedToken {
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        single_word: flag("single_word").unwrap_or(false),
        normalized,
        ..token
    })
}

/// A token's text: a string, or an object with `content`.
fn text_of(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// A special token of `tokenizer_config.json`.
fn special_token(config: &Value, field: &'static str) -> Result<Option<String>, TextError> {
    let Some(value) = config.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
    let what = "a token's text was expected";
    let bad = || TextError::Field { file: TOKENIZER_CONFIG, field, value: shorten(value), what };
    text_of(value).ok_or_else(bad).map(Some)
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
        let of = |count| tokenizer.most_frequent(count, 320, &sample);
        assert!(of(marks).contains(&mark) && !of(marks).contains(&often));
        assert_eq!(tokenizer.most_frequent(marks + 2, 320, &[])[..2], [0, 1]);
        for (more, expected) in [(1, vec![often]), (2, vec![often, once]), (3, vec![often, once, 0])] {
            let found = of(marks + more);
            assert_eq!(found.len(), marks + more);
            assert!(found.is_sorted() && found.contains(&mark));
            assert!(expected.iter().all(|id| found.contains(id)), "{found:?}");
        }
        assert_eq!(of(1000), (0..320).collect::<Vec<_>>(), "no more than there are");
    }

    /// End tokens, and what is said of the files, in the order generation_config, config, tokenizer_config, special_tokens_map.
    fn ends(texts: [&str; 4]) -> Result<(Vec<u32>, Vec<String>), String> {
        let mut files = files(byte_level_json());
        let [generation, config, tokenizer_config, map] = texts.map(|text| Some(text.to_owned().into()));
        (files.generation_config, files.config, files.tokenizer_config, files.special_tokens_map) =
            (generation, config, tokenizer_config, map);
        let tokenizer = Tokenizer::new(&files).map_err(|error| error.to_string())?;
        Ok((tokenizer.eos_ids().to_vec(), tokenizer.findings().iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn end_tokens_are_all_that_any_file_names() {
        let named = r#"{"eos_token": {"content": "<|im_end|>"}}"#;
        for (texts, expected) in [
            ([r#"{"eos_token_id": [1, 2]}"#, r#"{"eos_token_id": 3}"#, named, "{}"], vec![1, 2, 3, 258]),
            ([r#"{"eos_token_id": null}"#, r#"{"eos_token_id": 3}"#, "{}", named], vec![3, 258]),
            (["{}", r#"{"eos_token_id": 3, "text_config": {"eos_token_id": [4, 3]}}"#, "{}", "{}"], vec![3, 4]),
            (["{}", "{}", named, r#"{"eos_token": "<|endoftext|>"}"#], vec![258, 256]),
            (["{}", r#"{"text_config": {"eos_token_id": 256}}"#, named, "{}"], vec![256, 258]),
            (["{}", r#"{"vocab_size": 320, "eos_token_id": 319}"#, "{}", "{}"], vec![319]),
            (["{}", "{}", "{}", "{}"], vec![]),
        ] {
            assert_eq!(ends(texts), Ok((expected, vec![])), "{texts:?}");
        }
    }

    #[test]
    fn end_tokens_that_end_nothing_are_said() {
        let named = r#"{"eos_token": "<|im_end|>"}"#;
        for (texts, expected, said) in [
            (
                [r#"{"eos_token_id": []}"#, "{}", named, "{}"],
                vec![258],
                "generation_config.json: eos_token_id: []: names no token: ignored",
            ),
            (
                [r#"{"eos_token_id": [5, 999]}"#, r#"{"text_config": {"vocab_size": 320}}"#, named, "{}"],
                vec![5, 258],
                "generation_config.json: eos_token_id: 999: not in the vocabulary of 320: ignored",
            ),
            (
                ["{}", r#"{"text_config": {"eos_token_id": -1}}"#, named, "{}"],
                vec![258],
                "config.json: text_config.eos_token_id: -1: not in the vocabulary of 259: ignored",
            ),
            (
                ["{}", "{\"eos_token_id\": 18446744073709551615}", named, "{}"],
                vec![258],
                "config.json: eos_token_id: 18446744073709551615: not in",
            ),
            (
                ["{}", r#"{"vocab_size": 259}"#, r#"{"eos_token": "</s>"}"#, named],
                vec![258],
                "tokenizer_config.json: eos_token: \"</s>\": not in the vocabulary",
            ),
        ] {
            let (found, findings) = ends(texts).unwrap();
            assert_eq!((found, findings.len()), (expected, 1), "{texts:?}: {findings:?}");
            assert!(findings[0].starts_with(said), "{findings:?}");
        }
        for (texts, error) in [
            (
                [r#"{"eos_token_id": "a"}"#, "{}", "{}", "{}"],
                "generation_config.json: eos_token_id: \"a\": a token id or a list of them was expected",
            ),
            (
                ["{}", r#"{"eos_token_id": [1, 2.5]}"#, "{}", "{}"],
                "config.json: eos_token_id: [1,2.5]: a token id or a list of them was expected",
            ),
            (["[]", "{}", "{}", "{}"], "generation_config.json: an object was expected, not []"),
            (["{}", "{}", "{}", "[]"], "special_tokens_map.json: an object was expected, not []"),
        ] {
            assert_eq!(ends(texts), Err(error.to_owned()));
        }
    }

    #[test]
    fn tokens_that_only_other_files_know_of() {
        let build = |config: &str, added: &str, map: &str, model: &str| {
            let mut files = files(byte_level_json());
            let texts = [config, added, map, model].map(|text| Some(text.to_owned().into()));
            [files.tokenizer_config, files.added_tokens, files.special_tokens_map, files.config] = texts;
            Tokenizer::new(&files).unwrap()
        };
        let [decoder, added] = [
            r#"{"added_tokens_decoder": {"260": {"content": "<b>"}, "259": {"content": "<a>", "special": true}}}"#,
            r#"{"<b>": 260, "<a>": 259}"#,
        ];
        let model = r#"{"vocab_size": 320}"#;
        for (config, added, map, special) in [
            (decoder, "{}", "{}", [true, false]),
            // transformers reads added_tokens.json only where there is no added_tokens_decoder.
            (decoder, r#"{"<c>": 261}"#, "{}", [true, false]),
            ("{}", added, "{}", [false, false]),
            ("{}", added, r#"{"additional_special_tokens": ["<b>"]}"#, [false, true]),
            ("{}", "{}", r#"{"pad_token": {"content": "<a>"}, "additional_special_tokens": ["<b>"]}"#, [true, true]),
            (
                r#"{"extra_special_tokens": {"image": "<a>"}, "additional_special_tokens": ["<b>"]}"#,
                added,
                "{}",
                [true; 2],
            ),
        ] {
            let tokenizer = build(config, added, map, model);
            assert_eq!(tokenizer.encode("<a>!<b><c>", false).unwrap()[..3], [259, 0, 260], "{config} {added} {map}");
            assert_eq!([259, 260].map(|id| tokenizer.is_special(id)), special, "{config} {added} {map}");
            assert_eq!((tokenizer.id("<c>"), tokenizer.findings()), (None, &[][..]));
        }
        for (config, added, model, said) in [
            ("{}", r#"{"<a>": 300}"#, model, "added_tokens.json: <a>: \"<a>\" as 300: the tokenizer has it as 259"),
            ("{}", r#"{"<|im_end|>": 7}"#, model, ""),
            ("{}", r#"{"<a>": 259}"#, "{}", ""),
            ("{}", r#"{"<a>": 259}"#, r#"{"vocab_size": 259}"#, "as 259: beyond the model's vocabulary: left out"),
            (
                r#"{"added_tokens_decoder": {"3": {"content": "<|im_end|>"}}}"#,
                "{}",
                model,
                "the tokenizer has it as 258",
            ),
        ] {
            let tokenizer = build(config, added, "{}", model);
            let findings: Vec<String> = tokenizer.findings().iter().map(ToString::to_string).collect();
            assert!(findings.len() == usize::from(!said.is_empty()), "{findings:?}");
            assert!(findings.iter().all(|finding| finding.contains(said)), "{findings:?}");
        }
        // A token of the vocabulary proper that is named as special is one.
        let tokenizer = build("{}", "{}", r#"{"eos_token": "!"}"#, model);
        assert_eq!((tokenizer.eos_ids(), tokenizer.eos_token(), tokenizer.is_special(0)), (&[0][..], Some("!"), true));
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
