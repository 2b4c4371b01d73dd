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
}

impl ApiError {
    /// An invalid parameter (400).
    pub fn parameter(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), param: Some(param.into()), code: None }
    }

    /// An error about no parameter in particular.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
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
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
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
