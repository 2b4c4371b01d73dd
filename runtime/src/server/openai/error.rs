//! Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.
//!
//! The `type` follows the status (4xx: `invalid_request_error`, 5xx: `server_error`), `param` names the parameter at
//! fault, `code` is there where a client may want to react: `context_length_exceeded`, `model_not_found`, …

use serde_json::{Value, json};

use crate::server::http::{Refusal, Response};

/// An error to answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// One line: what is wrong, where, what to do.
    pub message: String,
    /// The parameter at fault.
    pub param: Option<String>,
    /// A word for programs.
    pub code: Option<&'static str>,
}

impl ApiError {
    /// A parameter that cannot be used (400).
    pub fn parameter(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), param: Some(param.into()), code: None }
    }

    /// A request that cannot be used, whatever the parameter.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
    }

    /// The same with a word for programs.
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

/// A name out of a request as a message may show it: short, and on one line.
pub fn shown(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

impl From<&Refusal> for ApiError {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.status, refusal.message.clone())
    }
}
