//! Errors in the words of each dialect: status, headers, body.

use serde_json::{Value, json};

use crate::wire::internal::{Failure, FailureKind};

impl Failure {
    /// An error without a field or a time.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, retry_after: None }
    }

    /// A field at fault.
    #[must_use]
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(FailureKind::Invalid, message) }
    }

    /// Status of an answer that has not begun, the same in every dialect.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            FailureKind::Invalid | FailureKind::ContextExceeded { .. } => 400,
            FailureKind::Unauthorized => 401,
            FailureKind::Forbidden => 403,
            FailureKind::NotFound | FailureKind::UnknownModel => 404,
            FailureKind::Method => 405,
            FailureKind::Timeout => 408,
            FailureKind::TooLarge => 413,
            FailureKind::MediaType => 415,
            FailureKind::Busy => 429,
            FailureKind::HeadTooLarge => 431,
            FailureKind::Internal => 500,
            FailureKind::Unavailable => 503,
        }
    }

    /// True where the same request fails again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self.kind {
            FailureKind::Invalid
            | FailureKind::ContextExceeded { .. }
            | FailureKind::Unauthorized
            | FailureKind::Forbidden
            | FailureKind::NotFound
            | FailureKind::UnknownModel
            | FailureKind::Method
            | FailureKind::TooLarge
            | FailureKind::HeadTooLarge
            | FailureKind::MediaType => true,
            FailureKind::Timeout | FailureKind::Busy | FailureKind::Internal | FailureKind::Unavailable => false,
        }
    }

    /// Headers of the answer, without `content-type`.
    #[must_use]
    pub fn headers(&self, request_id: &str) -> Vec<(&'static str, String)> {
        let mut headers = request_headers(request_id).to_vec();
        if let Some(seconds) = self.retry_after {
            headers.push(("retry-after", seconds.to_string()));
        }
        if self.is_final() {
            // Official clients repeat some 4xx by themselves.
            headers.push(("x-should-retry", "false".to_owned()));
        }
        if self.kind == FailureKind::Unauthorized {
            headers.push(("www-authenticate", "Bearer".to_owned()));
        }
        headers
    }

    /// Body for OpenAI's routes; in mid-stream, the data of the last frame.
    #[must_use]
    pub fn openai(&self) -> Value {
        let (kind, code) = match self.kind {
            FailureKind::Invalid | FailureKind::Method | FailureKind::MediaType => ("invalid_request_error", None),
            FailureKind::ContextExceeded { .. } => ("invalid_request_error", Some("context_length_exceeded")),
            FailureKind::Unauthorized => ("authentication_error", Some("invalid_api_key")),
            FailureKind::Forbidden => ("permission_error", None),
            FailureKind::NotFound => ("invalid_request_error", Some("not_found")),
            FailureKind::UnknownModel => ("invalid_request_error", Some("model_not_found")),
            FailureKind::Timeout => ("invalid_request_error", Some("request_timeout")),
            FailureKind::TooLarge | FailureKind::HeadTooLarge => ("invalid_request_error", Some("request_too_large")),
            FailureKind::Busy => ("rate_limit_error", Some("rate_limit_exceeded")),
            FailureKind::Internal => ("server_error", None),
            FailureKind::Unavailable => ("server_error", Some("service_unavailable")),
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": code}})
    }

    /// Body for Anthropic's routes; in mid-stream, the data of `event: error`.
    #[must_use]
    pub fn anthropic(&self, request_id: &str) -> Value {
        let kind = match self.kind {
            FailureKind::Invalid
            | FailureKind::ContextExceeded { .. }
            | FailureKind::Method
            | FailureKind::MediaType => "invalid_request_error",
            FailureKind::Unauthorized => "authentication_error",
            FailureKind::Forbidden => "permission_error",
            FailureKind::NotFound | FailureKind::UnknownModel => "not_found_error",
            FailureKind::Timeout => "timeout_error",
            FailureKind::TooLarge | FailureKind::HeadTooLarge => "request_too_large",
            FailureKind::Busy => "rate_limit_error",
            FailureKind::Internal => "api_error",
            FailureKind::Unavailable => "overloaded_error",
        };
        let message = match self.kind {
            // Agents look for these words to know that they have to compact.
            FailureKind::ContextExceeded { prompt, context } => {
                format!("prompt is too long: {prompt} tokens > {context} maximum")
            }
            _ => self.message.clone(),
        };
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})
    }

    /// Body for Ollama's routes; in mid-stream, the last line.
    #[must_use]
    pub fn ollama(&self) -> Value {
        json!({ "error": self.message })
    }
}

