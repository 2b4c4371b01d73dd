//! Errors in OpenAI's format: `{"error": {"message", "type", "param", "code"}}`.
//!
//! The `type` follows the status (mostly `invalid_request_error` for 4xx, `server_error` for 5xx), `param` names the
//! parameter at fault, `code` is set for errors a client may want to handle: `context_length_exceeded`, `model_not_found`, …

use serde_json::{Value, json};

use crate::server::http::{Refusal, Response};

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// One line: what is wrong, where, what to do.
    pub message: String,
    /// The parameter at fault.
    pub param: Option<String>,
    /// Machine-readable code.
    pub code: Option<&'static str>,
    /// The prompt's tokens and those that the context holds, where that is what is wrong.
    pub size: Option<(usize, usize)>,
}

impl ApiError {
    /// An invalid parameter (400).
    pub fn parameter(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), param: Some(param.into()), code: None, size: None }
    }

    /// An error about no parameter in particular.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None, size: None }
    }

    /// Sets the machine-readable code.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The JSON body.
    pub fn body(&self) -> Value {
        let kind = match self.status {
            500.. => "server_error",
            401 => "authentication_error",
            403 => "permission_error",
            _ => "invalid_request_error",
        };
        let mut error = json!({"message": self.message, "type": kind, "param": self.param, "code": self.code});
        if let Some((prompt, context)) = self.size {
            // By the names of llama.cpp's server.
            (error["n_prompt_tokens"], error["n_ctx"]) = (prompt.into(), context.into());
        }
        json!({ "error": error })
    }

    /// The response on a path of llama.cpp's server, whose clients tell a prompt that is too long by its type.
    pub fn native_response(&self) -> Response {
        let mut body = self.body();
        if self.size.is_some() {
            body["error"]["type"] = "exceed_context_size_error".into();
        } else if self.status == 501 {
            body["error"]["type"] = "not_supported_error".into();
        }
        Response::json(self.status, &body)
    }

    /// The whole response.
    pub fn response(&self) -> Response {
        let response = Response::json(self.status, &self.body());
        match self.status {
            401 => response.with("WWW-Authenticate", "Bearer"),
            503 => response.with("Retry-After", "1"),
            _ => response,
        }
    }
}

/// A name from a request, made safe to quote in a message: short, and on one line.
pub fn shown(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

impl From<&Refusal> for ApiError {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.status, refusal.message.clone())
    }
}
