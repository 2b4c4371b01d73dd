//! Tool calls in earlier messages, in OpenAI's forms: `tool_calls` of functions and of custom tools, and the older
//! `function_call`.
//!
//! All become calls of functions with an id. A call's arguments stay the text that they came as: it is part of what the model
//! has said, even where it is no JSON.

use serde_json::{Map, Value, json};

use super::message::{MessageError, wrong, wrong_type};

/// Takes the calls out of an assistant's message.
///
/// # Errors
/// The first invalid value.
pub(super) fn read_calls(at: &str, message: &mut Map<String, Value>) -> Result<Vec<Value>, MessageError> {
    let mut calls = Vec::new();
    if let Some(call) = message.remove("function_call").filter(|call| !call.is_null()) {
        calls.push(function(&format!("{at}.function_call"), "call_0", &call)?);
    }
    let at = format!("{at}.tool_calls");
    match message.remove("tool_calls") {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                calls.push(read_call(&format!("{at}[{index}]"), index, item)?);
            }
        }
        Some(other) => return Err(wrong_type(&at, "an array of tool calls", &other)),
    }
    Ok(calls)
}

fn read_call(at: &str, index: usize, call: &Value) -> Result<Value, MessageError> {
    if !call.is_object() {
        return Err(wrong_type(at, "an object with `id` and `function`", call));
    }
    let id = match call.get("id") {
        None | Some(Value::Null) => format!("call_{index}"),
        Some(Value::String(id)) => id.clone(),
        Some(other) => return Err(wrong_type(&format!("{at}.id"), "a string", other)),
    };
    match call.get("type").and_then(Value::as_str).unwrap_or("function") {
        "function" => function(&format!("{at}.function"), &id, call.get("function").unwrap_or(&Value::Null)),
        "custom" => custom(&format!("{at}.custom"), &id, call.get("custom").unwrap_or(&Value::Null)),
        _ => Err(wrong(format!("{at}.type"), format!("`{at}.type` must be `function` or `custom`"))),
    }
}

fn function(at: &str, id: &str, function: &Value) -> Result<Value, MessageError> {
    let name = text(at, function, "name")?;
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => "{}".to_owned(),
        // Ollama's form.
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => return Err(wrong_type(&format!("{at}.arguments"), "a string of JSON", other)),
    };
    Ok(call(id, name, &arguments))
}

/// A custom tool takes one text, which its function calls `input`.
fn custom(at: &str, id: &str, custom: &Value) -> Result<Value, MessageError> {
    let (name, input) = (text(at, custom, "name")?, text(at, custom, "input")?);
    Ok(call(id, name, &json!({ "input": input }).to_string()))
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn text<'a>(at: &str, object: &'a Value, name: &str) -> Result<&'a str, MessageError> {
    match object.get(name) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Err(wrong(format!("{at}.{name}"), format!("`{at}.{name}` is missing"))),
        Some(other) => Err(wrong_type(&format!("{at}.{name}"), "a string", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::message::read_messages;

    #[test]
    fn calls_of_every_form_become_calls_of_functions() {
        let message = json!({"role": "assistant", "content": null, "function_call": {"name": "old"}, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{\"x\": 1}"}},
            {"type": "custom", "custom": {"name": "shell", "input": "ls"}},
            {"function": {"name": "now", "arguments": {"zone": "UTC"}}},
        ]});
        let result = json!({"role": "tool", "tool_call_id": "a", "content": "1"});
        let read = read_messages(Some(json!([message, result]))).expect("messages");
        let calls = [
            call("call_0", "old", "{}"),
            call("a", "add", "{\"x\": 1}"),
            call("call_1", "shell", "{\"input\":\"ls\"}"),
            call("call_2", "now", "{\"zone\":\"UTC\"}"),
        ];
        assert_eq!(read[0], json!({"role": "assistant", "content": "", "tool_calls": calls}));
        assert_eq!(read[1], json!({"role": "tool", "tool_call_id": "a", "content": "1"}));
    }

    #[test]
    fn an_invalid_call_is_named_by_its_path() {
        for (calls, at) in [
            (json!({}), "tool_calls"),
            (json!([1]), "tool_calls[0]"),
            (json!([{"id": 1}]), "tool_calls[0].id"),
            (json!([{"type": "other"}]), "tool_calls[0].type"),
            (json!([{"function": {"arguments": "{}"}}]), "tool_calls[0].function.name"),
            (json!([{"function": {"name": "a", "arguments": 1}}]), "tool_calls[0].function.arguments"),
            (json!([{"type": "custom", "custom": {"name": "a"}}]), "tool_calls[0].custom.input"),
        ] {
            let message = json!({"role": "assistant", "content": "", "tool_calls": calls});
            let error = read_messages(Some(json!([message]))).expect_err("an error");
            assert_eq!(error.at, format!("messages[0].{at}"));
            assert!(error.message.contains(&error.at), "{}", error.message);
        }
    }
}
