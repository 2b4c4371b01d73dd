//! `system` and `messages`: blocks to messages in the form of `chat::message`.
//!
//! Templates know system, user, assistant and tool messages with one text each. So results of tools become messages of their
//! own, texts beside them a user's message, neighbours of one role are one turn, and a system message amid the conversation,
//! which most templates refuse, is said in the user's turn beside it.

use serde_json::{Map, Value, json};

use super::thought::thought;
use crate::server::openai::{ApiError, shown};

/// A conversation, read.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// In the form of `chat::message`.
    pub(super) messages: Vec<Value>,
    /// The beginning of the answer, given as the last message.
    pub(super) prefill: Option<String>,
    /// Tools that a search has found or that were added, and those that were taken away, in order.
    pub(super) changes: Vec<(String, bool)>,
    /// The effort that the last system message asks for.
    pub(super) effort: Option<String>,
}

/// What changes at every turn and says nothing to the model.
const BILLING: &str = "x-anthropic-billing-header";

/// Reads both.
///
/// # Errors
/// 400 with the path of the first invalid or unsupported value.
pub(super) fn read(system: Option<Value>, messages: Option<Value>) -> Result<Conversation, ApiError> {
    let mut reader = Reader { to: Conversation::default(), later_user: 0 };
    let system = system.map(|system| system_text(&system)).transpose()?.unwrap_or_default();
    if !system.is_empty() {
        reader.to.messages.push(json!({"role": "system", "content": system}));
    }
    let items = match messages {
        Some(Value::Array(items)) if !items.is_empty() => items,
        Some(Value::Array(_)) => return Err(wrong("messages", "is empty; it needs at least one message")),
        Some(other) => return Err(not_a("messages", "an array of messages", &other)),
        None => return Err(wrong("messages", "is missing; it needs at least one message")),
    };
    reader.later_user = items.iter().rposition(|item| item["role"] == "user").unwrap_or(0);
    let last = items.len() - 1;
    for (index, item) in items.iter().enumerate() {
        reader.message(&format!("messages[{index}]"), index, last, item)?;
    }
    if reader.to.messages.iter().all(|message| message["role"] == "system") {
        return Err(wrong("messages", "has no message of the user"));
    }
    Ok(reader.to)
}

