//! Errors in Anthropic's format: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

use serde_json::{Value, json};

use super::dialect::new_id;
use crate::server::http::Response;
use crate::server::openai::ApiError;

/// The name of an error's kind, by its status.
fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// The body of an error, also sent as an event of a stream.
pub(super) fn body(error: &ApiError, request_id: &str) -> Value {
    // There is no field for the path, so a message that does not name it begins with it.
    let path = error.param.as_deref().filter(|path| !error.message.contains(path));
    let message = path.map_or_else(|| error.message.clone(), |path| format!("{path}: {}", error.message));
    json!({"type": "error", "error": {"type": kind(error.status), "message": message}, "request_id": request_id})
}

/// An error as Anthropic's clients read it; status and headers are the same as in OpenAI's format.
pub(in crate::server) fn error_response(error: &ApiError) -> Response {
    let request_id = new_id("req");
    let body = body(error, &request_id).to_string().into_bytes();
    Response { body: body.into(), ..error.response() }.with("request-id", request_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_kind_its_path_and_an_id() {
        let response = error_response(&ApiError::parameter("top_k", "it must be whole"));
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(body["error"], json!({"type": "invalid_request_error", "message": "top_k: it must be whole"}));
        let id = body["request_id"].as_str().expect("an id").to_owned();
        assert!(body["type"] == "error" && response.headers.contains(&("request-id", id)));
        let message = |error: &ApiError| super::body(error, "")["error"]["message"].clone();
        assert_eq!(message(&ApiError::parameter("top_k", "`top_k` is no")), "`top_k` is no");
        for (status, kind) in [
            (401, "authentication_error"),
            (404, "not_found_error"),
            (413, "request_too_large"),
            (500, "api_error"),
            (501, "api_error"),
            (503, "overloaded_error"),
        ] {
            assert_eq!(super::body(&ApiError::new(status, "no"), "")["error"]["type"], kind);
        }
    }
}
