//! The response object: what every event about the whole and every whole answer has.

use std::hash::{BuildHasher, RandomState};

use serde_json::{Map, Value, json};

use crate::server::openai::{ApiError, Tally};

/// The fields of a response that are known from the start.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) id: String,
    created: u64,
    model: String,
    /// The request's parameters.
    repeated: Map<String, Value>,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Status<'a> {
    InProgress,
    Completed(&'a Tally),
    /// It was cut off.
    Incomplete(&'a Tally),
    Failed(&'a ApiError),
}

impl Object {
    /// A new response of `model`, at `created` (Unix seconds).
    pub(super) fn new(model: &str, created: u64, mut repeated: Map<String, Value>) -> Self {
        let random = RandomState::new();
        let id = format!("resp_{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
        // Clients expect an object.
        if repeated.get("metadata").is_some_and(Value::is_null) {
            repeated.insert("metadata".into(), json!({}));
        }
        Self { id, created, model: model.to_owned(), repeated }
    }

    /// The id of the item at `index`.
    pub(super) fn item_id(&self, prefix: &str, index: usize) -> String {
        format!("{prefix}_{}{index:02x}", self.id.trim_start_matches("resp_"))
    }

    /// The object.
    pub(super) fn at(&self, status: Status<'_>, output: &[Value]) -> Value {
        let mut object = self.repeated.clone();
        let (word, usage, error) = match status {
            Status::InProgress => ("in_progress", Value::Null, Value::Null),
            Status::Completed(tally) => ("completed", usage(tally), Value::Null),
            Status::Incomplete(tally) => ("incomplete", usage(tally), Value::Null),
            Status::Failed(error) => ("failed", Value::Null, failure(error)),
        };
        let cut = matches!(status, Status::Incomplete(_));
        let ended = matches!(status, Status::Completed(_)).then(crate::server::unix_seconds);
        object.extend([
            ("id".to_owned(), self.id.as_str().into()),
            ("object".to_owned(), "response".into()),
            ("created_at".to_owned(), self.created.into()),
            ("completed_at".to_owned(), json!(ended)),
            ("status".to_owned(), word.into()),
            ("model".to_owned(), self.model.as_str().into()),
            ("output".to_owned(), output.into()),
            ("usage".to_owned(), usage),
            ("error".to_owned(), error),
            ("incomplete_details".to_owned(), if cut { json!({"reason": "max_output_tokens"}) } else { Value::Null }),
        ]);
        object.into()
    }
}

/// `usage` by the names of this API.
pub(in crate::server) fn usage(tally: &Tally) -> Value {
    json!({
        "input_tokens": tally.prompt_tokens,
        "input_tokens_details": {"cached_tokens": tally.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": tally.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": tally.reasoning_tokens},
        "total_tokens": tally.prompt_tokens + tally.generated_tokens,
    })
}

fn failure(error: &ApiError) -> Value {
    let code = error.code.unwrap_or(if error.status >= 500 { "server_error" } else { "invalid_prompt" });
    json!({"code": code, "message": error.message, "param": error.param})
}
