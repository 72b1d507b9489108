//! Chunks of streamed completions, of both of OpenAI's older routes.

use serde_json::Value;

/// A chunk's content.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chunk {
    /// Text, that of reasoning and of tool calls included.
    pub text: String,
    /// Text of the answer alone.
    pub content: String,
    pub finish_reason: Option<String>,
    pub usage: Option<Usage>,
    pub drafts: Option<Drafts>,
    /// The message of an error, where the chunk is one.
    pub error: Option<String>,
}

/// Counts of tokens, as the server gives them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Tokens of the prompt that were not computed again; `None` where the server does not say.
    pub cached_tokens: Option<u64>,
}

/// Rounds and drafts by their place in the round: the field `timings` of mtplx's server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drafts {
    pub rounds: u64,
    pub drafted: Vec<u64>,
    pub accepted: Vec<u64>,
}

impl Drafts {
    /// Adds others, place by place.
    pub fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        for (sum, counts) in [(&mut self.drafted, &other.drafted), (&mut self.accepted, &other.accepted)] {
            sum.resize(sum.len().max(counts.len()), 0);
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
}

impl Chunk {
    /// The content of a chunk or of a whole answer; `None` where it is no JSON object.
    pub fn parse(data: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(data).ok()?;
        value.is_object().then(|| Self::of(&value))
    }

    fn of(value: &Value) -> Self {
        let choice = &value["choices"][0];
        let (mut text, mut content) = (String::new(), String::new());
        for delta in [&choice["delta"], &choice["message"]] {
            // Two names for one text: clients are split between them.
            let reasoning = delta["reasoning_content"].as_str().or(delta["reasoning"].as_str());
            text.push_str(reasoning.unwrap_or_default());
            content.push_str(delta["content"].as_str().unwrap_or_default());
            text.push_str(delta["content"].as_str().unwrap_or_default());
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                for part in ["name", "arguments"] {
                    text.push_str(call["function"][part].as_str().unwrap_or_default());
                }
            }
        }
        content.push_str(choice["text"].as_str().unwrap_or_default());
        text.push_str(choice["text"].as_str().unwrap_or_default());
        Self {
            text,
            content,
            finish_reason: choice["finish_reason"].as_str().map(str::to_owned),
            usage: usage(value),
            drafts: drafts(&value["timings"]),
            error: error(value),
        }
    }
}

/// The message of an error in OpenAI's form, or in one of those that are close to it.
pub fn error(value: &Value) -> Option<String> {
    let error = &value["error"];
    let message = match error {
        Value::Object(_) => error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned),
        Value::String(message) => message.clone(),
        // Servers made with FastAPI.
        _ => value["detail"].as_str()?.to_owned(),
    };
    Some(message)
}

fn usage(value: &Value) -> Option<Usage> {
    let usage = &value["usage"];
    let count = |value: &Value| value.as_u64();
    let timings = &value["timings"];
    let cached = count(&usage["prompt_tokens_details"]["cached_tokens"]);
    Some(Usage {
        prompt_tokens: count(&usage["prompt_tokens"])?,
        // A prompt without an answer has none in some servers.
        completion_tokens: count(&usage["completion_tokens"]).unwrap_or(0),
        cached_tokens: cached.or_else(|| count(&timings["cached_tokens"])).or_else(|| count(&timings["cache_n"])),
    })
}

fn drafts(timings: &Value) -> Option<Drafts> {
    let counts = |name: &str| -> Option<Vec<u64>> { timings[name].as_array()?.iter().map(Value::as_u64).collect() };
    let (drafted, accepted) = (counts("drafted")?, counts("accepted")?);
    let rounds = timings["rounds"].as_u64().unwrap_or(0);
    (drafted.len() == accepted.len()).then_some(Drafts { rounds, drafted, accepted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_both_routes() {
        let text = |data: &str| Chunk::parse(data).unwrap().text;
        assert_eq!(text(r#"{"choices": [{"delta": {"role": "assistant", "content": ""}}]}"#), "");
        assert_eq!(text(r#"{"choices": [{"delta": {"content": "a"}}]}"#), "a");
        assert_eq!(text(r#"{"choices": [{"delta": {"reasoning_content": "b", "reasoning": "b"}}]}"#), "b");
        assert_eq!(text(r#"{"choices": [{"delta": {"reasoning": "c", "content": null}}]}"#), "c");
        assert_eq!(text(r#"{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}"#), "{}");
        assert_eq!(text(r#"{"choices": [{"text": "d", "finish_reason": null}]}"#), "d");
        assert_eq!(text(r#"{"choices": [{"message": {"content": "e"}}]}"#), "e");
        assert_eq!(text(r#"{"choices": []}"#), "");
        let last = Chunk::parse(
            r#"{"choices": [{"delta": {}, "finish_reason": "length"}],
                "timings": {"rounds": 3, "drafted": [3, 2], "accepted": [2, 1]}}"#,
        )
        .unwrap();
        assert_eq!(last.finish_reason.as_deref(), Some("length"));
        assert_eq!(last.drafts, Some(Drafts { rounds: 3, drafted: vec![3, 2], accepted: vec![2, 1] }));
    }

    #[test]
    fn counts_of_several_servers() {
        let usage = |data: &str| Chunk::parse(data).unwrap().usage;
        assert_eq!(usage(r#"{"usage": null}"#), None);
        let whole =
            r#"{"usage": {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}}"#;
        let expected = Usage { prompt_tokens: 7, completion_tokens: 5, cached_tokens: Some(4) };
        assert_eq!(usage(whole), Some(expected));
        let bare = r#"{"usage": {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": null}}"#;
        assert_eq!(usage(bare), Some(Usage { cached_tokens: None, ..expected }));
        let llama_cpp =
            r#"{"usage": {"prompt_tokens": 7, "completion_tokens": 5}, "timings": {"cache_n": 4, "draft_n": 9}}"#;
        assert_eq!(usage(llama_cpp), Some(expected));
        assert_eq!(Chunk::parse(llama_cpp).unwrap().drafts, None);
    }

    #[test]
    fn errors_and_what_is_no_chunk() {
        let error = |data: &str| Chunk::parse(data).unwrap().error;
        assert_eq!(error(r#"{"error": {"message": "no", "type": "x"}}"#).as_deref(), Some("no"));
        assert_eq!(error(r#"{"error": "no"}"#).as_deref(), Some("no"));
        assert_eq!(error(r#"{"error": {"code": 3}}"#).as_deref(), Some("{\"code\":3}"));
        assert_eq!(error(r#"{"detail": "Not Found"}"#).as_deref(), Some("Not Found"));
        assert_eq!(error(r#"{"choices": []}"#), None);
        for data in ["", "[]", "1", "{", "<html>"] {
            assert_eq!(Chunk::parse(data), None, "{data}");
        }
    }
}
