//! Input items to messages in the form of `chat::message`.
//!
//! What a model said in one turn is several items here (reasoning, text, calls) and one message there, which is how it was
//! generated, so a kept prefix matches. Leading instructions become one system message and adjoining user items one user
//! message, since many chat templates want turns to alternate.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::tools::ToolNames;
use crate::server::openai::{ApiError, is_empty, shown, wrong_type};

/// Begins what this server gives as `encrypted_content`. The text behind it is readable: it is the caller's own.
const SEALED: &str = "satchel1.";

/// Fields of items that do not change what the model reads.
const NEUTRAL: [&str; 9] = [
    "type",
    "id",
    "status",
    "phase",
    "caller",
    "async",
    "metadata",
    "created_by",
    "internal_chat_message_metadata_passthrough",
];

/// `encrypted_content` for a reasoning text.
pub(super) fn seal(text: &str) -> String {
    format!("{SEALED}{}", STANDARD.encode(text))
}

fn unseal(sealed: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(sealed.strip_prefix(SEALED)?).ok()?).ok()
}

/// The messages of items that follow no others.
///
/// # Errors
/// 400 with the path of the first invalid value.
pub(in crate::server) fn messages_of_items(parameter: &str, items: &[Value]) -> Result<Vec<Value>, ApiError> {
    let names = ToolNames::default();
    let mut messages = Messages::new(&names);
    for (index, item) in items.iter().enumerate() {
        messages.read(&format!("{parameter}[{index}]"), item)?;
    }
    Ok(messages.finish())
}

/// Messages in the making.
pub(super) struct Messages<'a> {
    names: &'a ToolNames,
    list: Vec<Value>,
    /// Ids of calls so far.
    calls: HashSet<String>,
}

impl<'a> Messages<'a> {
    pub(super) fn new(names: &'a ToolNames) -> Self {
        Self { names, list: Vec::new(), calls: HashSet::new() }
    }

    /// All messages.
    pub(super) fn finish(self) -> Vec<Value> {
        self.list
    }

    /// `instructions`, before all items.
    pub(super) fn instructions(&mut self, text: &str) {
        self.say("system", text);
    }

    /// The next item; `at` is its path.
    ///
    /// # Errors
    /// 400 with the path of the invalid value.
    pub(super) fn read(&mut self, at: &str, item: &Value) -> Result<(), ApiError> {
        let Value::Object(item) = item else { return Err(wrong_type(at, "an object with `type`", item)) };
        match item.get("type").and_then(Value::as_str) {
            Some("message") => self.message(at, item),
            None if item.contains_key("role") => self.message(at, item),
            Some("function_call") => self.call(at, item, "arguments"),
            Some("custom_tool_call") => self.call(at, item, "input"),
            Some("function_call_output" | "custom_tool_call_output") => self.output(at, item),
            Some("reasoning") => self.reasoning(at, item),
            kind => {
                let kind = shown(kind.unwrap_or_default());
                let message = format!("`{at}` is an item of type `{kind}`, which this server does not take");
                Err(ApiError::parameter(format!("{at}.type"), message).code("unsupported_parameter"))
            }
        }
    }

    fn message(&mut self, at: &str, item: &Map<String, Value>) -> Result<(), ApiError> {
        only(at, item, &["role", "content"])?;
        let role = text(at, item, "role")?;
        let content_at = format!("{at}.content");
        let content = item.get("content").unwrap_or(&Value::Null);
        match role {
            "user" => self.say("user", &parts(&content_at, content)?),
            "system" | "developer" => self.say("system", &parts(&content_at, content)?),
            "assistant" => self.said(&parts(&content_at, content)?),
            _ => {
                let at = format!("{at}.role");
                let message = format!("`{at}` must be `user`, `assistant`, `system` or `developer`");
                return Err(ApiError::parameter(at, message));
            }
        }
        Ok(())
    }

    /// A message of the caller's, joined to one of the same role before it: of users always, of the system at the beginning.
    fn say(&mut self, role: &str, text: &str) {
        let begins = self.list.len() == 1;
        match self.list.last_mut() {
            Some(last) if last["role"] == role && (role == "user" || begins) => {
                let joined = format!("{}\n\n{text}", last["content"].as_str().unwrap_or_default());
                last["content"] = joined.into();
            }
            _ => self.list.push(json!({"role": role, "content": text})),
        }
    }

