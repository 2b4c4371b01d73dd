//! Validates messages in OpenAI's format, for every way they come in (HTTP, `--load`, `/load`).
//!
//! Messages stay JSON objects, as chat templates expect; validation ensures that they contain only text and supported
//! fields. Content given as parts is joined into one string.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::calls::read_calls;

/// Longest name quoted in an error, in characters.
const MAX_SHOWN: usize = 64;

/// An invalid message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MessageError {
    /// Path of the offending value, such as `messages[2].content[0]`.
    pub at: String,
    /// One line: what is wrong.
    pub message: String,
}

pub(super) fn wrong(at: impl Into<String>, message: impl Into<String>) -> MessageError {
    MessageError { at: at.into(), message: message.into() }
}

pub(super) fn wrong_type(at: &str, wanted: &str, found: &Value) -> MessageError {
    let kind = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    wrong(at, format!("`{at}` must be {wanted}, not {kind}"))
}

/// A name from a request, made safe to quote.
fn shown(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(MAX_SHOWN).collect()
}

/// Reads an array of messages: `{role, content, tool_calls?, tool_call_id?, name?, reasoning_content?}`, content always a
/// string, calls always of functions.
///
/// # Errors
/// The first invalid value.
pub fn read_messages(value: Option<Value>) -> Result<Vec<Value>, MessageError> {
    let messages = match value {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        Some(Value::Array(_)) => {
            return Err(wrong("messages", "`messages` is empty; it needs at least one message"));
        }
        Some(other) => return Err(wrong_type("messages", "an array of messages", &other)),
        None => return Err(wrong("messages", "`messages` is missing; a chat needs at least one message")),
    };
    let read = |(index, message)| read_message(&format!("messages[{index}]"), message);
    let mut messages = messages.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    complete_ids(&mut messages);
    Ok(messages)
}

/// Results without an id belong to the earlier calls in order: not every API has ids, but some templates need them.
fn complete_ids(messages: &mut [Value]) {
    let mut open: VecDeque<Value> = VecDeque::new();
    for message in messages {
        if let Some(calls) = message.get("tool_calls").and_then(Value::as_array) {
            open = calls.iter().map(|call| call["id"].clone()).collect();
        } else if message["role"] == "tool" {
            match message.get("tool_call_id") {
                Some(id) => open.retain(|other| other != id),
                None => message["tool_call_id"] = open.pop_front().unwrap_or_else(|| "call_0".into()),
            }
        }
    }
}

fn read_message(at: &str, message: Value) -> Result<Value, MessageError> {
    let Value::Object(mut message) = message else {
        return Err(wrong_type(at, "an object with `role` and `content`", &message));
    };
    let role = read_role(at, message.remove("role"))?;
    let calls = if role == "assistant" { read_calls(at, &mut message)? } else { Vec::new() };
    let content = message.remove("content").filter(|content| !content.is_null());
    // A message that calls tools needs no text.
    let content = match content.is_none() && !calls.is_empty() {
        true => String::new(),
        false => read_content(&format!("{at}.content"), content)?,
    };
    let mut checked = Map::new();
    checked.insert("role".into(), role.into());
    checked.insert("content".into(), content.into());
    if !calls.is_empty() {
        checked.insert("tool_calls".into(), calls.into());
    }
    for (name, value) in message {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_str() == Some("");
        if !empty {
            // Clients echo empty fields of assistant messages: `refusal`, `annotations`, …
            read_field(at, role, &name, value, &mut checked)?;
        }
    }
    Ok(Value::Object(checked))
}

/// A field besides role, content and calls.
fn read_field(
    at: &str,
    role: &str,
    name: &str,
    value: Value,
    checked: &mut Map<String, Value>,
) -> Result<(), MessageError> {
    let here = format!("{at}.{}", shown(name));
    let kept = match (name, role) {
        ("name" | "reasoning_content", _) => name,
        ("tool_call_id", "tool") => name,
        ("reasoning", "assistant") => "reasoning_content", // another server's name for it
        _ => {
            let message = format!("`{here}` is not supported by this server; leave it out");
            return Err(wrong(here, message));
        }
    };
    match value {
        value @ Value::String(_) => checked.entry(kept).or_insert(value),
        other => return Err(wrong_type(&here, "a string", &other)),
    };
    Ok(())
}

fn read_role(at: &str, role: Option<Value>) -> Result<&'static str, MessageError> {
    let role_at = format!("{at}.role");
    match role.as_ref() {
        Some(Value::String(role)) => match role.as_str() {
            "system" | "developer" => Ok("system"), // OpenAI's newer name for it
            "user" => Ok("user"),
            "assistant" => Ok("assistant"),
            "tool" | "function" => Ok("tool"), // OpenAI's older name for it
            _ => {
                let message = format!("`{role_at}` must be `system`, `developer`, `user`, `assistant` or `tool`");
                Err(wrong(role_at, message))
            }
        },
        Some(other) => Err(wrong_type(&role_at, "a string", other)),
        None => Err(wrong(role_at, format!("`{at}` has no `role`"))),
    }
}

fn read_content(at: &str, content: Option<Value>) -> Result<String, MessageError> {
    let parts = match content {
        Some(Value::String(text)) => return Ok(text),
        Some(Value::Array(parts)) => parts,
        Some(Value::Null) | None => return Err(wrong(at, format!("`{at}` is missing; it must be a string"))),
        Some(other) => return Err(wrong_type(at, "a string or an array of text parts", &other)),
    };
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let here = format!("{at}[{index}]");
        match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(piece)) => text.push_str(piece),
            (Some("image_url" | "input_audio" | "file" | "video_url"), _) => {
                let message = format!("`{here}` is not text: this model reads text only, not images, audio or files");
                return Err(wrong(here, message));
            }
            _ => {
                let message = format!("`{here}` must be `{{\"type\": \"text\", \"text\": \"…\"}}`");
                return Err(wrong(here, message));
            }
        }
    }
    Ok(text)
}

/// Variables that a caller may not set: they would replace validated input, or forge the tokens that a template writes.
const RESERVED: [&str; 5] = ["messages", "tools", "add_generation_prompt", "bos_token", "eos_token"];

/// The first reserved name among a caller's variables.
pub fn reserved_variable(variables: &Map<String, Value>) -> Option<&'static str> {
    RESERVED.into_iter().find(|name| variables.contains_key(*name))
}
