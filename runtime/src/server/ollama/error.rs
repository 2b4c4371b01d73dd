//! Errors in Ollama's format, `{"error": "one line"}`, and the endpoints that one fixed model has no answer for.

use serde_json::json;

use crate::server::http::Response;
use crate::server::openai::ApiError;

/// An error as Ollama's clients read it; status and headers are the same as in OpenAI's format.
pub(in crate::server) fn error_response(error: &ApiError) -> Response {
    let body = json!({"error": error.message}).to_string().into_bytes();
    Response { body: body.into(), ..error.response() }
}

/// Whether a path belongs to the management of models.
pub(in crate::server) fn is_managing(path: &str) -> bool {
    matches!(path, "/api/create" | "/api/copy" | "/api/pull" | "/api/push" | "/api/delete")
        || path.starts_with("/api/blobs/")
}

/// The response to requests that manage models.
pub(in crate::server) fn manages_nothing() -> ApiError {
    ApiError::new(
        501,
        "this server has one model, chosen when it started: it cannot fetch, copy, change or remove models",
    )
}

/// The response of a generating model to requests for embeddings.
pub(in crate::server) fn embeds_nothing() -> ApiError {
    ApiError::new(
        501,
        "this model does not support embeddings here; `satchel embed` and `satchel serve` with an embedding model do",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_string_with_the_status_and_headers_of_any_api() {
        let response = error_response(&ApiError::parameter("format", "`format` is no"));
        assert_eq!((response.status, response.body.as_ref()), (400, &br#"{"error":"`format` is no"}"#[..]));
        let response = error_response(&ApiError::new(401, "a key"));
        assert!(response.headers.contains(&("WWW-Authenticate", "Bearer".to_string())));
    }

    #[test]
    fn blobs_are_managed_by_any_digest() {
        assert!(is_managing("/api/pull") && is_managing("/api/blobs/sha256:00"));
        assert!(!is_managing("/api/tags") && !is_managing("/api/pull/x") && !is_managing("/api/facts"));
    }
}