/// The system prompt: a text, or blocks of text.
fn system_text(system: &Value) -> Result<String, ApiError> {
    let texts = match system {
        Value::String(text) => vec![text.clone()],
        Value::Array(blocks) => {
            let block = |(index, block)| text_block(&format!("system[{index}]"), block);
            blocks.iter().enumerate().map(block).collect::<Result<_, _>>()?
        }
        other => return Err(not_a("system", "a string or an array of text blocks", other)),
    };
    let texts = texts.iter().map(|text| without_billing(text)).filter(|text| !text.is_empty());
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

/// The text without such a line at its beginning.
fn without_billing(text: &str) -> &str {
    match text.starts_with(BILLING) {
        true => text.split_once('\n').map_or("", |(_, rest)| rest),
        false => text,
    }
}

struct Reader {
    to: Conversation,
    /// Index of the last message of the user.
    later_user: usize,
}

impl Reader {
    fn message(&mut self, at: &str, index: usize, last: usize, item: &Value) -> Result<(), ApiError> {
        let Value::Object(message) = item else {
            return Err(not_a(at, "an object with `role` and `content`", item));
        };
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        let known: &[&str] = match role {
            "user" | "assistant" => &["role", "content"],
            "system" => &["role", "content", "clear_at", "output_config"],
            _ => return Err(wrong(&format!("{at}.role"), "must be `user`, `assistant` or `system`")),
        };
        only(at, message, known)?;
        let at_content = format!("{at}.content");
        let blocks = blocks(&at_content, message.get("content"), role == "system")?;
        match role {
            "user" => self.user(&blocks),
            "assistant" => self.assistant(&blocks, index == last),
            _ => self.system(at, message, &blocks, index),
        }
    }

    fn user(&mut self, blocks: &[(String, Value)]) -> Result<(), ApiError> {
        for (at, block) in blocks {
            match kind(block) {
                "text" => self.say(&text_block(at, block)?),
                "tool_result" => self.result(at, block)?,
                _ => return Err(unsupported(at, block)),
            }
        }
        Ok(())
    }

    /// Text of the user's turn.
    fn say(&mut self, text: &str) {
        match self.to.messages.last_mut() {
            Some(last) if last["role"] == "user" => {
                let joined = format!("{}\n{text}", last["content"].as_str().unwrap_or_default());
                last["content"] = joined.into();
            }
            _ => self.to.messages.push(json!({"role": "user", "content": text})),
        }
    }

    fn result(&mut self, at: &str, block: &Value) -> Result<(), ApiError> {
        only(
            at,
            block.as_object().unwrap_or(&Map::new()),
            &["type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name"],
        )?;
        let id = string(at, block, "tool_use_id")?;
        let at_content = format!("{at}.content");
        let mut text = String::new();
        for (at, part) in blocks(&at_content, block.get("content"), true)? {
            if !text.is_empty() {
                text.push('\n');
            }
            match kind(&part) {
                "text" => text += &text_block(&at, &part)?,
                "tool_reference" => {
                    let name = string(&at, &part, "tool_name")?;
                    text += &format!("The tool `{name}` can be called now.");
                    self.to.changes.push((name, true));
                }
                _ => return Err(unsupported(&at, &part)),
            }
        }
        let failed = match block.get("is_error") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(failed)) => *failed,
            Some(other) => return Err(not_a(&format!("{at}.is_error"), "true or false", other)),
        };
        // Templates know no failed results, so the text says it.
        if failed && !text.trim_start_matches(['<', '[']).to_ascii_lowercase().starts_with("error") {
            text = format!("Error: {text}");
        }
        let mut message = json!({"role": "tool", "content": text, "tool_call_id": id});
        if let Some(name) = self.called(&id) {
            message["name"] = name.into();
        }
        self.to.messages.push(message);
        Ok(())
    }

    /// The tool that the call with this id called.
    fn called(&self, id: &str) -> Option<String> {
        let calls = self.to.messages.iter().rev().filter_map(|message| message["tool_calls"].as_array());
        let call = calls.flatten().find(|call| call["id"] == id)?;
        Some(call["function"]["name"].as_str()?.to_owned())
    }

    fn assistant(&mut self, blocks: &[(String, Value)], is_last: bool) -> Result<(), ApiError> {
        let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
        for (at, block) in blocks {
            match kind(block) {
                "text" => text += &text_block(at, block)?,
                "thinking" => {
                    let shown = string(at, block, "thinking")?;
                    let signature = block.get("signature").and_then(Value::as_str).unwrap_or_default();
                    reasoning += &if shown.is_empty() { thought(signature).unwrap_or_default() } else { shown };
                }
                // What another model kept to itself.
                "redacted_thinking" => {}
                "tool_use" => calls.push(call(at, block)?),
                _ => return Err(unsupported(at, block)),
            }
        }
        if is_last {
            return self.begin_answer(text, blocks);
        }
        let mut message = json!({"role": "assistant", "content": text});
        if !reasoning.is_empty() {
            message["reasoning_content"] = reasoning.into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        match self.to.messages.last_mut() {
            Some(last) if last["role"] == "assistant" => join(last, &message),
            _ => self.to.messages.push(message),
        }
        Ok(())
    }

    /// The last message, which the answer is to go on from.
    fn begin_answer(&mut self, text: String, blocks: &[(String, Value)]) -> Result<(), ApiError> {
        if let Some((at, block)) = blocks.iter().find(|(_, block)| kind(block) != "text") {
            let line = format!(
                "is a `{}` block in the last message, which is the assistant's: an answer can go on from text alone",
                shown(kind(block))
            );
            return Err(wrong(at, &line));
        }
        self.to.prefill = Some(text).filter(|text| !text.is_empty());
        Ok(())
    }

    fn system(
        &mut self,
        at: &str,
        message: &Map<String, Value>,
        blocks: &[(String, Value)],
        index: usize,
    ) -> Result<(), ApiError> {
        let passing = match message.get("clear_at").and_then(Value::as_str) {
            None | Some("never") => false,
            Some("next_user_message") => true,
            Some(_) => return Err(wrong(&format!("{at}.clear_at"), "must be `next_user_message` or `never`")),
        };
        if let Some(config) = message.get("output_config").and_then(Value::as_object) {
            let at = format!("{at}.output_config");
            only(&at, config, &["effort"])?;
            self.to.effort = config.get("effort").and_then(Value::as_str).map(str::to_owned).or(self.to.effort.take());
        }
        let mut texts = Vec::new();
        for (at, block) in blocks {
            match kind(block) {
                "text" => texts.push(text_block(at, block)?),
                "tool_addition" | "tool_removal" => {
                    self.to.changes.push((changed(at, block)?, kind(block) == "tool_addition"));
                }
                _ => return Err(unsupported(at, block)),
            }
        }
        let text = texts.join("\n");
        if text.is_empty() || (passing && index < self.later_user) {
            return Ok(());
        }
        let is_first = self.to.messages.iter().all(|message| message["role"] == "system");
        match self.to.messages.first_mut() {
            Some(first) if is_first => {
                first["content"] = format!("{}\n{text}", first["content"].as_str().unwrap_or_default()).into();
            }
            None => self.to.messages.push(json!({"role": "system", "content": text})),
            Some(_) => self.say(&format!("<system>\n{text}\n</system>")),
        }
        Ok(())
    }
}

