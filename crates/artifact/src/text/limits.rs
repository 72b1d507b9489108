//! What a small `tokenizer.json` could do to a text: refused before the file is used.
//!
//! Most of its parts map a text to one of about its length. Two do not: `Replace`, in normalizers and decoders, whose
//! sequences multiply, and a `TemplateProcessing` that puts the text in more than once. Forty harmless-looking replacements of
//! `a` by `aa` turn one letter into a terabyte.

use serde_json::Value;

use super::error::TextError;
use super::files::TOKENIZER;

/// How many times longer a text may get. Published tokenizers stay below ten.
const GROWTH: f64 = 256.0;
/// How often a post-processor may put the text in, all its parts together. Published ones do it once, or twice for pairs.
const COPIES: usize = 8;
/// Deepest nesting of parts; the JSON parser has its own limit.
const DEPTH: usize = 32;

/// Checks the parts that multiply.
///
/// # Errors
/// One of them does so more than any honest file's.
pub(super) fn screen(json: &str) -> Result<(), TextError> {
    // What is no JSON is for the tokenizer to say: it knows the words.
    let Ok(file) = serde_json::from_str::<Parts>(json) else { return Ok(()) };
    let refused = |field, value: String, what| Err(TextError::Field { file: TOKENIZER, field, value, what });
    for (field, part) in [("normalizer", &file.normalizer), ("decoder", &file.decoder)] {
        let growth = growth(part, DEPTH);
        if growth > GROWTH {
            let value = format!("makes a text up to {growth:.0} times longer");
            return refused(field, value, "at most 256 times was expected");
        }
    }
    match copies(&file.post_processor, DEPTH) {
        copies if copies > COPIES => {
            refused("post_processor", format!("puts the text in {copies} times"), "at most 8 times was expected")
        }
        _ => Ok(()),
    }
}

/// The parts of the file that matter here; the vocabulary is skipped, not kept.
#[derive(serde::Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    post_processor: Value,
}

/// How many times longer a part can make a text, at most.
fn growth(part: &Value, depth: usize) -> f64 {
    let Some(parts) = ["normalizers", "decoders"].iter().find_map(|field| part.get(field)?.as_array()) else {
        let content = part.get("content").and_then(Value::as_str).map_or(0, str::len) as f64;
        return match part.get("type").and_then(Value::as_str) {
            Some("Replace") => match part.pointer("/pattern/String").and_then(Value::as_str).map(str::len) {
                Some(pattern) if pattern > 0 => (content / pattern as f64).max(1.0),
                // An expression may match nothing between any two bytes.
                _ => content + 1.0,
            },
            _ => 1.0,
        };
    };
    match depth.checked_sub(1) {
        Some(depth) => parts.iter().map(|part| growth(part, depth)).product(),
        None => f64::INFINITY,
    }
}

/// How often a post-processor puts the text in.
fn copies(part: &Value, depth: usize) -> usize {
    let within = |parts: &Value| match depth.checked_sub(1) {
        Some(depth) => parts.as_array().into_iter().flatten().map(|part| copies(part, depth)).sum(),
        None => usize::MAX,
    };
    let of = |field| {
        let pieces = part.get(field).and_then(Value::as_array).into_iter().flatten();
        pieces.filter(|piece| piece.get("Sequence").is_some()).count()
    };
    part.get("processors").map_or(0, within).saturating_add(of("single"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(file: Value) -> Result<(), String> {
        screen(&file.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn growth_multiplies_and_is_bounded() {
        let replace =
            |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
        let twice = replace(json!({"String": "a"}), "aa");
        let many = |count: usize| json!({"type": "Sequence", "normalizers": vec![twice.clone(); count]});
        assert_eq!(said(json!({"normalizer": many(8)})), Ok(()));
        assert_eq!(
            said(json!({"normalizer": many(40)})),
            Err("tokenizer.json: normalizer: makes a text up to 1099511627776 times longer: at most 256 times was expected".into())
        );
        assert!(said(json!({"normalizer": {"type": "Sequence", "normalizers": [many(5), many(5)]}})).is_err());
        let decoder = json!({"type": "Sequence", "decoders": vec![twice.clone(); 9]});
        assert!(said(json!({"decoder": decoder})).unwrap_err().starts_with("tokenizer.json: decoder: "));
        assert!(said(json!({"normalizer": replace(json!({"Regex": "x*"}), &"y".repeat(256))})).is_err());
        assert!(said(json!({"normalizer": replace(json!({"String": ""}), &"y".repeat(256))})).is_err());
        // What published ones do.
        let published = json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"}, replace(json!({"String": " "}), "\u{2581}")]});
        assert_eq!(
            said(json!({"normalizer": published, "decoder": {"type": "Sequence", "decoders": [
            replace(json!({"String": "\u{2581}"}), " "), {"type": "ByteFallback"}, {"type": "Fuse"}]}})),
            Ok(())
        );
        assert_eq!(said(json!({"normalizer": null, "model": {"vocab": {"content": 1}}})), Ok(()));
        assert_eq!(said(json!([])), Ok(()));
    }

    #[test]
    fn copies_are_counted() {
        let processor = |count: usize| json!({"type": "TemplateProcessing", "single": vec![json!({"Sequence": {"id": "A"}}); count]});
        assert_eq!(said(json!({"post_processor": processor(8)})), Ok(()));
        let error = said(json!({"post_processor": {"type": "Sequence", "processors": [processor(5), processor(4)]}}));
        assert_eq!(
            error,
            Err("tokenizer.json: post_processor: puts the text in 9 times: at most 8 times was expected".into())
        );
    }
}