    /// The message of the model's that goes on, if `goes_on` says so of the last one, else a new one.
    fn assistant(&mut self, goes_on: impl Fn(&Value) -> bool) -> &mut Value {
        let goes_on = self.list.last().is_some_and(|last| last["role"] == "assistant" && goes_on(last));
        if !goes_on {
            self.list.push(json!({"role": "assistant", "content": ""}));
        }
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    fn said(&mut self, text: &str) {
        let message = self.assistant(|last| last.get("tool_calls").is_none());
        let before = message["content"].as_str().unwrap_or_default();
        let joined = if before.is_empty() { text.to_owned() } else { format!("{before}\n\n{text}") };
        message["content"] = joined.into();
    }

    fn call(&mut self, at: &str, item: &Map<String, Value>, what: &str) -> Result<(), ApiError> {
        only(at, item, &["call_id", "name", "namespace", what])?;
        let (id, name, given) = (text(at, item, "call_id")?, text(at, item, "name")?, text(at, item, what)?);
        let namespace = item.get("namespace").and_then(Value::as_str);
        let arguments = match what {
            "input" => json!({ "input": given }).to_string(),
            _ if given.trim().is_empty() => "{}".to_owned(),
            _ => given.to_owned(),
        };
        self.calls.insert(id.to_owned());
        let function = json!({"name": self.names.qualified(namespace, name), "arguments": arguments});
        let call = json!({"id": id, "type": "function", "function": function});
        let message = self.assistant(|_| true);
        match message.get_mut("tool_calls").and_then(Value::as_array_mut) {
            Some(calls) => calls.push(call),
            None => message["tool_calls"] = json!([call]),
        }
        Ok(())
    }

    fn output(&mut self, at: &str, item: &Map<String, Value>) -> Result<(), ApiError> {
        only(at, item, &["call_id", "output", "name", "namespace"])?;
        let id = text(at, item, "call_id")?;
        if !self.calls.contains(id) {
            let message = format!("`{at}.call_id` is `{}`, but there is no call with this id before it", shown(id));
            return Err(ApiError::parameter(format!("{at}.call_id"), message));
        }
        let content = parts(&format!("{at}.output"), item.get("output").unwrap_or(&Value::Null))?;
        self.list.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
        Ok(())
    }

    /// What the model thought: as this server gave it in `encrypted_content`, else `content`, else `summary`.
    fn reasoning(&mut self, at: &str, item: &Map<String, Value>) -> Result<(), ApiError> {
        only(at, item, &["encrypted_content", "content", "summary"])?;
        let sealed = item.get("encrypted_content").and_then(Value::as_str).unwrap_or_default();
        let listed =
            ["content", "summary"].into_iter().find(|name| item.get(*name).is_some_and(|list| !is_empty(list)));
        let thought = match (unseal(sealed), listed) {
            (Some(thought), _) => thought,
            (None, Some(name)) => parts(&format!("{at}.{name}"), &item[name])?,
            (None, None) if sealed.is_empty() => return Ok(()),
            (None, None) => {
                let here = format!("{at}.encrypted_content");
                let message =
                    format!("`{here}` was not issued by this server, which cannot read it; leave the item out");
                return Err(ApiError::parameter(here, message));
            }
        };
        let begins = |last: &Value| last["content"] == "" && last.get("tool_calls").is_none();
        let message = self.assistant(begins);
        let before = message["reasoning_content"].as_str().map(|before| format!("{before}\n\n")).unwrap_or_default();
        message["reasoning_content"] = format!("{before}{thought}").into();
        Ok(())
    }
}

/// Refuses fields of an item that are neither these nor neutral.
fn only(at: &str, item: &Map<String, Value>, known: &[&str]) -> Result<(), ApiError> {
    let foreign = |(name, value): &(&String, &Value)| {
        !known.contains(&name.as_str()) && !NEUTRAL.contains(&name.as_str()) && !is_empty(value)
    };
    match item.iter().find(foreign) {
        None => Ok(()),
        Some((name, _)) => {
            let here = format!("{at}.{}", shown(name));
            let message = format!("`{here}` is not supported by this server; leave it out");
            Err(ApiError::parameter(here, message).code("unsupported_parameter"))
        }
    }
}

fn text<'a>(at: &str, item: &'a Map<String, Value>, name: &str) -> Result<&'a str, ApiError> {
    let here = || format!("{at}.{name}");
    match item.get(name) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Err(ApiError::parameter(here(), format!("`{}` is missing", here()))),
        Some(other) => Err(wrong_type(&here(), "a string", other)),
    }
}

/// The text of a string or of an array of parts.
pub(in crate::server) fn parts(at: &str, content: &Value) -> Result<String, ApiError> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        Value::Null => return Err(ApiError::parameter(at, format!("`{at}` is missing"))),
        other => return Err(wrong_type(at, "a string or an array of parts", other)),
    };
    let mut whole = String::new();
    for (index, part) in parts.iter().enumerate() {
        let here = format!("{at}[{index}]");
        let field = |name: &str| part.get(name).and_then(Value::as_str);
        let kind = field("type").unwrap_or_default();
        let piece = match kind {
            "input_text" | "output_text" | "text" | "reasoning_text" | "summary_text" => field("text"),
            "refusal" => field("refusal"),
            "input_json" => {
                whole.push_str(&part.get("data").unwrap_or(&Value::Null).to_string());
                continue;
            }
            "input_image" | "input_file" | "input_audio" | "computer_screenshot" | "encrypted_content" => {
                let message = format!("`{here}` is `{kind}`: this model reads text only");
                return Err(ApiError::parameter(here, message).code("unsupported_parameter"));
            }
            _ => None,
        };
        match piece {
            Some(piece) => whole.push_str(piece),
            None => {
                let message = format!("`{here}` must be a part such as {{\"type\": \"input_text\", \"text\": \"…\"}}");
                return Err(ApiError::parameter(here, message));
            }
        }
    }
    Ok(whole)
}
