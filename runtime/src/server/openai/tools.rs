//! `tools`, `tool_choice` and their older forms `functions` and `function_call`, checked.
//!
//! The names are those of chat completions; the Responses API writes the same without the inner object, which is read here, too.

use serde_json::{Map, Value, json};

use super::error::{ApiError, shown};
use super::fields::{Fields, wrong_type};
use crate::chat::tools::{Tool, ToolChoice, Tools};

/// Most tools of a request.
const MAX_TOOLS: usize = 1024;
/// Longest name, in bytes.
const MAX_NAME: usize = 128;

/// Takes all parameters about tools.
///
/// # Errors
/// 400 with the path of the first invalid value.
pub fn take_tools(fields: &mut Fields) -> Result<Tools, ApiError> {
    let (name, items) = match (take_array(fields, "tools")?, take_array(fields, "functions")?) {
        (tools, functions) if functions.is_empty() => ("tools", tools),
        (tools, functions) if tools.is_empty() => (
            "functions",
            functions.into_iter().map(|function| json!({"type": "function", "function": function})).collect(),
        ),
        _ => {
            return Err(ApiError::parameter("functions", "`functions` is the older name of `tools`; send one of them"));
        }
    };
    let read = |(index, item): (usize, &Value)| read_tool(&format!("{name}[{index}]"), item);
    let list = items.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    check_names(name, &list)?;
    let mut tools = Tools { list, ..Tools::default() };
    tools.parallel = fields.take_bool("parallel_tool_calls")?.unwrap_or(true);
    match (fields.take("tool_choice"), fields.take("function_call")) {
        (Some(choice), _) => read_choice("tool_choice", &choice, &mut tools)?,
        (None, Some(choice)) => read_choice("function_call", &choice, &mut tools)?,
        (None, None) => {}
    }
    Ok(tools)
}

/// Takes an array of tools.
///
/// # Errors
/// 400 naming the parameter: of another type, or too many.
pub(in crate::server) fn take_array(fields: &mut Fields, name: &str) -> Result<Vec<Value>, ApiError> {
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= MAX_TOOLS => Ok(items),
        Some(Value::Array(items)) => {
            let message = format!("`{name}` has {} entries; {MAX_TOOLS} is the most", items.len());
            Err(ApiError::parameter(name, message))
        }
        Some(other) => Err(wrong_type(name, "an array of tools", &other)),
    }
}

/// Names are unique, since calls refer to them.
pub(in crate::server) fn check_names(parameter: &str, list: &[Tool]) -> Result<(), ApiError> {
    let mut seen = std::collections::HashSet::new();
    match list.iter().position(|tool| !seen.insert(tool.name.as_str())) {
        None => Ok(()),
        Some(index) => {
            let message =
                format!("`{parameter}[{index}]`: there is a tool named `{}` already", shown(&list[index].name));
            Err(ApiError::parameter(format!("{parameter}[{index}]"), message))
        }
    }
}

fn read_tool(at: &str, tool: &Value) -> Result<Tool, ApiError> {
    let Value::Object(outer) = tool else {
        return Err(wrong_type(at, "an object such as {\"type\": \"function\", \"function\": {…}}", tool));
    };
    let kind = outer.get("type").and_then(Value::as_str).unwrap_or_default();
    if !matches!(kind, "function" | "custom") {
        let message = format!("`{at}` is a tool of type `{}`; this server takes `function` and `custom`", shown(kind));
        return Err(ApiError::parameter(format!("{at}.type"), message).code("unsupported_parameter"));
    }
    let inner_at = format!("{at}.{kind}");
    match outer.get(kind) {
        Some(Value::Object(inner)) if kind == "function" => read_function(&inner_at, inner),
        Some(Value::Object(inner)) => read_custom(&inner_at, inner),
        Some(other) => Err(wrong_type(&inner_at, "an object", other)),
        None => Err(ApiError::parameter(inner_at.clone(), format!("`{inner_at}` is missing"))),
    }
}