/// Headers with the request's id, for every answer: OpenAI's clients read the first, Anthropic's the second.
#[must_use]
pub fn request_headers(request_id: &str) -> [(&'static str, String); 2] {
    [("x-request-id", request_id.to_owned()), ("request-id", request_id.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVALID: &str = "invalid_request_error";
    const CONTEXT: FailureKind = FailureKind::ContextExceeded { prompt: 9, context: 8 };

    /// Kind, status, OpenAI's type and code, Anthropic's type.
    #[rustfmt::skip]
    const TABLE: [(FailureKind, u16, &str, Option<&str>, &str); 14] = [
        (FailureKind::Invalid, 400, INVALID, None, INVALID),
        (CONTEXT, 400, INVALID, Some("context_length_exceeded"), INVALID),
        (FailureKind::Unauthorized, 401, "authentication_error", Some("invalid_api_key"), "authentication_error"),
        (FailureKind::Forbidden, 403, "permission_error", None, "permission_error"),
        (FailureKind::NotFound, 404, INVALID, Some("not_found"), "not_found_error"),
        (FailureKind::UnknownModel, 404, INVALID, Some("model_not_found"), "not_found_error"),
        (FailureKind::Method, 405, INVALID, None, INVALID),
        (FailureKind::Timeout, 408, INVALID, Some("request_timeout"), "timeout_error"),
        (FailureKind::TooLarge, 413, INVALID, Some("request_too_large"), "request_too_large"),
        (FailureKind::MediaType, 415, INVALID, None, INVALID),
        (FailureKind::HeadTooLarge, 431, "invalid_request_error", Some("request_too_large"), "request_too_large"),
        (FailureKind::Busy, 429, "rate_limit_error", Some("rate_limit_exceeded"), "rate_limit_error"),
        (FailureKind::Internal, 500, "server_error", None, "api_error"),
        (FailureKind::Unavailable, 503, "server_error", Some("service_unavailable"), "overloaded_error"),
    ];

    #[test]
    fn each_kind_has_its_words() {
        for (kind, status, openai, code, anthropic) in TABLE {
            let failure = Failure::new(kind, "m");
            assert_eq!(failure.status(), status, "{kind:?}");
            let body = json!({"error": {"message": "m", "type": openai, "param": null, "code": code}});
            assert_eq!(failure.openai(), body);
            assert_eq!(failure.anthropic("req_1")["error"]["type"], anthropic);
            assert_eq!(failure.ollama(), json!({"error": "m"}));
            // A client repeats 408, 429 and 5xx; everything else is the request's own fault.
            assert_eq!(failure.is_final(), !matches!(status, 408 | 429 | 500..), "{kind:?}");
        }
    }

    #[test]
    fn context_is_told_in_each_dialects_words() {
        let kind = FailureKind::ContextExceeded { prompt: 300_000, context: 262_144 };
        let failure = Failure::new(kind, "the prompt has 300000 tokens and the context 262144; shorten it");
        assert_eq!(
            failure.anthropic("req_1"),
            json!({
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "prompt is too long: 300000 tokens > 262144 maximum",
                },
                "request_id": "req_1",
            })
        );
        assert_eq!(failure.openai()["error"]["code"], "context_length_exceeded");
    }

    #[test]
    fn headers_tell_when_to_try_again() {
        let busy = Failure { retry_after: Some(3), ..Failure::new(FailureKind::Busy, "full") };
        let ids = [("x-request-id", "req_1".to_owned()), ("request-id", "req_1".to_owned())];
        assert_eq!(busy.headers("req_1"), [&ids[..], &[("retry-after", "3".to_owned())]].concat());
        let invalid = Failure::invalid("temperature", "temperature: 200: expected …");
        assert_eq!(invalid.headers("req_1"), [&ids[..], &[("x-should-retry", "false".to_owned())]].concat());
        assert_eq!(invalid.openai()["error"]["param"], "temperature");
    }
}
