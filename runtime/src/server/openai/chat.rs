//! `POST /v1/chat/completions`: the request body, checked.
//!
//! Messages stay JSON objects, since chat templates read them as such; this file makes sure that they hold only text
//! and only what a template can show. Content given as parts is joined into one string.

use serde_json::{Map, Value};

use super::common::{Baseline, Common};
use super::error::{ApiError, shown};
use super::fields::{Fields, wrong_type};
use super::foreign::refuse_foreign;

/// Alternatives that `top_logprobs` may ask for.
const MAX_TOP_LOGPROBS: i64 = 20;

/// A checked chat request.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// `{role, content, name?}`, content always a string.
    pub messages: Vec<Value>,
    /// `chat_template_kwargs`: further variables for the template.
    pub template_variables: Map<String, Value>,
    /// Alternatives to report with each token; `None`: no log-probabilities.
    pub logprobs: Option<usize>,
    /// The rest.
    pub common: Common,
}

impl ChatRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn parse(body: &[u8], baseline: &Baseline) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let messages = messages_of(&mut fields)?;
        let mut common = Common::take(&mut fields, baseline)?;
        if let Some(limit) = fields.take_integer("max_completion_tokens", 1..=i64::MAX)? {
            common.max_tokens = Some(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let wanted = fields.take_bool("logprobs")?.unwrap_or(false);
        let top = fields.take_integer("top_logprobs", 0..=MAX_TOP_LOGPROBS)?;
        if top.is_some_and(|top| top > 0) && !wanted {
            return Err(ApiError::parameter("top_logprobs", "`top_logprobs` needs `logprobs: true`"));
        }
        let template_variables = fields.take_object("chat_template_kwargs")?.unwrap_or_default();
        refuse_foreign(&mut fields)?;
        fields.finish()?;
        let logprobs = wanted.then(|| top.unwrap_or(0) as usize);
        Ok(Self { messages, template_variables, logprobs, common })
    }
}

/// Takes the checked messages.
///
/// # Errors
/// 400 that names the place.
pub fn messages_of(fields: &mut Fields) -> Result<Vec<Value>, ApiError> {
    let messages = match fields.take("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        Some(Value::Array(_)) => {
            return Err(ApiError::parameter("messages", "`messages` is empty; it needs at least one message"));
        }
        Some(other) => return Err(wrong_type("messages", "an array of messages", &other)),
        None => {
            return Err(ApiError::parameter("messages", "`messages` is missing; a chat needs at least one message"));
        }
    };
    messages
        .into_iter()
        .enumerate()
        .map(|(index, message)| check_message(&format!("messages[{index}]"), message))
        .collect()
}

fn check_message(at: &str, message: Value) -> Result<Value, ApiError> {
    let Value::Object(mut message) = message else {
        return Err(wrong_type(at, "an object with `role` and `content`", &message));
    };
    let role_at = format!("{at}.role");
    let role = match message.remove("role") {
        Some(Value::String(role)) => role,
        Some(other) => return Err(wrong_type(&role_at, "a string", &other)),
        None => return Err(ApiError::parameter(role_at, format!("`{at}` has no `role`"))),
    };
    let role = match role.as_str() {
        "developer" => "system", // OpenAI's newer name for it
        "system" | "user" | "assistant" => role.as_str(),
        "tool" | "function" => {
            return Err(ApiError::parameter(
                role_at,
                format!("`{at}` has the role `{role}`: tools are not supported by this server"),
            ));
        }
        _ => {
            let message = format!("`{role_at}` must be `system`, `developer`, `user` or `assistant`");
            return Err(ApiError::parameter(role_at, message));
        }
    };
    let content = content_text(&format!("{at}.content"), message.remove("content"))?;
    let mut checked = Map::new();
    checked.insert("role".into(), role.into());
    checked.insert("content".into(), content.into());
    for (name, value) in message {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_str() == Some("");
        let here = format!("{at}.{}", shown(&name));
        match (name.as_str(), value) {
            _ if empty => {} // what clients echo of an assistant's message: `refusal`, `annotations`, `tool_calls`, …
            ("name" | "reasoning_content", value @ Value::String(_)) => {
                checked.insert(name, value);
            }
            ("name" | "reasoning_content", other) => return Err(wrong_type(&here, "a string", &other)),
            _ => {
                return Err(ApiError::parameter(
                    here.clone(),
                    format!("`{here}` is not supported by this server; leave it out"),
                ));
            }
        }
    }
    Ok(Value::Object(checked))
}

fn content_text(at: &str, content: Option<Value>) -> Result<String, ApiError> {
    let parts = match content {
        Some(Value::String(text)) => return Ok(text),
        Some(Value::Array(parts)) => parts,
        Some(Value::Null) | None => {
            return Err(ApiError::parameter(at, format!("`{at}` is missing; it must be a string")));
        }
        Some(other) => return Err(wrong_type(at, "a string or an array of text parts", &other)),
    };
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let here = format!("{at}[{index}]");
        match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(piece)) => text.push_str(piece),
            (Some("image_url" | "input_audio" | "file" | "video_url"), _) => {
                let message = format!("`{here}` is not text: this model reads text only, not images, audio or files");
                return Err(ApiError::parameter(here, message));
            }
            _ => {
                let message = format!("`{here}` must be `{{\"type\": \"text\", \"text\": \"…\"}}`");
                return Err(ApiError::parameter(here, message));
            }
        }
    }
    Ok(text)
}