/// A function: `{name, description, parameters, strict}`.
///
/// # Errors
/// 400 with the path of the invalid field.
pub(in crate::server) fn read_function(at: &str, function: &Map<String, Value>) -> Result<Tool, ApiError> {
    let name = read_name(at, function)?;
    let description = text(at, function, "description")?;
    let parameters_at = format!("{at}.parameters");
    let parameters = match function.get("parameters") {
        None | Some(Value::Null) => json!({"type": "object", "properties": {}}),
        Some(schema @ Value::Object(map)) if map.get("type").is_none_or(|kind| kind == "object") => with_type(schema),
        Some(Value::Object(_)) => {
            let message = format!("`{parameters_at}` must be a schema of an object (`\"type\": \"object\"`)");
            return Err(ApiError::parameter(parameters_at, message));
        }
        Some(other) => return Err(wrong_type(&parameters_at, "a JSON schema", other)),
    };
    let strict = match function.get("strict") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(strict)) => *strict,
        Some(other) => return Err(wrong_type(&format!("{at}.strict"), "true or false", other)),
    };
    Ok(Tool { name, description, parameters, strict, custom: false })
}

/// Arguments are an object, whether the schema says so or not.
fn with_type(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if schema.get("type").is_none() {
        schema["type"] = "object".into();
    }
    schema
}

/// A custom tool takes one text: `{name, description, format}`. It becomes a function with one parameter, `input`; a grammar of
/// its input is part of what the model is told.
///
/// # Errors
/// 400 with the path of the invalid field.
pub(in crate::server) fn read_custom(at: &str, custom: &Map<String, Value>) -> Result<Tool, ApiError> {
    let name = read_name(at, custom)?;
    let mut description = text(at, custom, "description")?.unwrap_or_default();
    if let Some(format) = custom.get("format").filter(|format| !format.is_null()) {
        let grammar = format.get("grammar").unwrap_or(format);
        match (format.get("type").and_then(Value::as_str), grammar.get("definition").and_then(Value::as_str)) {
            (Some("text"), _) => {}
            (Some("grammar"), Some(definition)) => {
                let syntax = grammar.get("syntax").and_then(Value::as_str).unwrap_or("lark");
                description = format!("{description}\n\nThe input follows this {syntax} grammar:\n{definition}");
            }
            _ => {
                let message =
                    format!("`{at}.format` must have the type `text` or `grammar`, the latter with a `definition`");
                return Err(ApiError::parameter(format!("{at}.format"), message));
            }
        }
    }
    let input = json!({"type": "string", "description": "The input, as it is."});
    let parameters =
        json!({"type": "object", "properties": {"input": input}, "required": ["input"], "additionalProperties": false});
    let description = (!description.is_empty()).then_some(description);
    Ok(Tool { name, description, parameters, strict: false, custom: true })
}

fn read_name(at: &str, object: &Map<String, Value>) -> Result<String, ApiError> {
    let here = format!("{at}.name");
    let name = match object.get("name") {
        Some(Value::String(name)) => name,
        None | Some(Value::Null) => return Err(ApiError::parameter(here.clone(), format!("`{here}` is missing"))),
        Some(other) => return Err(wrong_type(&here, "a string", other)),
    };
    let sound = |letter: char| letter.is_alphanumeric() || "_-.:/".contains(letter);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(sound) {
        let message = format!("`{here}` must have 1 to {MAX_NAME} bytes: letters, digits and `_-.:/`");
        return Err(ApiError::parameter(here, message));
    }
    Ok(name.clone())
}

fn text(at: &str, object: &Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong_type(&format!("{at}.{name}"), "a string", other)),
    }
}

/// Sets the choice, in any of its forms, and checks that it names tools that there are.
///
/// # Errors
/// 400 naming the parameter.
pub(in crate::server) fn read_choice(parameter: &str, choice: &Value, tools: &mut Tools) -> Result<(), ApiError> {
    if let Value::String(word) = choice {
        tools.choice = read_word(parameter, word)?;
    } else if choice.get("type").and_then(Value::as_str) == Some("allowed_tools") {
        let inner = choice.get("allowed_tools").unwrap_or(choice);
        tools.choice = read_word(parameter, inner.get("mode").and_then(Value::as_str).unwrap_or("auto"))?;
        let names = inner.get("tools").and_then(Value::as_array).map(|items| items.iter().map(named).collect());
        let Some(Some(names)) = names else { return Err(wrong_choice(parameter)) };
        tools.allowed = Some(names);
    } else {
        tools.choice = ToolChoice::Named(named(choice).ok_or_else(|| wrong_choice(parameter))?);
    }
    if tools.list.is_empty() && matches!(tools.choice, ToolChoice::Required) {
        return Err(ApiError::parameter(parameter, format!("`{parameter}` requires a call, but there are no tools")));
    }
    let chosen = match &tools.choice {
        ToolChoice::Named(name) => std::slice::from_ref(name),
        _ => tools.allowed.as_deref().unwrap_or_default(),
    };
    match chosen.iter().find(|name| tools.list.iter().all(|tool| tool.name != **name)) {
        None => Ok(()),
        Some(name) => {
            let message = format!("`{parameter}` names `{}`, which is not among the tools", shown(name));
            Err(ApiError::parameter(parameter, message))
        }
    }
}

