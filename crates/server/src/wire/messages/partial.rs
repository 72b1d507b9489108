//! Begin of a JSON text whose rest is missing.

use serde_json::{Map, Value};

/// The object that `text` is, or begins.
///
/// A limit may cut a call in the middle of its arguments. As in the official clients, complete values stay: the last
/// string, number or key is dropped where it may go on. Text that is no object gives an empty one, since clients take
/// no other `input`.
pub(super) fn object(text: &str) -> Map<String, Value> {
    let whole = serde_json::from_str(text).or_else(|_| serde_json::from_str(&completed(text)));
    match whole {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// The longest begin of `text` behind which closing brackets make JSON, with those brackets.
fn completed(text: &str) -> String {
    // Brackets that are open, innermost last, and the same at the last place where they could be closed.
    let mut open: Vec<char> = Vec::new();
    let mut safe = (0, String::new());
    // True where a string would be a key.
    let mut key = false;
    let mut characters = text.char_indices().peekable();
    while let Some((start, character)) = characters.next() {
        let mut end = start + character.len_utf8();
        let complete = match character {
            '{' | '[' => {
                open.push(if character == '{' { '}' } else { ']' });
                key = character == '{';
                true
            }
            '}' | ']' => {
                open.pop();
                true
            }
            ',' => {
                key = open.last() == Some(&'}');
                false
            }
            ':' => {
                key = false;
                false
            }
            '"' => {
                let mut closed = false;
                while let Some((at, inner)) = characters.next() {
                    end = at + inner.len_utf8();
                    match inner {
                        '"' => {
                            closed = true;
                            break;
                        }
                        '\\' => {
                            characters.next();
                        }
                        _ => {}
                    }
                }
                closed && !key
            }
            ' ' | '\t' | '\n' | '\r' => false,
            _ => {
                // A number or a literal is complete where something follows it.
                while let Some(&(at, inner)) = characters.peek() {
                    if matches!(inner, ',' | '}' | ']' | ' ' | '\t' | '\n' | '\r') {
                        break;
                    }
                    end = at + inner.len_utf8();
                    characters.next();
                }
                end < text.len()
            }
        };
        if complete {
            safe = (end, open.iter().rev().collect());
        }
    }
    let (end, brackets) = safe;
    format!("{}{brackets}", &text[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn complete_values_stay() {
        for (text, expected) in [
            ("", json!({})),
            ("[1]", json!({})),
            ("no json", json!({})),
            ("{", json!({})),
            (r#"{"a"#, json!({})),
            (r#"{"a":"#, json!({})),
            (r#"{"a": "b"#, json!({})),
            (r#"{"a": "b", "c"#, json!({"a": "b"})),
            (r#"{"a": 12"#, json!({})),
            (r#"{"a": 12,"#, json!({"a": 12})),
            (r#"{"a": [1, {"b": "x\"}"#, json!({"a": [1, {}]})),
            (r#"{"a": [1, {"b": "x\"}"}, tru"#, json!({"a": [1, {"b": "x\"}"}]})),
            (r#"{"a": {"b": null}}"#, json!({"a": {"b": null}})),
        ] {
            assert_eq!(Value::Object(object(text)), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"[{}\[\]",:\\a1é ]{0,40}"#) {
            object(&text);
        }
    }
}