/// Puts what one message of the assistant says behind another.
fn join(message: &mut Value, next: &Value) {
    for field in ["content", "reasoning_content"] {
        if let Some(more) = next[field].as_str() {
            message[field] = format!("{}{more}", message[field].as_str().unwrap_or_default()).into();
        }
    }
    if let Some(more) = next["tool_calls"].as_array() {
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        message["tool_calls"] = calls.into_iter().chain(more.iter().cloned()).collect();
    }
}

/// The name of a tool that is added or removed amid a conversation.
fn changed(at: &str, block: &Value) -> Result<String, ApiError> {
    let at = format!("{at}.tool");
    let tool = block.get("tool").unwrap_or(&Value::Null);
    if kind(tool) != "tool_reference" {
        return Err(wrong(&at, "must be a `tool_reference` to one of `tools`").code("unsupported_parameter"));
    }
    string(&at, tool, "name")
}

fn call(at: &str, block: &Value) -> Result<Value, ApiError> {
    let known = ["type", "id", "name", "input", "cache_control", "caller", "toolset_name"];
    only(at, block.as_object().unwrap_or(&Map::new()), &known)?;
    let (id, name) = (string(at, block, "id")?, string(at, block, "name")?);
    let input = match block.get("input") {
        Some(input @ Value::Object(_)) => input.to_string(),
        other => return Err(not_a(&format!("{at}.input"), "an object", other.unwrap_or(&Value::Null))),
    };
    Ok(json!({"id": id, "type": "function", "function": {"name": name, "arguments": input}}))
}

/// Content as blocks with their paths; a string is one of text.
fn blocks(at: &str, content: Option<&Value>, may_lack: bool) -> Result<Vec<(String, Value)>, ApiError> {
    match content {
        Some(Value::String(text)) => Ok(vec![(at.to_owned(), json!({"type": "text", "text": text}))]),
        Some(Value::Array(items)) => {
            Ok(items.iter().enumerate().map(|(index, item)| (format!("{at}[{index}]"), item.clone())).collect())
        }
        None | Some(Value::Null) if may_lack => Ok(Vec::new()),
        None | Some(Value::Null) => Err(wrong(at, "is missing")),
        Some(other) => Err(not_a(at, "a string or an array of blocks", other)),
    }
}

fn text_block(at: &str, block: &Value) -> Result<String, ApiError> {
    if kind(block) != "text" {
        return Err(unsupported(at, block));
    }
    only(at, block.as_object().unwrap_or(&Map::new()), &["type", "text", "cache_control", "citations"])?;
    string(at, block, "text")
}

fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn unsupported(at: &str, block: &Value) -> ApiError {
    let line = match kind(block) {
        "" => "must be a block with a `type`".to_owned(),
        "image" | "document" | "container_upload" => {
            "is not text: this model reads text only, not images or documents".to_owned()
        }
        other => format!("is a block of type `{}`, which is not supported here", shown(other)),
    };
    wrong(at, &line).code("unsupported_parameter")
}

fn string(at: &str, object: &Value, name: &str) -> Result<String, ApiError> {
    match object.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        None | Some(Value::Null) => Err(wrong(&format!("{at}.{name}"), "is missing")),
        Some(other) => Err(not_a(&format!("{at}.{name}"), "a string", other)),
    }
}

/// Refuses fields that are not known.
///
/// # Errors
/// 400 with the path of the first.
pub(super) fn only(at: &str, object: &Map<String, Value>, known: &[&str]) -> Result<(), ApiError> {
    match object.iter().find(|(name, value)| !value.is_null() && !known.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            let at = format!("{at}.{}", shown(name));
            Err(wrong(&at, "is unknown: leave it out").code("unknown_parameter"))
        }
    }
}

/// A 400 about the value at a path.
pub(super) fn wrong(at: &str, line: &str) -> ApiError {
    ApiError::parameter(at, format!("`{at}` {line}"))
}

/// A 400 for a value of the wrong type.
pub(super) fn not_a(at: &str, wanted: &str, found: &Value) -> ApiError {
    crate::server::openai::wrong_type(at, wanted, found)
}