fn read_word(parameter: &str, word: &str) -> Result<ToolChoice, ApiError> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" | "any" => Ok(ToolChoice::Required), // `any` is Mistral's word
        _ => Err(wrong_choice(parameter)),
    }
}

/// The tool's name in `{type, function: {name}}`, `{type, custom: {name}}`, `{type, name}` or `{name}`.
fn named(choice: &Value) -> Option<String> {
    let inner = choice.get("function").or_else(|| choice.get("custom")).unwrap_or(choice);
    Some(inner.get("name")?.as_str()?.to_owned())
}

fn wrong_choice(parameter: &str) -> ApiError {
    let message = format!(
        "`{parameter}` must be `auto`, `none`, `required`, {{\"type\": \"function\", \"function\": {{\"name\": \"…\"}}}}, or \
         {{\"type\": \"allowed_tools\", \"allowed_tools\": {{\"mode\": \"…\", \"tools\": […]}}}}"
    );
    ApiError::parameter(parameter, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: Value) -> Result<Tools, ApiError> {
        let mut fields = Fields::parse(body.to_string().as_bytes()).expect("an object");
        let tools = take_tools(&mut fields)?;
        fields.finish().map(|()| tools)
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"properties": {}}}})
    }

    #[test]
    fn every_form_of_a_choice_is_read() {
        let custom = json!({"type": "custom", "custom": {"name": "b", "format": {"type": "text"}}});
        let tools = json!([function("a"), custom]);
        let named = |name: &str| ToolChoice::Named(name.into());
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("b")]}});
        for (choice, wanted) in [
            (json!(null), ToolChoice::Auto),
            (json!("none"), ToolChoice::None),
            (json!("required"), ToolChoice::Required),
            (json!({"type": "function", "function": {"name": "a"}}), named("a")),
            (json!({"type": "function", "name": "a"}), named("a")),
            (json!({"type": "custom", "custom": {"name": "b"}}), named("b")),
            (allowed, ToolChoice::Required),
        ] {
            let taken =
                taken(json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": false})).expect("tools");
            assert_eq!((&taken.choice, taken.parallel), (&wanted, false));
            assert_eq!(taken.allowed.is_some(), choice["type"] == "allowed_tools");
            assert_eq!(taken.list[0].parameters, json!({"type": "object", "properties": {}}));
            assert!(taken.list[1].custom && taken.list[1].parameters["required"] == json!(["input"]));
        }
        let old = taken(json!({"functions": [{"name": "f"}], "function_call": {"name": "f"}})).expect("tools");
        assert_eq!((old.list[0].name.as_str(), old.choice), ("f", named("f")));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let with = |tool: Value| json!({"tools": [tool]});
        let broken = |field: &str, value: Value| {
            let mut tool = function("a");
            tool["function"][field] = value;
            with(tool)
        };
        for (body, at) in [
            (json!({"tools": {}}), "tools"),
            (with(json!(1)), "tools[0]"),
            (with(json!({"type": "web_search"})), "tools[0].type"),
            (with(json!({"type": "function"})), "tools[0].function"),
            (broken("name", json!("")), "tools[0].function.name"),
            (broken("name", json!("<a>")), "tools[0].function.name"),
            (broken("description", json!(1)), "tools[0].function.description"),
            (broken("parameters", json!([])), "tools[0].function.parameters"),
            (broken("parameters", json!({"type": "string"})), "tools[0].function.parameters"),
            (broken("strict", json!("yes")), "tools[0].function.strict"),
            (json!({"tools": [function("a"), function("a")]}), "tools[1]"),
            (json!({"tools": [function("a")], "functions": [{"name": "b"}]}), "functions"),
            (json!({"tools": [function("a")], "tool_choice": "b"}), "tool_choice"),
            (
                json!({"tools": [function("a")], "tool_choice": {"type": "function", "function": {"name": "b"}}}),
                "tool_choice",
            ),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"parallel_tool_calls": 1}), "parallel_tool_calls"),
            (
                with(json!({"type": "custom", "custom": {"name": "a", "format": {"type": "x"}}})),
                "tools[0].custom.format",
            ),
        ] {
            let error = taken(body.clone()).expect_err("an error");
            assert_eq!((error.status, error.param.as_deref()), (400, Some(at)), "{body}");
        }
    }
}
